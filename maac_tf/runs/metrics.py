"""The rows of a run: metrics.csv and TensorBoard's events."""

import contextlib
import csv
import glob
import io
import os
import textwrap
import time
from collections.abc import Mapping

import tensorflow as tf
from google.protobuf.message import DecodeError

from maac_tf import files
from maac_tf.checks import ConfigError

FILE = "metrics.csv"


class Metrics:
  """Appends rows to both.

  Attributes:
    text: of metrics.csv.
  """

  def __init__(self, run_dir: str, text: str, first_steps: int):
    """Writes metrics.csv as it was, and drops later events.

    Args:
      run_dir: the folder of the run.
      text: of metrics.csv as of the checkpoint; "" where there is none.
      first_steps: environment steps of the last event where there are no rows; -1: keep none.
    """
    self._path, self.text = os.path.join(run_dir, FILE), text
    rows = list(csv.DictReader(io.StringIO(text)))
    self._header = list(rows[0]) if rows else []
    try:
      self._seconds_before = float(rows[-1]["seconds/total"]) if rows else 0.0
      last_steps = int(rows[-1]["env_steps"]) if rows else first_steps
    except (LookupError, TypeError, ValueError) as error:
      raise ConfigError(f"The rows that a checkpoint has of {self._path!r} are none.") from error
    _drop_later_events(run_dir, last_steps)
    self._start = time.perf_counter()
    self._events = tf.summary.create_file_writer(run_dir)

  def log(self, row: Mapping[str, float | None]) -> None:
    """Appends a row to both; None is an empty cell."""
    seconds = self._seconds_before + time.perf_counter() - self._start
    row = {**row, "seconds/total": seconds}  # checkpoints and earlier sessions included
    lines = io.StringIO(newline="")
    writer = csv.writer(lines)
    if not self._header:
      self._header = list(row)
      writer.writerow(self._header)
    writer.writerow(["" if row[name] is None else row[name] for name in self._header])
    self.text += lines.getvalue()
    with files.using(self._path), open(self._path, "a", newline="") as file:
      file.write(lines.getvalue())
      file.flush()
      os.fsync(file.fileno())
    self.log_events(row)

  def log_events(self, row: Mapping[str, float | None]) -> None:
    """Appends to the events alone."""
    folder = os.path.dirname(self._path)
    with files.using(folder), self._events.as_default(step=row["env_steps"]):
      for name, value in row.items():
        if value is not None and name != "env_steps":
          tf.summary.scalar(name, value)
      self._events.flush()

  def log_text(self, name: str, text: str) -> None:
    """Into the events, as of step 0."""
    with self._events.as_default(step=0):
      tf.summary.text(name, textwrap.indent(text, 4 * " "))  # indented it is code
    self._events.flush()

  def close(self) -> None:
    with contextlib.suppress(tf.errors.OpError):  # of a full disk
      self._events.close()


def _drop_later_events(path: str, env_steps: int) -> None:
  """Rewrites the event files without what came after `env_steps`, and without cut-off tails."""
  for name in glob.glob(os.path.join(glob.escape(path), "events.out.tfevents.*")):
    kept = []
    try:
      for record in tf.data.TFRecordDataset(name).as_numpy_iterator():
        if tf.compat.v1.Event.FromString(record).step <= env_steps:
          kept.append(record)
    except (tf.errors.DataLossError, DecodeError):
      pass  # cut off in mid-write by a kill
    new = os.path.join(path, ".events")
    with tf.io.TFRecordWriter(new) as writer:
      for record in kept:
        writer.write(record)
    os.replace(new, name)
