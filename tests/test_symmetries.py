"""Symmetries against the simulator itself, started from a state and from its image."""

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.envs import make_task
from maac_tf.envs.tasks import TASKS

SYMMETRIES = [(name, i) for name, task in TASKS.items() for i in range(len(task.symmetries))]


@pytest.mark.parametrize(("name", "i"), SYMMETRIES)
def test_the_simulator_does_the_same_from_the_image(name, i):
  """State, reward and end; random actions, falls among them, over several episodes."""
  task = make_task(name)
  env, rng, symmetry = task.make_gym_env(), np.random.default_rng(0), task.symmetries[i]
  robot, ends = env.unwrapped, 0

  def image(function, x):
    return function(tf.constant(x)).numpy()

  observation, _ = env.reset(seed=0)
  skipped = robot.model.nq + robot.model.nv - len(observation)  # the place, of no account
  split = robot.model.nq - skipped

  def step_from(observation, action):
    q = np.concatenate([robot.data.qpos[:skipped], observation[:split]])
    robot.set_state(q, observation[split:])
    after, reward, end, *_ = env.step(action)
    return after, reward, end

  for t in range(300):
    action = rng.uniform(-1, 1, env.action_space.shape)
    place = robot.data.qpos[:skipped].copy()
    seen = step_from(image(symmetry.observation, observation), image(symmetry.action, action))
    robot.data.qpos[:skipped] = place
    observation, reward, end = step_from(observation, action)
    np.testing.assert_allclose(seen[0], image(symmetry.observation, observation), atol=1e-9)
    np.testing.assert_allclose(seen[1], reward, atol=1e-9)
    assert seen[2] == end
    ends += end
    if end or t % 100 == 99:
      observation, _ = env.reset()
  assert ends > 0 or not name.endswith("v5")
