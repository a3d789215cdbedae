"""The TensorFlow reward and termination against real steps."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.checks import ConfigError
from maac_tf.tasks import episodes
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.coordinates import PLAIN
from maac_tf.tasks.double_integrator import DT
from maac_tf.tasks.episodes import run_episodes
from maac_tf.tasks.registry import TASKS, find_task
from maac_tf.tasks.symmetries import Symmetry, signed_permutation
from maac_tf.tasks.task import Task


@pytest.mark.parametrize("name", TASKS)
def test_reward_and_termination_equal_the_environments(name):
  task = find_task(name)
  environment = task.make_environment()
  rng = np.random.default_rng(0)
  rows = []
  observation = environment.reset(seed=0)
  terminates = name in ("hopper_v5", "walker2d_v5", "ant_v5")
  for _ in range(10_000 if terminates else 1_000):
    # Beyond [-1, 1] too: what the reward sees is the clipped action.
    action = rng.uniform(-1.5, 1.5, environment.action_size).astype(np.float32)
    step = environment.step(action)
    clipped = environment.action_box.units_in_numpy(np.clip(action, -1, 1))
    rows.append((observation, clipped, step.observation, step.reward, step.terminal))
    ended = step.terminal or step.truncated
    observation = environment.reset() if ended else step.observation
  before, action, after, reward, terminal = (np.array(c) for c in zip(*rows, strict=True))
  assert task.disagreements(before, action, reward, after, terminal) == []
  arguments = [tf.constant(x, tf.float32) for x in (before, action, after)]
  np.testing.assert_array_equal(task.termination_fn(*arguments), terminal)
  assert not terminates or 50 < np.sum(terminal) < 5_000
  if task.reward_fn:
    np.testing.assert_allclose(task.reward_fn(*arguments), reward, atol=1e-4)
  assert np.std(reward) > 1e-3


def test_termination_at_the_limits_of_gymnasiums_own():
  """On states set by hand about each limit, against the environment's `is_healthy`."""
  for name in ("hopper_v5", "walker2d_v5", "ant_v5"):
    task = find_task(name)
    env = task.make_gym_env()
    env.reset(seed=0)
    inner = env.unwrapped
    skipped = 2 if name == "ant_v5" else 1
    z = 2 if name == "ant_v5" else 1
    healthy = []
    for index in range(z, z + (1 if name == "ant_v5" else 2)):
      for value in np.arange(-1.5, 2.5, 0.07):
        q, v = inner.init_qpos.copy(), inner.init_qvel.copy()
        q[index] = value
        inner.set_state(q, v)
        observation = tf.constant(np.concatenate([q[skipped:], v]), tf.float32)
        assert task.termination_fn(None, None, observation).numpy() != inner.is_healthy, (q, name)
        healthy.append(inner.is_healthy)
    assert 0.05 < np.mean(healthy) < 0.95
    if name == "hopper_v5":
      q = inner.init_qpos.copy()
      q[4] = 101.0
      inner.set_state(q, inner.init_qvel)
      observation = tf.constant(np.concatenate([q[1:], inner.init_qvel]), tf.float32)
      assert not inner.is_healthy and task.termination_fn(None, None, observation)


@pytest.mark.parametrize(
  ("name", "sizes"),
  [("half_cheetah", (17, 6)), ("hopper", (11, 3)), ("walker2d", (17, 6)), ("ant", (27, 8))],
)
def test_locomotion_tasks_are_those_of_the_paper(name, sizes):
  environment = find_task(name).make_environment()
  assert (environment.observation_size, environment.action_size) == sizes
  observation = environment.reset(seed=1)
  for t in range(1_000):  # falls, and goes on to the time limit
    step = environment.step(np.full(sizes[1], 1.0 if t % 10 < 5 else -1.0))
    assert not step.terminal
    assert step.truncated == (t == 999)
    observation = np.maximum(observation, np.abs(step.observation))
  if name in ("hopper", "walker2d"):
    assert observation.max() > 10.0, "Gymnasium clips velocities at 10; the paper does not"


