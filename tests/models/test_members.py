"""The dealing of trajectories to members."""

import numpy as np
import tensorflow as tf

from maac_tf.models.members import from_members, random_member, to_members


def test_every_trajectory_gets_one_member_in_equal_shares():
  def predict(observation, action, noise):
    member = tf.range(4, dtype=tf.float32)[:, None, None]
    return observation + 100 * member + 0 * action[..., :1] + noise

  observation = tf.range(12, dtype=tf.float32)[:, None]
  zeros, action = tf.zeros([12, 1]), tf.zeros([12, 2])

  @tf.function
  def deal(permutation):
    return random_member(predict, 4, observation, action, zeros, permutation)

  members = []
  for trial in range(300):
    permutation = tf.argsort(tf.random.stateless_uniform([12], [trial, 0]))
    out = deal(permutation).numpy()[:, 0]
    np.testing.assert_allclose(out % 100, np.arange(12))  # everyone in their own place
    members.append(out // 100)
  members = np.array(members)
  assert np.all(np.sort(members, 1) == np.repeat(np.arange(4), 3))
  shares = np.stack([(members == m).mean(0) for m in range(4)])
  assert np.all(np.abs(shares - 0.25) < 0.125)  # five standard deviations


def test_members_get_equal_rows_and_rows_distinct_members():
  ensemble_size, batch = 4, 12
  x = tf.range(batch, dtype=tf.float32)
  for members in ([2], [3, 0, 1], [0, 1, 2, 3]):
    members = tf.constant(members)
    dealt = to_members(x, members, ensemble_size)
    assert dealt.shape == (ensemble_size, batch // ensemble_size * len(members))
    named = dealt + 100 * tf.range(ensemble_size, dtype=tf.float32)[:, None]
    back = from_members(named, members, ensemble_size).numpy()
    np.testing.assert_allclose(back % 100, np.tile(np.arange(batch), (len(members), 1)))
    for row in (back // 100).T:
      assert len(set(row)) == len(members)
