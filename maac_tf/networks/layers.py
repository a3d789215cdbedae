"""Layers of the networks: `members` multilayer perceptrons side by side, and normalisation."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from maac_tf.data.statistics import Statistics
from maac_tf.data.types import ROUNDING

# What `Policy.in_numpy` can do without TensorFlow, as (c, f): activation(x) = f(c x), where c goes
# into the weights.
NUMPY_ACTIVATIONS: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {
  "relu": (1.0, lambda x: np.maximum(x, 0.0)),
  "tanh": (1.0, np.tanh),
  "silu": (0.5, lambda x: x + x * np.tanh(x)),
  "elu": (1.0, lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0)))),
  "softplus": (1.0, lambda x: np.logaddexp(0.0, x)),
}

# As `Policy.frozen` has them, where Keras' own would not do: that of silu has a custom gradient,
# and converters make log(1 + e^x) of softplus.
PORTABLE_ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
  "silu": lambda x: x * tf.sigmoid(x),
  "softplus": lambda x: tf.nn.relu(x) + tf.math.log(1.0 + tf.exp(-tf.abs(x))),
}


KNEE = 3.0


def soft_clip(x: tf.Tensor, low: tf.Tensor | float, high: tf.Tensor | float) -> tf.Tensor:
  """A smooth, monotone map of `x` into (low, high), close to the identity well inside."""
  x = high - tf.nn.softplus(high - x)
  return low + tf.nn.softplus(x - low)


class _GlorotPerMember(keras.initializers.Initializer):
  """Glorot-uniform for a stack [members, in, out] of independent kernels.

  Keras' own would take the first dimension for a receptive field and draw too small numbers.
  """

  def __init__(self, seed: int):
    self._seed = seed

  def __call__(self, shape: Sequence[int], dtype: str | None = None) -> tf.Tensor:
    limit = np.sqrt(6.0 / (shape[1] + shape[2]))
    kernels = np.random.default_rng(self._seed).uniform(-limit, limit, shape)
    return tf.convert_to_tensor(kernels, dtype)


class EnsembleDense(keras.layers.Layer):
  """`members` dense layers at once: [members, N, in] -> [members, N, units], one matrix product."""

  def __init__(
    self,
    members: int,
    units: int,
    activation: str | None = None,
    seed: int = 0,
    dtype: str | None = None,
  ):
    super().__init__(dtype=dtype)
    self.members, self.units = members, units
    self.activation = keras.activations.get(activation)
    self._initializer = _GlorotPerMember(seed)

  def build(self, input_shape: Sequence[int | None]) -> None:
    self.kernel = self.add_weight(
      shape=(self.members, input_shape[-1], self.units), initializer=self._initializer
    )
    self.bias = self.add_weight(shape=(self.members, 1, self.units), initializer="zeros")

  def call(self, x: tf.Tensor, which: tf.Tensor | None = None) -> tf.Tensor:
    """`which` [n] int: of these members only, [n, N, in] -> [n, N, units]."""
    kernel, bias = self.kernel, self.bias
    if which is not None:
      kernel, bias = tf.gather(kernel, which), tf.gather(bias, which)
    return self.activation(tf.matmul(x, kernel) + bias)


class Normalizer(keras.layers.Layer):
  """Subtracts a mean and divides by a scale that `fit` takes from data; the identity before.

  A number that never changed in the data reads 0, whatever it is: what no network has seen move
  cannot disturb it.

  Attributes:
    mean, scale: of the data; the scale of a constant is 1.
    moves: 0 for a constant, else 1.
  """

  def __init__(self, bounded: bool = False, dtype: str | None = None):
    super().__init__(dtype=dtype)
    self._bounded = bounded

  def build(self, input_shape: Sequence[int | None]) -> None:
    size = input_shape[-1:]
    self.mean = self.add_weight(shape=size, initializer="zeros", trainable=False)
    self.scale = self.add_weight(shape=size, initializer="ones", trainable=False)
    self.moves = self.add_weight(shape=size, initializer="ones", trainable=False)

  def call(self, x: tf.Tensor) -> tf.Tensor:
    x = (x - self.mean) / self.scale * self.moves
    return KNEE * tf.asinh(x / KNEE) if self._bounded else x

  def fit(self, seen: Statistics) -> None:
    """Takes mean and standard deviation of these numbers."""
    moves = seen.std > ROUNDING * seen.largest
    center, width = (seen.center, seen.width) if self._bounded else (seen.mean, seen.std)
    for weight, value in (
      (self.mean, center),
      (self.scale, np.where(moves, width, 1.0)),
      (self.moves, moves),
    ):
      weight.assign(value.astype(weight.dtype))


def normalizer(size: int, dtype: str, bounded: bool = False) -> Normalizer:
  """A `Normalizer` of [..., size] with its weights made."""
  layer = Normalizer(bounded, dtype=dtype)
  layer.build((size,))
  return layer


def mlp(
  members: int,
  sizes: Sequence[int],
  activation: str,
  seed: int,
  dtype: str,
  layer_norm: bool = False,
  zero_last_layer: bool = False,
) -> keras.Sequential:
  """`members` multilayer perceptrons as one Keras model, each with its own random weights.

  Args:
    sizes: of the input, the hidden layers and the output.
    layer_norm: normalise what the inner layers take, those between two hidden layers.
    zero_last_layer: start from an output of zero.
  """
  *hidden_units, output_units = sizes[1:]
  seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(len(sizes) - 1)]
  model = keras.Sequential()
  for i, units in enumerate(hidden_units):
    if layer_norm and i:
      model.add(keras.layers.LayerNormalization(center=False, scale=False, dtype=dtype))
    model.add(EnsembleDense(members, units, activation, seeds[i], dtype=dtype))
  model.add(EnsembleDense(members, output_units, seed=seeds[-1], dtype=dtype))
  model.build((members, None, sizes[0]))
  if zero_last_layer:
    model.layers[-1].kernel.assign(tf.zeros_like(model.layers[-1].kernel))
  return model
