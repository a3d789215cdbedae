"""A setting and variants of it, trained on tasks by the command that a user gives."""

import csv
import pathlib
import random
import re
import shlex
import time

import pytest

from maac_tf.runs import trainings
from tests import commands
from tests.conftest import TINY
from tests.learners import SAC

RUNS = pathlib.Path("runs") / "suite" / "pendulum"
# Without models: a run is started, and compiled, the sooner.
SETTING = "\n".join([*TINY, *SAC])
TOML = """
steps = [340, 360, 5_000]
quick_steps = 340
[task.swing]
task = "pendulum"
env_steps = 380
reference = -100
quick = true
bindings = ["Maac.discount=0.9"]
[task.push]
task = "double_integrator"
env_steps = 380
reference = 0
quick = true
[task.other]
env_steps = 380
reference = 0
"""


def _suite(tmp_path, *arguments, task="train.task = 'pendulum'", prepare=None):
  (tmp_path / "tiny.gin").write_text(f"{SETTING}\n{task}")
  suite = "suite", "--gin_file=tiny.gin", *arguments
  return commands.run(*suite, cwd=tmp_path, prepare=prepare)


class _Training:
  """In place of the process of one: two evaluations, of its command alone."""

  def __init__(self, command, stdout, **_):
    options = "--run_dir=", "--gin_param=train.iterations="
    run, iterations = (p.removeprefix(o) for o in options for p in command if p.startswith(o))
    run = pathlib.Path(run)
    stdout.write("Resuming" if run.exists() else "\n".join(command))
    if not run.exists():
      run.mkdir()
      drawn, rows = random.Random(" ".join(command)), ["env_steps,eval/return,seconds/total"]
      rows += [f"{340 + 40 * i},{drawn.uniform(-1e3, -100)},60" for i in range(int(iterations))]
      (run / "metrics.csv").write_text("\n".join([*rows, ""]))

  def wait(self):
    return 0


def _without_training():
  trainings.subprocess.Popen = _Training


def _table(out):
  """(last return, mean of the curve) by setting, as the table has them."""
  lines = re.findall(r"(?m)^pendulum  +(\S+)  +(-[\d,]+(?: \[.*?\])?)  +(-[\d,]+)", out)
  return {name: (last, mean) for name, last, mean in lines}


def _returns(tmp_path, name):
  rows = list(csv.DictReader((tmp_path / RUNS / name / "metrics.csv").open()))
  assert [row["env_steps"] for row in rows] == ["340", "380"]
  return [float(row["eval/return"]) for row in rows]


def test_variants_are_trained_and_their_returns_listed(tmp_path):
  def suite(*arguments):
    return _suite(tmp_path, *arguments, prepare=_without_training)

  (tmp_path / "without").mkdir()
  (tmp_path / "shortsighted.gin").write_text("Maac.discount = 0.9")
  (tmp_path / "without" / "far.gin").write_text("include '../shortsighted.gin'")
  variants = "--variant=without/far.gin", "--variant=Critic.num_critics = 3"
  code, out, err = suite(*variants, "--seeds=3", "--env_steps=360")
  assert code == 0, err
  table = _table(out)
  for name, of_variant in (
    ("default", []),
    ("without_far", ["--gin_file=without/far.gin"]),
    ("Critic.num_critics=3", ["--gin_param=Critic.num_critics = 3"]),
  ):
    command = (tmp_path / RUNS / f"{name}-3.log").read_text().splitlines()
    assert command[1:3] == ["-m", "maac_tf.train"] and command[-1] == "--seed=3"
    # 300 random steps, and two iterations of 40
    common = "--threads=1", "--gin_file=tiny.gin", "--gin_param=train.iterations=2"
    task = "--gin_param=train.task='pendulum'"
    assert sorted(command[3:-2]) == sorted([*common, task, *of_variant])
    returns = _returns(tmp_path, f"{name}-3")
    assert f"{name}-3: {returns[-1]:,.1f}\n" in out
    assert table[name] == (f"{returns[-1]:,.0f}", f"{sum(returns) / 2:,.0f}")

  # With a seed more, only that one is trained.
  code, out, err = suite("--seeds=3,5", "--env_steps=360")
  assert code == 0, err
  assert (tmp_path / RUNS / "default-3.log").read_text().endswith("Resuming")
  assert "Resuming" not in (tmp_path / RUNS / "default-5.log").read_text()
  ends = sorted(_returns(tmp_path, f"default-{seed}")[-1] for seed in (3, 5))
  assert _table(out)["default"][0] == f"{sum(ends) / 2:,.0f} [{ends[0]:,.0f}, {ends[1]:,.0f}]"

  # Shorter: of the rows there are, the first ones.
  code, out, _ = suite("--seeds=3", "--env_steps=340")
  assert code == 0 and _table(out)["default"][0] == f"{_returns(tmp_path, 'default-3')[0]:,.0f}"


