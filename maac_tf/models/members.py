"""Who of the ensemble predicts which trajectory.

Shapes: B batch, N trajectories, E members, M members used, S, A, O sizes.
"""

from collections.abc import Callable

import tensorflow as tf


def random_member(
  predict: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor],
  ensemble_size: int,
  observation: tf.Tensor,
  action: tf.Tensor,
  noise: tf.Tensor,
  permutation: tf.Tensor,
) -> tf.Tensor:
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

  def deal(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tf.gather(x, permutation), [ensemble_size, -1, x.shape[-1]])

  dealt = predict(deal(observation), deal(action), deal(noise))
  return tf.gather(tf.reshape(dealt, tf.shape(noise)), tf.math.invert_permutation(permutation))


def to_members(x: tf.Tensor, members: tf.Tensor, ensemble_size: int) -> tf.Tensor:
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


def from_members(x: tf.Tensor, members: tf.Tensor, ensemble_size: int) -> tf.Tensor:
  """Undoes `to_members` on one number per row: [..., E, N] -> [..., M, B]."""
  num_members = members.shape[0]
  rows = x.shape[-1] // num_members  # B / E
  member = (tf.range(ensemble_size) + members[:, tf.newaxis]) % ensemble_size  # [M, E]
  slot = (member * num_members + tf.range(num_members)[:, tf.newaxis]) * rows  # in E * N
  slots = tf.reshape(slot[..., tf.newaxis] + tf.range(rows), [num_members, -1])  # [M, B]
  flat = tf.reshape(x, tf.concat([tf.shape(x)[:-2], [-1]], 0))
  return tf.gather(flat, slots, axis=-1)
