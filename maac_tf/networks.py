"""Policy, critics and dynamics ensemble: Keras models that return TFP distributions or values.

Shapes: B batch, S observation size, A action size, E ensemble members, Q critics; `...` stands for
any leading dimensions.
"""

import math
from collections.abc import Sequence

import gin
import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from maac_tf.config import require, require_booleans, require_integers, require_tuples
from maac_tf.coordinates import PLAIN, Coordinates
from maac_tf.layers import NUMPY_ACTIVATIONS, EnsembleDense, mlp, normalizer, soft_clip

tfb = tfp.bijectors
tfd = tfp.distributions

# Bounds of the policy's log standard deviation before the tanh, soft so that gradients never die.
LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0


@gin.configurable(denylist=["observation_size", "action_size", "coordinates", "seed", "dtype"])
class Policy(keras.Model):
  """The policy π: a Gaussian squashed by tanh, over actions in [-1, 1] (Haarnoja et al. 2018).

  It sees the features of its `coordinates`, normalised.
  """

  def __init__(
    self,
    observation_size: int,
    action_size: int,
    hidden_units: Sequence[int] = (256, 256),
    activation: str = "relu",
    coordinates: Coordinates = PLAIN,
    seed: int = 0,
    dtype: str = "float32",
  ):
    name = keras.activations.get(activation).__name__
    require(
      name in NUMPY_ACTIVATIONS,
      f"Policy.activation must be one of {', '.join(NUMPY_ACTIVATIONS)}, not {activation!r}.",
    )
    require_tuples("Policy", 1, hidden_units=hidden_units)
    super().__init__(dtype=dtype)
    self.coordinates = coordinates
    num_features, _ = coordinates.sizes(observation_size)
    sizes = (num_features, *hidden_units, 2 * action_size)
    self._mlp = mlp(1, sizes, activation, seed, dtype)
    self._numpy_activation = NUMPY_ACTIVATIONS[name]
    self.normalizer = normalizer(num_features, dtype)
    self.built = True

  def call(self, observation) -> tfd.Distribution:
    """Observations [..., S] to a distribution over actions [..., A]."""
    x = self.normalizer(self.coordinates.features(tf.convert_to_tensor(observation)))
    output = self._mlp(tf.reshape(x, [1, -1, x.shape[-1]]))
    output = tf.reshape(output, tf.concat([tf.shape(x)[:-1], [output.shape[-1]]], 0))
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

  def in_numpy(self):
    """The policy as it is now, as a function of NumPy arrays, for the steps of an environment.

    Of a call into TensorFlow for a single observation, more than nine tenths are overhead.

    Returns:
      (observation [..., S], noise [..., A]) -> action [..., A] in [-1, 1], as of `act`; noise 0.0
      gives the deterministic action.
    """
    layers = [(layer.kernel.numpy()[0], layer.bias.numpy()[0, 0]) for layer in self._mlp.layers]
    # On a single row an operation is mostly overhead, so what can goes into the weights: the
    # normaliser, the activation's factor, and the minus sign of the log standard deviation.
    kernel, bias = layers[0]
    kernel = kernel / self.normalizer.scale.numpy()[:, np.newaxis]
    layers[0] = kernel, bias - self.normalizer.mean.numpy() @ kernel
    factor, activation = self._numpy_activation
    action_size = len(layers[-1][1]) // 2
    factors = [factor] * (len(layers) - 1) + [np.repeat(np.float32([1.0, -1.0]), action_size)]
    layers = [(c * kernel, c * bias) for c, (kernel, bias) in zip(factors, layers, strict=True)]
    *hidden_layers, (last_kernel, last_bias) = layers
    # Arrays, since of a number NumPy makes one at each call.
    smallest = np.full(action_size, math.exp(LOG_STD_MIN), np.float32)
    least = np.full(action_size, -LOG_STD_MAX, np.float32)

    features = self.coordinates.features

    def act(observation, noise):
      x = np.asarray(features(observation))
      for kernel, bias in hidden_layers:
        x = activation(x.dot(kernel) + bias)  # a fifth less time than x @ kernel
      x = x.dot(last_kernel) + last_bias
      mean, minus_log_std = x[..., :action_size], x[..., action_size:]
      # exp(soft_clip(log_std)) = e^min + 1 / (e^-max + e^-log_std), in half of the time.
      std = smallest + np.exp(-np.logaddexp(least, minus_log_std))
      return np.tanh(mean + std * noise)

    return act


