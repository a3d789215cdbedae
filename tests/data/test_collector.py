"""Episodes of the real environment, in D_env and over a restart."""

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.data import collector as collector_module
from maac_tf.data.collector import Collector, Single
from maac_tf.data.replay import ReplayBuffer
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.coordinates import torso_frame
from maac_tf.tasks.registry import find_task
from tests.simulators import EndsAfter, Line, Unseeded


def _make(task="pendulum", seed=0, capacity=2_000, replay=True):
  """Of a task's name, or a Gymnasium environment."""
  named = isinstance(task, str)
  environment = find_task(task).make_environment() if named else Environment(task)
  buffer = ReplayBuffer(capacity, environment.observation_size, environment.action_size)
  generator = tf.random.Generator.from_seed(seed)
  next_seed = lambda: generator.make_seeds(1)[:, 0]  # noqa: E731
  collector = Collector(Single(environment), buffer, next_seed, replay)
  return collector, buffer, generator


@pytest.fixture
def warnings(monkeypatch):
  """What is warned of, as it is read."""
  said = []
  monkeypatch.setattr(
    collector_module.logging, "warning", lambda text, *values: said.append(text % values)
  )
  return said


def _noise(steps, size=1, seed=0):
  return np.random.default_rng(seed).uniform(-1, 1, [steps, size]).astype(np.float32)


def _random(observation, noise):
  return noise


def _ends(buffer, count):
  """After which of the rows another episode begins."""
  stored = buffer.newest(count)
  follows = np.all(stored.next_observation[:-1] == stored.observation[1:], axis=-1)
  return np.flatnonzero(~follows).tolist()


def test_time_limit_is_not_termination():
  collector, buffer, _ = _make()  # episodes of 200 steps
  collector.collect(_random, _noise(450))
  stored = buffer.newest(450)
  assert not np.any(stored.terminal)
  # The next observation of the last step is where it led, not where the next episode starts.
  assert _ends(buffer, 450) == [199, 399]
  jump = np.abs(stored.next_observation - stored.observation).max()
  assert jump < 1.5  # a step changes the speed by 0.05 (15 sin + 3 torque) = 1.05 at the most


def test_an_episode_goes_on_from_call_to_call():
  collector, buffer, _ = _make()
  returns = [collector.collect(_random, _noise(150, seed=i)) for i in range(3)]
  assert _ends(buffer, 450) == [199, 399]
  rewards = buffer.newest(450).reward
  assert returns[0] is None
  np.testing.assert_allclose(returns[1], np.sum(rewards[:200]), rtol=1e-5)
  np.testing.assert_allclose(returns[2], np.sum(rewards[200:400]), rtol=1e-5)


@pytest.mark.parametrize("least", [np.inf, -6.0, -np.inf, np.linspace(-8.0, -2.0, 1_000)])
def test_episodes_are_cut_off_where_their_newest_rewards_are_less(monkeypatch, least):
  """Of a pendulum, whose own time limit is 200 steps."""
  monkeypatch.setattr(collector_module, "NEWEST", 40)
  collector, buffer, _ = _make()
  result = collector.collect(_random, _noise(500), least)
  stored, limits = buffer.newest(500), np.broadcast_to(least, 1_000)
  rewards, ends, start = stored.reward.numpy().astype(float), [], 0
  for t in range(500):
    newest = rewards[max(start, t - 39) : t + 1]
    if t - start == 199 or (len(newest) == 40 and newest.mean() < limits[t - start]):
      ends.append(t)
      start = t + 1
  assert len(ends) == {np.inf: 12, -np.inf: 2}.get(limits[0], len(ends)) and 2 <= len(ends) <= 12
  assert _ends(buffer, 500) == [t for t in ends if t < 499] and not np.any(stored.terminal)
  np.testing.assert_allclose(result, np.sum(rewards[: ends[-1] + 1]) / len(ends), rtol=1e-5)


