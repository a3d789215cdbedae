"""Policy, critics and dynamics ensemble: Keras models that return TFP distributions or values.

Shapes: B batch, S observation size, A action size, E ensemble members, Q critics; `...` stands for
any leading dimensions.
"""

from collections.abc import Sequence

import gin
import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from maac_tf.config import require_integers

tfb = tfp.bijectors
tfd = tfp.distributions

# Bounds of the policy's log standard deviation before the tanh, soft so that gradients never die.
LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0


def soft_clip(x, low, high):
  """A smooth, monotone map of `x` into (low, high), close to the identity well inside."""
  x = high - tf.nn.softplus(high - x)
  return low + tf.nn.softplus(x - low)


class _GlorotPerMember(keras.initializers.Initializer):
  """Glorot-uniform for a stack [members, in, out] of independent kernels.

  Keras' own would take the first dimension for a receptive field and draw too small numbers.
  """

  def __init__(self, seed):
    self._seed = seed

  def __call__(self, shape, dtype=None):
    limit = np.sqrt(6.0 / (shape[1] + shape[2]))
    kernels = np.random.default_rng(self._seed).uniform(-limit, limit, shape)
    return tf.convert_to_tensor(kernels, dtype)


class EnsembleDense(keras.layers.Layer):
  """`members` dense layers at once: [members, N, in] -> [members, N, units], one matrix product."""

  def __init__(self, members, units, activation=None, seed=0, **kwargs):
    super().__init__(**kwargs)
    self.members, self.units = members, units
    self.activation = keras.activations.get(activation)
    self._initializer = _GlorotPerMember(seed)

  def build(self, input_shape):
    self.kernel = self.add_weight(
      shape=(self.members, input_shape[-1], self.units), initializer=self._initializer
    )
    self.bias = self.add_weight(shape=(self.members, 1, self.units), initializer="zeros")

  def call(self, x):
    return self.activation(tf.matmul(x, self.kernel) + self.bias)


def _mlp(members, hidden_units, activation, output_units, seed, dtype):
  """`members` multilayer perceptrons as one Keras model, each with its own random weights."""
  seeds = np.random.SeedSequence(seed).generate_state(len(hidden_units) + 1)
  layers = [
    EnsembleDense(members, units, activation, int(layer_seed), dtype=dtype)
    for units, layer_seed in zip(hidden_units, seeds, strict=False)
  ]
  layers.append(EnsembleDense(members, output_units, seed=int(seeds[-1]), dtype=dtype))
  return keras.Sequential(layers)


@gin.configurable(denylist=["observation_size", "action_size", "seed", "dtype"])
class Policy(keras.Model):
  """The policy π: a Gaussian squashed by tanh, over actions in [-1, 1] (Haarnoja et al. 2018)."""

  def __init__(
    self,
    observation_size: int,
    action_size: int,
    hidden_units: Sequence[int] = (256, 256),
    activation: str = "relu",
    seed: int = 0,
    dtype: str = "float32",
  ):
    super().__init__(dtype=dtype)
    self._mlp = _mlp(1, hidden_units, activation, 2 * action_size, seed, dtype)
    self._mlp.build((1, None, observation_size))
    self.built = True

  def call(self, observation) -> tfd.Distribution:
    """Observations [..., S] to a distribution over actions [..., A]."""
    observation = tf.convert_to_tensor(observation)
    flat = tf.reshape(observation, [1, -1, observation.shape[-1]])
    output = self._mlp(flat)
    output = tf.reshape(output, tf.concat([tf.shape(observation)[:-1], [output.shape[-1]]], 0))
    mean, log_std = tf.split(output, 2, axis=-1)
    std = tf.exp(soft_clip(log_std, LOG_STD_MIN, LOG_STD_MAX))
    return tfd.TransformedDistribution(
      tfd.Independent(tfd.Normal(mean, std), 1), tfb.Tanh(), name="tanh_normal"
    )

  def act(self, observation, noise):
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


