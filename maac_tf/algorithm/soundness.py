"""What updates may come to: their numbers with what the data allow, for `networks.guard`."""

from collections.abc import Mapping
from typing import Protocol

import tensorflow as tf

from maac_tf.networks.actor_critic import ActorCritic
from maac_tf.networks.guard import FINITE, MULTIPLE, Limit


class Learner(Protocol):
  """What is used of `learner.Maac`."""

  actor_critic: ActorCritic
  action_size: int
  discount: float

  @property
  def temperature(self) -> tf.Tensor:
    """β, []."""


# Causes first.
NUMBERS = {
  "the policy: entropy": "policy/entropy",
  "models or critics: imagined return": "policy/loss",
  "the policy: gradient": "policy/gradient_norm",
  "the critics' targets: mean": "critic/target",
  "the critics: loss": "critic/loss",
  "the critics: gradient": "critic/gradient_norm",
}


def limits(learner: Learner) -> dict[str, Limit]:
  """By name of a metric, [].

  Data allow the largest reward of D_env and a standard deviation, with the entropy bonus; returns
  of these over a discounted life; losses of such returns, and gradients like these.

  Args:
    learner: before the updates, as what goes wrong in them may be in its limits, too.
  """
  parts = learner.actor_critic
  reward = MULTIPLE * (parts.largest_reward + parts.reward_scale)
  value = reward + MULTIPLE * learner.temperature * learner.action_size
  value /= 1.0 - learner.discount
  loss, unit = float(parts.critic.num_critics) * tf.square(value), parts.reward_scale
  return {
    "policy/entropy": FINITE,
    "policy/loss": value,
    "policy/gradient_norm": MULTIPLE * value / unit,
    "critic/target": value,
    "critic/loss": loss,
    "critic/gradient_norm": loss / tf.square(unit),
  }


def numbers(
  metrics: Mapping[str, tf.Tensor], limits: Mapping[str, Limit]
) -> dict[str, tuple[tf.Tensor, Limit]]:
  """Of n updates, for `Guard.look`.

  Args:
    metrics: of the updates, [n] each.
    limits: see above.
  """
  return {name: (metrics[key], limits[key]) for name, key in NUMBERS.items()}