def test_commands_of_a_grid_are_printed_for_other_machines(tmp_path):
  grid = "--grid=Maac.discount=0.9,0.99", "--grid=Critic.num_critics=3"
  code, out, err = _suite(tmp_path, *grid, "--print_commands", "--seeds=3", "--env_steps=360")
  assert code == 0, err
  lines = [shlex.split(line) for line in out.splitlines() if line]
  assert [line[:3] for line in lines] == [["python", "-m", "maac_tf.train"]] * 3
  for line, discount in zip(lines[1:], ("0.9", "0.99"), strict=True):
    name = f"Maac.discount={discount},Critic.num_critics=3"
    assert f"--run_dir=runs/suite/pendulum/{name}-3" in line
    assert {f"--gin_param=Maac.discount={discount}", "--gin_param=Critic.num_critics=3"} <= {*line}
  assert not (tmp_path / "runs").exists()


def test_a_setting_is_trained_on_the_tasks_of_a_file_and_reported(tmp_path):
  (tmp_path / "results").mkdir()
  (tmp_path / "results" / "suite.toml").write_text(TOML)
  random = "task,return,return_std,length,episodes\nswing,-1300,0,200,9\npush,-400,0,200,9\n"
  (tmp_path / "results" / "random_returns.csv").write_text(random)
  arguments = "--seeds=0", "--name=small"
  code, out, err = _suite(tmp_path, *arguments, task="", prepare=_without_training)
  assert code == 0, err
  runs = tmp_path / "runs" / "suite"
  assert sorted(p.name for p in runs.iterdir()) == ["push", "suite.csv", "swing"]
  values = {}
  for task, low, high in (("swing", -1300, -100), ("push", -400, 0)):
    command = (runs / task / "small-0.log").read_text().splitlines()
    assert ("--gin_param=Maac.discount=0.9" in command) == (task == "swing")
    (row,) = csv.DictReader((runs / task / "small-0" / "metrics.csv").open())  # the quick part's
    values[task] = (float(row["eval/return"]) - low) / (high - low)
  rows = list(csv.DictReader((runs / "suite.csv").open()))
  measured = {(r["measure"], r["task"], r["env_steps"]): float(r["value"]) for r in rows}
  for task, value in values.items():
    assert measured["normalised", task, "340"] == pytest.approx(value, rel=1e-4)
  mean = sum(values.values()) / 2
  assert measured["interquartile_mean", "all", "340"] == pytest.approx(mean, rel=1e-4)
  assert f"{mean:.2f} [" in out and "340 (2 tasks)" in out

  # Of the runs that are there, and one made elsewhere, always better.
  for task in values:
    (runs / task / "other-0").mkdir()
    row = "env_steps,eval/return,seconds/total\n340,0,60\n"
    (runs / task / "other-0" / "metrics.csv").write_text(row)
  code, out, err = _suite(tmp_path, "--notrain", "--name=small", task="")
  assert code == 0, err
  assert re.search(r"better than small .*\n.*\nother +1.00 \[1.00, 1.00\]", out)
  code, out, _ = _suite(tmp_path, "--notrain", "--tasks=swing", task="")
  assert code == 0 and "swing" in out and "push" not in out


