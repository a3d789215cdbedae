"""Several environments side by side, each in a process."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.checks import ConfigError
from maac_tf.data.collector import Collector
from maac_tf.data.replay import ReplayBuffer
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.parallel import ParallelEnvironment
from tests.simulators import leaves_the_line

COUNT = 3


def _make(seed):
  environment = ParallelEnvironment(leaves_the_line, COUNT)
  buffer = ReplayBuffer(1_000, environment.observation_size, environment.action_size)
  generator = tf.random.Generator.from_seed(seed)
  collector = Collector(environment, buffer, lambda: generator.make_seeds(1)[:, 0])
  return collector, buffer, generator


@pytest.fixture(scope="module")
def both():
  """Two of them, whose processes are started once."""
  made = _make(0), _make(1)
  yield made
  for collector, *_ in made:
    collector.environments.close()


def _collect(made, steps, seed=0):
  noise = np.random.default_rng(seed).uniform(-1, 1, [steps * COUNT, 1]).astype(np.float32)
  return made[0].collect(lambda observation, x: np.clip(x + observation, -1.0, 1.0), noise)


def test_each_environment_takes_the_steps_that_it_takes_alone(both, monkeypatch):
  """From the same seeds and with the same actions, in whole episodes."""
  made = both[0]
  seeds, begin = [[] for _ in range(COUNT)], made[0].environments.begin

  def begin_and_note(which):
    for i, seed in which.items():
      seeds[i].append(seed)
    return begin(which)

  monkeypatch.setattr(made[0].environments, "begin", begin_and_note)
  result = _collect(made, 120)
  rows = [x.numpy() for x in made[1].newest(120 * COUNT)]
  alone, returns = Environment(leaves_the_line()), []
  for i, own in enumerate(seeds):
    own, observation = iter(own), None
    for before, action, reward, after, terminal in zip(*(x[i::COUNT] for x in rows), strict=True):
      if observation is None:
        observation, total = alone.reset(next(own)), 0.0
      np.testing.assert_array_equal(before, observation)
      observation, *outcome = alone.step(action)
      np.testing.assert_array_equal(after, observation)
      assert [reward, terminal] == [np.float32(outcome[0]), outcome[1]]
      total += outcome[0]
      if outcome[1] or outcome[2]:
        returns.append(total)
        observation = None
    assert len(list(own)) <= 1  # that of an episode without a step
  assert len(returns) > 2 * COUNT
  np.testing.assert_allclose(result, np.mean(returns), rtol=1e-6)


def test_restored_episodes_go_on(both, tmp_path):
  one, other = both

  def checkpoint(made):
    names = "collector", "buffer", "generator"
    return tf.train.Checkpoint(**dict(zip(names, made, strict=True)))

  _collect(one, 70, seed=1)
  checkpoint(other).read(checkpoint(one).write(str(tmp_path / "checkpoint")))
  other[1].put(one[1].newest(one[1].size), one[1].added)
  returns = [_collect(made, 60, seed=2) for made in both]
  assert returns[0] == returns[1] and returns[0] is not None
  for a, b in zip(*(made[1].newest(130 * COUNT) for made in both), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_process_that_ends_is_named_in_one_line(both):
  made = both[1]
  os.kill(made[0].environments._processes.processes[1].pid, signal.SIGKILL)
  with pytest.raises(ConfigError) as error:
    _collect(made, 1)
  assert str(error.value) == (
    "The process of an environment has ended: number and exit code 1 (-9)."
  )


def _refuses():
  env = leaves_the_line()
  env.unwrapped._reward = _no_answer
  return env


def _no_answer():
  raise ConnectionResetError("the arm does not answer")


def test_what_an_environment_raises_is_raised():
  environment = ParallelEnvironment(_refuses, 2)
  environment.begin({0: 1, 1: 2})
  with pytest.raises(ConnectionResetError, match="the arm does not answer"):
    environment.step_all(np.zeros([2, 1], np.float32))
  environment.close()
