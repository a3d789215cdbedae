"""How well an ensemble explains transitions, and what its fit descends.

Shapes: E ensemble members, N rows, O outcome size.
"""

import math

import tensorflow as tf

from maac_tf.data.types import Transition
from maac_tf.models.ensemble import Dynamics

# The learned limits of the log-variance are pulled together this much (Chua et al. 2018).
LIMIT_WEIGHT = 0.01
# Of a standard normal, nats.
GAUSSIAN_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)


def negative_log_likelihood(dynamics: Dynamics, batch: Transition) -> tf.Tensor:
  """Of each output, in nats of the *normalised* change: [E, N, ...] -> [E, N, O].

  The change of variables makes fits comparable between tasks and iterations.
  """
  gaussian, _ = dynamics.predict(batch.observation, batch.action)
  scale = dynamics.target_normalizer.scale
  return -gaussian.distribution.log_prob(dynamics.outcome(batch)) - tf.math.log(scale)


def training_loss(dynamics: Dynamics, batch: Transition) -> tuple[tf.Tensor, tf.Tensor]:
  """What a step descends on a batch of [E, N, ...] transitions, and its mean NLL, scalars."""
  likelihood = negative_log_likelihood(dynamics, batch)
  member_loss = tf.reduce_mean(likelihood, [1, 2])
  if dynamics.predicts_end:
    member_loss += _end_likelihood(dynamics, batch)
  if not dynamics.constant_noise:
    limits = tf.reduce_mean(dynamics.max_log_var - dynamics.min_log_var, [1, 2])
    member_loss += LIMIT_WEIGHT * limits
  return tf.reduce_sum(member_loss), tf.reduce_mean(likelihood)  # members do not interact


def validation_loss(dynamics: Dynamics, validation: Transition) -> tf.Tensor:
  """The mean NLL of each member on [E, N, ...] transitions that it was not trained on, [E].

  A constant noise is set to the errors on them.
  """
  if dynamics.constant_noise:
    # Of errors that have the predicted variance, the mean NLL is the Gaussian's entropy.
    dynamics.set_noise(validation)
    loss = tf.reduce_mean(GAUSSIAN_ENTROPY + 0.5 * dynamics.log_var, [1, 2])
  else:
    loss = tf.reduce_mean(negative_log_likelihood(dynamics, validation), [1, 2])
  return loss + _end_likelihood(dynamics, validation) if dynamics.predicts_end else loss


def _end_likelihood(dynamics: Dynamics, batch: Transition) -> tf.Tensor:
  """The Bernoulli negative log-likelihood of ends, nats, mean over rows: [E, N, ...] -> [E].

  Without weights, though ends are rare; for each output, as the other likelihood is their mean. 0
  while there was no end.
  """
  _, logit = dynamics.predict(batch.observation, batch.action)
  assert logit is not None, "the members predict ends"
  ends = tf.nn.sigmoid_cross_entropy_with_logits(batch.terminal, logit)
  return dynamics.end_was_seen * tf.reduce_mean(ends, 1) / dynamics.outcome_size
