"""What grows with D_env, or from one save to the next: rows of `maac_tf.benchmark`.

Seconds are of the processor, which other programs beside change least.
"""

import contextlib
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import tensorflow as tf

from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.trainer import Trainer
from maac_tf.analysis.timing import Row
from maac_tf.data.step_log import StepLog
from maac_tf.data.types import Transition
from maac_tf.runs import checkpoints, config, experiment, exports
from maac_tf.runs.run_directory import RunDirectory
from maac_tf.runs.saved_model import save_policy
from maac_tf.tasks.task import Task, never_terminates

OBSERVATIONS, ACTIONS = (17, 348), 6  # numbers of a half cheetah and of a humanoid
ROUNDS = 2  # iterations that are timed, after one that compiles or reads new rows
AT_ONCE = 10_000  # rows


class Drift(gym.Env):
  """s' = 0.9 s + 0.1 times the actions, each on many numbers."""

  action_space = gym.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)

  def __init__(self, size: int):
    self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

  def reset(
    self, *, seed: int | None = None, options: dict[str, Any] | None = None
  ) -> tuple[np.ndarray, dict[str, Any]]:
    super().reset(seed=seed)
    self._state = self.np_random.normal(size=self.observation_space.shape).astype(np.float32)
    return self._state, {}

  def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    push = np.resize(action, self._state.shape).astype(np.float32)
    self._state = (0.9 * self._state + 0.1 * push).astype(np.float32)
    return self._state, -float(np.mean(self._state**2)), False, False, {}


def with_rows(
  files: Sequence[str], bindings: Sequence[str], counts: Sequence[int]
) -> Iterator[Row]:
  """An iteration without evaluation, and a checkpoint, where D_env has so many rows.

  Ratios are to the least count. The tasks have as many numbers as `OBSERVATIONS` says.
  """
  for size in OBSERVATIONS:
    config.load(files, [*bindings, f"Maac.env_capacity = {max(counts)}"])
    task = Task("drift", lambda size=size: Drift(size), None, never_terminates)
    environment = task.make_environment()
    with config.user_errors():
      trainer = Trainer(Maac(task, environment), environment)
    least: dict[str, float] = {}
    with (
      tempfile.TemporaryDirectory() as folder,
      contextlib.closing(StepLog(os.path.join(folder, "steps.bin"), size, ACTIONS)) as log,
    ):
      log.begin(0, 0, "")
      trainer.collector.log = log
      for count in sorted(counts):
        print(f"Measuring {size} numbers, {count:,} rows ...", file=sys.stderr)
        _fill(trainer, size, count)
        for part, (value, unit) in _measure(trainer, log, folder).items():
          ratio = value / least.setdefault(part, value)
          yield Row(f"{size} numbers, {count:,} rows", part, value, unit, ratio=ratio)
          if count > min(counts):
            yield Row(f"{size} numbers, {count:,} rows", f"{part}, growth", ratio, "×")
    del trainer
    gc.collect()


def _measure(trainer: Trainer, log: StepLog, folder: str) -> dict[str, tuple[float, str]]:
  """Values and units, by part."""

  def iteration() -> None:
    trainer.collect(trainer.steps_per_iteration)
    trainer.learning.run(0, trainer.under_way, lambda share: None, lambda: None)

  def checkpoint() -> None:
    checkpoints.save(os.path.join(folder, "checkpoints"), trainer, log, {})

  times = [(_seconds(iteration), _seconds(checkpoint)) for _ in range(1 + ROUNDS)][1:]
  newest = max(os.scandir(os.path.join(folder, "checkpoints")), key=lambda entry: int(entry.name))
  megabytes = sum(file.stat().st_size for file in os.scandir(newest.path)) / 1e6
  learning, saving = np.median(times, 0).tolist()
  return {
    "iteration": (learning, "CPU s"),
    "checkpoint": (saving, "CPU s"),
    "size of a checkpoint": (megabytes, "MB"),
  }


def _fill(trainer: Trainer, size: int, count: int) -> None:
  """D_env, up to so many rows."""
  rng = np.random.default_rng(0)
  for start in range(int(trainer.learner.env_buffer.size), count, AT_ONCE):
    rows = min(AT_ONCE, count - start)
    state = rng.standard_normal((rows, size), np.float32)
    action = rng.uniform(-1.0, 1.0, (rows, ACTIONS)).astype(np.float32)
    after = 0.9 * state + 0.1 * action[:, np.arange(size) % ACTIONS]
    columns = state, action, -np.mean(state**2, 1), after, np.zeros(rows)
    trainer.learner.env_buffer.add(Transition(*(tf.constant(x, tf.float32) for x in columns)))


def with_saves(files: Sequence[str], bindings: Sequence[str], count: int) -> Iterator[Row]:
  """Memory after a tenth of so many saves of a run, and after all: checkpoints, then policies."""
  config.load(files, bindings)
  trainer = experiment.make_trainer()
  with (
    tempfile.TemporaryDirectory() as folder,
    contextlib.closing(RunDirectory(os.path.join(folder, "run"), trainer)) as run,
  ):
    experiment.iterate(trainer, run, 1, show=False)  # which saves all of it

    def export() -> None:
      path, about = os.path.join(folder, "policy"), exports.metadata(trainer, is_best=False)
      shutil.rmtree(path, ignore_errors=True)
      save_policy(trainer.learner, path, about, os.path.join(folder, "run", "policy_last"))

    for name, save in (("checkpoints", run.save_checkpoint), ("policies", export)):
      first = 0.0
      for saves in range(1, count + 1):
        save()
        if saves in (max(1, count // 10), count):
          gc.collect()
          now = _gigabytes()
          first = first or now
          yield Row(name, f"memory after {saves} saves", now, "GiB", ratio=now / first)


def _seconds(function: Callable[[], object]) -> float:
  start = time.process_time()
  function()
  return time.process_time() - start


def _gigabytes() -> float:
  """Of memory that this process has now."""
  with open("/proc/self/statm") as file:
    return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**30