def test_an_episode_that_terminates_is_followed_by_another():
  collector, buffer, _ = _make("hopper_v5")
  collector.collect(_random, _noise(200, 3))
  ends = _ends(buffer, 200)
  terminal = buffer.newest(200).terminal.numpy()
  assert len(ends) > 3 and np.flatnonzero(terminal[:-1]).tolist() == ends


def test_the_buffer_holds_what_the_environment_returned(monkeypatch):
  """Of an ant, whose policy normalises quaternions, which after a reset have another length."""
  collector, buffer, _ = _make("ant_v5")
  features, seen = torso_frame(orientation=1, velocity=13).features, []
  reset = Environment.reset

  def recorded(self, seed):
    seen.append(reset(self, seed).copy())
    return seen[-1].copy()

  monkeypatch.setattr(Environment, "reset", recorded)
  monkeypatch.setattr(collector_module, "NEWEST", 5)
  collector.collect(lambda x, noise: np.tanh(features(x)[:8] + noise), _noise(20, 8), np.inf)
  starts = buffer.newest(20).observation.numpy()[::5]
  assert np.abs(np.linalg.norm(starts[:, 1:5], axis=1) - 1).max() > 1e-3
  for start in starts:
    assert np.min(np.abs(np.array(seen) - start).max(1)) == 0.0


@pytest.mark.parametrize(
  ("task", "newest", "least"),
  [
    ("pendulum", 100, -np.inf),
    ("pendulum", 65, np.inf),  # 130 is 2 * 65
    ("pendulum", 50, np.inf),
    ("pendulum", 50, -4.0),  # of rewards before the restore, too
    ("hopper_v5", 100, -np.inf),
  ],
)
def test_a_restored_episode_goes_on(tmp_path, warnings, monkeypatch, task, newest, least):
  monkeypatch.setattr(collector_module, "NEWEST", newest)
  one, other = (_make(task, seed) for seed in (0, 1))
  size = one[0].environments.environment.action_size
  one[0].collect(_random, _noise(130, size), least)
  _restore(one, other, tmp_path)
  noise = _noise(120, size, seed=1)
  returns = [made[0].collect(_random, noise, least) for made in (one, other)]
  assert returns[0] == returns[1] and returns[0] is not None
  for a, b in zip(one[1].newest(250), other[1].newest(250), strict=True):
    np.testing.assert_array_equal(a, b)
  assert not warnings


class _NoisyReward(Line):
  """What repeats is all but the reward."""

  def _reward(self):
    return float(self.steps)


class _EndsElsewhere(Line):
  """An object whose 60th step in all is an end."""

  def step(self, action):
    observation, reward, _, truncated, info = super().step(action)
    self._over = self.steps == 60
    return observation, reward, self._over, truncated, info


@pytest.mark.parametrize(
  ("env", "after"),
  [
    (Unseeded(), 1),
    (Unseeded(first=60), 21),
    (_EndsElsewhere(), 20),
    (_NoisyReward(), 1),
  ],
)
def test_where_the_environment_does_not_repeat_an_episode_another_begins(
  tmp_path, warnings, env, after
):
  """No step after an end is taken, and no row leads from one episode into the other."""
  one, other = _make(env), _make(env)
  one[0].collect(_random, _noise(40))
  _restore(one, other, tmp_path)
  other[0].collect(_random, _noise(20, seed=1))
  assert len(warnings) == 1
  assert f"differs after {after} of 40 steps): a new episode begins" in warnings[0]
  assert env.resets == 3 and env.steps == 60 + after  # the third is the new one
  assert _ends(other[1], 60) == [39] and not np.any(other[1].newest(60).terminal)
  other[0].collect(_random, _noise(5))
  assert len(warnings) == 1


