"""The suite's file, and what is reported of runs: numbers by hand."""

import csv
import tomllib

import gymnasium as gym
import numpy as np
import pytest

from maac_tf.checks import ConfigError
from maac_tf.runs import config, experiment, suite_report, suite_tasks
from maac_tf.runs.curves import Run
from maac_tf.runs.suite_tasks import SuiteTask
from maac_tf.tasks.registry import TASKS
from tests.commands import ROOT

FILE = ROOT / "results" / "suite.toml"
TASK = {
  "a": SuiteTask("a", "a", 3_000, reference=100.0, random=-100.0),
  "b": SuiteTask("b", "b", 3_000, reference=-10.0, random=-20.0),
}


def _run(task, setting, seed, returns, first=1_000):
  steps = first + 1_000 * np.arange(len(returns))
  return Run(task, setting, seed, steps, steps / 60_000, np.array(returns, float))


def _groups(*runs):
  groups = {}
  for run in runs:
    groups.setdefault((run.task, run.method), []).append(run)
  return groups


GROUPS = _groups(
  _run("a", "default", "0", [0.0, 100.0, 90.0]),
  _run("a", "default", "1", [50.0, 20.0]),
  _run("a", "wide", "0", [60.0, 120.0]),
  _run("b", "default", "0", [-15.0, -11.0]),
  _run("b", "wide", "0", [-10.0, -12.0]),
  _run("c", "default", "0", [7.0]),  # of which nothing is known, and which only one setting has
)


def _numbers(groups=GROUPS, steps=(1_000, 2_000, 3_000, 9_000)):
  found = suite_report.numbers(groups, TASK, steps, "default")
  return found, {(n.measure, n.task, n.setting, n.seed, n.env_steps): n for n in found}


def test_returns_and_what_they_are_normalised():
  _, found = _numbers()
  number = found["return", "a", "default", "all", "2000"]
  assert (number.value, number.low, number.high, number.runs) == (60.0, 20.0, 100.0, 2)
  assert found["return", "a", "default", "1", "2000"].value == 20.0
  number = found["return", "a", "default", "all", "3000"]
  assert (number.value, number.runs) == (90.0, 1)  # seed 1 ended before
  assert ("return", "a", "default", "all", "9000") not in found
  # From -100 to 100: 60 is 0.8; from -20 to -10: -15 is 0.5.
  assert found["normalised", "a", "default", "all", "2000"].value == pytest.approx(0.8)
  assert found["normalised", "b", "default", "0", "1000"].value == pytest.approx(0.5)
  assert ("normalised", "c", "default", "0", "1000") not in found


def test_the_last_return_and_the_curve_are_of_what_all_runs_have_come_to():
  _, found = _numbers()
  assert found["return", "a", "default", "all", "last"].value == 60.0  # at 2,000
  assert found["curve", "a", "default", "0", ""].value == 50.0
  assert found["curve", "a", "wide", "0", ""].value == 90.0


def test_minutes_are_to_nine_tenths_of_the_way_to_the_reference():
  _, found = _numbers()
  number = found["minutes", "a", "default", "all", ""]
  assert (number.value, number.runs) == (2.0, 1)  # 80 or more: seed 0, after 2,000 steps
  assert found["minutes", "b", "wide", "all", ""].value == 1.0
  assert found["minutes", "b", "default", "all", ""].value == 2.0


def test_all_tasks_are_those_of_every_setting():
  _, found = _numbers()
  # At 2,000: 1.0, 0.6 and 0.9; of 1.1 and 0.8 the wider one. Of fewer than four all count.
  base = found["interquartile_mean", "all", "default", "all", "2000"]
  assert base.value == pytest.approx((1.0 + 0.6 + 0.9) / 3) and (base.tasks, base.runs) == (2, 3)
  wide = found["interquartile_mean", "all", "wide", "all", "2000"]
  assert wide.value == pytest.approx((1.1 + 0.8) / 2)
  # On a, 120 beats both; on b, -12 does not beat -11.
  assert found["probability", "all", "wide", "all", "2000"].value == 0.5
  assert ("probability", "all", "default", "all", "2000") not in found
  assert ("interquartile_mean", "all", "default", "all", "3000") not in found  # wide has none there
  # Scores 0.5, 1, 0.95; 0.75, 0.6; 0.5, 0.9.
  assert found["steadiness", "all", "default", "all", ""].value == pytest.approx(2 / 3)


