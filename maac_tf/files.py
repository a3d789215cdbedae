"""Paths of this machine, and what its file systems raise as one line."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator

import tensorflow as tf

from maac_tf.checks import ConfigError

_HINTS = {
  **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room there"),
  **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "change that, or give another path"),
}


def local(path: str | os.PathLike[str]) -> str:
  """The path, with ~ for the home folder, and without a file:// before it.

  Raises:
    ConfigError: for one of another scheme, such as gs://.
  """
  path = os.fspath(path)
  scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", path)
  if scheme and scheme[1].lower() != "file":
    raise ConfigError(
      f"{path!r} is not of this machine: give a local path, and copy it there or from there."
    )
  if scheme:
    path = re.sub("^localhost(?=/)", "", path[scheme.end() :])
  return os.path.expanduser(path)


@contextlib.contextmanager
def using(path: str, done: str = "written") -> Iterator[None]:
  """Turns what a file system raises into a ConfigError: `path` cannot be `done`."""
  try:
    yield
  except (OSError, tf.errors.OpError) as error:
    raise ConfigError(f"{path!r} cannot be {done}: {reason(error)}.") from error


@contextlib.contextmanager
def creating(path: str) -> Iterator[None]:
  """As `using`; of a file or folder that is not whole nothing stays."""
  try:
    with using(path):
      yield
  except BaseException:
    if os.path.isdir(path) and not os.path.islink(path):
      shutil.rmtree(path, ignore_errors=True)
    else:
      with contextlib.suppress(OSError):
        os.remove(path)
    raise


def reason(error: Exception) -> str:
  """What the operating system said, and what to do; TensorFlow and shutil put more around it."""
  number = getattr(error, "errno", None) or _number_in(str(error))
  if number:
    return ": ".join(filter(None, (os.strerror(number), _HINTS.get(number))))
  line = str(error).strip().partition("\n")[0]
  return re.sub(r"^\{\{.*?\}\} *| *\[Op:\w+\]", "", line).rstrip(".")


def _number_in(text: str) -> int | None:
  found = re.search(r"\[Errno (\d+)\]", text)
  if found:
    return int(found[1])
  for number in (*_HINTS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO):
    if f"; {os.strerror(number)}" in text:
      return number
  return None
