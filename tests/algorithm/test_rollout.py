"""The rollout and the dealing of trajectories to members."""

import numpy as np
import tensorflow as tf

from maac_tf.algorithm.rollout import RolloutNoise, rollout
from maac_tf.models.members import from_members, random_member, to_members


def test_rollout_follows_policy_and_model_until_it_terminates():
  """A counter t that ends at 3, then is where it started: action 10 t + noise, reward 100 t."""

  def act(observation, noise):
    return 10 * observation + noise, observation[..., 0]

  def step(observation, action, noise):
    del action
    return observation + 1 + noise, 100 * observation[..., 0], observation[..., 0] + 1 >= 3

  start = tf.constant([[0.0], [2.0]])
  noise = RolloutNoise(action=tf.fill([4, 2, 1], 0.5), model=tf.zeros([4, 2, 1]))
  trajectory = rollout(act, step, start, noise)
  np.testing.assert_allclose(np.stack(trajectory.observation)[:, 0, 0], [0, 1, 2, 0, 0])
  np.testing.assert_allclose(np.stack(trajectory.action)[:, 0, 0], [0.5, 10.5, 20.5, 0.5])
  np.testing.assert_allclose(np.stack(trajectory.reward)[:, 0], [0, 100, 200, 0])
  np.testing.assert_allclose(np.stack(trajectory.not_done)[:, 0], [1, 1, 1, 0, 0])
  np.testing.assert_allclose(np.stack(trajectory.not_done)[:, 1], [1, 0, 0, 0, 0])


def test_rollout_takes_a_first_action_that_is_given():
  def act(observation, noise):
    return observation + noise, observation[..., 0]

  def step(observation, action, noise):
    del noise
    return observation + action, action[..., 0], tf.zeros([1], tf.bool)

  noise = RolloutNoise(action=tf.zeros([2, 1, 1]), model=tf.zeros([2, 1, 1]))
  first = tf.constant([[7.0]]), tf.constant([-1.0])
  trajectory = rollout(act, step, tf.constant([[1.0]]), noise, first)
  np.testing.assert_allclose(np.stack(trajectory.observation)[:, 0, 0], [1, 8, 16])
  np.testing.assert_allclose(np.stack(trajectory.log_prob)[:, 0], [-1, 8])


def test_every_trajectory_gets_one_member_in_equal_shares():
  def predict(observation, action, noise):
    member = tf.range(4, dtype=tf.float32)[:, None, None]
    return observation + 100 * member + 0 * action[..., :1] + noise

  observation = tf.range(12, dtype=tf.float32)[:, None]
  zeros, action = tf.zeros([12, 1]), tf.zeros([12, 2])
  members = []
  for trial in range(300):
    permutation = tf.argsort(tf.random.stateless_uniform([12], [trial, 0]))
    out = random_member(predict, 4, observation, action, zeros, permutation).numpy()[:, 0]
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