def test_tables_and_csv_have_the_numbers(tmp_path):
  found, _ = _numbers()
  head, first, second, *_ = suite_report.task_table(found, GROUPS, "default")
  assert head[2:7] == ["1,000", "2,000", "3,000", "last", "mean of the curve"]
  assert first[:5] == ["a", "default", "25 [0, 50]", "60 [20, 100]", "90 (n = 1)"]
  assert first[7:] == ["50% [0%, 100%]", "2 (n = 1)", "2"]
  assert second[:5] == ["a", "wide", "60", "120", "–"]
  head, first, second = suite_report.total_table(found)
  assert head == ["setting", "1,000 (2 tasks)", "2,000 (2 tasks)", "last (2 tasks)", "steadiness"]
  assert [first[0], second[0]] == ["default", "wide"] and second[2].startswith("0.95 [")
  assert [line[0] for line in suite_report.probability_table(found)] == ["setting", "wide"]
  suite_report.write_csv(str(tmp_path / "a.csv"), found)
  rows = list(csv.DictReader((tmp_path / "a.csv").open()))
  assert len(rows) == len(found)
  row = next(r for r in rows if r["measure"] == "return" and r["seed"] == "all")
  assert [row[k] for k in ("task", "env_steps", "value", "low", "high", "runs")] == [
    "a", "1000", "25", "0", "50", "2",
  ]  # fmt: skip


def test_without_references_there_are_returns_alone():
  found = suite_report.numbers(GROUPS, {}, (), "default")
  assert {n.measure for n in found} == {"return", "curve"}
  assert suite_report.total_table(found) == suite_report.probability_table(found) == []


def test_parts_of_the_suite():
  suite = suite_tasks.read(str(FILE))
  quick = suite.select(["quick"])
  assert [t.name for t in quick] == ["hopper", "walker2d", "half_cheetah_v5", "walker2d_v5"]
  assert {t.env_steps for t in quick} == {20_000}
  assert len(suite.select(["all"])) == 18 and suite.select(["ant"])[0].env_steps == 50_000
  with pytest.raises(ConfigError, match="no task 'hoper': give quick, all"):
    suite.select(["hoper"])


def test_every_task_has_references_and_bindings_that_are_options():
  suite = suite_tasks.read(str(FILE))
  declared = tomllib.loads(FILE.read_text())["task"]
  for name, task in suite.tasks.items():
    assert declared[name]["source"], name
    assert np.isfinite(task.random) and task.reference > task.random, name
    config.load([], [*task.bindings, f"train.task={task.task!r}"])  # refuses what is no option
    assert task.task in TASKS or task.task in gym.registry or task.task.startswith("shimmy:"), name


def test_humanoid_shows_its_positions_and_velocities():
  task = suite_tasks.read(str(FILE)).tasks["humanoid_v5"]
  config.load([], [*task.bindings, f"train.task={task.task!r}"])
  environment = experiment.bound_task().make_environment()
  robot = environment.env.unwrapped
  observation = environment.reset(0)
  assert observation.size == 45
  want = np.concatenate([robot.data.qpos[2:], robot.data.qvel])
  np.testing.assert_allclose(observation, want, rtol=1e-6)


def test_a_random_policy_is_measured_and_kept(tmp_path):
  path = str(tmp_path / "suite.toml")
  config.load([], ["train.task='Pendulum-v1'"])
  row = suite_tasks.measure_random(experiment.bound_task(), 12)
  assert row["episodes"] == 12 and row["length"] == 200
  # Uniform torques hardly move it: near what no torque at all earns from a random start.
  assert -1_600 < row["return"] < -800
  suite_tasks.write_random(path, {"b": row, "c": row})
  suite_tasks.write_random(path, {"b": {**row, "return": -1.0}})
  rows = list(csv.DictReader((tmp_path / "random_returns.csv").open()))
  assert [(r["task"], float(r["return"])) for r in rows] == [
    ("b", -1.0), ("c", pytest.approx(row["return"], rel=1e-4)),
  ]  # fmt: skip


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("steps = [1", "cannot be read"),
    ("steps = [1]\nquick_steps = 3", "has no 'task'"),
    ("steps = [1]\nquick_steps = 3\n[task.a]\nenv_steps = 4", "has no 'reference'"),
  ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, message):
  (tmp_path / "suite.toml").write_text(text)
  with pytest.raises(ConfigError, match=message) as error:
    suite_tasks.read(str(tmp_path / "suite.toml"))
  assert "\n" not in str(error.value)
