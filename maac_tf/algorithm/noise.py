"""All that is random in an update, drawn before it: given this, the update is deterministic.

So are compared: compiled and plain steps (the same seed gives other normals under XLA), finite
differences, and NumPy loops.
"""

import tensorflow as tf

from maac_tf.algorithm.critic_targets import SteveNoise
from maac_tf.algorithm.objectives import PolicyNoise
from maac_tf.algorithm.rollout import RolloutNoise

_normal = tf.random.stateless_normal


def normals(size):
  """A `draw_model_noise` of this many standard normals."""
  return lambda shape, seed: _normal([*shape, size], seed)


def permutations(shape, seed):
  """Random permutations of range(shape[-1]); unlike a shuffle, XLA has a kernel for these."""
  keys = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.int32)
  return tf.argsort(keys, axis=-1)


def rollout_noise(horizon, num_trajectories, action_size, draw_model_noise, seed) -> RolloutNoise:
  """For rollouts through random members: see `imagine.random_member`.

  Args:
    draw_model_noise: (shape, seed) -> [*shape, O], as `Dynamics.draw_noise`.
  """
  a, m, p = tf.unstack(tf.random.split(seed, 3))
  shape = [horizon, num_trajectories]
  model = draw_model_noise(shape, m), permutations(shape, p)
  return RolloutNoise(action=_normal([*shape, action_size], a), model=model)


def policy_noise(
  horizon, num_trajectories, num_final_actions, action_size, draw_model_noise, seed
) -> PolicyNoise:
  """For `objectives.imagine_path`."""
  r, f = tf.unstack(tf.random.split(seed, 2))
  return PolicyNoise(
    rollout=rollout_noise(horizon, num_trajectories, action_size, draw_model_noise, r),
    final_action=_normal([num_final_actions, num_trajectories, action_size], f),
  )


def steve_noise(
  horizon, batch_size, num_members, ensemble_size, action_size, draw_model_noise, seed
) -> SteveNoise:
  """For `objectives.steve_targets`; `num_members` of the ensemble for each row of the batch."""
  c1, ca, cm, cf, members = tf.unstack(tf.random.split(seed, 5))
  dealt = [ensemble_size, batch_size // ensemble_size * num_members]
  return SteveNoise(
    first_action=_normal([batch_size, action_size], c1),
    rollout=RolloutNoise(
      action=_normal([horizon, *dealt, action_size], ca),
      model=draw_model_noise([horizon, *dealt], cm),
    ),
    final_action=_normal([*dealt, action_size], cf),
    members=permutations([ensemble_size], members)[:num_members],
  )