@gin.configurable(denylist=["observation_size", "action_size", "coordinates", "seed", "dtype"])
class Critic(keras.Model):
  """Q independent estimates of the soft action value, in one batched network."""

  def __init__(
    self,
    observation_size: int,
    action_size: int,
    num_critics: int = 2,
    hidden_units: Sequence[int] = (256, 256),
    activation: str = "relu",
    layer_norm: bool = False,
    zero_last_layer: bool = False,
    coordinates: Coordinates = PLAIN,
    seed: int = 0,
    dtype: str = "float32",
  ):
    """Makes the weights.

    Args:
      num_critics: Q, each of other random weights: their mean errs less than one does, and their
        minimum seldom too high.
      layer_norm: normalise what the inner layers take (no learned scale). It bounds how steep the
        critics can be, and so what a policy gains from actions that no data supports.
      zero_last_layer: start from values of zero, not from a random function that the first policies
        would climb. Not for STEVE, which needs the critics to disagree.
      coordinates: the critics see their features of an observation, normalised.
    """
    require_integers("Critic", 1, num_critics=num_critics)
    require_tuples("Critic", 1, hidden_units=hidden_units)
    require_booleans("Critic", layer_norm=layer_norm, zero_last_layer=zero_last_layer)
    super().__init__(dtype=dtype)
    self.num_critics, self.zero_last_layer = num_critics, zero_last_layer
    self.coordinates = coordinates
    num_features, _ = coordinates.sizes(observation_size)
    sizes = (num_features + action_size, *hidden_units, 1)
    self._mlp = mlp(num_critics, sizes, activation, seed, dtype, layer_norm, zero_last_layer)
    self.normalizer = normalizer(num_features, dtype)
    self.scale = self.add_weight(shape=(), initializer="ones", trainable=False)  # of the output
    self.built = True

  def call(self, observation, action, which=None):
    """Values [Q, ...] of observations [..., S] and actions [..., A] in [-1, 1].

    With `which`, [n] int, the values [n, ...] of these critics; the others are not computed.
    """
    x = tf.concat([self.normalizer(self.coordinates.features(observation)), action], -1)
    num_critics = self.num_critics if which is None else which.shape[0]
    output_shape = tf.concat([[num_critics], tf.shape(x)[:-1]], 0)
    x = tf.repeat(tf.reshape(x, [1, -1, x.shape[-1]]), num_critics, 0)
    for layer in self._mlp.layers:
      x = layer(x, which) if isinstance(layer, EnsembleDense) else layer(x)
    return self.scale * tf.reshape(x, output_shape)


