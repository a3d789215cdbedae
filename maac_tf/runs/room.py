"""The memory and the disk that a training will take, against what there is."""

import math
import os
import shutil
from typing import NamedTuple

import keras
import tensorflow as tf

from maac_tf.algorithm.trainer import Trainer
from maac_tf.checks import ConfigError
from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.room import GIB, free_memory
from maac_tf.data.step_log import row_type
from maac_tf.models.bootstrap import MAX_VALIDATION_ROWS
from maac_tf.runs.checkpoints import KEPT

COMPILING = 0.8 * GIB  # what compiled functions, and the compiler, take beside what they work on


class Room(NamedTuple):
  """Bytes.

  Attributes:
    memory: of the process, with what it has now.
    more: of that, what it has not yet.
    env_buffer, model_buffer: of that, D_env and D_model.
    checkpoint: one of them.
    disk: all files of the run, while a checkpoint is written.
  """

  memory: float
  more: float
  env_buffer: int
  model_buffer: int
  checkpoint: int
  disk: int


def of(trainer: Trainer, iterations: int) -> Room:
  """Of a training of so many iterations in all."""
  learner, learning = trainer.learner, trainer.learning
  in_use = _bytes(learner.model_buffer)  # which is of one iteration's longest rollouts
  checkpoint = in_use + sum(
    tf.as_dtype(x.dtype).size * math.prod(x.shape)
    for x in tf.train.TrackableView(trainer).descendants()
    if isinstance(x, (tf.Variable, keras.Variable))
  )
  steps = trainer.random_steps + iterations * trainer.steps_per_iteration
  count = trainer.collector.environments.count
  row = row_type(learner.observation_size, learner.action_size, count).itemsize
  # Of the updates in a call, all that is random in the models; D_model as it is saved; the rows
  # that the models are validated on.
  more = COMPILING + 2 * in_use
  if learner.dynamics:
    numbers = learner.dynamics.outcome_size + learner.action_size + 1
    updates = max(learning.updates_per_call())
    more += 4 * updates * (learner.horizon + 1) * learner.batch_size * numbers
    rows = min(MAX_VALIDATION_ROWS, learner.env_buffer.capacity)
    more += learner.dynamics.ensemble_size * rows * learner.env_buffer.row_bytes
  return Room(
    memory=_memory_now() + more,
    more=more,
    env_buffer=_bytes(learner.env_buffer),
    model_buffer=in_use,
    checkpoint=checkpoint,
    disk=(KEPT + 1) * checkpoint + steps * row,
  )


def check(trainer: Trainer, run_dir: str, iterations: int, show: bool = True) -> None:
  """Prints what a training will take, a sentence, if it is to `show` it.

  Raises:
    ConfigError: when the machine does not have it.
  """
  needed, free = of(trainer, iterations), free_memory()
  buffers = f"D_env {_gib(needed.env_buffer)}, D_model {_gib(needed.model_buffer)}"
  if needed.more > free:
    raise ConfigError(
      f"This training takes {_gib(needed.more)} GiB of memory more than its buffers ({buffers} "
      f"GiB), and {_gib(free)} GiB are free: set Maac.env_capacity, Trainer.rollout_starts or "
      "Maac.batch_size lower, or end other programs."
    )
  place, there = _existing(run_dir), _size_of(run_dir)
  free_disk = shutil.disk_usage(place).free
  if needed.disk - there > free_disk:
    raise ConfigError(
      f"This training takes {_gib(needed.disk - there)} GiB of disk, and {_gib(free_disk)} GiB are "
      f"free in {place!r}: give a --run_dir elsewhere, or fewer train.iterations."
    )
  said = (
    f"This training takes about {_gib(needed.memory)} GiB of memory ({buffers}) and "
    f"{_gib(needed.disk)} GiB of disk (a checkpoint {_gib(needed.checkpoint)})."
  )
  if show:
    print(said)


def _bytes(buffer: ReplayBuffer | None) -> int:
  return buffer.capacity * buffer.row_bytes if buffer else 0


def _gib(size: float) -> str:
  return f"{size / GIB:,.2g}" if size < 10 * GIB else f"{size / GIB:,.0f}"


def _memory_now() -> int:
  with open("/proc/self/statm") as file:
    return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _existing(path: str) -> str:
  path = os.path.abspath(path)
  while not os.path.exists(path):
    path = os.path.dirname(path)
  return path


def _size_of(folder: str) -> int:
  names = (os.path.join(place, name) for place, _, files in os.walk(folder) for name in files)
  return sum(os.lstat(name).st_size for name in names)
