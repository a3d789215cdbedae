"""How far a run is: a bar in a terminal, lines in a log file or notebook."""

import sys
import threading
import time

import tqdm

LINE_EVERY, BAR_EVERY = 25.0, 1.0  # seconds


class Progress:
  """Shows what a run is doing, the share that is done, and the time left, while it is entered.

  A thread prints: a single call, such as one that compiles, may take longer than `LINE_EVERY`.
  """

  def __init__(self, total: int, done: int = 0):
    """Shows nothing yet.

    Args:
      total: the work of the run, in iterations' updates.
      done: what of it was done before.
    """
    self._total, self._before, self._done = total, done, float(done)
    self._start = self._phase_start = time.monotonic()
    self._phase, self._share = "", 0.0
    self._over = threading.Event()
    self._thread = threading.Thread(target=self._show_again, daemon=True)
    self._bar = tqdm.tqdm(
      total=total,
      initial=done,
      bar_format="{desc}: {percentage:.0f} % of the run|{bar}| [{elapsed}<{remaining}]",
      disable=None,  # where the output is not a terminal
    )

  def __enter__(self) -> "Progress":
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._over.set()
    self._thread.join()
    self._bar.close()

  def __call__(self, phase: str, share: float, work: float = 0.0) -> None:
    """Notes what was done since the last call: `share` of the phase and `work` of the total."""
    if phase != self._phase:
      self._phase, self._share, self._phase_start = phase, 0.0, time.monotonic()
    self._share += share
    self._done += work
    self._bar.update(work)

  def write(self, line: str) -> None:
    """Prints a line, above the bar."""
    tqdm.tqdm.write(line)
    sys.stdout.flush()

  def line(self) -> str:
    """The phase, and the run, as they are now."""
    now = time.monotonic()
    phase = self._phase + _done_and_left(self._share, self._share, now - self._phase_start)
    made, all_of_it = self._done - self._before, max(1, self._total - self._before)
    run = _done_and_left(self._done / self._total, made / all_of_it, now - self._start)
    return f"{phase}; the run{run or ': 0 %'}"

  def _show_again(self) -> None:
    while not self._over.wait(LINE_EVERY if self._bar.disable else BAR_EVERY):
      if self._bar.disable:
        self.write(self.line())
      else:
        self._bar.set_description_str(f"{self._phase} {self._share:.0%}")


def _done_and_left(done: float, since: float, seconds: float) -> str:
  """ ": 40 %, 01:30 left", where the share `since` took `seconds`; nothing where it is none."""
  if since <= 0.0:
    return ""
  left = max(0.0, seconds * (1.0 - since) / since)
  return f": {done:.0%}, {tqdm.tqdm.format_interval(left)} left".replace("%", " %")
