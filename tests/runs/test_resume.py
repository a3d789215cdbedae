"""A run that ends at any point, and goes on: to the bit, or on a robot with every step it took."""

import csv
import json
import math
import os
import signal

import gin
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm import learning, trainer
from maac_tf.algorithm.evaluator import Evaluator
from maac_tf.algorithm.learner import Maac
from maac_tf.data.step_log import StepLog
from maac_tf.models import fit
from maac_tf.runs import checkpoints, datasets, pauses, plotting, saved_model
from maac_tf.runs.datasets import COLUMNS
from maac_tf.runs.experiment import restore, train
from maac_tf.tasks.registry import find_task
from tests.conftest import BARE
from tests.equal_runs import differences, newest_checkpoint, run_values
from tests.learners import eagerly
from tests.simulators import STEPS, Robot


@pytest.fixture(autouse=True)
def run_without_tracing():
  with eagerly():
    yield


@pytest.fixture(autouse=True)
def what_takes_long(monkeypatch):
  """Is replaced: updates by what depends on seed and D_model as they do."""

  def train(learner, count, seed):
    drawn = learner.model_buffer.gather(learner.model_buffer.random_indices([5], seed))
    value = tf.reduce_sum(drawn.reward) + tf.random.stateless_normal([], seed)
    for variable in learner.network_variables():
      if variable.dtype == tf.float32:
        variable.assign_add(1e-4 * count * tf.tanh(value) * tf.ones_like(variable))
    return {"critic/loss": value}

  row = {"eval/return": -1.0, "eval/return_std": 0.0, "eval/length": 50.0}
  monkeypatch.setattr(Maac, "train", train)
  monkeypatch.setattr(Evaluator, "evaluate", lambda self: row)
  monkeypatch.setattr(Evaluator, "evaluate_again", lambda self: np.array([-1.0]))
  monkeypatch.setattr(saved_model, "save_policy", lambda learner, path, *_: os.makedirs(path))
  monkeypatch.setattr(plotting, "plot_run", lambda run, path: open(path, "w").close())


class _KilledError(BaseException):
  pass


def _kill_or_stop(monkeypatch, every):
  """By turns, right after each so-manieth checkpoint; returns what counts them."""
  count, save = [], checkpoints.save

  def save_and_end(*arguments):
    save(*arguments)
    count.append(1)
    if len(count) % (2 * every) == 0:
      signal.raise_signal(signal.SIGUSR1)
    elif len(count) % every == 0:
      raise _KilledError

  monkeypatch.setattr(checkpoints, "save", save_and_end)
  return count


def _train_again_and_again(run, **arguments):
  """Until it is finished; what each session ended with."""
  ends = []
  while not ends or ends[-1] is not None:
    try:
      ends.append(train(str(run), **arguments))
    except _KilledError:
      ends.append("killed")
  return ends


def _assert_equal(run, other):
  want, got = run_values(run), run_values(other)
  assert len(want) > 50 and not differences(want, got)


@pytest.mark.parametrize("environments", [1, 3])
def test_a_run_that_ends_at_pauses_is_the_one_that_does_not(tmp_path, monkeypatch, environments):
  """Within random steps, fits, and updates before and after the policy acts."""
  monkeypatch.setattr(trainer, "MAX_RANDOM_STEPS", 170)
  monkeypatch.setattr(learning, "MAX_UPDATES_PER_CALL", 1)
  monkeypatch.setattr(fit, "MIN_BATCHES_PER_CALL", 1)
  monkeypatch.setattr(fit, "SECONDS_PER_CALL", 0.0)
  updates = "Trainer.updates_per_step = 0.1", "Trainer.rollout_frequency = 2"
  gin.parse_config([*BARE, *updates, "Trainer.initial_updates = 4"])
  gin.parse_config(["DynamicsFit.max_batches = 3", f"train.environments = {environments}"])
  monkeypatch.setattr(pauses, "SAVE_EVERY", math.inf)
  assert train(str(tmp_path / "whole"), iterations=2) is None
  monkeypatch.setattr(pauses, "SAVE_EVERY", -1.0)
  count = _kill_or_stop(monkeypatch, every=5)
  ends = _train_again_and_again(tmp_path / "ended", iterations=2)
  assert len(count) > 20 and ends[:2] == ["killed", signal.SIGUSR1]
  _assert_equal(tmp_path / "whole", tmp_path / "ended")
  steps = datasets.read(str(tmp_path / "ended"), find_task("pendulum").make_environment())
  assert len(steps.first) in (380, 381)  # whole rounds of the environments
  jumps = np.any(steps.steps.observation[1:] != steps.steps.next_observation[:-1], axis=1)
  np.testing.assert_array_equal(steps.first, [True, *jumps])


