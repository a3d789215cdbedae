"""The ensemble of probabilistic models.

Shapes: E ensemble members, N rows, S observation size, A action size, O outcome size; `...` stands
for any leading dimensions.
"""

from collections.abc import Sequence
from typing import Annotated

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from maac_tf.checks import Option, configurable
from maac_tf.data.types import Transition
from maac_tf.networks.layers import mlp, normalizer, soft_clip
from maac_tf.tasks.coordinates import PLAIN, Coordinates

tfd = tfp.distributions


@configurable
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
    ensemble_size: Annotated[
      int, Option("E, members of the ensemble of models; a divisor of Maac.batch_size", low=1)
    ] = 8,
    hidden_units: Annotated[
      Sequence[int], Option("units of each hidden layer of a model", low=1)
    ] = (256, 256, 256),
    layer_norm: Annotated[
      bool,
      Option(
        "normalise what a model's inner layers take (no learned scale): errors then grow less from "
        "one imagined step to the next"
      ),
    ] = True,
    constant_noise: Annotated[
      bool,
      Option(
        "one variance for each output and member, of the errors on validation data, in place of "
        "one that depends on state and action: no row can be explained away as noise"
      ),
    ] = True,
    seed: int = 0,
    dtype: str = "float32",
  ):
    """Makes the weights.

    Args:
      predicts_reward: whether the reward is one of the outputs.
      coordinates: what the members see of an observation, and predict of a step.
    """
    super().__init__(dtype=dtype)
    self.ensemble_size, self.predicts_reward = ensemble_size, predicts_reward
    self.coordinates = coordinates
    num_features, self._change_size = coordinates.sizes(observation_size)
    inputs = num_features + action_size
    self.outcome_size = outputs = self._change_size + predicts_reward
    sizes = (inputs, *hidden_units, outputs if constant_noise else 2 * outputs)
    self._mlp = mlp(ensemble_size, sizes, "silu", seed, dtype, layer_norm)

    def weight(name: str, value: float, trainable: bool = True) -> keras.Variable:
      shape, initializer = (ensemble_size, 1, outputs), keras.initializers.Constant(value)
      return self.add_weight(name=name, shape=shape, initializer=initializer, trainable=trainable)

    self.constant_noise = constant_noise
    if constant_noise:
      self.log_var = weight("log_var", 0.0, trainable=False)
    else:
      self.min_log_var = weight("min_log_var", -10.0)
      self.max_log_var = weight("max_log_var", 0.5)
    self.input_normalizer = normalizer(inputs, dtype)
    self.target_normalizer = normalizer(outputs, dtype)
    self.built = True

  def outcome(self, transition: Transition) -> tf.Tensor:
    """What is predicted of a transition: [..., O]."""
    change = self.coordinates.change(transition.observation, transition.next_observation)
    if not self.predicts_reward:
      return change
    return tf.concat([change, transition.reward[..., tf.newaxis]], -1)

  def _inputs(self, observation: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    return tf.concat([self.coordinates.features(observation), action], -1)

  def set_normalizer(self, transition: Transition) -> None:
    """Normalises with the mean and standard deviation of these [N, ...] transitions."""
    self.input_normalizer.fit(self._inputs(transition.observation, transition.action))
    self.target_normalizer.fit(self.outcome(transition))

  def set_noise(self, transition: Transition) -> None:
    """Gives each output of each member the variance of its errors on [E, N, ...] transitions.

    On rows that the members were not trained on, this holds what they do not know, too.
    """
    error = self(transition.observation, transition.action).mean() - self.outcome(transition)
    variance = tf.reduce_mean(tf.square(error / self.target_normalizer.scale), 1, keepdims=True)
    self.log_var.assign(tf.math.log(variance + 1e-8))

  def draw_noise(self, shape: Sequence[int], seed: tf.Tensor) -> tf.Tensor:
    """What `sample` takes as noise: standard normals [*shape, O]."""
    return tf.random.stateless_normal([*shape, self.outcome_size], seed, dtype=self.compute_dtype)

  def call(self, observation: tf.Tensor, action: tf.Tensor) -> tfp.distributions.Distribution:
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

  def sample(self, observation: tf.Tensor, action: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """The outcomes [E, N, O] that `noise` [E, N, O], as of `draw_noise`, selects."""
    gaussian = self(observation, action)
    return gaussian.mean() + gaussian.stddev() * noise

  def next_observation(self, observation: tf.Tensor, outcome: tf.Tensor) -> tf.Tensor:
    """Where an outcome [..., O] leads from `observation` [..., S]."""
    return self.coordinates.apply(observation, outcome[..., : self._change_size])
