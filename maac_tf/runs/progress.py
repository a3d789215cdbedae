"""How far a run is: a bar in a terminal, lines in a log file or notebook."""

import sys
import threading
import time

import tqdm

LINE_EVERY, BAR_EVERY = 25.0, 1.0  # seconds
# The first fit and the first updates compile what later ones only run: no time is told from theirs.
COMPILING_CALLS = 2


class Progress:
  """Shows what a run is doing, the share that is done, and the time left, while it is entered.

  A thread prints: a single call, such as one that compiles, may take longer than `LINE_EVERY`.
  """

  def __init__(self, total: int, done: int = 0, show: bool = True):
    """Shows nothing yet.

    Args:
      total: the work of the run, in iterations' updates.
      done: what of it was done before.
      show: False: nothing is ever printed.
    """
    self._show = show
    self._total, self._done = total, done / total
    self._phase, self._share = "starting", 0.0
    self._calls = 0  # that did some work
    # When, and at which share, the times that are extrapolated begin.
    self._phase_from = self._run_from = time.monotonic(), self._done
    self._over = threading.Event()
    self._thread = threading.Thread(target=self._show_again, daemon=True)
    self._bar = tqdm.tqdm(
      total=total,
      initial=done,
      bar_format="{desc}: {percentage:.0f} % of the run|{bar}| [{elapsed}<{remaining}]",
      disable=None if show else True,  # None: where the output is not a terminal
    )

  def __enter__(self) -> "Progress":
    if self._show:
      self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._over.set()
    if self._show:
      self._thread.join()
    self._bar.close()

  def __call__(self, phase: str, share: float, work: float = 0.0) -> None:
    """Notes what was done since the last call: `share` of the phase and `work` of the total."""
    if phase != self._phase:
      self._phase, self._share, self._phase_from = phase, 0.0, (time.monotonic(), 0.0)
    self._share += share
    self._done += work / self._total
    self._bar.update(work)
    self._calls += work > 0.0
    if work and self._calls <= COMPILING_CALLS:
      now = time.monotonic()
      self._phase_from, self._run_from = (now, self._share), (now, self._done)

  def write(self, line: str) -> None:
    """Prints a line, above the bar."""
    if not self._show:
      return
    tqdm.tqdm.write(line)
    sys.stdout.flush()

  def line(self) -> str:
    """The phase, and the run, as they are now."""
    phase = _done_and_left(self._share, *self._phase_from) if self._share else ""
    return f"{self._phase}{phase}; the run{_done_and_left(self._done, *self._run_from)}"

  def _show_again(self) -> None:
    while not self._over.wait(LINE_EVERY if self._bar.disable else BAR_EVERY):
      if self._bar.disable:
        self.write(self.line())
      else:
        self._bar.set_description_str(f"{self._phase} {self._share:.0%}")


def _done_and_left(share: float, start: float, share_then: float) -> str:
  """ ": 40 %, 01:30 left"; without the time where nothing was done since the start."""
  text = f": {100 * share:.0f} %"
  if share > share_then:
    seconds = (time.monotonic() - start) * (1.0 - share) / (share - share_then)
    text += f", {tqdm.tqdm.format_interval(max(0, round(seconds)))} left"
  return text
