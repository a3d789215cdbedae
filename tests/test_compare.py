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
  arguments = f"--gin_file={task}", "--variant=h0.gin", "--seeds=3"
  done = _compare(tmp_path, *arguments, "--env_steps=330")
  assert done.returncode == 0, done.stderr
  runs = tmp_path / "runs" / "compare" / "tiny"
  for name in ("shipped", "h0"):
    (row,) = csv.DictReader((runs / f"{name}-3" / "metrics.csv").open())
    assert row["env_steps"] == "340"  # 300 random ones, and the 40 of an iteration
    config = (runs / f"{name}-3" / "operative_config.gin").read_text()
    assert ("Maac.horizon = 0" in config) == (name == "h0") and "train.seed = 3" in config
    (value,) = re.findall(rf"(?m)^{name} +(-\S+)", done.stdout)
    assert value == f"{float(row['eval/return']):,.1f}"


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