def test_a_run_that_began_with_a_dataset_goes_on_without_it(tmp_path, monkeypatch):
  """Learns offline, then online."""
  rng, shapes = np.random.default_rng(0), ((350, 3), (350, 1), (350,), (350, 3), (350,), (350,))
  columns = dict(zip(COLUMNS, (rng.normal(size=s).clip(-2, 2) for s in shapes), strict=True))
  for name in ("terminations", "truncations"):
    columns[name] = columns[name] > 1.9
  dataset = str(tmp_path / "steps.npz")
  np.savez(dataset, **columns)
  monkeypatch.setattr(learning, "MAX_UPDATES_PER_CALL", 1)
  gin.parse_config([*BARE, "Trainer.updates_per_step = 0.1", "Trainer.rollout_frequency = 2"])
  monkeypatch.setattr(pauses, "SAVE_EVERY", math.inf)
  assert train(str(tmp_path / "whole"), dataset=dataset, offline=True, iterations=2) is None
  assert train(str(tmp_path / "whole"), iterations=4) is None
  monkeypatch.setattr(pauses, "SAVE_EVERY", -1.0)
  _kill_or_stop(monkeypatch, every=5)
  with pytest.raises(_KilledError):
    train(str(tmp_path / "ended"), dataset=dataset, offline=True, iterations=2)
  os.remove(dataset)
  assert len(_train_again_and_again(tmp_path / "ended", offline=True, iterations=2)) > 1
  assert len(_train_again_and_again(tmp_path / "ended", iterations=4)) > 1
  _assert_equal(tmp_path / "whole", tmp_path / "ended")
  with open(tmp_path / "ended" / "metrics.csv", newline="") as file:
    assert [row["env_steps"] for row in csv.DictReader(file)] == ["0", "0", "40", "80"]
  gin.clear_config()
  stored = restore(str(tmp_path / "ended")).learner.env_buffer
  assert stored.added == 430
  rows = [np.asarray(column[:350]) for column in stored.gather(tf.range(350))]
  names = "observations", "actions", "rewards", "next_observations", "terminations"
  for name, row in zip(names, rows, strict=True):
    want = columns[name].astype(np.float32) / (2.0 if name == "actions" else 1.0)
    np.testing.assert_array_equal(row, want, err_msg=name)


def test_no_step_of_a_robot_is_lost_and_none_is_repeated(tmp_path, monkeypatch):
  monkeypatch.setattr(pauses, "SAVE_EVERY", math.inf)
  monkeypatch.setattr(Robot, "taken", [])
  gin.parse_config([*BARE, "train.task = 'tests.simulators:robot'"])
  gin.parse_config("Trainer.replay_on_resume = False")
  run = tmp_path / "run"
  ends = 119, 310, 344  # in the random steps, before the first checkpoint, after it
  for steps in ends:
    Robot.raises_at.add(steps + 1)
    with pytest.raises(ConnectionError, match="the arm does not answer") as error:
      train(str(run), iterations=2)
    (note,) = error.value.__notes__
    assert f"Saved are all {steps} real steps, in '{run}/steps.bin', and " in note
    assert ("no checkpoint yet" in note) == (steps < 340)
  assert train(str(run), iterations=2) is None
  taken = np.array(Robot.taken)
  assert len(taken) == 380
  log = StepLog(str(run / "steps.bin"), 1, 1)
  (rows,) = log.read(0, log.rows)
  np.testing.assert_array_equal(np.column_stack(rows[:4]), taken)
  with open(run / "steps.bin", "rb") as file:
    fields = [(name, kind, tuple(shape)) for name, kind, shape in json.loads(file.readline())]
    starts = np.flatnonzero(np.fromfile(file, np.dtype(fields))["first"])
  sessions = zip((0, *ends), (*ends, 380), strict=True)
  assert starts.tolist() == [i for begin, end in sessions for i in range(begin, end, STEPS)]
  np.testing.assert_array_equal(np.flatnonzero(taken[1:, 0] != taken[:-1, 3]) + 1, starts[1:])
  with open(run / "metrics.csv", newline="") as file:
    assert [row["env_steps"] for row in csv.DictReader(file)] == ["340", "380"]
  gin.clear_config()
  stored = restore(str(run), trusted=True).learner.env_buffer.newest(380)
  np.testing.assert_array_equal(np.column_stack(stored[:4]), taken)


def test_steps_before_the_first_checkpoint_are_kept_and_taken_again(tmp_path, monkeypatch):
  """Which is without effect where it repeats them, and loses none where it does not."""
  monkeypatch.setattr(pauses, "SAVE_EVERY", math.inf)
  monkeypatch.setattr(Robot, "taken", [])
  gin.parse_config([*BARE, "train.task = 'tests.simulators:robot'"])
  Robot.raises_at.add(120)
  with pytest.raises(ConnectionError):
    train(str(tmp_path / "run"), iterations=1)
  assert train(str(tmp_path / "run"), iterations=1) is None
  assert StepLog(str(tmp_path / "run" / "steps.bin"), 1, 1).rows == 340
  assert StepLog(str(tmp_path / "run" / "unused_steps.bin"), 1, 1).rows == 119


def test_d_env_after_a_restart_is_the_ring_that_it_was(tmp_path, monkeypatch):
  """Where it has been written round, too."""
  gin.parse_config([*BARE, "Maac.env_capacity = 310"])
  rings, save = [], checkpoints.save

  def note(folder, trainer, *others):
    ring = trainer.learner.env_buffer.gather(tf.range(310))
    rings.append([column.numpy() for column in ring])
    save(folder, trainer, *others)

  monkeypatch.setattr(checkpoints, "save", note)
  train(str(tmp_path / "run"), iterations=2)
  gin.clear_config()
  buffer = restore(str(tmp_path / "run")).learner.env_buffer
  assert buffer.added == 380 and buffer.size == 310
  for got, want in zip(buffer.gather(tf.range(310)), rings[-1], strict=True):
    np.testing.assert_array_equal(got, want)
  sizes = [file.stat().st_size for file in newest_checkpoint(tmp_path / "run").glob("variables.*")]
  assert not any(size > 2**20 for size in sizes)
