"""How well an ensemble explains transitions, and what its fit descends.

Shapes: E ensemble members, N rows, O outcome size.
"""

import math

import tensorflow as tf

from maac_tf.data.types import Transition
from maac_tf.models.ensemble import Dynamics, Prediction

# The learned limits of the log-variance are pulled together this much (Chua et al. 2018).
LIMIT_WEIGHT = 0.01


def training_loss(dynamics: Dynamics, batch: Transition) -> tuple[tf.Tensor, tf.Tensor]:
  """What a step descends on a batch of [E, N, ...] transitions, and its mean NLL, scalars.

  That is the likelihood; with a constant noise least squares, in which all outputs count alike. By
  their likelihood, those that are all but known, such as linear ones, would count for most: their
  variance is least.
  """
  prediction = dynamics.predict(batch.observation, batch.action)
  errors = dynamics.errors(prediction, batch)
  likelihood = _negative_log_likelihood(dynamics, prediction, errors)
  if dynamics.constant_noise:
    member_loss = _mean_over_outputs(dynamics, 0.5 * tf.reduce_mean(tf.square(errors), 1))
  else:
    limits = tf.reduce_mean(dynamics.max_log_var - dynamics.min_log_var, [1, 2])
    member_loss = likelihood + LIMIT_WEIGHT * limits
  member_loss += _end_likelihood(dynamics, prediction, batch)
  return tf.reduce_sum(member_loss), tf.reduce_mean(likelihood)  # members do not interact


def validation_loss(dynamics: Dynamics, validation: Transition) -> tf.Tensor:
  """The NLL of each member on [E, N, ...] transitions that it was not trained on, [E].

  The mean over rows and outputs. A constant noise is set to the errors on them.
  """
  if dynamics.constant_noise:
    dynamics.set_noise(validation)
  prediction = dynamics.predict(validation.observation, validation.action)
  errors = dynamics.errors(prediction, validation)
  likelihood = _negative_log_likelihood(dynamics, prediction, errors)
  return likelihood + _end_likelihood(dynamics, prediction, validation)


def _negative_log_likelihood(
  dynamics: Dynamics, prediction: Prediction, errors: tf.Tensor
) -> tf.Tensor:
  """Of *normalised* outcomes, in nats, mean over rows and outputs: [E, N, O] -> [E].

  The change of variables makes fits comparable between tasks and iterations.
  """
  log_var = prediction.log_var
  nats = 0.5 * (math.log(2.0 * math.pi) + log_var + tf.square(errors) * tf.exp(-log_var))
  return _mean_over_outputs(dynamics, tf.reduce_mean(nats, 1))


def _mean_over_outputs(dynamics: Dynamics, values: tf.Tensor) -> tf.Tensor:
  """[E, O] -> [E], of the outputs that move: the others are known, and would say nothing."""
  return tf.reduce_sum(values * dynamics.moves, 1) / tf.maximum(tf.reduce_sum(dynamics.moves), 1.0)


def _end_likelihood(dynamics: Dynamics, prediction: Prediction, batch: Transition) -> tf.Tensor:
  """The Bernoulli negative log-likelihood of ends, nats, mean over rows: [E, N, ...] -> [E].

  Without weights, though ends are rare; for each output, as the other loss is their mean. 0 of
  members that do not predict any.
  """
  if prediction.end_logit is None:
    return tf.zeros_like(prediction.mean[:, 0, 0])
  ends = tf.nn.sigmoid_cross_entropy_with_logits(batch.terminal, prediction.end_logit)
  return tf.reduce_mean(ends, 1) / dynamics.outcome_size
