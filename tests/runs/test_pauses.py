"""When a run is saved, and what ends it."""

import os
import signal
import sys

import pytest

from maac_tf import _streams
from maac_tf.runs import pauses
from maac_tf.runs.pauses import Pauses, Stopped


class _Clock:
  def __init__(self, monkeypatch):
    self.now = 1_000.0
    monkeypatch.setattr(pauses.time, "monotonic", lambda: self.now)


@pytest.mark.parametrize("gap", [0.1, 3.0, 7.0, 12.0, 30.0])
def test_there_is_a_checkpoint_every_twenty_seconds(monkeypatch, gap):
  """Or at each pause, where they are further apart."""
  clock, saved = _Clock(monkeypatch), [1_000.0]
  now = Pauses(lambda: saved.append(clock.now))
  for _ in range(int(300 / gap)):
    clock.now += gap
    now()
  apart = [b - a for a, b in zip(saved, saved[1:], strict=False)]
  assert max(apart) <= max(20.0, gap) + 1e-6
  assert min(apart[1:]) > min(20.0 - 2 * gap, gap) - 1e-6 and len(saved) > 9


def test_a_checkpoint_of_an_iterations_end_counts(monkeypatch):
  clock, saved = _Clock(monkeypatch), []
  now = Pauses(lambda: saved.append(clock.now))
  for _ in range(50):
    clock.now += 8.0
    now()
    now.saved()
  assert saved == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_saves_at_the_next_pause_and_a_second_one_is_not_held_up(number, capfd):
  saved, before = [], {s: signal.getsignal(s) for s in pauses.SIGNALS}
  with pytest.raises(Stopped), Pauses(lambda: saved.append(1)) as now:
    now()
    assert not saved
    signal.raise_signal(number)
    assert now.signal == number and not saved
    # A terminal that is closed sends two.
    want = signal.SIG_IGN if number == signal.SIGHUP else before[number]
    assert signal.getsignal(number) == want
    assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]
    now()
  assert saved == [1]
  assert "once more stops at once" in capfd.readouterr().err
  assert {s: signal.getsignal(s) for s in pauses.SIGNALS} == before


def test_nohup_is_obeyed():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with Pauses(lambda: None) as now:
      signal.raise_signal(signal.SIGHUP)
      assert now.signal is None
  finally:
    signal.signal(signal.SIGHUP, before)


def test_a_pipe_that_nobody_reads_any_more_is_such_a_signal(monkeypatch):
  reading, writing = os.pipe()
  os.close(reading)
  pipe = _streams.to_file(writing, "ascii")
  monkeypatch.setattr(sys, "stdout", pipe)
  with Pauses(lambda: None) as now:
    for _ in range(3):
      print("a line of a progress report")
    assert now.signal == signal.SIGPIPE
  print("one more")  # which Python's own way of handling the signal lets be
  pipe.close()
  os.close(writing)


def test_a_terminal_that_is_gone_is_one_too(monkeypatch):
  terminal, ours = os.openpty()
  os.close(terminal)
  monkeypatch.setattr(sys, "stdout", _streams.to_file(ours, "utf-8"))
  with Pauses(lambda: None) as now:
    print("a line")
  assert now.signal == signal.SIGPIPE


def test_what_a_full_disk_does_not_take_is_dropped():
  full = os.open("/dev/full", os.O_WRONLY)
  with Pauses(lambda: None) as now, _streams.to_file(full, "utf-8") as stream:
    print("±" * 100_000, file=stream)
  assert now.signal is None
  os.close(full)
