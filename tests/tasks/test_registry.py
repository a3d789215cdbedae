"""Which task a name is, and what of it is used."""

import dataclasses
import sys

import gymnasium as gym
import numpy as np
import pytest

from maac_tf.tasks import registry
from maac_tf.tasks.coordinates import PLAIN
from maac_tf.tasks.registry import TASKS, find_task, make_task
from maac_tf.tasks.task import Task, never_terminates
from tests import simulators


def test_unknown_task_names_the_nearest():
  for find in (find_task, make_task):
    with pytest.raises(ValueError, match="environment 'hoper'. Did you mean 'hopper'"):
      find("hoper")


@pytest.mark.parametrize("name", TASKS)
def test_by_default_all_is_used_but_what_says_where_an_episode_ends(name):
  task = find_task(name)
  assert task is TASKS[name]
  ends = task.termination_fn is not never_terminates
  assert make_task(name) == (dataclasses.replace(task, termination_fn=None) if ends else task)
  assert make_task(name, learn_end=False) == task


def test_what_is_not_wanted_is_left_out():
  task = find_task("ant")
  assert make_task("ant", learn_reward=True) == dataclasses.replace(task, reward_fn=None)


def test_tasks_of_a_module_have_its_name(tmp_path, monkeypatch):
  (tmp_path / "own_robots.py").write_text(
    "from maac_tf.tasks.task import Task\nswing = Task('swing', None, None)\nother = 3\n"
  )
  (tmp_path / "no_robots.py").write_text("1 / 0")
  monkeypatch.syspath_prepend(tmp_path)
  assert find_task("own_robots:swing").name == "own_robots:swing"
  with pytest.raises(
    ValueError, match="environment 'own_robots:sing'. Did you mean 'own_robots:swing'"
  ):
    find_task("own_robots:sing")
  with pytest.raises(ValueError, match="environment 'own_robots:other'"):
    find_task("own_robots:other")
  with pytest.raises(ValueError, match="There is no module 'robots'"):
    find_task("robots:swing")
  with pytest.raises(
    ImportError, match="'no_robots' of the task fails: ZeroDivisionError: .*no_robots.py, line 1"
  ):
    find_task("no_robots:swing")
  (tmp_path / "needy_robots.py").write_text("import nothing_such")
  with pytest.raises(ModuleNotFoundError, match="No module named 'nothing_such'"):
    find_task("needy_robots:swing")
  sys.modules.pop("own_robots")


class Cart(gym.Env):
  """Of this module, for `tests.tasks.test_registry:Cart`."""

  observation_space = gym.spaces.Box(-1.0, 1.0, (2,))
  action_space = gym.spaces.Box(-1.0, 1.0, (1,))


swing = Task("pendulum", lambda: gym.make("Pendulum-v1"))  # not the package's of that name


def _local():
  return simulators.line()


def test_an_environment_has_the_name_by_which_it_is_found(monkeypatch):
  name = f"{__name__}:swing"
  assert registry.task_of(swing).name == name
  assert registry.find_task(name).make_gym_env is swing.make_gym_env
  assert registry.task_of(simulators.line).name == "tests.simulators:line"
  assert registry.task_of(Cart).name == f"{__name__}:Cart"
  assert registry.task_of(registry.TASKS["pendulum"]).name == "pendulum"
  monkeypatch.setattr(_local, "__module__", "__main__")
  monkeypatch.setattr(sys.modules["__main__"], "_local", _local, raising=False)
  assert registry.task_of(_local).name == "__main__:_local"
  assert registry.task_of(lambda: None).name.endswith("<lambda>")
  assert registry.task_of(Task("t", simulators.line)).name == "<t>"


@pytest.mark.parametrize(
  ("name", "size"), [("Reacher-v5", 10), ("tests.tasks.test_registry:Cart", 2)]
)
def test_an_environment_is_a_task_of_which_all_is_learned(name, size):
  task = make_task(name)
  assert task.name == name and task.reward_fn is None and task.termination_fn is None
  assert task.coordinates == PLAIN and task.symmetries == ()
  one, other = task.make_environment(), task.make_environment()
  assert one.observation_size == size and one.env.unwrapped is not other.env.unwrapped


def test_an_id_that_a_module_registers(tmp_path, monkeypatch):
  (tmp_path / "new_robots.py").write_text(
    "import gymnasium\ngymnasium.register('New-v0', 'gymnasium.envs.classic_control:PendulumEnv')\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(ValueError, match="no Gymnasium environment 'New-v0'"):
    find_task("New-v0")
  assert find_task("new_robots:New-v0").make_environment().observation_size == 3
  gym.registry.pop("New-v0")
  sys.modules.pop("new_robots")


def test_a_misspelt_environment_names_the_nearest():
  with pytest.raises(ValueError, match="Did you mean 'Reacher-v5'"):
    find_task("Reecher-v5")


def test_a_task_of_dm_control_names_what_is_missing(monkeypatch):
  monkeypatch.setitem(sys.modules, "shimmy", None)  # as if it were not installed
  with pytest.raises(ValueError, match=r"^The task '.*-v0' needs what is not installed: .*\.$"):
    find_task("shimmy:dm_control/cartpole-swingup-v0")


@pytest.mark.parametrize(
  ("name", "size"),
  [("cartpole-swingup", 5), ("reacher-easy", 6), ("finger-spin", 9), ("walker-walk", 24)],
)
def test_a_task_of_dm_control_is_one_of_a_thousand_steps(name, size):
  pytest.importorskip("dm_control", reason="the extra dm_control is not installed")
  environment = find_task(f"shimmy:dm_control/{name}-v0").make_environment()
  assert environment.reset(0).shape == (size,)
  steps = [environment.step(np.zeros(environment.action_size)) for _ in range(1_000)]
  assert [step.truncated for step in steps] == [False] * 999 + [True]
  assert not any(step.terminal for step in steps)