@gin.configurable(denylist=["observation_size", "action_size", "seed", "dtype"])
class Critic(keras.Model):
  """Q independent estimates of the soft action value, in one batched network."""

  def __init__(
    self,
    observation_size: int,
    action_size: int,
    num_critics: int = 2,
    hidden_units: Sequence[int] = (256, 256),
    activation: str = "relu",
    seed: int = 0,
    dtype: str = "float32",
  ):
    require_integers("Critic", 1, num_critics=num_critics)
    super().__init__(dtype=dtype)
    self.num_critics = num_critics
    self._mlp = _mlp(num_critics, hidden_units, activation, 1, seed, dtype)
    self._mlp.build((num_critics, None, observation_size + action_size))
    self.built = True

  def call(self, observation, action):
    """Observations [..., S] and actions [..., A] in [-1, 1] to values [Q, ...]."""
    x = tf.concat([observation, action], -1)
    flat = tf.reshape(x, [1, -1, x.shape[-1]])
    values = self._mlp(tf.repeat(flat, self.num_critics, 0))
    return tf.reshape(values, tf.concat([[self.num_critics], tf.shape(x)[:-1]], 0))


@gin.configurable(denylist=["observation_size", "action_size", "seed", "dtype"])
class Dynamics(keras.Model):
  """The ensemble f: E Gaussians over the next observation (section 4.3, model learning).

  A member predicts mean and variance of next_observation - observation. Inputs and targets are
  normalised inside, with statistics that `set_normalizer` takes from the data; the log-variance
  is softly bounded by learned limits (Chua et al. 2018).
  """

  def __init__(
    self,
    observation_size: int,
    action_size: int,
    ensemble_size: int = 8,
    hidden_units: Sequence[int] = (200, 200, 200, 200),
    activation: str = "swish",
    seed: int = 0,
    dtype: str = "float32",
  ):
    require_integers("Dynamics", 1, ensemble_size=ensemble_size)
    super().__init__(dtype=dtype)
    self.ensemble_size = ensemble_size
    self._mlp = _mlp(ensemble_size, hidden_units, activation, 2 * observation_size, seed, dtype)
    inputs, outputs = observation_size + action_size, observation_size
    self._mlp.build((ensemble_size, None, inputs))

    def weight(name, size, value, **kwargs):
      initializer = keras.initializers.Constant(value)
      return self.add_weight(name=name, shape=size, initializer=initializer, **kwargs)

    self.min_log_var = weight("min_log_var", (ensemble_size, 1, outputs), -10.0)
    self.max_log_var = weight("max_log_var", (ensemble_size, 1, outputs), 0.5)
    self.input_mean = weight("input_mean", (inputs,), 0.0, trainable=False)
    self.input_scale = weight("input_scale", (inputs,), 1.0, trainable=False)
    self.delta_mean = weight("delta_mean", (outputs,), 0.0, trainable=False)
    self.delta_scale = weight("delta_scale", (outputs,), 1.0, trainable=False)
    self.built = True

  def set_normalizer(self, observation, action, next_observation):
    """Normalises with the mean and standard deviation of these [N, ...] transitions."""
    for values, mean, scale in (
      (tf.concat([observation, action], -1), self.input_mean, self.input_scale),
      (next_observation - observation, self.delta_mean, self.delta_scale),
    ):
      std = tf.math.reduce_std(values, 0)
      mean.assign(tf.reduce_mean(values, 0))
      scale.assign(tf.where(std < 1e-6, tf.ones_like(std), std))  # a constant stays as it is

  def call(self, observation, action) -> tfd.Distribution:
    """One batch for every member: [E, N, S] and [E, N, A] to a distribution over [E, N, S].

    The leading index *is* the member, so that no call depends on hidden state.
    """
    x = (tf.concat([observation, action], -1) - self.input_mean) / self.input_scale
    mean, log_var = tf.split(self._mlp(x), 2, axis=-1)
    log_var = soft_clip(log_var, self.min_log_var, self.max_log_var)
    mean = observation + self.delta_mean + self.delta_scale * mean
    return tfd.Independent(tfd.Normal(mean, self.delta_scale * tf.exp(0.5 * log_var)), 1)

  def sample(self, observation, action, noise):
    """The next observations [E, N, S] that standard-normal `noise` [E, N, S] selects."""
    gaussian = self(observation, action)
    return gaussian.mean() + gaussian.stddev() * noise