def test_walker_has_the_authors_feet():
  model = find_task("walker2d").make_gym_env().unwrapped.model
  assert model.geom("foot_geom").friction[0] == pytest.approx(0.9)
  assert model.geom("foot_left_geom").friction[0] == pytest.approx(1.9)


def test_double_integrator_moves_as_designed():
  environment = find_task("double_integrator").make_environment()
  position, velocity = environment.reset(seed=3)
  step = environment.step(np.array([0.5]))
  np.testing.assert_allclose(
    step.observation, [position + DT * velocity, velocity + DT * 0.5], rtol=1e-6
  )
  assert step.reward == pytest.approx(-0.5 * (position**2 + velocity**2 + 0.25), rel=1e-5)


def test_actions_are_rescaled_and_clipped():
  environment = find_task("pendulum").make_environment()
  np.testing.assert_allclose(environment.action_box.scale, [2.0])
  environment.reset(seed=0)
  full = environment.step(np.array([1.0])).observation
  environment.reset(seed=0)
  np.testing.assert_array_equal(environment.step(np.array([7.0])).observation, full)


def test_disagreements_with_the_environment_are_counted():
  """Five steps of which a reward is 2.0 too low, an end is missed and two are invented."""
  state, action = np.zeros([5, 1], np.float32), np.zeros([5, 1], np.float32)
  after = np.arange(5, dtype=np.float32)[:, np.newaxis]
  reward = np.array([0.0, 1.0, 2.0, 3.0, 6.0], np.float32)
  terminal = np.array([0.0, 1.0, 0.0, 0.0, 1.0])
  task = dataclasses.replace(
    find_task("pendulum"),
    reward_fn=lambda s, a, n: n[..., 0],
    termination_fn=lambda s, a, n: n[..., 0] >= 2.0,
  )
  wrong_reward, wrong_ends = task.disagreements(state, action, reward, after, terminal)
  assert "by 0.4 on average (from 2.4 ± 2.06)" in wrong_reward
  assert "ends 3 steps and the environment 2, 1 of them the same" in wrong_ends
  (nan,) = dataclasses.replace(task, termination_fn=lambda s, a, n: n[..., 0] < 0).disagreements(
    state, action, np.full(5, np.nan, np.float32), after, 0 * terminal
  )
  assert "reward function differs" in nan
  right = dataclasses.replace(
    task, reward_fn=None, termination_fn=lambda s, a, n: tf.abs(n[..., 0] - 2.5) == 1.5
  )
  assert right.disagreements(state, action, reward, after, terminal) == []


@pytest.mark.parametrize(
  ("function", "returned"),
  [
    (lambda s, a, n: n[..., :1], r"float32 \[2, 5, 1\]"),
    (lambda s, a, n: tf.reduce_sum(n, 1), r"float32 \[2, 3\]"),
    (lambda s, a, n: n[..., 0] > 0, r"bool \[2, 5\]"),
    (lambda s, a, n: 0.0, r"float32 \[\]"),
    (lambda s, a, n: None, "None"),
  ],
)
def test_a_function_of_another_shape_or_type_is_refused(function, returned):
  task = dataclasses.replace(find_task("pendulum"), reward_fn=function)
  with pytest.raises(ValueError, match=f"reward function of task 'pendulum' .*{returned}"):
    task.check_functions(observation_size=3, action_size=1)


@pytest.mark.parametrize(
  ("function", "error"),
  [
    (lambda s, a, n: n[..., 0] if tf.reduce_sum(a) > 0 else n[..., 1], TypeError),
    (lambda s, a, n: n[..., 3], ValueError),  # there are three
    (lambda s, a, n: tf.constant(n.numpy()[..., 0]), AttributeError),
  ],
)
def test_a_function_that_cannot_be_traced_is_refused(function, error):
  task = dataclasses.replace(find_task("pendulum"), reward_fn=function)
  with pytest.raises(error):
    task.check_functions(observation_size=3, action_size=1)


