"""Where a run is saved and may end: at pauses, which are seconds apart."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

SAVE_EVERY = 20.0  # seconds, so much is lost at the most
# Of a terminal, a scheduler, and a pipe whose reader has gone.
SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE
# These come twice where a terminal is closed. Of the others, a second one stops at once.
_REPEATED = signal.SIGHUP, signal.SIGPIPE


class Stopped(Exception):
  """The run is saved, and a signal asked for its end."""


class Pauses:
  """Notes the first signal while it is entered, and is called at each pause.

  Attributes:
    signal: its number; None before.
  """

  def __init__(self, save: Callable[[], None]):
    """Takes what writes a checkpoint."""
    self._save = save
    self.signal: int | None = None
    self._saved = self._last = time.monotonic()

  def __enter__(self) -> "Pauses":
    main = threading.current_thread() is threading.main_thread()  # no other may handle signals
    self._before = {s: signal.getsignal(s) for s in SIGNALS if main}
    for number, handler in self._before.items():
      # What was told to ignore the end of its terminal, by nohup, does. Python ignores SIGPIPE.
      if handler is not signal.SIG_IGN or number == signal.SIGPIPE:
        signal.signal(number, self._note)
    return self

  def __exit__(self, *_: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def __call__(self) -> None:
    """Saves, where the next pause might be too late or a signal came.

    Raises:
      Stopped: after a signal.
    """
    now = time.monotonic()
    until_next, self._last = now - self._last, now
    if self.signal is not None or now + until_next - self._saved > SAVE_EVERY:
      self._save()
      self.saved()
    if self.signal is not None:
      raise Stopped

  def saved(self) -> None:
    """Notes that there is a checkpoint of now."""
    self._saved = self._last = time.monotonic()

  def _note(self, number: int, frame: FrameType | None) -> None:
    del frame
    self.signal = number
    for other in SIGNALS:
      signal.signal(other, signal.SIG_IGN if other in _REPEATED else self._before[other])
    with contextlib.suppress(OSError):  # where the terminal has gone
      # Not through a buffered stream: it may be in mid-write.
      os.write(2, b"\nSaving at the next pause, in seconds; once more stops at once.\n")
