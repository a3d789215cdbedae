"""The ensemble of probabilistic models.

Shapes: E ensemble members, N rows, S observation size, A action size, O outcome size; `...` stands
for any leading dimensions.
"""

from collections.abc import Sequence

import gin
import keras
import tensorflow as tf
import tensorflow_probability as tfp

from maac_tf.checks import require_booleans, require_integers, require_tuples
from maac_tf.networks.layers import mlp, normalizer, soft_clip
from maac_tf.tasks.coordinates import PLAIN, Coordinates

tfd = tfp.distributions


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
