"""The objective of MAAC (section 4.3) and its losses: pure functions of networks, data and noise.

Shapes: B batch, S, A sizes, n final actions per start state, H horizon, Q critics. `c` is
the probability that no imagined step before has terminated: the reward of the step that terminates
counts, nothing after it does.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from maac_tf.algorithm.rollout import RolloutNoise, Trajectory, rollout
from maac_tf.data.types import Act, Step, Transition, Value


class PolicyNoise(NamedTuple):
  """What is random in the policy loss of one batch of B start states."""

  rollout: RolloutNoise  # H steps of B trajectories
  final_action: tf.Tensor  # [n, B, A]


class Path(NamedTuple):
  """An imagined trajectory of H steps and n actions at its end: all that an H-step return needs."""

  trajectory: Trajectory
  final_action: tf.Tensor  # [n, ..., A] at s_H
  final_log_prob: tf.Tensor  # [n, ...]


def imagine_path(
  act: Act,
  step: Step | None,
  observation: tf.Tensor,
  noise: PolicyNoise,
  first: tuple[tf.Tensor, tf.Tensor] | None = None,
) -> Path:
  """H steps from `observation` [..., S], then n actions; arguments as for `rollout`."""
  trajectory = rollout(act, step, observation, noise.rollout, first)
  return Path(trajectory, *act(trajectory.observation[-1], noise.final_action))


def path_return(
  path: Path,
  value: Value,
  entropy_steps: Sequence[int],
  *,
  discount: float,
  temperature: tf.Tensor | float,
) -> tf.Tensor:
  """The H-step return of a path, [...].

      R = Σ_{t<H} γ^t c_t (r_t - β_t log π_t) + γ^H c_H (V - β_H log π_H)

  β_t is the temperature for the t in `entropy_steps` and 0 for others; V and log π_H are averaged
  over the n actions at s_H.

  Args:
    path: H steps.
    value: (observation, action) -> [...], of the n actions at s_H.
    entropy_steps: which of t = 0..H carry an entropy bonus.
  """
  trajectory = path.trajectory
  horizon = len(trajectory.reward)
  final = trajectory.observation[-1]
  final = tf.broadcast_to(final, tf.concat([tf.shape(path.final_action)[:1], tf.shape(final)], 0))
  gains = [*trajectory.reward, tf.reduce_mean(value(final, path.final_action), 0)]
  log_probs = [*trajectory.log_prob, tf.reduce_mean(path.final_log_prob, 0)]
  for t in entropy_steps:
    gains[t] -= temperature * log_probs[t]
  # From the end, R_t = r_t + γ (1 - p_{t+1}) R_{t+1}. (A plain sum may become an AddN, which
  # adds in an order that depends on timing.)
  total = gains[horizon]
  for t in reversed(range(horizon)):
    total = gains[t] + discount * if_alive(1.0 - trajectory.terminal[t], total)
  return total


def if_alive(probability: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
  """x times the probability of being alive; 0 where that is 0, though x may not be finite there."""
  return tf.where(probability > 0.0, probability * x, tf.zeros_like(x))


def policy_loss(
  path: Path, value: Value, *, discount: float, temperature: tf.Tensor | float
) -> tf.Tensor:
  """-J_π of section 4.3: minus the mean return that the model predicts from the start states.

      J = Σ_{t<H} γ^t c_t r_t + γ^H c_H Q(s_H, a_H) - β log π(a_0|s_0)

  With H = 0 it is the policy loss of SAC. The gradient flows through reward, model, critic and
  policy; ask a tape for that of the policy's variables only.

  Args:
    path: imagined under the tape, from each start state.
    value: the critics, reduced to one, (observation, action) -> [...].
  """
  returns = path_return(path, value, (0,), discount=discount, temperature=temperature)
  return -tf.reduce_mean(returns)


def critic_loss(
  q_value: Value, observation: tf.Tensor, action: tf.Tensor, targets: tf.Tensor
) -> tf.Tensor:
  """J_Q (section 3.1): mean squared error to the targets [B], summed over the critics."""
  errors = q_value(observation, action) - targets
  return tf.reduce_sum(tf.reduce_mean(tf.square(errors), -1))


def temperature_loss(
  log_temperature: tf.Tensor, log_prob: tf.Tensor, target_entropy: float
) -> tf.Tensor:
  """Drives the entropy -log_prob to the target (Haarnoja et al. 2018b); log_prob is constant."""
  return -log_temperature * tf.stop_gradient(tf.reduce_mean(log_prob) + target_entropy)


def soft_rewards(batch: Transition, path: Path, temperature: tf.Tensor) -> tf.Tensor:
  """With the entropy bonus, [B], of the path's first step alone: none is beyond a termination."""
  if len(path.trajectory.reward):
    return path.trajectory.reward[0] - temperature * path.trajectory.log_prob[0]
  return batch.reward - temperature * tf.reduce_mean(path.final_log_prob)
