"""What the critics learn: returns of the policy's imagined rollouts, and STEVE.

Shapes: B batch, S, A sizes, H horizon, E ensemble members, M of them used, Q critics.
"""

from typing import NamedTuple

import tensorflow as tf

from maac_tf.algorithm.objectives import Path, path_return
from maac_tf.algorithm.rollout import RolloutNoise, rollout
from maac_tf.data.types import Transition
from maac_tf.models.members import from_members, to_members


class SteveNoise(NamedTuple):
  """What is random in the STEVE targets of one batch of B transitions."""

  first_action: tf.Tensor  # [B, A], for the stored s_1
  rollout: RolloutNoise  # h_max steps, [h_max, E, M B / E, ...]; its first action is unused
  final_action: tf.Tensor  # [E, M B / E, A]
  members: tf.Tensor  # [M] int, see `to_members`


def path_targets(path: Path, value, *, discount, temperature):
  """Critic targets for (s_0, a_0) of a path: the soft H-step return, [...], without gradient.

      r_0 + Σ_{1<=t<H} γ^t c_t (r_t - β log π_t) + γ^H c_H (Q' - β log π_H)

  `value` is of the target critics. H must be 1 or more.
  """
  entropy_steps = range(1, len(path.trajectory.reward) + 1)
  parameters = {"discount": discount, "temperature": temperature}
  return tf.stop_gradient(path_return(path, value, entropy_steps, **parameters))


def steve_targets(
  act, step, q_value, transition: Transition, noise: SteveNoise, *, discount, temperature
):
  """Critic targets that trust the model where it agrees with itself (Buckman et al. 2018).

  For each rollout length h = 0..h_max, member m and critic q the candidate

      T = r_0 + Σ_{i=1..h} γ^i c_i (r_i - β log π_i)
          + γ^{h+1} c_{h+1} (Q_q(s_{h+1}, a_{h+1}) - β log π_{h+1})

  is rolled inside m from the stored s_1 (section 4.3); all share one a_1. Per h, the mean is over m
  of the minimum over q; its weight is 1 / (variance over m *and* q + 1e-8), normalised over h. The
  critics' disagreement must be in that variance: at h = 0 it is all there is. With h_max = 0 this
  is the TD target of SAC.

  Args:
    act, step: as in `rollout`; `step` gets [E, N, ...], the leading index being the member.
    q_value: the *target* critics, (observation, action) -> [Q, ...].
    transition: B stored steps.
    noise: h_max and M are its shapes.

  Returns:
    (targets [B], weights [h_max + 1, B]), without gradient.
  """
  num_members = noise.members.shape[0]
  horizon = noise.rollout.action.shape[0]
  first_action, first_log_prob = act(transition.next_observation, noise.first_action)

  def soft_value(observation, action, log_prob):
    return q_value(observation, action) - temperature * log_prob  # [Q, ...]

  def until_end(not_done, x):
    # Not a product: what a model predicts beyond an end may not be finite.
    return tf.where(not_done > 0.0, x, tf.zeros_like(x))

  not_done_1 = 1.0 - transition.terminal
  value_1 = soft_value(transition.next_observation, first_action, first_log_prob)
  td = transition.reward + discount * until_end(not_done_1, value_1)  # [Q, B]
  candidates = [tf.repeat(td[:, tf.newaxis], num_members, 1)]  # of [Q, M, B]

  if horizon:
    ensemble_size = noise.rollout.action.shape[1]

    def deal(x):
      return to_members(x, noise.members, ensemble_size)

    trajectory = rollout(
      act,
      step,
      deal(transition.next_observation),
      noise.rollout,
      first=(deal(first_action), deal(first_log_prob)),
    )
    final_action, final_log_prob = act(trajectory.observation[-1], noise.final_action)
    actions = [*trajectory.action, final_action]
    log_probs = [*trajectory.log_prob, final_log_prob]
    later = (tf.stack(x[1:]) for x in (trajectory.observation, actions, log_probs))
    values = soft_value(*later)  # [Q, h_max, E, N]
    partial, not_done_1 = deal(transition.reward), deal(not_done_1)
    for h in range(1, horizon + 1):
      c = [not_done_1 * not_done for not_done in trajectory.not_done[h - 1 : h + 1]]
      soft_reward = trajectory.reward[h - 1] - temperature * log_probs[h - 1]
      partial += discount**h * until_end(c[0], soft_reward)
      candidate = partial + discount ** (h + 1) * until_end(c[1], values[:, h - 1])
      candidates.append(from_members(candidate, noise.members, ensemble_size))

  candidates = tf.stack(candidates)  # [h_max + 1, Q, M, B]
  mean = tf.reduce_mean(tf.reduce_min(candidates, 1), 1)
  weight = 1.0 / (tf.math.reduce_variance(candidates, [1, 2]) + 1e-8)
  weight /= tf.reduce_sum(weight, 0)
  return tf.stop_gradient(tf.reduce_sum(weight * mean, 0)), tf.stop_gradient(weight)
