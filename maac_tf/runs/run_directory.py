"""What a run leaves behind: config, version, metrics, events, checkpoints, policy, curve."""

import csv
import glob
import json
import os
import shutil
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence

import filelock
import gin
import tensorflow as tf

from maac_tf.algorithm.trainer import Trainer
from maac_tf.checks import ConfigError
from maac_tf.runs import config, exports, plotting, saved_model, version
from maac_tf.runs.gin_files import read_gin_file

_PATTERN_CHARACTERS = "*?[\\"


def restore(trainer: tf.Module, checkpoint: str) -> None:
  """Gives `trainer` what the checkpoint of this path holds.

  Raises:
    ConfigError: when it cannot.
  """
  try:
    status = tf.train.Checkpoint(trainer=trainer).restore(checkpoint)
    status.assert_existing_objects_matched().expect_partial()
  except (AssertionError, LookupError, ValueError, tf.errors.OpError) as error:
    raise ConfigError(
      f"The checkpoint {checkpoint!r} is broken, or of other networks than this config and this "
      "version of the code make."
    ) from error


def saved_config(path: str) -> str | None:
  """The gin file of the run in `path`, to resume it without naming its files; None for no run."""
  files = [os.path.join(path, name) for name in ("config.gin", "operative_config.gin")]
  return files[0] if all(map(os.path.isfile, files)) else None


def load_config(path: str, gin_params: Sequence[str] = ()) -> set[str]:
  """Loads the config of the run in `path`, then single bindings; returns as `config.load`.

  Raises:
    ConfigError: for no run, or one with options that this version of the code does not know.
  """
  saved = saved_config(path)
  if not saved:
    raise ConfigError(f"There is no run in {path!r}.")
  try:
    return config.load([saved], gin_params)
  except ConfigError as error:
    unknown = config.unknown(read_gin_file(saved))
    if not unknown:
      raise
    raise ConfigError(
      f"{path!r} is a run of {version.describe(path)}, with options that this version does not "
      f"know: {', '.join(sorted(unknown))}. Go on with it under the version that began it."
    ) from error


