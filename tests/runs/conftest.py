"""Shared by the tests of runs."""

import csv
import math
import os
import shutil
import sys

import gin
import pytest

from maac_tf.data.step_log import StepLog
from maac_tf.runs import pauses, sealed
from tests.conftest import BARE
from tests.learners import eagerly


def rows_of(run):
  """Of its metrics, as texts."""
  with open(run / "metrics.csv", newline="") as file:
    return list(csv.DictReader(file))


def step_log(path):
  """Of a pendulum."""
  return StepLog(str(path), 3, 1)


@pytest.fixture
def untraced(monkeypatch):
  """And with checkpoints at the ends of iterations alone, however slow the machine is."""
  monkeypatch.setattr(pauses, "SAVE_EVERY", math.inf)
  with eagerly():
    yield


@pytest.fixture
def bare():
  gin.parse_config(BARE)


@pytest.fixture
def finished_run(original_run, bare, tmp_path):
  """A run of two iterations, and its config bound."""
  return shutil.copytree(original_run, tmp_path / "run")


EVIL = """
import pathlib
from maac_tf.tasks.registry import TASKS
pathlib.Path(__file__).with_name("it ran").touch()
make = TASKS["pendulum"]
"""


@pytest.fixture
def theirs(original_run, tmp_path, monkeypatch):
  """A run of an iteration, of a task of the package, where the working folder has hostile code."""
  run = shutil.copytree(original_run, tmp_path / "run")
  shutil.rmtree(run / "checkpoints" / "2")
  (tmp_path / "evil.py").write_text(EVIL)
  (tmp_path / "evil.gin").write_text("import evil\n")
  (tmp_path / "run" / "evil.gin").write_text("import evil\n")
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  yield tmp_path / "run"
  sys.modules.pop("evil", None)


def it_ran():
  """The hostile module."""
  return os.path.exists("it ran")


def write_into_config(run, code):
  """Puts code into the config, sealed as the run itself would."""
  text = (run / "config.gin").read_text().rpartition("# CRC")[0]
  (run / "config.gin").write_text(sealed.seal(f"{text}\n{code}\n"))


def snapshot(folder):
  """When each of its files was written."""
  return {f: f.lstat().st_mtime_ns for f in folder.rglob("*") if "pycache" not in str(f)}
