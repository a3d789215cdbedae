"""The real steps of a run, in an append-only file from the moment each is taken.

The file is a line of JSON, which says what a row is, and the rows. NumPy reads it:

    with open("runs/first/steps.bin", "rb") as file:
      fields = [(name, kind, tuple(shape)) for name, kind, shape in json.loads(file.readline())]
      steps = np.fromfile(file, np.dtype(fields))

Then `steps["observation"]` is [N, S], in the order in which the steps were taken.
"""

import contextlib
import json
import os
import threading
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from maac_tf import files
from maac_tf.data.types import Transition

SYNC_EVERY = 10.0  # seconds from a step to the disk, at the most
ROWS_AT_ONCE = 10_000


def row_type(observation_size: int, action_size: int, environments: int = 1) -> np.dtype:
  """A row: the fields of `Transition`, then `first` and `checksum`; of several environments, before
  that `environment`, the number of the one that took the step.

  `first` is 1 where the step does not go on from that of the row before, as that of a new episode;
  of several environments, from that of the same one's row before.
  `checksum` is the CRC-32 of what is before it in the row, which begins with that of the last row.
  """
  state, action = (observation_size,), (action_size,)
  shapes = Transition(state, action, (), state, ())._asdict() | {"first": ()}
  if environments > 1:
    shapes["environment"] = ()
  fields = [(name, "<f4", shape) for name, shape in shapes.items()]
  return np.dtype([*fields, ("checksum", "<u4", ())])


class DamagedError(Exception):
  """What a run wrote is not as it was written; the message says which file."""


def is_of_several(path: str) -> bool:
  """Whether several environments took the steps in a file."""
  with open(path, "rb") as file:
    return b'"environment"' in file.readline()


class StepLog:
  """The file, open for reading, and for more rows once `begin` was called.

  Attributes:
    rows: how many whole ones there are.
    checksum: of all of them, which is that of the last; of what `begin` left.
  """

  def __init__(self, path: str, observation_size: int, action_size: int, environments: int = 1):
    """Reads its size; a file that is not there has no rows.

    Args:
      environments: how many take the steps.

    Raises:
      DamagedError: for a file that does not begin as it should.
    """
    self.path, self.rows, self.checksum = path, 0, 0
    self._environments = environments
    self._type = row_type(observation_size, action_size, environments)
    fields = [(n, self._type[n].base.str, self._type[n].shape) for n in self._type.names or ()]
    self._header = json.dumps(fields).encode() + b"\n"
    # A row to write, and views of its parts, made once: a step of a simulator takes microseconds.
    row = np.zeros(1, self._type)
    self._fields = [row[n].reshape(-1) for n in self._type.names or () if n != "checksum"]
    self._stored_checksum, self._bytes = row["checksum"], row.view(np.uint8).data
    self._payload = self._bytes[:-4]
    self._file = -1
    self._over, self._unsynced = threading.Event(), False
    self._thread = threading.Thread(target=self._sync_again, daemon=True)
    if os.path.exists(path) and os.path.getsize(path) > len(self._header):
      with open(path, "rb") as file:
        if file.read(len(self._header)) != self._header:
          raise DamagedError(
            f"{path!r} does not begin as a log of steps with {observation_size} numbers of an "
            f"observation and {action_size} of an action does"
          )
      self.rows = (os.path.getsize(path) - len(self._header)) // self._type.itemsize

  def read(self, first: int, end: int) -> Iterator[Transition]:
    """Rows `first` to `end`, some at a time: [N, ...] each."""
    for rows in self.read_rows(first, end):
      yield Transition(*(rows[name] for name in Transition._fields))

  def read_rows(self, first: int, end: int) -> Iterator[np.ndarray]:
    """The same as rows of `row_type`."""
    if first >= end:
      return
    with open(self.path, "rb") as file:
      file.seek(len(self._header) + first * self._type.itemsize)
      for start in range(first, end, ROWS_AT_ONCE):
        yield np.fromfile(file, self._type, min(ROWS_AT_ONCE, end - start))

  def checksum_of(self, rows: int) -> int | None:
    """Of the first so many rows; None if there are fewer."""
    if rows > self.rows:
      return None
    checksum = 0
    for part in self.read_rows(0, rows):
      checksum = zlib.crc32(_payload(part).data, checksum)
    return checksum

  def whole(self, rows: int, checksum: int) -> tuple[int, int]:
    """The first `rows`, which have this checksum, and those after them up to one that is damaged.

    Returns:
      How many they are in all, and their checksum.
    """
    for part in self.read_rows(rows, self.rows):
      for payload, stored in zip(_payload(part), part["checksum"].tolist(), strict=True):
        if zlib.crc32(payload, checksum) != stored:
          return rows, checksum
        rows, checksum = rows + 1, stored
    return rows, checksum

  def begin(self, rows: int, checksum: int, aside: str) -> None:
    """Goes on after so many rows with this checksum; those after them are moved to a file `aside`.

    Raises:
      OSError: when the file cannot be written.
    """
    if self.rows > rows:
      moved = np.concatenate(list(self.read_rows(rows, self.rows)))
      moved["first"][: self._environments] = 1.0
      with open(aside, "ab") as file:
        file.write(moved.tobytes() if file.tell() else self._header + moved.tobytes())
        file.flush()
        os.fsync(file.fileno())
    self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    size = len(self._header) + rows * self._type.itemsize
    os.ftruncate(self._file, size if rows else 0)  # also what a kill cut short
    if not rows:
      self._write(self._header)
    self.rows, self.checksum = rows, checksum
    self.sync()
    self._thread.start()

  def append(self, step: Sequence[np.ndarray | float], first: bool, environment: int = 0) -> None:
    """Gives a step to the operating system.

    Args:
      step: the values of a `Transition`.
      first: whether it does not go on from the environment's last one.
      environment: the number of the one that took it.

    Raises:
      ConfigError: when it cannot be written.
    """
    # Of a single environment, there is no field for its number.
    for field, value in zip(self._fields, (*step, first, environment), strict=False):
      field[:] = value
    self._stored_checksum[0] = zlib.crc32(self._payload, self.checksum)
    with files.using(self.path):
      self._write(self._bytes)
    self.checksum = int(self._stored_checksum[0])
    self.rows, self._unsynced = self.rows + 1, True

  def sync(self) -> None:
    """Waits until all rows are on the disk."""
    self._unsynced = False
    os.fsync(self._file)

  def close(self) -> None:
    if self._file >= 0:
      self._over.set()
      self._thread.join()
      with contextlib.suppress(OSError):  # a checkpoint has synced what it needs
        self.sync()
      os.close(self._file)
      self._file = -1

  def _write(self, data: bytes | memoryview) -> None:
    while data:  # a full disk takes a part
      data = data[os.write(self._file, data) :]

  def _sync_again(self) -> None:
    while not self._over.wait(SYNC_EVERY):
      if self._unsynced:
        with contextlib.suppress(OSError):  # which a checkpoint's will raise
          self.sync()


def _payload(rows: np.ndarray) -> np.ndarray:
  """All but the checksums, [N, bytes]."""
  return np.ascontiguousarray(rows.view(np.uint8).reshape(len(rows), -1)[:, :-4])
