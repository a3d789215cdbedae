"""Checkpoints of a run, each a folder that is whole or not there.

A checkpoint has what is in use: the variables, the transitions of D_model that updates still draw,
how far the run is, and copies of its small files. The rows of D_env are in the log of steps: a
checkpoint says how many, with their checksum. All that it has is checked when it is read.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from maac_tf.algorithm.learning import UnderWay
from maac_tf.algorithm.trainer import Trainer
from maac_tf.checks import ConfigError
from maac_tf.data.step_log import DamagedError, StepLog
from maac_tf.data.types import Transition
from maac_tf.runs import metrics

KEPT = 2
FOLDER, CONFIGS = "checkpoints", ("config.gin", "operative_config.gin")
_VARIABLES, _D_MODEL, _STATE, _SUMS = "variables", "d_model.npz", "state.json", "checksums.json"
_CHUNK = 2**24  # bytes
_OF_OTHER_NETWORKS = (
  AssertionError, LookupError, TypeError, ValueError, zipfile.BadZipFile, tf.errors.OpError
)  # fmt: skip


class Checkpoint(NamedTuple):
  """One that was found whole.

  Attributes:
    path: its folder.
    env_steps: how many rows of the log it goes with, those of a dataset included.
    checksum: of these.
    under_way: of the trainer, in JSON.
    texts: the small files, by name.
  """

  path: str
  env_steps: int
  checksum: int
  under_way: dict[str, Any]
  texts: dict[str, str]


def save(folder: str, trainer: Trainer, log: StepLog, texts: Mapping[str, str]) -> None:
  """Writes a checkpoint, then deletes all but the newest `KEPT`."""
  log.sync()  # before what says that these rows are there
  numbers = _numbers(folder)
  new = os.path.join(folder, ".new")
  shutil.rmtree(new, ignore_errors=True)
  os.makedirs(new)
  tf.train.Checkpoint(trainer=trainer).write(os.path.join(new, _VARIABLES))
  buffer = trainer.learner.model_buffer
  if buffer:
    in_use = buffer.newest(tf.minimum(buffer.size, buffer.window))
    np.savez(os.path.join(new, _D_MODEL), **{k: x.numpy() for k, x in in_use._asdict().items()})
  state = {
    "env_steps": int(trainer.learner.env_buffer.added.numpy()),
    "checksum": log.checksum,
    "under_way": dataclasses.asdict(trainer.under_way),
    "texts": dict(texts),
  }
  _write_json(os.path.join(new, _STATE), state)
  sums = {name: _checksum(os.path.join(new, name)) for name in os.listdir(new)}
  _write_json(os.path.join(new, _SUMS), sums)
  for name in (*sums, _SUMS, ""):
    sync(os.path.join(new, name))
  os.rename(new, os.path.join(folder, str(max(numbers, default=0) + 1)))
  sync(folder)
  for number in sorted(numbers)[: -(KEPT - 1)]:
    shutil.rmtree(os.path.join(folder, str(number)), ignore_errors=True)


def find(folder: str, log: StepLog) -> tuple[Checkpoint | None, dict[str, str]]:
  """The newest checkpoint that is whole, and the newer ones that are not.

  Returns:
    It, or None where there is none; and what is wrong with each of the others, by its path.
  """
  damaged: dict[str, str] = {}
  for number in sorted(_numbers(folder), reverse=True):
    path = os.path.join(folder, str(number))
    try:
      return _read(path, log), damaged
    except DamagedError as error:
      damaged[path] = str(error)
  return None, damaged


def restore(trainer: Trainer, checkpoint: Checkpoint, log: StepLog) -> None:
  """Gives `trainer` what the checkpoint has, and D_env the rows of the log.

  Raises:
    ConfigError: when it is of other networks.
  """
  buffer = trainer.learner.model_buffer
  try:
    status = tf.train.Checkpoint(trainer=trainer).read(os.path.join(checkpoint.path, _VARIABLES))
    status.assert_existing_objects_matched().expect_partial()
    trainer.under_way = UnderWay(**checkpoint.under_way)
    if buffer:  # of numbers alone: NumPy refuses a pickle
      with np.load(os.path.join(checkpoint.path, _D_MODEL)) as columns:
        in_use = Transition(**{name: tf.constant(columns[name]) for name in Transition._fields})
      buffer.put(in_use, buffer.added)
  except _OF_OTHER_NETWORKS as error:
    raise ConfigError(
      f"The checkpoint {checkpoint.path!r} is of other networks than this config and this version "
      "of the code make."
    ) from error
  put(trainer, log, 0, checkpoint.env_steps)


def put(trainer: Trainer, log: StepLog, first: int, end: int) -> None:
  """Rows `first` to `end` of the log into D_env, as far as it holds them."""
  buffer = trainer.learner.env_buffer
  first = max(first, end - buffer.capacity)
  for rows in log.read(first, end):
    first += len(rows.reward)
    buffer.put(Transition(*map(tf.constant, rows)), first)


def newest_state(folder: str) -> Checkpoint | None:
  """Of the newest one of which all but the variables and D_model is whole."""
  for number in sorted(_numbers(folder), reverse=True):
    with contextlib.suppress(DamagedError):
      return _read_state(os.path.join(folder, str(number)))
  return None


def write_whole(path: str, text: str) -> None:
  """Replaces a file in one step, so that a kill leaves the old one or the new one."""
  folder, name = os.path.split(path)
  new = os.path.join(folder, f".{name}")
  with contextlib.suppress(FileNotFoundError):
    os.remove(new)  # also a link, which may lead elsewhere
  with open(new, "x", encoding="utf-8", newline="") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(new, path)


def set_aside(path: str) -> str:
  """Renames a file or folder that is damaged, and returns its new path: nothing is deleted."""
  folder, name = os.path.split(path)
  number = 1
  while os.path.lexists(new := os.path.join(folder, f"damaged-{number}-{name}")):
    number += 1
  os.rename(path, new)
  return new


def sync(path: str) -> None:
  """Waits until a file, or what a folder lists, is on the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _numbers(folder: str) -> list[int]:
  names = os.listdir(folder) if os.path.isdir(folder) else []
  return [int(name) for name in names if name.isdecimal()]


