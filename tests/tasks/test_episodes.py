"""Episodes in many environments, and in the only one."""

import gymnasium as gym
import numpy as np
import pytest

from maac_tf.tasks import episodes
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.episodes import run_episodes, the_only_one
from maac_tf.tasks.registry import find_task
from maac_tf.tasks.task import Task
from tests import simulators


@pytest.fixture
def warnings(monkeypatch):
  said = []
  monkeypatch.setattr(episodes.logging, "warning", lambda text, *values: said.append(text % values))
  return said


@pytest.fixture(autouse=True)
def no_simulator_is_open():
  simulators.forget()


def _push(observation):
  """Away from 0, of as many observations as there are."""
  return np.sign(observation[:, :1])


def _recorded(environment=None):
  rows = []
  task = Task("line", lambda: gym.wrappers.TimeLimit(simulators.Line(end=0.8), simulators.STEPS))
  result = run_episodes(task, _push, range(5, 12), lambda *row: rows.append(row), environment)
  by_episode = sorted(rows, key=lambda row: row[0])  # in their order in time
  numbers = [(i, float(x[0]), float(a[0]), s.reward, s.terminal) for i, x, a, s in by_episode]
  return result, numbers


def test_episodes_one_after_the_other_are_those_side_by_side():
  env = gym.wrappers.TimeLimit(simulators.Line(end=0.8), simulators.STEPS)
  environment = Environment(env)
  side_by_side, one_by_one = _recorded(), _recorded(environment)
  assert side_by_side[1] == one_by_one[1]
  for one, other in zip(side_by_side[0], one_by_one[0], strict=True):
    np.testing.assert_array_equal(one, other)
  assert len(set(one_by_one[0].lengths)) > 3 and one_by_one[0].returns.shape == (7,)
  environment.reset(0)  # it is open
  environment.step(np.zeros(1))


@pytest.mark.parametrize(
  ("name", "reason"),
  [
    ("same_object", "its function returns the same object at each call"),
    ("exclusive", "to make another fails: ConnectionError: the port is in use"),
  ],
)
def test_a_simulator_of_which_one_can_be_open_is_found(warnings, name, reason):
  task = find_task(f"tests.simulators:{name}")
  environment = task.make_environment()
  assert the_only_one(task, environment) is environment
  environment.reset(0)  # it is open
  environment.step(np.zeros(1))
  (text,) = warnings
  assert f"'tests.simulators:{name}' can be open ({reason})" in text and "\n" not in text


def test_of_other_simulators_the_second_is_closed_again(warnings):
  made = []

  def make():
    made.append(simulators.Line())
    return made[-1]

  task = Task("line", make)
  environment = task.make_environment()
  environment.reset(0)
  assert the_only_one(task, environment) is None and not warnings
  assert len(made) == 2 and made[1]._over and not made[0]._over
