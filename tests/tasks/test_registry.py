"""Which task a name is, and what of it is used."""

import dataclasses
import sys

import pytest

from maac_tf.tasks.coordinates import PLAIN
from maac_tf.tasks.registry import TASKS, find_task, make_task


def test_unknown_task_names_the_nearest():
  for find in (find_task, make_task):
    with pytest.raises(ValueError, match="no task 'hoper'. Did you mean 'hopper'"):
      find("hoper")


@pytest.mark.parametrize("name", TASKS)
def test_by_default_all_is_used_but_the_symmetries(name):
  task = find_task(name)
  assert task is TASKS[name]
  made = make_task(name)
  assert made.symmetries == () and made.name == name
  assert made == dataclasses.replace(task, symmetries=())


def test_what_is_not_wanted_is_left_out():
  task = find_task("ant")
  assert task.reward_fn and task.symmetries and task.coordinates != PLAIN
  assert make_task("ant", learn_reward=True).reward_fn is None
  assert make_task("ant", coordinates=False).coordinates == PLAIN
  assert make_task("ant", symmetries=True).symmetries == task.symmetries
  nothing = make_task("ant", learn_reward=True, coordinates=False, symmetries=False)
  assert nothing == dataclasses.replace(task, reward_fn=None, coordinates=PLAIN, symmetries=())


def test_tasks_of_a_module_have_its_name(tmp_path, monkeypatch):
  (tmp_path / "own_robots.py").write_text(
    "from maac_tf.tasks.task import Task\nswing = Task('swing', None, None)\nother = 3\n"
  )
  (tmp_path / "no_robots.py").write_text("1 / 0")
  monkeypatch.syspath_prepend(tmp_path)
  assert find_task("own_robots:swing").name == "own_robots:swing"
  with pytest.raises(
    ValueError, match="no task 'own_robots:sing'. Did you mean 'own_robots:swing'"
  ):
    find_task("own_robots:sing")
  with pytest.raises(ValueError, match="no task 'own_robots:other'"):
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