def test_a_signal_lets_the_runs_save(tmp_path):
  (tmp_path / "tiny.gin").write_text(f"{SETTING}\ntrain.task = 'pendulum'")
  arguments = "--gin_file=tiny.gin", "--seeds=0,1", "--jobs=1", "--env_steps=100_000"
  with commands.under_way("suite", *arguments, cwd=tmp_path) as (process, end):
    metrics = tmp_path / RUNS / "default-0" / "metrics.csv"
    deadline = time.time() + 120
    while not metrics.exists() and time.time() < deadline:
      time.sleep(0.2)
    process.terminate()
    code, out, err = end()
  assert code == 130
  assert "once more stops them at once" in err and "the same command goes on" in out
  (last, _), rows = _table(out)["default"], list(csv.DictReader(metrics.open()))
  assert last == f"{float(rows[-1]['eval/return']):,.0f}"
  assert "Saved. Resume with" in (tmp_path / RUNS / "default-0.log").read_text()
  assert not (tmp_path / RUNS / "default-1").exists()


def test_a_run_that_fails_is_named(tmp_path):
  (tmp_path / RUNS / "default-0").mkdir(parents=True)
  row = "env_steps,eval/return,seconds/total\n330,-7.0,1\n"  # of who knows
  (tmp_path / RUNS / "default-0" / "metrics.csv").write_text(row)
  code, out, _ = _suite(tmp_path, "--env_steps=330", "--seeds=0")
  assert code == 1
  assert f"{RUNS}/default-0: ended with 1, see {RUNS}/default-0.log" in out
  assert "-7" not in out and "No run has an evaluation yet." in out
  assert "is not empty and not a run" in (tmp_path / RUNS / "default-0.log").read_text()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--env_steps=300"], "--env_steps must be more than Trainer.random_steps (300), not 300."),
    (["--variant=Maac.discount=2"], "discount must be a number"),
    (
      ["--variant=Dynamics.ensemble_size=2"],
      "of 'Dynamics.ensemble_size=2' has no effect: nothing uses the model",
    ),
    (["--variant=Maac.batch_size=32"], "'Maac.batch_size=32' changes nothing"),
    (["--variant=Critic.num_critics=3"] * 2, "Two variants have the name"),
    (["--variant=train.seed=3"], "'train.seed=3' changes no training"),
    (["--variant=Planner.horizon=3"], "'Planner.horizon=3' changes no training"),
    (["--variant=shorter.gin"], "'shorter' changes no training"),
    (
      ["--variant=Trainer.eval_every=400", "--env_steps=330"],
      "--env_steps (330) end before the first evaluation",
    ),
    (  # what a common file sets is not the variant's: the mistake is in the second
      ["--gin_file=models.gin", "--variant=Critic.num_critics=3", "--variant=Maac.discount=2"],
      "Error: Maac.discount must be a number",
    ),
    (["--seeds=1,1"], "must be different numbers"),
    (["--tasks=quick"], "sets the task 'pendulum': leave out --tasks, or that file."),
    (["--notrain"], "There is no run with an evaluation in 'runs/suite'."),
  ],
  ids=lambda value: None,
)
def test_what_makes_no_sense_ends_before_anything_runs(tmp_path, arguments, message):
  (tmp_path / "shorter.gin").write_text("train.iterations = 3")
  (tmp_path / "models.gin").write_text("Dynamics.ensemble_size = 2")
  code, _, err = _suite(tmp_path, *arguments)
  assert code == 1 and message in err
  assert not (tmp_path / "runs").exists()


def test_the_suite_needs_its_file(tmp_path):
  code, _, err = _suite(tmp_path, "--tasks=quick", task="")
  assert code == 1 and err.startswith("Error: The suite's file 'results/suite.toml' cannot be read")
  assert err.count("\n") == 1
