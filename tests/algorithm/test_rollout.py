"""The rollout, step by step."""

import numpy as np
import tensorflow as tf

from maac_tf.algorithm.rollout import RolloutNoise, rollout


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
