"""What a run leaves behind: config, version, real steps, metrics, checkpoints, policy, curve."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence

import filelock
import gin

from maac_tf import files
from maac_tf.algorithm.trainer import Trainer
from maac_tf.checks import ConfigError
from maac_tf.data.step_log import DamagedError, StepLog
from maac_tf.runs import (
  checkpoints,
  config,
  exports,
  metrics,
  plotting,
  saved_config,
  saved_model,
  sealed,
  trust,
  version,
)
from maac_tf.runs.datasets import STEPS, Dataset
from maac_tf.runs.metrics import Metrics

UNUSED_STEPS = "unused_steps.bin"
_PATTERN_CHARACTERS = "*?[\\"
_CONFIG, _OPERATIVE_CONFIG = checkpoints.CONFIGS
_BEFORE_CONFIG = {version.FILE, _OPERATIVE_CONFIG}  # a start that was cut short may leave these


def restore(trainer: Trainer, path: str) -> None:
  """Gives `trainer` what the newest checkpoint of the run in `path` has; the run stays as it is.

  Raises:
    ConfigError: when there is none that is whole and fits.
  """
  with files.using(path, "read"):
    log = _open_log(path, trainer)
    found = _find(path, log)[0]
    if not found:
      raise ConfigError(f"There is no run with a checkpoint in {path!r}.")
    checkpoints.restore(trainer, found, log)


def has_checkpoint(path: str) -> bool:
  """Whether the run in `path` has come so far; it may be damaged."""
  return checkpoints.newest_state(os.path.join(path, checkpoints.FOLDER)) is not None


def _open_log(run_dir: str, trainer: Trainer) -> StepLog:
  learner, count = trainer.learner, trainer.collector.environments.count
  sizes = learner.observation_size, learner.action_size, count
  try:
    return StepLog(os.path.join(run_dir, STEPS), *sizes)
  except DamagedError as error:
    raise ConfigError(f"{error}: bring it back, or give another --run_dir.") from error


def _find(run_dir: str, log: StepLog) -> tuple[checkpoints.Checkpoint | None, Sequence[str]]:
  """The newest whole checkpoint, and the newer ones that are damaged, of which it warns."""
  saved_config.refuse_old(run_dir)
  found, damaged = checkpoints.find(os.path.join(run_dir, checkpoints.FOLDER), log)
  for path, reason in damaged.items():
    if not found:
      raise ConfigError(
        f"No checkpoint in {run_dir!r} is whole ({path}: {reason}): bring one back, or give "
        f"another --run_dir. The real steps are in {log.path!r}."
      )
    print(
      f"Warning: the checkpoint {path!r} is damaged ({reason}): the one before, of "
      f"{found.env_steps:,} of {log.rows:,} environment steps, is taken.",
      file=sys.stderr,
    )
  return found, list(damaged)


class RunDirectory:
  """A folder that holds one run, and resumes it where its newest checkpoint stands."""

  def __init__(self, path: str, trainer: Trainer, dataset: Dataset | None = None):
    """Creates the folder, or restores `trainer` from it.

    What was written after the checkpoint that is restored is dropped, so that the run goes on as
    if it had never stopped. Real steps are not: where a restored episode is not played again, they
    enter D_env; else they are kept in a file of their own.

    Args:
      path: of the folder.
      trainer: as it begins.
      dataset: what D_env has before the first step, if the run has not begun.

    Raises:
      ConfigError: when the folder holds a run of another config, or one that is damaged beyond its
        checkpoints, or something else, or cannot be written; or has a character in its path that
        TensorFlow takes for a pattern where it reads variables.
    """
    if set(path) & set(_PATTERN_CHARACTERS):
      raise ConfigError(
        f"TensorFlow would take {path!r} for a pattern of file names: give a --run_dir without any "
        f"of {' '.join(_PATTERN_CHARACTERS)}."
      )
    self.path, self._trainer = path, trainer
    self._lock = filelock.FileLock(self._file(".lock"))
    trust.check_folder(path)
    try:
      os.makedirs(path, exist_ok=True)
      others = {name for name in os.listdir(path) if name[0] != "."} - _BEFORE_CONFIG
      if others and not saved_config.find(path):
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
      with files.using(path, "read or written"):
        self._restore(dataset)
    except BaseException:
      self._lock.release()
      raise

  def _restore(self, dataset: Dataset | None) -> None:
    trainer, log = self._trainer, _open_log(self.path, self._trainer)
    found, damaged = _find(self.path, log)
    rows, checksum = (found.env_steps, found.checksum) if found else (0, 0)
    began, source = version.dataset_of(self.path), dataset and dataset.source
    if not found and (began or log.rows) and began != source:
      what = f"the dataset {began!r}" if began else "none"
      raise ConfigError(f"{self.path!r} began with {what}: give that, or another --run_dir.")
    if not trainer.collector.replay and (found or not began):
      rows, checksum = log.whole(rows, checksum)
    self.resumed = rows > 0
    operative = config.operative()
    if self.resumed:
      saved_config.check(self.path, operative)
    if found:
      checkpoints.restore(trainer, found, log)
    for path in damaged:
      checkpoints.set_aside(path)
    text = self._metrics_of(found)
    stored = trainer.learner.env_buffer.added
    if rows > stored:
      checkpoints.put(trainer, log, int(stored), rows)
      trainer.env_steps.assign_add(rows - stored)
      stored.assign(rows)
    if trainer.best.exists:  # a kill may have left a later one, or none
      with trainer.best.in_use():
        self._replace("policy", lambda path: self._save_policy(path, is_best=True))
    self._texts = {
      _CONFIG: sealed.seal(gin.config_str()),
      _OPERATIVE_CONFIG: sealed.seal(operative),
    }
    about = version.record(self.path, self.resumed)
    if dataset and not found:
      about["dataset"] = {"source": dataset.source, "steps": len(dataset.first)}
    self._write(version.FILE, json.dumps(about) + "\n")
    for name in (_OPERATIVE_CONFIG, _CONFIG):
      self._write(name, self._texts[name])
    first_steps = trainer.first_steps if trainer.under_way.begun else self.resumed - 1
    self.metrics = Metrics(self.path, text, first_steps)
    if not self.resumed:
      self.metrics.log_text("operative_config", operative)
    log.begin(rows, checksum, self._file(UNUSED_STEPS))
    self._log = trainer.collector.log = log
    self._exported = False
    if dataset and not found:
      for *step, first in zip(*dataset.steps, dataset.first, strict=True):
        log.append(step, first)
      self.save_checkpoint()  # from here on the run has them

  def close(self) -> None:
    """Lets another run go on in this folder."""
    self._log.close()
    self.metrics.close()
    self._lock.release()

  def save(self) -> None:
    """Writes the policy and the curve as they are now, then a checkpoint of everything.

    `policy_last` is of now, `policy` of the best evaluation so far.

    Raises:
      ConfigError: when they cannot be written.
    """
    with files.using(self.path):
      self._save()

  def _save(self) -> None:
    last = self._file("policy_last")
    # Graphs of this session: another version of the code, or of TensorFlow, has other ones.
    graphs = last if self._exported and os.path.isdir(last) else None
    best = self._trainer.best
    self._replace("policy_last", lambda path: self._save_policy(path, best.is_now, graphs))
    self._exported = True
    if best.is_now or not best.exists:
      self._replace("policy", lambda path: shutil.copytree(last, path))
    self._replace("curve.png", lambda path: plotting.plot_run(self._file(metrics.FILE), path))
    self.save_checkpoint()  # last: a kill before its end writes the others once more

  def save_checkpoint(self) -> None:
    """Of everything, from which a resumed run goes on; raises as `save`."""
    texts = self._texts | {metrics.FILE: self.metrics.text}
    with files.using(self.path):
      checkpoints.save(self._file(checkpoints.FOLDER), self._trainer, self._log, texts)

  def what_is_saved(self) -> str:
    """A sentence or two."""
    newest = checkpoints.newest_state(self._file(checkpoints.FOLDER))
    checkpoint = f"a checkpoint of {newest.env_steps:,} of them" if newest else "no checkpoint yet"
    return f"Saved are all {self._log.rows:,} real steps, in {self._log.path!r}, and {checkpoint}."

  def _save_policy(self, path: str, is_best: bool, graphs: str | None = None) -> None:
    about = exports.metadata(self._trainer, is_best)
    saved_model.save_policy(self._trainer.learner, path, about, graphs)

  def _file(self, name: str) -> str:
    return os.path.join(self.path, name)

  def _write(self, name: str, text: str) -> None:
    checkpoints.write_whole(self._file(name), text)

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

  def _metrics_of(self, found: checkpoints.Checkpoint | None) -> str:
    """Of the checkpoint; the file becomes it."""
    path, now = self._file(metrics.FILE), ""
    if os.path.exists(path):
      with open(path, encoding="utf-8", errors="replace", newline="") as file:
        now = file.read()
    if found:
      text = found.texts[metrics.FILE]
      if not now.startswith(text):
        kept = f"; it is now {checkpoints.set_aside(path)!r}" if os.path.exists(path) else ""
        print(
          f"Warning: {path!r} was not as the run wrote it{kept}. The checkpoint's copy is in its "
          "place.",
          file=sys.stderr,
        )
      self._write(metrics.FILE, text)
      return text
    if now.count("\n") > 2:  # a kill before the first checkpoint leaves one row at the most
      raise ConfigError(
        f"{self.path!r} has the metrics of a run but no checkpoint to resume: give another "
        "--run_dir."
      )
    if os.path.exists(path):
      os.remove(path)
    return ""
