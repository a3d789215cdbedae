"""The memory that is free, and what is refused as it does not fit."""

import contextlib
import pathlib
import re

from maac_tf.checks import require

GIB = 2**30
_CONTAINER = pathlib.Path("/sys/fs/cgroup")


def free_memory() -> int:
  """Bytes that this process can still have, of the machine and of its container (cgroup v2)."""
  free = 1024 * _number("MemAvailable:", pathlib.Path("/proc/meminfo"))
  with contextlib.suppress(OSError, ValueError):  # there is none, or without a limit
    limit, used = (int((_CONTAINER / f"memory.{name}").read_text()) for name in ("max", "current"))
    cache = _number("inactive_file", _CONTAINER / "memory.stat")
    free = min(free, limit - used + cache)
  return free


def require_memory(rows: int, row_bytes: int, option: str) -> None:
  """Raises ValueError where so many rows, of which `option` is the number, do not fit."""
  free, needed = free_memory(), rows * row_bytes
  require(
    needed <= free,
    f"{option} asks for a buffer of {rows:,} transitions, {needed / GIB:,.1f} GiB, of which "
    f"{free / GIB:.1f} GiB of memory are free: set it lower ({free // row_bytes:,} transitions "
    "fit), or end other programs.",
  )


def _number(name: str, file: pathlib.Path) -> int:
  found = re.search(rf"^{name}\s+(\d+)", file.read_text(), re.MULTILINE)
  if not found:
    raise ValueError(f"{file} does not say {name!r}")
  return int(found[1])
