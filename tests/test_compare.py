"""A setting and a variant of it, trained by the command that a user gives."""

import csv
import re
import subprocess
import sys

from tests.conftest import TINY


def _compare(tmp_path, *arguments):
  command = [sys.executable, "-m", "maac_tf.compare", *arguments]
  return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)


def test_variants_are_trained_and_their_returns_listed(tmp_path):
  task = tmp_path / "tiny.gin"
  task.write_text("\n".join([*TINY, "train.task = 'pendulum'"]))
  (tmp_path / "h0.gin").write_text("Maac.horizon = 0")
  arguments = f"--gin_file={task}", "--variant=h0.gin", "--variant=Maac.horizon = 1", "--seeds=3"
  done = _compare(tmp_path, *arguments, "--env_steps=360")
  assert done.returncode == 0, done.stderr
  runs = tmp_path / "runs" / "compare" / "tiny"
  for name, horizon in (("shipped", 4), ("h0", 0), ("Maac.horizon=1", 1)):
    rows = list(csv.DictReader((runs / f"{name}-3" / "metrics.csv").open()))
    # 300 random ones, and two iterations of 40
    assert [row["env_steps"] for row in rows] == ["340", "380"]
    config = (runs / f"{name}-3" / "operative_config.gin").read_text()
    assert f"Maac.horizon = {horizon}\n" in config and "train.seed = 3\n" in config
    last, mean = re.findall(rf"(?m)^{name} +(-\S+)", done.stdout)
    returns = [float(row["eval/return"]) for row in rows if row["eval/return"]]
    assert last == f"{returns[-1]:,.1f}" and mean == f"{sum(returns) / len(returns):,.1f}"


def test_too_few_steps_are_refused(tmp_path):
  task = tmp_path / "tiny.gin"
  task.write_text("\n".join([*TINY, "train.task = 'pendulum'"]))
  done = _compare(tmp_path, f"--gin_file={task}", "--env_steps=300")
  assert done.returncode == 1
  assert "--env_steps must be more than Trainer.random_steps (300), not 300." in done.stderr


def test_a_run_that_fails_is_named(tmp_path):
  task = tmp_path / "tiny.gin"
  task.write_text("\n".join([*TINY, "train.task = 'pendulum'", "Maac.discount = 2"]))
  done = _compare(tmp_path, f"--gin_file={task}", "--env_steps=330", "--seeds=0")
  assert done.returncode == 1
  assert "shipped-0: ended with 1, see runs/compare/tiny/shipped-0.log" in done.stdout
  assert "discount must be" in (tmp_path / "runs/compare/tiny/shipped-0.log").read_text()
