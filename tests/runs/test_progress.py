"""What is seen of a run as it goes on."""

import io
import re
import sys
import threading

import gin
import pytest

from maac_tf.algorithm import evaluator
from maac_tf.runs import progress as progress_module
from maac_tf.runs.experiment import build_trainer, train
from maac_tf.runs.progress import Progress
from tests.conftest import BARE
from tests.learners import eagerly


@pytest.fixture
def clock(monkeypatch):
  """Seconds that a test sets."""
  now = [0.0]
  monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
  return now


def test_a_line_says_phase_share_and_time_left(clock):
  progress = Progress(total=10)
  progress("random steps", 0.25)
  clock[0] = 30.0
  progress("random steps", 0.25)
  assert progress.line() == "random steps: 50 %, 00:30 left; the run: 0 %"
  progress("evaluation", 0.0)
  assert progress.line() == "evaluation; the run: 0 %"
  clock[0] = 40.0
  progress("updates", 0.0)
  assert progress.line() == "updates; the run: 0 %"
  for _ in range(2):  # which compile, and so tell nothing of the rest
    clock[0] += 500.0
    progress("updates", 0.1, work=0.5)
  assert progress.line() == "updates: 20 %; the run: 10 %"
  for _ in range(2):
    clock[0] += 30.0
    progress("updates", 0.1, work=0.5)
  # 1 of 10 in 60 s; of 5 in this phase.
  assert progress.line() == "updates: 40 %, 03:00 left; the run: 20 %, 08:00 left"


def test_a_resumed_run_takes_the_time_of_its_own_work(clock):
  progress = Progress(total=10, done=6)
  for _ in range(4):
    clock[0] += 10.0
    progress("iteration 7", 0.25, work=0.25)
  assert progress.line() == "iteration 7: 100 %, 00:00 left; the run: 70 %, 02:00 left"


def test_a_log_file_gets_lines_while_nothing_is_told(monkeypatch):
  """Though one call takes long, and its output is no terminal."""
  monkeypatch.setattr(progress_module, "LINE_EVERY", 1e-3)
  lines, enough = [], threading.Event()

  def write(self, line):
    lines.append(line)
    if len(lines) == 3:
      enough.set()

  monkeypatch.setattr(Progress, "write", write)
  progress = Progress(total=4)
  progress("compiling", 0.0)
  with progress:
    assert enough.wait(60)
  count = len(lines)
  assert lines[-1] == "compiling; the run: 0 %"
  assert not progress._thread.is_alive() and len(lines) == count


class _Terminal(io.StringIO):
  """That notes when the bar shows something."""

  def __init__(self, text):
    super().__init__()
    self.text, self.shown = text, threading.Event()

  def isatty(self):
    return True

  def write(self, text):
    if self.text in text:
      self.shown.set()
    return super().write(text)


def test_a_terminal_gets_a_bar_with_the_phase_and_no_lines(monkeypatch, capsys):
  monkeypatch.setattr(progress_module, "BAR_EVERY", 1e-3)
  terminal = _Terminal("updates 50%")
  monkeypatch.setattr(sys, "stderr", terminal)
  with Progress(total=4) as progress:
    progress("updates", 0.5, work=1.0)
    assert terminal.shown.wait(60)
  assert "updates 50%: 25 % of the run|" in terminal.getvalue()
  assert capsys.readouterr().out == ""


def test_the_trainer_tells_each_phase_from_its_start_to_its_end(tiny):
  gin.parse_config("Trainer.initial_updates = 30")  # of 20 an iteration
  gin.parse_config("Trainer.rollout_schedule = (1, 1, 0, 1)")
  trainer, told = build_trainer("pendulum"), []
  trainer.learner.train = lambda number, seed: {}
  trainer.learning.fit = lambda now, pause: {}
  with eagerly():
    for _ in range(2):
      trainer.run_iteration(lambda *call, **work: told.append((*call, *work.values())))
  phases = list(dict.fromkeys(phase for phase, *_ in told))
  assert phases == [
    "random steps", "evaluation", "updates before the policy acts", "iteration 1", "iteration 2",
  ]  # fmt: skip
  for phase in phases:
    share = sum(call[1] for call in told if call[0] == phase)
    work = sum(call[2] for call in told if call[0] == phase and len(call) > 2)
    assert share == pytest.approx(float(phase != "evaluation")), phase
    assert work == pytest.approx({"updates": 2, "iterati": 1}.get(phase[:7], 0)), phase
  assert trainer.initial_iterations == 2


def test_the_first_line_of_a_run_is_of_the_policy_that_learned_nothing(
  tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(evaluator, "BEST_EVALUATION_EPISODES", 1)
  gin.parse_config([*BARE, "Trainer.initial_updates = 1"])
  with eagerly():
    train(str(tmp_path / "run"), iterations=1)
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if " steps  " in line]  # on a slow machine, others
    assert re.fullmatch(r" +300 steps  return -.* ± .*  \(before the first update\)", lines[0])
    assert re.match(r" +340 steps  return -", lines[1])
    train(str(tmp_path / "run"), iterations=2)
  assert "first update" not in capsys.readouterr().out  # of a run that goes on
