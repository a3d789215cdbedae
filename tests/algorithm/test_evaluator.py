"""Where evaluations are, and what they do to the training."""

import csv
import os

import gin
import numpy as np
import pytest

from maac_tf.algorithm import evaluator
from maac_tf.runs import plotting, saved_model
from maac_tf.runs.experiment import build_trainer, train
from maac_tf.tasks import episodes
from tests import simulators
from tests.conftest import BARE
from tests.learners import eagerly

BINDINGS = *BARE, "Trainer.random_steps = 310"


@pytest.fixture(autouse=True)
def small_runs():
  simulators.forget()
  gin.parse_config(BINDINGS)
  with eagerly():
    yield


def _note_warnings(monkeypatch):
  said = []
  monkeypatch.setattr(episodes.logging, "warning", lambda text, *values: said.append(text % values))
  return said


def _two_iterations(name, where="auto"):
  """(the evaluations' returns, after which rows of D_env another episode begins)"""
  gin.parse_config(f"Trainer.evaluation_environment = {where!r}")
  trainer = build_trainer(f"tests.simulators:{name}")
  rows = [trainer.begin(), trainer.run_iteration(), trainer.run_iteration()]
  steps = trainer.learner.env_buffer.newest(390)
  assert not np.any(steps.terminal)
  follows = np.all(steps.next_observation[:-1] == steps.observation[1:], axis=-1)
  return [row["eval/return"] for row in rows], np.flatnonzero(~follows).tolist()


@pytest.fixture(scope="module")
def own_environments():
  """The returns, where evaluations have environments of their own."""
  with pytest.MonkeyPatch.context() as patch, eagerly():
    warnings = _note_warnings(patch)
    gin.parse_config(BINDINGS)
    returns, ends = _two_iterations("line")
  gin.clear_config()
  assert ends == [*LIMITS, 349] and not warnings
  return returns


LIMITS = [49, 99, 149, 199, 249, 299]


@pytest.mark.parametrize(
  ("name", "where"), [("same_object", "auto"), ("exclusive", "auto"), ("line", "training")]
)
def test_in_the_environment_of_the_training_its_episode_is_cut_off(
  own_environments, monkeypatch, name, where
):
  warnings = _note_warnings(monkeypatch)
  returns, ends = _two_iterations(name, where)
  assert ends == [*LIMITS, 309, 349]
  assert len(warnings) == (where == "auto")  # once, of three evaluations
  # Of the same policy, from the same starts.
  assert returns[0] == pytest.approx(own_environments[0], rel=1e-4)


def test_own_environments_may_be_asked_for():
  with pytest.raises(ConnectionError):
    _two_iterations("exclusive", "own")


def test_a_run_in_one_environment_resumes_bit_for_bit(tmp_path, monkeypatch):
  """After an iteration with an evaluation, which cuts the episode off, and after one without."""
  monkeypatch.setattr(evaluator, "BEST_EVALUATION_EPISODES", 1)
  monkeypatch.setattr(saved_model, "save_policy", lambda _, path, *others: os.makedirs(path))
  monkeypatch.setattr(plotting, "plot_run", lambda _, path: open(path, "w").close())
  gin.parse_config("train.task = 'tests.simulators:exclusive'")
  gin.parse_config("Trainer.eval_every = 80")  # in the second iteration, not in the first
  runs = {"whole": (3,), "resumed": (1, 2, 3)}
  for run, parts in runs.items():
    for iterations in parts:
      simulators.forget()  # as in a new process
      train(str(tmp_path / run), iterations=iterations)
  whole, resumed = (_rows(tmp_path / run) for run in runs)
  assert whole == resumed and len(whole) == 3


def _rows(run):
  with open(run / "metrics.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  return [{k: v for k, v in row.items() if not k.startswith("seconds/")} for row in rows]
