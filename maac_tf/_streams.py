"""Standard streams that take whatever is printed, so that no print ends a training of hours.

- A stream that is closed (`>&-`) becomes the null device. Else the next file that is opened, such
  as a checkpoint, would get its number, and what libraries write to stderr would land in it.
- What an encoding such as ASCII does not have, such as ±, is written as an escape.
- Lines appear as they are printed: progress is seen in a log file, too.
- What a full disk does not take is dropped. So is what nobody reads any more, of a pipe or of a
  terminal that has gone; then the signal SIGPIPE is raised, which Python ignores and a training
  takes for the end.
"""

import errno
import io
import os
import signal
import sys
from typing import Any


class _Output(io.FileIO):
  """The file under a stream."""

  def write(self, data: Any) -> int:
    try:
      return super().write(data)
    except OSError as error:
      if error.errno in (errno.EPIPE, errno.EIO):
        signal.raise_signal(signal.SIGPIPE)
      elif error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise
      return memoryview(data).nbytes


def to_file(number: int, encoding: str) -> io.TextIOWrapper:
  """A stream that takes everything, onto an open file of that number, which it leaves open."""
  file = io.BufferedWriter(_Output(number, "w", closefd=False))
  return io.TextIOWrapper(file, encoding, errors="backslashreplace", line_buffering=True)


def prepare() -> None:
  """Prepares stdin, stdout and stderr of this process."""
  for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
    if getattr(sys, name) is None:  # as Python leaves one that was closed
      try:
        os.fstat(number)  # something else has the number by now
      except OSError:
        os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
        os.set_inheritable(number, True)
      setattr(sys, name, open(os.devnull, mode))
  for name in ("stdout", "stderr"):
    stream = getattr(sys, name)
    if isinstance(stream, io.TextIOWrapper):  # and not a notebook's
      stream.reconfigure(line_buffering=True, errors="backslashreplace")
      if stream is getattr(sys, f"__{name}__"):  # and nobody else's file
        made = to_file(stream.fileno(), stream.encoding)
        setattr(sys, name, made)
        setattr(sys, f"__{name}__", made)
