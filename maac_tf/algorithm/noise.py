"""All that is random in an update, drawn before it: given this, the update is deterministic.

So are compared: compiled and plain steps (the same seed gives other normals under XLA), finite
differences, and NumPy loops.
"""

from collections.abc import Sequence

import tensorflow as tf

from maac_tf.algorithm.objectives import PolicyNoise
from maac_tf.algorithm.rollout import RolloutNoise
from maac_tf.data.types import DrawNoise

_normal = tf.random.stateless_normal


def normals(size: int) -> DrawNoise:
  """A `draw_model_noise` of this many standard normals."""
  return lambda shape, seed: _normal([*shape, size], seed)


def permutations(shape: Sequence[int], seed: tf.Tensor) -> tf.Tensor:
  """Random permutations of range(shape[-1]); unlike a shuffle, XLA has a kernel for these."""
  keys = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.int32)
  return tf.argsort(keys, axis=-1)


def rollout_noise(
  horizon: int,
  num_trajectories: int,
  action_size: int,
  draw_model_noise: DrawNoise,
  seed: tf.Tensor,
) -> RolloutNoise:
  """For rollouts through random members: see `members.random_member`.

  Args:
    draw_model_noise: (shape, seed) -> [*shape, O], as `Dynamics.draw_noise`.
  """
  a, m, p = tf.unstack(tf.random.split(seed, 3))
  shape = [horizon, num_trajectories]
  model = draw_model_noise(shape, m), permutations(shape, p)
  return RolloutNoise(action=_normal([*shape, action_size], a), model=model)


def policy_noise(
  horizon: int,
  num_trajectories: int,
  num_final_actions: int,
  action_size: int,
  draw_model_noise: DrawNoise,
  seed: tf.Tensor,
) -> PolicyNoise:
  """For `objectives.imagine_path`."""
  r, f = tf.unstack(tf.random.split(seed, 2))
  return PolicyNoise(
    rollout=rollout_noise(horizon, num_trajectories, action_size, draw_model_noise, r),
    final_action=_normal([num_final_actions, num_trajectories, action_size], f),
  )
