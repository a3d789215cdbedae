"""The policy π.

Shapes: S observation size, A action size; `...` stands for any leading dimensions.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Annotated

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from maac_tf.checks import Option, configurable
from maac_tf.networks.layers import (
  NUMPY_ACTIVATIONS,
  PORTABLE_ACTIVATIONS,
  mlp,
  KNEE,
  normalizer,
  soft_clip,
)
from maac_tf.tasks.coordinates import PLAIN, Coordinates

tfb = tfp.bijectors
tfd = tfp.distributions

# Bounds of the policy's log standard deviation before the tanh, soft so that gradients never die.
LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0

PlainPolicy = Callable[[Sequence[tf.Tensor], tf.Tensor, tf.Tensor | None], tf.Tensor]


@configurable
class Policy(keras.Model):
  """The policy π: a Gaussian squashed by tanh, over actions in [-1, 1] (Haarnoja et al. 2018).

  It sees the features of its `coordinates`, normalised.
  """

  def __init__(
    self,
    observation_size: int,
    action_size: int,
    hidden_units: Sequence[int] = (128, 128, 128),
    activation: Annotated[
      str, Option("of the policy's hidden layers", choices=tuple(NUMPY_ACTIVATIONS))
    ] = "silu",
    coordinates: Coordinates = PLAIN,
    seed: int = 0,
    dtype: str = "float32",
  ):
    super().__init__(dtype=dtype)
    self.coordinates = coordinates
    num_features, _ = coordinates.sizes(observation_size)
    sizes = (num_features, *hidden_units, 2 * action_size)
    self._mlp = mlp(1, sizes, activation, seed, dtype)
    self._activation = activation
    self.normalizer = normalizer(num_features, dtype, bounded=True)
    self.built = True

  def call(self, observation: tf.Tensor) -> tfp.distributions.Distribution:
    """Observations [..., S] to a distribution over actions [..., A]."""
    x = self.normalizer(self.coordinates.features(tf.convert_to_tensor(observation)))
    output = self._mlp(tf.reshape(x, [1, -1, x.shape[-1]]))
    output = tf.reshape(output, tf.concat([tf.shape(x)[:-1], [output.shape[-1]]], 0))
    mean, log_std = tf.split(output, 2, axis=-1)
    std = tf.exp(soft_clip(log_std, LOG_STD_MIN, LOG_STD_MAX))
    return tfd.TransformedDistribution(
      tfd.Independent(tfd.Normal(mean, std), 1), tfb.Tanh(), name="tanh_normal"
    )

  def act(self, observation: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The action that standard-normal `noise` selects, and its log-probability.

    The pathwise (reparameterised) sample of section 3.2. The noise is an argument so that plain and
    XLA-compiled steps, finite differences and tests can be given the same one.

    Args:
      observation: [..., S].
      noise: [..., A], or with more leading dimensions for several actions per observation; zeros
        give the deterministic action.

    Returns:
      (action [..., A] in [-1, 1], log_prob [...]).
    """
    distribution = self(observation)
    gaussian, tanh = distribution.distribution, distribution.bijector
    pre_tanh = gaussian.mean() + gaussian.stddev() * noise
    # The log-probability is taken before the tanh: its inverse is inaccurate near -1 and 1.
    log_prob = gaussian.log_prob(pre_tanh) - tanh.forward_log_det_jacobian(pre_tanh, 1)
    return tanh.forward(pre_tanh), log_prob

  def _weights(self) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """As they are now: the normaliser's mean and gain, [F], and (kernel, bias) of each layer."""
    norm = self.normalizer
    mean, gain = norm.mean.numpy(), norm.moves.numpy() / norm.scale.numpy()
    return mean, gain, [(x.kernel.numpy()[0], x.bias.numpy()[0, 0]) for x in self._mlp.layers]

  def plain(self) -> tuple[list[np.ndarray], PlainPolicy]:
    """The policy in few plain operations, for other runtimes.

    Returns:
      (its weights as they are now; (weights, observation [B, S], noise [B, A]) -> action [B, A] in
      [-1, 1], as of `act`, where noise None gives the deterministic action).
    """
    center, gain, layers = self._weights()
    activation = PORTABLE_ACTIVATIONS.get(self._activation, keras.activations.get(self._activation))
    action_size = len(layers[-1][1]) // 2

    def act(
      weights: Sequence[tf.Tensor], observation: tf.Tensor, noise: tf.Tensor | None
    ) -> tf.Tensor:
      center, gain, *hidden, last_kernel, last_bias = weights
      x = (self.coordinates.features(observation) - center) * gain
      x = KNEE * tf.asinh(x / KNEE)
      for kernel, bias in zip(hidden[::2], hidden[1::2], strict=True):
        x = activation(tf.matmul(x, kernel) + bias)
      if noise is None:
        return tf.tanh(tf.matmul(x, last_kernel[:, :action_size]) + last_bias[:action_size])
      mean, log_std = tf.split(tf.matmul(x, last_kernel) + last_bias, 2, axis=-1)
      return tf.tanh(mean + tf.exp(soft_clip(log_std, LOG_STD_MIN, LOG_STD_MAX)) * noise)

    return [center, gain, *itertools.chain(*layers)], act

  def in_numpy(self) -> Callable[[np.ndarray, np.ndarray | float], np.ndarray]:
    """The policy as it is now, as a function of NumPy arrays, for the steps of an environment.

    Of a call into TensorFlow for a single observation, more than nine tenths are overhead.

    Returns:
      (observation [..., S], noise [..., A]) -> action [..., A] in [-1, 1], as of `act`; noise 0.0
      gives the deterministic action.
    """
    mean, gain, layers = self._weights()
    # On a single row an operation is mostly overhead, so what can goes into the weights: the
    # normaliser, the activation's factor, and the minus sign of the log standard deviation.
    kernel, bias = layers[0]
    layers[0] = KNEE * kernel, bias
    gain = gain / KNEE
    offset = -mean * gain
    factor, activation = NUMPY_ACTIVATIONS[self._activation]
    action_size = len(layers[-1][1]) // 2
    signs = np.repeat(np.array([1.0, -1.0], np.float32), action_size)
    factors = [*[factor] * (len(layers) - 1), signs]
    layers = [(c * kernel, c * bias) for c, (kernel, bias) in zip(factors, layers, strict=True)]
    *hidden_layers, (last_kernel, last_bias) = layers
    # Arrays, since of a number NumPy makes one at each call.
    smallest = np.full(action_size, math.exp(LOG_STD_MIN), np.float32)
    least = np.full(action_size, -LOG_STD_MAX, np.float32)

    features = self.coordinates.features

    def act(observation: np.ndarray, noise: np.ndarray | float) -> np.ndarray:
      x = np.arcsinh(np.asarray(features(observation)) * gain + offset)
      for kernel, bias in hidden_layers:
        x = activation(x.dot(kernel) + bias)  # a fifth less time than x @ kernel
      x = x.dot(last_kernel) + last_bias
      mean, minus_log_std = x[..., :action_size], x[..., action_size:]
      # exp(soft_clip(log_std)) = e^min + 1 / (e^-max + e^-log_std), in half of the time.
      std = smallest + np.exp(-np.logaddexp(least, minus_log_std))
      return np.tanh(mean + std * noise)

    return act
