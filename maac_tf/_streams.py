"""Standard streams that take whatever is printed, so that no print ends a training of hours.

- A stream that is closed (`>&-`) becomes the null device. Else the next file that is opened, such
  as a checkpoint, would get its number, and what libraries write to stderr would land in it.
- What an encoding such as ASCII does not have, such as ±, is written as an escape.
- Lines appear as they are printed: progress is seen in a log file, too.
- Where the reader of a pipe, or a terminal, has gone, `reader_may_be_gone` raises a signal instead.
"""

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator


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
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):  # and not a notebook's
      stream.reconfigure(line_buffering=True, errors="backslashreplace")


@contextlib.contextmanager
def reader_may_be_gone() -> Iterator[None]:
  """Prints nothing more, and raises SIGPIPE, which Python ignores, where nobody reads any more."""
  try:
    yield
  except OSError as error:
    if error.errno not in (errno.EPIPE, errno.EIO):
      raise
    for stream in (sys.stdout, sys.stderr):
      try:
        stream.flush()
      except OSError:  # this one: what it still holds goes nowhere, too
        with open(os.devnull, "w") as nowhere:
          os.dup2(nowhere.fileno(), stream.fileno())
    signal.raise_signal(signal.SIGPIPE)
