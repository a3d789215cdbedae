"""Symmetries against the simulator itself, started from a state and from its image."""

import gymnasium as gym
import numpy as np
import tensorflow as tf

from maac_tf.tasks.actions import ActionBox
from maac_tf.tasks.registry import find_task
from maac_tf.tasks.symmetries import Symmetry, signed_permutation

# The legs of Gymnasium's Walker2d-v5, the right one first, are alike.
WALKER = Symmetry(
  observation=signed_permutation([0, 1, 5, 6, 7, 2, 3, 4, 8, 9, 10, 14, 15, 16, 11, 12, 13]),
  action=signed_permutation([3, 4, 5, 0, 1, 2]),
)


def test_the_simulator_does_the_same_from_the_image():
  """State, reward and end after random actions, falls among them, over several episodes."""
  task = find_task("walker2d_v5")
  env, rng, rows = task.make_gym_env(), np.random.default_rng(0), []
  robot, (observation, _) = env.unwrapped, env.reset(seed=0)
  skipped = robot.model.nq + robot.model.nv - len(observation)  # the place, of no account

  def step_from(place, observation, action):
    split = robot.model.nq - skipped
    robot.set_state(np.concatenate([place, observation[:split]]), observation[split:])
    return env.step(action)[:3]

  for t in range(300):
    place, action = robot.data.qpos[:skipped].copy(), rng.uniform(-1, 1, env.action_space.shape)
    after, reward, end = step_from(place, observation, action)
    rows.append((place, observation, action, after, reward, end))
    observation = env.reset()[0] if end or t % 100 == 99 else after
  places, observations, actions, afters, rewards, ends = map(np.array, zip(*rows, strict=True))
  assert any(ends)
  images = (f(tf.constant(x)).numpy() for f, x in zip(WALKER, (observations, actions), strict=True))
  seen = zip(*(step_from(*row) for row in zip(places, *images, strict=True)), strict=True)
  want = WALKER.observation(tf.constant(afters)), rewards, ends
  for got, wanted in zip(seen, want, strict=True):
    np.testing.assert_allclose(np.array(got, float), np.array(wanted, float), atol=1e-9)


def test_actions_are_in_the_units_of_the_environment():
  """Of [0, 4]: what is u to the environment is 4 - u in the mirror, so `a` is -a."""
  box = ActionBox(gym.spaces.Box(0.0, 4.0, (2,)))
  mirror = Symmetry(tf.identity, lambda u: 4.0 - u).scaled(box)
  np.testing.assert_allclose(mirror.action(tf.constant([-1.0, 0.25])), [1.0, -0.25])


def test_signs_are_of_the_numbers_where_they_arrive():
  swap = signed_permutation([2, 0, 1], negated=[0])
  np.testing.assert_array_equal(swap(tf.constant([[1.0, 2.0, 3.0]])), [[-3.0, 1.0, 2.0]])
