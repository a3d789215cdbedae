"""Symmetries against the simulator itself, started from a state and from its image."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.tasks.actions import ActionBox
from maac_tf.tasks.registry import TASKS, find_task
from maac_tf.tasks.symmetries import Symmetry, signed_permutation


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.symmetries])
def test_the_simulator_does_the_same_from_the_image(name):
  """State, reward and end after random actions, falls among them, over several episodes."""
  task = find_task(name)
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
  assert any(ends) == name.endswith("v5")  # Gymnasium's own fall
  for symmetry in task.symmetries:
    images = (
      f(tf.constant(x)).numpy() for f, x in zip(symmetry, (observations, actions), strict=True)
    )
    seen = zip(*(step_from(*row) for row in zip(places, *images, strict=True)), strict=True)
    want = symmetry.observation(tf.constant(afters)), rewards, ends
    for got, wanted in zip(seen, want, strict=True):
      np.testing.assert_allclose(np.array(got, float), np.array(wanted, float), atol=1e-9)


def test_the_images_of_an_ant_are_a_group():
  """Eight with itself, all different; the image of an image is one of them."""
  rng = np.random.default_rng(0)
  x, a = tf.constant(rng.normal(size=[1, 27])), tf.constant(rng.normal(size=[1, 8]))
  group = [Symmetry(tf.identity, tf.identity), *find_task("ant_v5").symmetries]
  all_images = [np.concatenate([s.observation(x), s.action(a)], 1) for s in group]

  def index(symmetry):
    image = np.concatenate([symmetry.observation(x), symmetry.action(a)], 1)
    # A quaternion and its negative are the same orientation.
    flips = np.where((np.arange(35) >= 1) & (np.arange(35) < 5), -1.0, 1.0)
    return [
      i for i, y in enumerate(all_images) if np.allclose(y, image) or np.allclose(y, flips * image)
    ]

  for first in group:
    found = [index(first.then(second)) for second in group]
    assert sorted(i for one in found for i in one) == list(range(8))


def test_actions_are_in_the_units_of_the_environment():
  """Of [0, 4]: what is u to the environment is 4 - u in the mirror, so `a` is -a."""
  box = ActionBox(gym.spaces.Box(0.0, 4.0, (2,)))
  mirror = Symmetry(tf.identity, lambda u: 4.0 - u).scaled(box)
  np.testing.assert_allclose(mirror.action(tf.constant([-1.0, 0.25])), [1.0, -0.25])


def test_signs_are_of_the_numbers_where_they_arrive():
  swap = signed_permutation([2, 0, 1], negated=[0])
  np.testing.assert_array_equal(swap(tf.constant([[1.0, 2.0, 3.0]])), [[-3.0, 1.0, 2.0]])
