"""The ensemble of probabilistic models.

Shapes: E ensemble members, N rows, S observation size, A action size, O outcome size; `...` stands
for any leading dimensions.
"""

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from maac_tf.checks import Option, configurable
from maac_tf.data.statistics import Statistics
from maac_tf.data.types import Transition
from maac_tf.networks.layers import mlp, normalizer, soft_clip
from maac_tf.tasks.coordinates import PLAIN, Coordinates

tfd = tfp.distributions


# The logit of a probability that is 0 in float32, and so is its derivative.
NEVER = -200.0


class Prediction(NamedTuple):
  """Of each member, of outcomes in units of the data's mean and standard deviation."""

  mean: tf.Tensor  # [E, N, O]
  log_var: tf.Tensor  # [E, N, O], or [E, 1, O] of a constant noise
  end_logit: tf.Tensor | None  # [E, N], of the probability that the step ends the episode


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
    predicts_end: bool = False,
    coordinates: Coordinates = PLAIN,
    ensemble_size: Annotated[
      int, Option("E, members of the ensemble of models; a divisor of Maac.batch_size", low=1)
    ] = 8,
    hidden_units: Annotated[
      Sequence[int], Option("units of each hidden layer of a model", low=1)
    ] = (128, 128, 128),
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
        "fit the mean by least squares, of every output alike, with one variance for each output "
        "and member, of the errors on validation data; else by the likelihood, with a variance "
        "that depends on state and action, so that rows can be explained away as noise"
      ),
    ] = True,
    seed: int = 0,
    dtype: str = "float32",
  ):
    """Makes the weights.

    Args:
      predicts_reward: whether the reward is one of the outputs.
      predicts_end: whether the members predict the probability that the episode ends there.
      coordinates: what the members see of an observation, and predict of a step.
    """
    super().__init__(dtype=dtype)
    self.ensemble_size = ensemble_size
    self.predicts_reward, self.predicts_end = predicts_reward, predicts_end
    self.coordinates = coordinates
    num_features, self._change_size = coordinates.sizes(observation_size)
    inputs = num_features + action_size
    self.outcome_size = outputs = self._change_size + predicts_reward
    last = (outputs if constant_noise else 2 * outputs) + predicts_end
    sizes = (inputs, *hidden_units, last)
    self._mlp = mlp(ensemble_size, sizes, "silu", seed, dtype, layer_norm)
    if predicts_end:  # from its offset alone: random weights would expect ends where there are none
      kernel = self._mlp.layers[-1].kernel
      kernel.assign(tf.concat([kernel[..., :-1], tf.zeros_like(kernel[..., -1:])], -1))

    def weight(name: str, value: float, trainable: bool = True) -> keras.Variable:
      shape, initializer = (ensemble_size, 1, outputs), keras.initializers.Constant(value)
      return self.add_weight(name=name, shape=shape, initializer=initializer, trainable=trainable)

    self.constant_noise = constant_noise
    if constant_noise:
      self.log_var = weight("log_var", 0.0, trainable=False)
    else:
      self.min_log_var = weight("min_log_var", -10.0)
      self.max_log_var = weight("max_log_var", 0.5)
    self.input_normalizer = normalizer(inputs, dtype, bounded=True)
    self.target_normalizer = normalizer(outputs, dtype)
    # Of the logit of an end.
    never = keras.initializers.Constant(NEVER)
    self.end_offset = self.add_weight(shape=(), initializer=never, trainable=False)
    self.built = True

  def outcome(self, transition: Transition) -> tf.Tensor:
    """What is predicted of a transition: [..., O]."""
    change = self.coordinates.change(transition.observation, transition.next_observation)
    if not self.predicts_reward:
      return change
    return tf.concat([change, transition.reward[..., tf.newaxis]], -1)

  def _inputs(self, observation: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    return tf.concat([self.coordinates.features(observation), action], -1)

  def columns(self, transition: Transition) -> tf.Tensor:
    """What `set_normalizer` takes the statistics of: inputs, outcome and end of [N, ...] steps."""
    inputs = self._inputs(transition.observation, transition.action)
    return tf.concat([inputs, self.outcome(transition), transition.terminal[:, tf.newaxis]], -1)

  def set_normalizer(self, seen: Statistics) -> None:
    """Normalises with the statistics of D_env, and expects ends as often as there."""
    self.input_normalizer.fit(seen.part(-1 - self.outcome_size))
    self.target_normalizer.fit(seen.part(-1 - self.outcome_size, -1))
    if self.predicts_end:
      self.see_ends(float(seen.mean[-1] * seen.rows), seen.rows)

  @property
  def moves(self) -> tf.Tensor:
    """[O] 1, or 0 of an output that never changed: no part of any loss, and predicted as it is."""
    return self.target_normalizer.moves

  def errors(self, prediction: Prediction, transition: Transition) -> tf.Tensor:
    """Of a prediction of these transitions, [E, N, O], in units of the outcomes' deviations."""
    target = self.target_normalizer
    return (prediction.mean - (self.outcome(transition) - target.mean) / target.scale) * self.moves

  def set_noise(self, transition: Transition) -> None:
    """Gives each output of each member the variance of its errors on [E, N, ...] transitions.

    On rows that the members were not trained on, this holds what they do not know, too.
    """
    errors = self.errors(self.predict(transition.observation, transition.action), transition)
    self.log_var.assign(tf.math.log(tf.reduce_mean(tf.square(errors), 1, keepdims=True) + 1e-8))

  def draw_noise(self, shape: Sequence[int], seed: tf.Tensor) -> tf.Tensor:
    """What `sample` takes as noise: standard normals [*shape, O]."""
    return tf.random.stateless_normal([*shape, self.outcome_size], seed, dtype=self.compute_dtype)

  def call(self, observation: tf.Tensor, action: tf.Tensor) -> tfp.distributions.Distribution:
    """One batch for every member: [E, N, S] and [E, N, A] to a distribution over [E, N, O].

    The leading index *is* the member, so that no call depends on hidden state.
    """
    prediction = self.predict(observation, action)
    return tfd.Independent(tfd.Normal(*self._in_units(prediction)), 1)

  def predict(self, observation: tf.Tensor, action: tf.Tensor) -> Prediction:
    """The same, of normalised outcomes; and whether the episode ends."""
    output = self._mlp(self.input_normalizer(self._inputs(observation, action)))
    end_logit = None
    if self.predicts_end:
      output, end_logit = output[..., :-1], output[..., -1] + self.end_offset
    if self.constant_noise:
      return Prediction(output, self.log_var, end_logit)
    mean, log_var = tf.split(output, 2, axis=-1)
    return Prediction(mean, soft_clip(log_var, self.min_log_var, self.max_log_var), end_logit)

  def _in_units(self, prediction: Prediction) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and standard deviation of the outcome; of one that never changed, as it was and 0."""
    scale = self.target_normalizer.scale * self.moves
    mean = self.target_normalizer.mean + scale * prediction.mean
    return mean, scale * tf.exp(0.5 * prediction.log_var)

  def sample(self, observation: tf.Tensor, action: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """The outcomes [E, N, O] that `noise` [E, N, O], as of `draw_noise`, selects.

    If the members predict ends, one number more: the probability that the step ends the episode.
    """
    prediction = self.predict(observation, action)
    mean, std = self._in_units(prediction)
    outcome = mean + std * noise
    if prediction.end_logit is None:
      return outcome
    probability = tf.sigmoid(prediction.end_logit)
    return tf.concat([outcome, probability[..., tf.newaxis]], -1)

  def see_ends(self, ends: float, count: int) -> None:
    """The first time that there are `ends` among so many transitions, expects that share of them.

    Learning goes on from there; before, an end is expected never to come. Ends are rare, and from a
    half the way to their share is long.
    """
    if ends and self.end_offset.numpy() == NEVER:
      self.end_offset.assign(math.log((ends + 0.5) / (count - ends + 0.5)))

  def next_observation(self, observation: tf.Tensor, outcome: tf.Tensor) -> tf.Tensor:
    """Where an outcome [..., O] leads from `observation` [..., S]."""
    return self.coordinates.apply(observation, outcome[..., : self._change_size])
