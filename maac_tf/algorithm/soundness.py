"""What updates may come to: their numbers with what the data allow, for `networks.guard`."""

from collections.abc import Mapping
from typing import Protocol

import tensorflow as tf

from maac_tf.networks.actor_critic import ActorCritic
from maac_tf.networks.guard import FINITE, MULTIPLE, Limited


class Learner(Protocol):
  """What is used of `learner.Maac`."""

  actor_critic: ActorCritic
  action_size: int
  discount: float

  @property
  def temperature(self) -> tf.Tensor:
    """β, []."""


def numbers_of(learner: Learner, metrics: Mapping[str, tf.Tensor]) -> dict[str, Limited]:
  """The numbers of n updates, causes first.

  Data allow the largest reward of D_env and a standard deviation, with the entropy bonus; returns
  of these over a discounted life; losses of such returns, and gradients like these.

  Args:
    learner: what was updated.
    metrics: of the updates, [n] each.
  """
  parts = learner.actor_critic
  reward = MULTIPLE * (parts.largest_reward + parts.reward_scale)
  value = reward + MULTIPLE * learner.temperature * learner.action_size
  value /= 1.0 - learner.discount
  loss, unit = float(parts.critic.num_critics) * tf.square(value), parts.reward_scale
  # A temperature that has gone wrong allows no return at all.
  return {
    "the policy: entropy": (metrics["policy/entropy"], FINITE),
    "models or critics: imagined return": (metrics["policy/loss"], value),
    "the policy: gradient": (metrics["policy/gradient_norm"], MULTIPLE * value / unit),
    "the critics' targets: mean": (metrics["critic/target"], value),
    "the critics: loss": (metrics["critic/loss"], loss),
    "the critics: gradient": (metrics["critic/gradient_norm"], loss / tf.square(unit)),
  }
