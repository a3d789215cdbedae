"""What a training takes, against what it has written and what there is."""

import contextlib
import os
import re

import gin
import pytest

from maac_tf.checks import ConfigError
from maac_tf.data.step_log import StepLog
from maac_tf.runs import checkpoints, room
from maac_tf.runs.experiment import build_trainer, train
from tests.conftest import BARE
from tests.learners import eagerly


@pytest.fixture(scope="module")
def trainer():
  gin.parse_config([*BARE, "Maac.env_capacity = 100_000", "Trainer.rollout_starts = 4_000"])
  trainer = build_trainer("pendulum")
  with eagerly():
    trainer.collect(50, random=True)
    trainer.learning.imagine(0)
  gin.clear_config()
  return trainer


def test_a_checkpoint_is_as_large_as_said_and_has_no_capacity(trainer, tmp_path):
  with contextlib.closing(StepLog(str(tmp_path / "steps.bin"), 3, 1)) as log:
    log.begin(0, 0, "")
    checkpoints.save(str(tmp_path / "all"), trainer, log, {})
  written = sum(file.stat().st_size for file in (tmp_path / "all" / "1").iterdir())
  needed = room.of(trainer, 7)
  assert needed.checkpoint < written < needed.checkpoint + 60_000  # names, counters, checksums
  assert needed.env_buffer == 100_000 * 4 * (3 + 1 + 1 + 3 + 1) > 5 * written
  assert needed.model_buffer == 4_000 * 4 * (3 + 1 + 1 + 3 + 1)
  rows = (300 + 7 * 40) * 4 * (3 + 1 + 1 + 3 + 1 + 1 + 1)  # and `first`, and a checksum
  assert needed.disk == 3 * needed.checkpoint + rows
  assert needed.memory - needed.more == pytest.approx(_resident(), rel=0.1)


def _resident():
  with open("/proc/self/status") as file:
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])


def test_what_the_machine_does_not_have_is_refused(trainer, tmp_path, monkeypatch, capsys):
  room.check(trainer, str(tmp_path / "no" / "run"), 7)
  (said,) = capsys.readouterr().out.splitlines()
  assert re.fullmatch(
    r"This training takes about \S+ GiB of memory .* and \S+ GiB of disk .*", said
  )
  with pytest.raises(ConfigError, match=r"GiB of disk, and .* fewer train.iterations.$"):
    room.check(trainer, str(tmp_path), 10**30)
  monkeypatch.setattr(room, "free_memory", lambda: 10**6)
  with pytest.raises(ConfigError, match="of memory more .* set Maac.env_capacity, ") as error:
    room.check(trainer, str(tmp_path), 7)
  assert "\n" not in str(error.value)


def test_a_run_says_it_first_and_what_is_refused_leaves_nothing(tmp_path, capsys):
  gin.parse_config([*BARE, f"Maac.env_capacity = {10**30}"])
  with pytest.raises(ConfigError, match="^Maac.env_capacity asks for a buffer of 1,000,000,000,0"):
    train(str(tmp_path / "run"), iterations=1)
  gin.parse_config("Maac.env_capacity = 1_000")
  with pytest.raises(ConfigError, match="fewer train.iterations"):
    train(str(tmp_path / "run"), iterations=10**30)
  assert not os.listdir(tmp_path) and capsys.readouterr().out == ""