class RunDirectory:
  """A folder that holds one run, and resumes it where its newest checkpoint stands."""

  def __init__(self, path: str, trainer: Trainer):
    """Creates the folder, or restores `trainer` from it.

    Everything written after the checkpoint that is restored is dropped, so that the run goes on
    as if it had never stopped.

    Raises:
      ConfigError: when the folder holds a run of another config, or something else, or its path
        has a character that TensorFlow's deletion of old checkpoints takes for a pattern.
    """
    if set(path) & set(_PATTERN_CHARACTERS):
      raise ConfigError(
        f"TensorFlow would take {path!r} for a pattern of file names: give a --run_dir without any "
        f"of {' '.join(_PATTERN_CHARACTERS)}."
      )
    self.path = path
    self._trainer = trainer
    self._lock = filelock.FileLock(self._file(".lock"))
    try:
      os.makedirs(path, exist_ok=True)
      others = {name for name in os.listdir(path) if name[0] != "."} - {"operative_config.gin"}
      if others and not saved_config(path):
        raise ConfigError(f"{path!r} is not empty and not a run: give another --run_dir.")
      self._lock.acquire(blocking=False)
    except filelock.Timeout:
      raise ConfigError(f"Another process is training in {path!r}.") from None
    except OSError as error:
      raise ConfigError(
        f"A run cannot be written to {path!r} ({error.strerror or error}): give another --run_dir, "
        "or make this one writable."
      ) from error
    try:
      self._restore()
    except BaseException:
      self._lock.release()
      raise
    self._start = time.perf_counter()
    self._events = tf.summary.create_file_writer(path)
    if not self.resumed:
      with self._events.as_default(step=0):  # indented it is code
        text = textwrap.indent(gin.operative_config_str(), 4 * " ")
        tf.summary.text("operative_config", text)

  def _restore(self) -> None:
    trainer = self._trainer
    self._manager = tf.train.CheckpointManager(
      tf.train.Checkpoint(trainer=trainer), self._file("checkpoints"), max_to_keep=2
    )
    operative = gin.operative_config_str()
    self.resumed = self._manager.latest_checkpoint is not None
    if self.resumed:
      self._check_config(operative)
      restore(trainer, self._manager.latest_checkpoint)
      if trainer.best.exists:  # a kill may have left a later one, or none
        with trainer.best.in_use():
          self._replace("policy", lambda path: self._save_policy(path, is_best=True))
    self._header: list[str] = []  # of metrics.csv, once there is one
    self._seconds_before = 0.0
    self._drop_later_rows(int(trainer.env_steps))
    self._write("operative_config.gin", operative)
    self._write("config.gin", gin.config_str())
    self._write(version.FILE, json.dumps(version.record(self.path, self.resumed)) + "\n")
    _drop_later_events(self.path, int(trainer.env_steps))

  def close(self) -> None:
    """Lets another run go on in this folder."""
    self._events.close()
    self._lock.release()

  def log(self, row: dict[str, float | None]) -> None:
    """Appends a row to metrics.csv and the TensorBoard events; None is an empty cell."""
    seconds = self._seconds_before + time.perf_counter() - self._start
    row = row | {"seconds/total": seconds}  # checkpoints and earlier sessions included
    with open(self._file("metrics.csv"), "a", newline="") as file:
      writer = csv.writer(file)
      if not self._header:
        self._header = list(row)
        writer.writerow(self._header)
      writer.writerow(["" if row[name] is None else row[name] for name in self._header])
      file.flush()
      os.fsync(file.fileno())
    self.log_events(row)

  def log_events(self, row: Mapping[str, float | None]) -> None:
    """Appends to the TensorBoard events alone."""
    with self._events.as_default(step=row["env_steps"]):
      for name, value in row.items():
        if value is not None and name != "env_steps":
          tf.summary.scalar(name, value)
    self._events.flush()

  def save(self) -> None:
    """Writes the policy and the curve as they are now, then a checkpoint of everything.

    `policy_last` is of now, `policy` of the best evaluation so far.
    """
    self._replace("policy_last", lambda path: self._save_policy(path, self._trainer.best.is_now))
    if self._trainer.best.is_now or not self._trainer.best.exists:
      self._replace("policy", lambda path: shutil.copytree(self._file("policy_last"), path))
    self._replace("curve.png", lambda path: plotting.plot_run(self._file("metrics.csv"), path))
    # Last: a kill before its end repeats the iteration, and writes the others once more.
    self._manager.save(checkpoint_number=int(self._trainer.iteration))

  def _save_policy(self, path: str, is_best: bool) -> None:
    about = exports.metadata(self._trainer, is_best)
    saved_model.save_policy(self._trainer.learner, path, about)

  def _file(self, name: str) -> str:
    return os.path.join(self.path, name)

  def _write(self, name: str, text: str) -> None:
    def write(path: str) -> None:
      with open(path, "w", encoding="utf-8") as file:
        file.write(text)

    self._replace(name, write)

  def _replace(self, name: str, write: Callable[[str], object]) -> None:
    """Writes beside the old file or folder first, so that a kill leaves one of the two whole."""
    new, old = self._file("." + name), self._file(".old-" + name)
    shutil.rmtree(new, ignore_errors=True)
    write(new)
    if os.path.isdir(self._file(name)):  # only files are replaced in one step
      shutil.rmtree(old, ignore_errors=True)
      os.rename(self._file(name), old)
    os.replace(new, self._file(name))
    shutil.rmtree(old, ignore_errors=True)

  def _check_config(self, operative: str) -> None:
    saved = read_gin_file(self._file("operative_config.gin"))
    changed = config.differences(saved, operative)
    if changed:
      raise ConfigError(
        f"{self.path!r} holds a run of another config (- its own, + yours):\n"
        + "\n".join(changed)
        + f"\nGive another --run_dir, or to resume it its own config; its code was of "
        f"{version.describe(self.path)}."
      )

  def _drop_later_rows(self, env_steps: int) -> None:
    if not os.path.isfile(self._file("metrics.csv")):
      return
    with open(self._file("metrics.csv"), newline="") as file:
      lines = list(csv.reader(file))
    if not self.resumed:
      if len(lines) > 2:  # a kill before the first checkpoint leaves one row at the most
        raise ConfigError(
          f"{self.path!r} has the metrics of a run but no checkpoint to resume: give another "
          "--run_dir."
        )
      os.remove(self._file("metrics.csv"))
      return
    self._header, rows = lines[0], lines[1:]
    column = self._header.index("env_steps")
    # A row cut short by a kill is a later row too.
    kept = [r for r in rows if len(r) == len(self._header) and int(r[column]) <= env_steps]
    if kept:
      self._seconds_before = float(kept[-1][self._header.index("seconds/total")])

    def write(path: str) -> None:
      with open(path, "w", newline="") as file:
        csv.writer(file).writerows([self._header, *kept])

    self._replace("metrics.csv", write)


def _drop_later_events(path: str, env_steps: int) -> None:
  """Rewrites the event files without what came after `env_steps`, and without cut-off tails."""
  for name in glob.glob(os.path.join(glob.escape(path), "events.out.tfevents.*")):
    kept = []
    try:
      for record in tf.data.TFRecordDataset(name).as_numpy_iterator():
        if tf.compat.v1.Event.FromString(record).step <= env_steps:
          kept.append(record)
    except tf.errors.DataLossError:
      pass  # cut off in mid-write by a kill
    new = os.path.join(path, ".events")
    with tf.io.TFRecordWriter(new) as writer:
      for record in kept:
        writer.write(record)
    os.replace(new, name)
