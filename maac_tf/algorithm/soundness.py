"""What an update may come to: its numbers with what the data allow, for `networks.guard`."""

from typing import Protocol

import tensorflow as tf

from maac_tf.algorithm.objectives import Path
from maac_tf.data.types import Transition
from maac_tf.networks.actor_critic import ActorCritic
from maac_tf.networks.guard import FINITE, MULTIPLE, Limited


class Learner(Protocol):
  """What is used of `learner.Maac`."""

  actor_critic: ActorCritic
  action_size: int
  num_real: int
  discount: float

  @property
  def temperature(self) -> tf.Tensor:
    """β, []."""


def numbers_of(
  learner: Learner, batch: Transition, path: Path, metrics: dict[str, tf.Tensor]
) -> dict[str, Limited]:
  """The numbers of an update, causes first: what a network was given before what it made of it.

  Data allow the largest reward of D_env and a standard deviation, with the entropy bonus; returns
  of these over a discounted life; losses of such returns, and gradients like these.

  Args:
    batch: B transitions, those of D_env first.
    path: imagined from them.
    metrics: of the update.
  """
  parts, trajectory = learner.actor_critic, path.trajectory
  reward = MULTIPLE * (parts.largest_reward + parts.reward_scale)
  value = reward + MULTIPLE * learner.temperature * learner.action_size
  value /= 1.0 - learner.discount
  loss = float(parts.critic.num_critics) * tf.square(value)
  of_env, of_models = (
    Transition(*(x[a:b] for x in batch))
    for a, b in ((0, learner.num_real), (learner.num_real, None))
  )
  found: dict[str, Limited] = {}
  for name, rows in (("D_env", of_env), ("the models, in D_model", of_models)):
    if rows.reward.shape[0]:
      observations = _size(rows.observation) + _size(rows.next_observation)
      found |= {f"{name}: observations": (observations, FINITE)}
      found |= {f"{name}: rewards": (_size(rows.reward), reward)}
  log_prob = trajectory.log_prob[0] if trajectory.reward else path.final_log_prob
  found |= {"the policy: log-probability": (_size(log_prob), FINITE)}
  if trajectory.reward:
    imagined = tf.stack(trajectory.observation[1:]), tf.stack(trajectory.reward)
    found |= {"the models: imagined observations": (_size(imagined[0]), FINITE)}
    found |= {"the models: imagined rewards": (_size(imagined[1]), reward)}
  unit = parts.reward_scale
  return found | {
    "the critics: imagined return": (metrics["policy/loss"], value),
    "the policy: gradient": (metrics["policy/gradient_norm"], MULTIPLE * value / unit),
    "the critics' targets: mean": (metrics["critic/target"], value),
    "the critics: loss": (metrics["critic/loss"], loss),
    "the critics: gradient": (metrics["critic/gradient_norm"], loss / tf.square(unit)),
  }


def _size(x: tf.Tensor) -> tf.Tensor:
  """The mean size of the numbers; not finite if one of them is not."""
  return tf.reduce_mean(tf.abs(x))
