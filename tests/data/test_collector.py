"""Episodes of the real environment, in D_env and over a restart."""

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.data.collector import Collector
from maac_tf.data.replay import ReplayBuffer
from maac_tf.tasks.registry import find_task


def _make(task="pendulum", episode_steps=None, seed=0, capacity=2_000):
  environment = find_task(task).make_environment()
  buffer = ReplayBuffer(capacity, environment.observation_size, environment.action_size)
  generator = tf.random.Generator.from_seed(seed)
  collector = Collector(environment, buffer, episode_steps, lambda: generator.make_seeds(1)[:, 0])
  return collector, buffer, generator


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


def test_episodes_are_cut_off():
  collector, buffer, _ = _make(episode_steps=80)
  result = collector.collect(_random, _noise(200))
  assert _ends(buffer, 200) == [79, 159] and not np.any(buffer.newest(200).terminal)
  rewards = buffer.newest(200).reward
  np.testing.assert_allclose(result, np.sum(rewards[:160]) / 2, rtol=1e-5)


def test_an_episode_that_terminates_is_followed_by_another():
  collector, buffer, _ = _make("hopper_v5")
  collector.collect(_random, _noise(200, 3))
  ends = _ends(buffer, 200)
  terminal = buffer.newest(200).terminal.numpy()
  assert len(ends) > 3 and np.flatnonzero(terminal[:-1]).tolist() == ends


def test_the_buffer_holds_what_the_environment_returned(monkeypatch):
  """Of an ant, whose policy normalises quaternions, which after a reset have another length."""
  collector, buffer, _ = _make("ant_v5", episode_steps=5)
  features, seen = find_task("ant_v5").coordinates.features, []
  reset = type(collector._environment).reset

  def recorded(self, seed):
    seen.append(reset(self, seed).copy())
    return seen[-1].copy()

  monkeypatch.setattr(type(collector._environment), "reset", recorded)
  collector.collect(lambda x, noise: np.tanh(features(x)[:8] + noise), _noise(20, 8))
  starts = buffer.newest(20).observation.numpy()[::5]
  assert np.abs(np.linalg.norm(starts[:, 1:5], axis=1) - 1).max() > 1e-3
  for start in starts:
    assert np.min(np.abs(np.array(seen) - start).max(1)) == 0.0


@pytest.mark.parametrize(
  ("task", "episode_steps"),
  [("pendulum", None), ("pendulum", 65), ("pendulum", 50), ("hopper_v5", None)],  # 130 is 2 * 65
)
def test_a_restored_episode_goes_on(tmp_path, task, episode_steps):
  one, other = (_make(task, episode_steps, seed) for seed in (0, 1))
  size = one[0]._environment.action_size
  one[0].collect(_random, _noise(130, size))

  def checkpoint(made):
    collector, buffer, generator = made
    return tf.train.Checkpoint(collector=collector, buffer=buffer, generator=generator)

  path = checkpoint(one).write(str(tmp_path / "checkpoint"))
  checkpoint(other).restore(path)
  returns = [made[0].collect(_random, _noise(120, size, seed=1)) for made in (one, other)]
  assert returns[0] == returns[1] and returns[0] is not None
  for a, b in zip(one[1].newest(250), other[1].newest(250), strict=True):
    np.testing.assert_array_equal(a, b)


def test_an_episode_whose_first_steps_are_lost_begins_again():
  collector, buffer, _ = _make(capacity=100)
  for i in range(3):
    collector.collect(_random, _noise(50, seed=i))  # 150 steps into an episode of 200
  collector._running = None  # as after a restore
  collector.collect(_random, _noise(20, seed=3))
  assert _ends(buffer, 100) == [79]