def test_an_unseeded_environment_that_ends_is_never_stepped_after_its_end(tmp_path, warnings):
  env = Unseeded(end=1.0)
  for i in range(10):
    one, other = _make(env), _make(env)
    one[0].collect(_random, _noise(40, seed=i))
    _restore(one, other, tmp_path)
    other[0].collect(_random, _noise(20, seed=i))
    ends = np.flatnonzero(other[1].newest(60).terminal).tolist()
    assert set(ends) <= {*_ends(other[1], 60), 59} <= {*ends, 39, 59}
  assert warnings


def test_hardware_never_repeats_actions(tmp_path, warnings):
  robot = Line()
  one, other = _make(robot), _make(robot, replay=False)
  one[0].collect(_random, _noise(40))
  _restore(one, other, tmp_path)
  before = robot.steps, robot.resets
  other[0].collect(_random, _noise(30, seed=1))
  assert (robot.steps, robot.resets) == (before[0] + 30, before[1] + 1)
  assert _ends(other[1], 70) == [39] and not np.any(other[1].newest(70).terminal)
  assert not warnings  # it was asked for


def test_an_episode_that_was_cut_off_is_followed_by_another(tmp_path):
  one, other = (_make(Line(), seed=seed) for seed in (0, 1))
  one[0].collect(_random, _noise(40))
  one[0].cut_off()
  _restore(one, other, tmp_path)
  for made in (one, other):
    made[0].collect(_random, _noise(30, seed=1))
    assert _ends(made[1], 70) == [39] and not np.any(made[1].newest(70).terminal)
  for a, b in zip(one[1].newest(70), other[1].newest(70), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  ("lengths", "limit", "said_after"),
  [
    ((50,), 50, 1),  # of episodes
    ((20, 30, 20, 50), 50, 4),  # falls first
    ((20, 30, 60, 50), 50, None),  # the environment knows a limit from an end
    ((20,), 50, None),
    ((20,), None, 3),
    ((20, 20, 10, 20, 20, 20), None, 6),
    ((9, 9, 12, 50), None, 6),
    ((9, 9, 12, 11, 12, 12, 10), None, None),
  ],
)
def test_a_time_limit_that_comes_as_an_end_is_said_once(
  tmp_path, warnings, lengths, limit, said_after
):
  env = EndsAfter(lengths)
  env = gym.wrappers.TimeLimit(env, limit) if limit else env
  one, other = (_make(env, seed=seed) for seed in (0, 1))
  one[0].collect(_random, _noise(20))
  while not warnings and len(_episodes(one[1])) < 12:
    one[0].collect(_random, _noise(1))
  if said_after is None:
    assert not warnings
    return
  assert len(_episodes(one[1])) == said_after
  assert f" after {_episodes(one[1])[-1]} steps" in warnings[0]
  assert "return that as truncated" in warnings[0]
  _restore(one, other, tmp_path)  # another session
  other[0].collect(_random, _noise(300))
  assert len([text for text in warnings if "truncated" in text]) == 1


def _episodes(buffer):
  """The lengths of those that are over, as far as the rows show it."""
  size = int(buffer.size)
  ends = _ends(buffer, size) + ([size - 1] if buffer.newest(1).terminal[0] else [])
  return np.diff([-1, *ends]).tolist()


def _restore(one, other, path):
  """Gives `other` what `one` has, as a resumed run is given it."""

  def checkpoint(made):
    collector, buffer, generator = made
    return tf.train.Checkpoint(collector=collector, buffer=buffer, generator=generator)

  checkpoint(other).read(checkpoint(one).write(str(path / "checkpoint")))
  other[1].put(one[1].newest(one[1].size), one[1].added)


def test_an_episode_whose_first_steps_are_lost_begins_again():
  collector, buffer, _ = _make(capacity=100)
  for i in range(3):
    collector.collect(_random, _noise(50, seed=i))  # 150 steps into an episode of 200
  collector._running = []  # as after a restore
  collector.collect(_random, _noise(20, seed=3))
  assert _ends(buffer, 100) == [79]
