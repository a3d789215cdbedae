"""A setting and variants of it, trained by the command that a user gives."""

import csv
import pathlib
import re
import signal
import time

import pytest

from tests import commands
from tests.conftest import TINY
from tests.learners import SAC

RUNS = pathlib.Path("runs") / "compare" / "tiny"


def _arguments(tmp_path):
  task = tmp_path / "tiny.gin"
  # Without models: a run is started, and compiled, the sooner.
  task.write_text("\n".join([*TINY, *SAC, "train.task = 'pendulum'"]))
  return [f"--gin_file={task}"]


def _compare(tmp_path, *arguments):
  return commands.run("compare", *_arguments(tmp_path), *arguments, cwd=tmp_path)


def _table(out):
  """(last returns, means of the curves) by name: the numbers of a line."""
  lines = re.findall(r"(?m)^(\S+) +((?:-\S+ *|nan *){2,})$", out)
  half = len(lines) // 2
  return [
    {n: re.split(" +", numbers) for n, numbers in part} for part in (lines[:half], lines[half:])
  ]


def _returns(tmp_path, name):
  rows = list(csv.DictReader((tmp_path / RUNS / name / "metrics.csv").open()))
  # 300 random steps, and two iterations of 40
  assert [row["env_steps"] for row in rows] == ["340", "380"]
  return [float(row["eval/return"]) for row in rows]


def test_variants_are_trained_and_their_returns_listed(tmp_path):
  (tmp_path / "without").mkdir()
  (tmp_path / "shortsighted.gin").write_text("Maac.discount = 0.9")
  (tmp_path / "without" / "far.gin").write_text("include '../shortsighted.gin'")
  variants = "--variant=without/far.gin", "--variant=Critic.num_critics = 3"
  code, out, err = _compare(tmp_path, *variants, "--seeds=3", "--env_steps=360")
  assert code == 0, err
  last, mean = _table(out)
  for name, discount, critics in (
    ("maac", 0.995, 2),
    ("without_far", 0.9, 2),
    ("Critic.num_critics=3", 0.995, 3),
  ):
    config = (tmp_path / RUNS / f"{name}-3" / "operative_config.gin").read_text()
    assert f"Maac.discount = {discount}\n" in config and "train.seed = 3\n" in config
    assert f"Critic.num_critics = {critics}\n" in config
    returns = _returns(tmp_path, f"{name}-3")
    assert last[name] == [f"{returns[-1]:.5g}"] * 2  # of the seed, and of all
    assert mean[name] == [f"{sum(returns) / 2:.5g}"] * 2

  # With a seed more, only that one is trained.
  code, out, err = _compare(tmp_path, "--seeds=3,5", "--env_steps=360")
  assert code == 0, err
  assert "Resuming" not in (tmp_path / RUNS / "maac-5.log").read_text()
  ends = [_returns(tmp_path, f"maac-{seed}")[-1] for seed in (3, 5)]
  assert _table(out)[0]["maac"] == [f"{v:.5g}" for v in (*ends, sum(ends) / 2)]

  # Shorter: of the rows there are, the first ones.
  code, out, _ = _compare(tmp_path, "--seeds=3", "--env_steps=340")
  first = _returns(tmp_path, "maac-3")[0]
  assert code == 0 and _table(out)[0]["maac"] == [f"{first:.5g}"] * 2


def test_a_signal_lets_the_runs_finish_their_iteration(tmp_path):
  arguments = "--seeds=0,1", "--jobs=1", "--env_steps=100_000"
  process = commands.start("compare", *_arguments(tmp_path), *arguments, cwd=tmp_path)
  metrics = tmp_path / RUNS / "maac-0" / "metrics.csv"
  deadline = time.time() + 120
  while not metrics.exists() and time.time() < deadline:
    time.sleep(0.2)
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate(timeout=120)
  assert process.returncode == 130
  assert "once more stops them at once" in err and "the same command goes on" in out
  assert _table(out)[0]["maac"] == ["nan"] * 3
  assert "Saved. Resume with" in (tmp_path / RUNS / "maac-0.log").read_text()
  assert not (tmp_path / RUNS / "maac-1").exists()


def test_a_run_that_fails_is_named(tmp_path):
  (tmp_path / RUNS / "maac-0").mkdir(parents=True)
  (tmp_path / RUNS / "maac-0" / "metrics.csv").write_text("eval/return\n-7.0\n")  # of who knows
  code, out, _ = _compare(tmp_path, "--env_steps=330", "--seeds=0")
  assert code == 1
  assert f"{RUNS}/maac-0: ended with 1, see {RUNS}/maac-0.log" in out
  assert "-7.0" not in out and re.search(r"(?m)^maac +nan +nan$", out)
  assert "is not empty and not a run" in (tmp_path / RUNS / "maac-0.log").read_text()


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
  ],
  ids=lambda value: None,
)
def test_what_makes_no_sense_ends_before_anything_runs(tmp_path, arguments, message):
  (tmp_path / "shorter.gin").write_text("train.iterations = 3")
  (tmp_path / "models.gin").write_text("Dynamics.ensemble_size = 2")
  code, _, err = _compare(tmp_path, *arguments)
  assert code == 1 and message in err
  assert not (tmp_path / "runs").exists()