def test_coordinates_that_do_not_lead_back_are_a_disagreement():
  wrong = PLAIN._replace(apply=lambda observation, change: observation + 0.5 * change)
  task = dataclasses.replace(find_task("pendulum"), reward_fn=None, coordinates=wrong)
  state, after = np.zeros([4, 3], np.float32), np.full([4, 3], 3.0, np.float32)
  arguments = state, np.zeros([4, 1]), np.zeros(4), after, np.zeros(4)
  (sentence,) = task.disagreements(*arguments)
  assert "is off by up to 1.5" in sentence
  assert dataclasses.replace(task, coordinates=PLAIN).disagreements(*arguments) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["observation", "reward"])
def test_a_simulator_that_breaks_is_reported_with_its_action(part, value):
  class Broken(gym.Wrapper):
    def step(self, action):
      observation, reward, *others = super().step(action)
      if part == "reward":
        return observation, value, *others
      return np.append(observation[:-1], value), reward, *others

  environment = Environment(Broken(gym.make("Pendulum-v1")))
  environment.reset(0)
  broken = r"returned \[.*\] and reward \S+ after action \[1.\]"
  with pytest.raises(FloatingPointError, match=broken) as error:
    environment.step(np.array([0.5], np.float32))
  assert str(value) in str(error.value)


def test_an_episode_that_nothing_ends_is_refused_in_an_evaluation(monkeypatch):
  monkeypatch.setattr(episodes, "LONGEST_EPISODE", 200)

  def longest(make_gym_env):
    task = Task("swing", make_gym_env, None)
    return run_episodes(task, lambda s: np.zeros([len(s), 1]), [0, 1]).lengths

  assert longest(lambda: gym.make("Pendulum-v1", max_episode_steps=200)).tolist() == [200, 200]
  with pytest.raises(
    ConfigError, match="'swing' was not over after 200 steps, .* --episode_steps=1000"
  ):
    longest(lambda: gym.make("Pendulum-v1").unwrapped)


def test_symmetries_that_change_reward_or_end_are_disagreements():
  rng = np.random.default_rng(0)
  state, action = rng.normal(size=[4, 3]), rng.normal(size=[4, 1])
  reward, after = state[:, 0] + action[:, 0], np.array([[1.0, 0.5, -0.5]] * 4)
  arguments = state, action, reward, after, np.ones(4)
  other = Symmetry(tf.negative, tf.negative)
  same = Symmetry(signed_permutation([0, 2, 1]), tf.identity)
  task = dataclasses.replace(
    find_task("pendulum"),
    reward_fn=lambda s, a, n: s[..., 0] + a[..., 0],
    termination_fn=lambda s, a, n: n[..., 0] > 0.5,
    symmetries=(same, other),
  )
  reward, end = task.disagreements(*arguments)
  assert reward == "the reward of images by its symmetry 1 is not that of the steps"
  assert end == "the end of images by its symmetry 1 is not that of the steps"
  assert dataclasses.replace(task, symmetries=(same,)).disagreements(*arguments) == []
  for wrong in (Symmetry(tf.negative, tf.identity), Symmetry(tf.identity, tf.negative)):
    assert dataclasses.replace(task, symmetries=(wrong,)).disagreements(*arguments)


def test_symmetries_that_are_none_are_refused():
  with pytest.raises(ValueError, match="must be a tuple of `Symmetry`"):
    dataclasses.replace(find_task("pendulum"), symmetries=Symmetry(tf.negative, tf.negative))
  task = dataclasses.replace(
    find_task("pendulum"), symmetries=(Symmetry(lambda x: None, tf.negative),)
  )
  with pytest.raises(ValueError, match="must be float32 and of the same size.* it is None"):
    task.check_functions(observation_size=3, action_size=1)


def test_a_symmetry_that_changes_the_size_is_refused():
  wrong = Symmetry(lambda x: x[..., :2], tf.negative)
  task = dataclasses.replace(find_task("pendulum"), symmetries=(wrong,))
  message = r"image of an observation by symmetry 0 of task 'pendulum' .* float32 \[2, 5, 2\]"
  with pytest.raises(ValueError, match=message):
    task.check_functions(observation_size=3, action_size=1)