@gin.configurable(
  denylist=["observation_size", "action_size", "predicts_reward", "coordinates", "seed", "dtype"]
)
class Dynamics(keras.Model):
  """The ensemble f: E Gaussians over the outcome of a step (section 4.3, model learning).

  The outcome of a step, of size O, is its change in `coordinates` (of plain ones:
  next_observation - observation) and, if `predicts_reward`, the reward after it; a member predicts
  mean and variance of it. Inputs and outcomes are normalised inside, with statistics that
  `set_normalizer` takes from the data; a log-variance that depends on the input is softly bounded
  by learned limits (Chua et al. 2018).
  """

  def __init__(
    self,
    observation_size: int,
    action_size: int,
    predicts_reward: bool = False,
    coordinates: Coordinates = PLAIN,
    ensemble_size: int = 8,
    hidden_units: Sequence[int] = (200, 200, 200, 200),
    activation: str = "swish",
    layer_norm: bool = False,
    constant_noise: bool = False,
    empirical_errors: int = 0,
    seed: int = 0,
    dtype: str = "float32",
  ):
    """Makes the weights.

    Args:
      predicts_reward: whether the reward is one of the outputs.
      coordinates: what the members see of an observation, and predict of a step.
      ensemble_size: E.
      layer_norm: normalise what the inner layers take (no learned scale): errors then grow less
        from one imagined step to the next.
      constant_noise: one variance for each output and member, of the errors on validation data (see
        `set_noise`), instead of one that depends on state and action: no row can be explained away
        as noise.
      empirical_errors: how many of its newest validation errors a member keeps (see `set_errors`)
        for imagined steps to take their noise from, all outputs of a row together. Where a foot
        strikes, many outputs err at once and far more than usual; independent normals of the same
        variance throw an imagined half-cheetah or ant over far less often than the world does. 0:
        normals.
    """
    require_integers("Dynamics", 1, ensemble_size=ensemble_size)
    require_integers("Dynamics", 0, empirical_errors=empirical_errors)
    require_tuples("Dynamics", 1, hidden_units=hidden_units)
    require_booleans("Dynamics", layer_norm=layer_norm, constant_noise=constant_noise)
    super().__init__(dtype=dtype)
    self.ensemble_size, self.predicts_reward = ensemble_size, predicts_reward
    self.coordinates = coordinates
    num_features, self._change_size = coordinates.sizes(observation_size)
    inputs = num_features + action_size
    self.outcome_size = outputs = self._change_size + predicts_reward
    sizes = (inputs, *hidden_units, outputs if constant_noise else 2 * outputs)
    self._mlp = mlp(ensemble_size, sizes, activation, seed, dtype, layer_norm)

    def weight(name, value, **kwargs):
      shape, initializer = (ensemble_size, 1, outputs), keras.initializers.Constant(value)
      return self.add_weight(name=name, shape=shape, initializer=initializer, **kwargs)

    self.constant_noise = constant_noise
    if constant_noise:
      self.log_var = weight("log_var", 0.0, trainable=False)
    else:
      self.min_log_var = weight("min_log_var", -10.0)
      self.max_log_var = weight("max_log_var", 0.5)
    self.empirical_errors = empirical_errors
    if empirical_errors:
      normals = keras.initializers.RandomNormal(stddev=1.0, seed=seed)  # before the first fit
      shape = (ensemble_size * empirical_errors, outputs)
      self.errors = self.add_weight(shape=shape, initializer=normals, trainable=False)
    self.input_normalizer = normalizer(inputs, dtype)
    self.target_normalizer = normalizer(outputs, dtype)
    self.built = True

  def outcome(self, transition):
    """What is predicted of a transition: [..., O]."""
    change = self.coordinates.change(transition.observation, transition.next_observation)
    if not self.predicts_reward:
      return change
    return tf.concat([change, transition.reward[..., tf.newaxis]], -1)

  def _inputs(self, observation, action):
    return tf.concat([self.coordinates.features(observation), action], -1)

  def set_normalizer(self, transition):
    """Normalises with the mean and standard deviation of these [N, ...] transitions."""
    self.input_normalizer.fit(self._inputs(transition.observation, transition.action))
    self.target_normalizer.fit(self.outcome(transition))

  def set_noise(self, transition):
    """Gives each output of each member the variance of its errors on [E, N, ...] transitions.

    On rows that the members were not trained on, this holds what they do not know, too.
    """
    error = self(transition.observation, transition.action).mean() - self.outcome(transition)
    variance = tf.reduce_mean(tf.square(error / self.target_normalizer.scale), 1, keepdims=True)
    self.log_var.assign(tf.math.log(variance + 1e-8))

  def set_errors(self, transition):
    """Keeps the errors of the means on [E, `empirical_errors`, ...] transitions.

    In units of the standard deviations that their member predicts. Drawn from rows that it was not
    trained on, this is a residual bootstrap (Efron 1979); not centred, so that what the newest rows
    have in common is imagined, too.
    """
    gaussian = self(transition.observation, transition.action)
    errors = (self.outcome(transition) - gaussian.mean()) / gaussian.stddev()
    self.errors.assign(tf.reshape(errors, self.errors.shape))

  def draw_noise(self, shape, seed):
    """What `sample` takes as noise, [*shape, O]: errors kept, of any member, or normals."""
    if not self.empirical_errors:
      return tf.random.stateless_normal([*shape, self.outcome_size], seed, dtype=self.compute_dtype)
    rows = tf.random.stateless_uniform(shape, seed, 0, self.errors.shape[0], tf.int32)
    return tf.gather(self.errors, rows)

  def call(self, observation, action) -> tfd.Distribution:
    """One batch for every member: [E, N, S] and [E, N, A] to a distribution over [E, N, O].

    The leading index *is* the member, so that no call depends on hidden state.
    """
    output = self._mlp(self.input_normalizer(self._inputs(observation, action)))
    if self.constant_noise:
      mean, log_var = output, self.log_var
    else:
      mean, log_var = tf.split(output, 2, axis=-1)
      log_var = soft_clip(log_var, self.min_log_var, self.max_log_var)
    scale = self.target_normalizer.scale
    mean = self.target_normalizer.mean + scale * mean
    return tfd.Independent(tfd.Normal(mean, scale * tf.exp(0.5 * log_var)), 1)

  def sample(self, observation, action, noise):
    """The outcomes [E, N, O] that `noise` [E, N, O], as of `draw_noise`, selects."""
    gaussian = self(observation, action)
    return gaussian.mean() + gaussian.stddev() * noise

  def next_observation(self, observation, outcome):
    """Where an outcome [..., O] leads from `observation` [..., S]."""
    return self.coordinates.apply(observation, outcome[..., : self._change_size])
