"""The one differentiable rollout, and who of the ensemble predicts which trajectory.

Shapes: H model steps, B start states, N trajectories, E members, M members used, S, A.
"""

from typing import Any, NamedTuple

import tensorflow as tf


class RolloutNoise(NamedTuple):
  """All that is random in a rollout of H steps."""

  action: tf.Tensor  # [H, ..., A] standard normal
  model: Any  # whatever `step` takes, each tensor [H, ...]


class Trajectory(NamedTuple):
  """H imagined steps, each field a list over time t = 0..H-1, or 0..H where said.

  c_t is `not_done[t]`: 1 until a step has terminated, 0 from then on, where the state is s_0 again.
  """

  observation: list[tf.Tensor]  # 0..H, of [..., S]
  action: list[tf.Tensor]  # [..., A]
  log_prob: list[tf.Tensor]  # [...]
  reward: list[tf.Tensor]  # [...]
  terminal: list[tf.Tensor]  # [...] bool
  not_done: list[tf.Tensor]  # 0..H, of [...], 1.0 or 0.0


def rollout(act, step, observation, noise: RolloutNoise, first=None) -> Trajectory:
  """Unrolls policy and model from `observation` for as many steps as `noise` has.

  Gradients flow through everything; the caller decides where they stop.

  Args:
    act: (observation, noise) -> (action, log_prob).
    step: (observation, action, noise) -> (next_observation, reward, terminal).
    observation: [..., S] start states s_0.
    noise: of H steps; H = 0 is allowed and returns the start states alone.
    first: (action, log_prob) at s_0, when the caller has drawn them already.
  """
  not_done = tf.ones(tf.shape(observation)[:-1], observation.dtype)
  trajectory = Trajectory([observation], [], [], [], [], [not_done])
  for t in range(noise.action.shape[0]):
    given = t == 0 and first is not None
    action, log_prob = first if given else act(observation, noise.action[t])
    model_noise = tf.nest.map_structure(lambda x, t=t: x[t], noise.model)
    observation, reward, terminal = step(observation, action, model_noise)
    not_done *= 1.0 - tf.cast(terminal, not_done.dtype)
    # Nothing beyond an end counts, but a gradient of zero times one that is not finite is NaN.
    alive = not_done[..., tf.newaxis] > 0.0
    observation = tf.where(alive, observation, trajectory.observation[0])
    new = Trajectory(observation, action, log_prob, reward, terminal, not_done)
    for values, value in zip(trajectory, new, strict=True):
      values.append(value)
  return trajectory


def replay(observation, action):
  """An `act` for `rollout` that takes the actions it finds in the place of its noise."""
  return action, tf.zeros(tf.shape(observation)[:-1], observation.dtype)


def random_member(predict, ensemble_size, observation, action, noise, permutation):
  """Each trajectory's outcome by a member of its own: f_U with U uniform (section 4.3).

  Every member gets an equal share of the trajectories, dealt by `permutation`; redrawn at each
  step, each trajectory's member is uniform and independent of the steps before.

  Args:
    predict: (observation, action, noise) of [E, N/E, ...] -> outcome [E, N/E, O].
    ensemble_size: E, a divisor of N.
    observation, action, noise: [N, S], [N, A], [N, O].
    permutation: [N] int, a permutation of range(N).

  Returns:
    outcome: [N, O].
  """

  def deal(x):
    return tf.reshape(tf.gather(x, permutation), [ensemble_size, -1, x.shape[-1]])

  dealt = predict(deal(observation), deal(action), deal(noise))
  return tf.gather(tf.reshape(dealt, tf.shape(noise)), tf.math.invert_permutation(permutation))


def to_members(x, members, ensemble_size):
  """Copies every row to M members, a random subset of its own: [B, ...] -> [E, N, ...].

  The batch is cut into E groups; group g goes to the members (g + members[j]) mod E. So every
  member gets the same number of rows, N = M B / E, and no weights are gathered.

  Args:
    x: [B, ...], with B a multiple of E.
    members: [M] int, distinct numbers below E in random order.
    ensemble_size: E.
  """
  groups = tf.reshape(x, tf.concat([[ensemble_size, -1], tf.shape(x)[1:]], 0))
  group_of = (tf.range(ensemble_size)[:, tf.newaxis] - members) % ensemble_size  # [E, M]
  dealt = tf.gather(groups, group_of)  # [E, M, B / E, ...]
  return tf.reshape(dealt, tf.concat([[ensemble_size, -1], tf.shape(x)[1:]], 0))


def from_members(x, members, ensemble_size):
  """Undoes `to_members` on one number per row: [..., E, N] -> [..., M, B]."""
  num_members = members.shape[0]
  rows = x.shape[-1] // num_members  # B / E
  member = (tf.range(ensemble_size) + members[:, tf.newaxis]) % ensemble_size  # [M, E]
  slot = (member * num_members + tf.range(num_members)[:, tf.newaxis]) * rows  # in E * N
  slots = tf.reshape(slot[..., tf.newaxis] + tf.range(rows), [num_members, -1])  # [M, B]
  flat = tf.reshape(x, tf.concat([tf.shape(x)[:-2], [-1]], 0))
  return tf.gather(flat, slots, axis=-1)


class ModelSteps:
  """The ensemble as the `step` of a rollout, with reward and termination in the task's units."""

  def __init__(self, dynamics, task, environment):
    self._dynamics, self._task = dynamics, task
    self._scale, self._shift = environment.action_scale, environment.action_shift

  def random_member(self, observation, action, noise):
    """f_U: each of [N, ...] trajectories by a random member; noise: (of the model, permutation)."""
    sizes = self._dynamics.sample, self._dynamics.ensemble_size
    return self._judge(observation, action, random_member(*sizes, observation, action, *noise))

  def own_member(self, observation, action, noise):
    """f_m: [E, N, ...], each trajectory by the member it is dealt to."""
    return self._judge(observation, action, self._dynamics.sample(observation, action, noise))

  def _judge(self, observation, action, outcome):
    """(next_observation, reward, terminal) of the outcome that the models predicted."""
    next_observation = self._dynamics.next_observation(observation, outcome)
    arguments = observation, action * self._scale + self._shift, next_observation
    learned = self._dynamics.predicts_reward
    reward = outcome[..., -1] if learned else self._task.reward_fn(*arguments)
    return next_observation, reward, self._task.termination_fn(*arguments)