def _read(path: str, log: StepLog) -> Checkpoint:
  found = _read_state(path)
  try:
    for name, wanted in _read_json(os.path.join(path, _SUMS)).items():
      if name != os.path.basename(name) or name in ("", ".", ".."):
        raise DamagedError(f"{_SUMS} names {name!r}, which is not in this folder")
      if _checksum(os.path.join(path, name)) != wanted:
        raise DamagedError(f"{name} is not as it was written")
  except OSError as error:
    raise DamagedError(str(error)) from error
  if log.checksum_of(found.env_steps) != found.checksum:
    raise DamagedError(f"{log.path!r} does not hold its {found.env_steps:,} steps as written")
  return found


def _read_state(path: str) -> Checkpoint:
  """All but the variables and D_model."""
  try:
    wanted = _read_json(os.path.join(path, _SUMS))[_STATE]
    if _checksum(os.path.join(path, _STATE)) != wanted:
      raise DamagedError(f"{_STATE} is not as it was written")
    state: dict[str, Any] = _read_json(os.path.join(path, _STATE))
    found = Checkpoint(path, *(state[name] for name in Checkpoint._fields[1:]))
    numbers, texts = (found.env_steps, found.checksum), found.texts
    if not {type(x) for x in numbers} == {int} or min(numbers) < 0:
      raise ValueError(f"{_STATE} does not count steps in whole numbers")
    if not all(isinstance(texts[name], str) for name in (*CONFIGS, metrics.FILE)):
      raise ValueError(f"{_STATE} lacks a text")
    return found
  except (OSError, ValueError, LookupError, TypeError) as error:
    raise DamagedError(f"{type(error).__name__}: {error}") from error


def _write_json(path: str, value: object) -> None:
  with open(path, "w", encoding="utf-8") as file:
    json.dump(value, file)


def _read_json(path: str) -> dict[str, Any]:
  with open(path, encoding="utf-8") as file:
    return dict(json.load(file))


def _checksum(path: str) -> int:
  checksum = 0
  with open(path, "rb") as file:
    while chunk := file.read(_CHUNK):
      checksum = zlib.crc32(chunk, checksum)
  return checksum
