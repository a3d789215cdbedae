"""The objective of MAAC and the targets of its critic: pure functions of networks, data and noise.

Shapes: B batch, S, A sizes, K trajectories and n final actions per start state, H horizon,
E ensemble members, M of them used in the targets, Q critics. `c` counts 1 until an imagined step
terminates: the reward of that step counts, nothing after it does.
"""

from typing import NamedTuple

import tensorflow as tf

from maac_tf import imagine


class Transition(NamedTuple):
  """One step; `terminal` is true termination, 1.0 or 0.0, never a time limit."""

  observation: tf.Tensor  # [..., S]
  action: tf.Tensor  # [..., A] in [-1, 1]
  reward: tf.Tensor  # [...]
  next_observation: tf.Tensor  # [..., S]
  terminal: tf.Tensor  # [...]


class PolicyNoise(NamedTuple):
  """What is random in the policy loss of one batch of B start states."""

  rollout: imagine.RolloutNoise  # H steps of K * B trajectories
  final_action: tf.Tensor  # [n, K * B, A]


class SteveNoise(NamedTuple):
  """What is random in the STEVE targets of one batch of B transitions."""

  first_action: tf.Tensor  # [B, A], for the stored s_1
  rollout: imagine.RolloutNoise  # h_max steps, [h_max, E, M B / E, ...]; its first action is unused
  final_action: tf.Tensor  # [E, M B / E, A]
  members: tf.Tensor  # [M] int, see `imagine.to_members`


class Path(NamedTuple):
  """An imagined trajectory of H steps and n actions at its end: all that an H-step return needs."""

  trajectory: imagine.Trajectory
  final_action: tf.Tensor  # [n, ..., A] at s_H
  final_log_prob: tf.Tensor  # [n, ...]


def imagine_path(act, step, observation, noise: PolicyNoise, first=None) -> Path:
  """H steps from `observation` [..., S], then n actions; arguments as for `imagine.rollout`."""
  trajectory = imagine.rollout(act, step, observation, noise.rollout, first)
  return Path(trajectory, *act(trajectory.observation[-1], noise.final_action))


def path_return(path: Path, value, entropy_steps, *, discount, temperature):
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
  # From the end, R_t = r_t + γ (1 - d_{t+1}) R_{t+1}. (A plain sum may become an AddN, which
  # adds in an order that depends on timing.)
  total = gains[horizon]
  for t in reversed(range(horizon)):
    total = gains[t] + discount * tf.where(trajectory.terminal[t], tf.zeros_like(total), total)
  return total


def policy_loss(path: Path, value, *, soft_returns, discount, temperature):
  """-J_π of section 4.3: minus the mean return that the model predicts from the start states.

      J = Σ_{t<H} γ^t c_t r_t + γ^H c_H Q(s_H, a_H) - β log π(a_0|s_0)

  With `soft_returns` every step has its entropy bonus, as in the Q-function's own definition. With
  H = 0 there is one step and no difference; it is the policy loss of SAC. The gradient flows
  through reward, model, critic and policy; ask a tape for that of the policy's variables only.

  Args:
    path: imagined under the tape, from each start state.
    value: the critics, reduced to one, (observation, action) -> [...].
    soft_returns: bool.
  """
  horizon = len(path.trajectory.reward)
  entropy_steps = range(horizon + 1) if soft_returns else (0,)
  parameters = {"discount": discount, "temperature": temperature}
  return -tf.reduce_mean(path_return(path, value, entropy_steps, **parameters))


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
    act, step: as in `imagine.rollout`; `step` gets [E, N, ...], the leading index being the member.
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
      return imagine.to_members(x, noise.members, ensemble_size)

    trajectory = imagine.rollout(
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
      candidates.append(imagine.from_members(candidate, noise.members, ensemble_size))

  candidates = tf.stack(candidates)  # [h_max + 1, Q, M, B]
  mean = tf.reduce_mean(tf.reduce_min(candidates, 1), 1)
  weight = 1.0 / (tf.math.reduce_variance(candidates, [1, 2]) + 1e-8)
  weight /= tf.reduce_sum(weight, 0)
  return tf.stop_gradient(tf.reduce_sum(weight * mean, 0)), tf.stop_gradient(weight)


def critic_loss(q_value, observation, action, targets):
  """J_Q (section 3.1): mean squared error to the targets [B], summed over the critics."""
  errors = q_value(observation, action) - targets
  return tf.reduce_sum(tf.reduce_mean(tf.square(errors), -1))


def temperature_loss(log_temperature, log_prob, target_entropy):
  """Drives the entropy -log_prob to the target (Haarnoja et al. 2018b); log_prob is constant."""
  return -log_temperature * tf.stop_gradient(tf.reduce_mean(log_prob) + target_entropy)
