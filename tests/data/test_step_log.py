"""The file of real steps: what is in it, and what a kill or a broken disk leave of it."""

import json

import numpy as np
import pytest

from maac_tf.data import step_log
from maac_tf.data.step_log import DamagedError, StepLog
from maac_tf.data.types import Transition

SIZES = 3, 2


def _steps(count, seed=0):
  rng = np.random.default_rng(seed)
  shapes = (3,), (2,), (), (3,), ()
  return [
    tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes) for _ in range(count)
  ]


def _log(path, aside="aside"):
  """Of all whole rows, going on."""
  log = StepLog(str(path), *SIZES)
  log.begin(*log.whole(0, 0), str(path.parent / aside))
  return log


def _write(path, steps, firsts=()):
  log = _log(path)
  for i, step in enumerate(steps):
    log.append(step, i in firsts)
  log.close()
  return log


def _read(path):
  """As the documents say."""
  with open(path, "rb") as file:
    fields = [(name, kind, tuple(shape)) for name, kind, shape in json.loads(file.readline())]
    return np.fromfile(file, np.dtype(fields))


def _columns(log):
  parts = list(log.read(0, log.rows))
  return [np.concatenate(column) for column in zip(*parts, strict=True)]


def test_numpy_reads_what_was_taken_session_after_session(tmp_path, monkeypatch):
  monkeypatch.setattr(step_log, "ROWS_AT_ONCE", 4)
  path, steps = tmp_path / "steps.bin", _steps(15)
  _write(path, steps[:10], firsts=(0, 4))
  log = _write(path, steps[10:])
  rows = _read(path)
  for name, column in zip(Transition._fields, zip(*steps, strict=True), strict=True):
    np.testing.assert_array_equal(rows[name], np.stack(column))
  assert np.flatnonzero(rows["first"]).tolist() == [0, 4]
  again = StepLog(str(path), *SIZES)
  assert again.rows == log.rows == 15
  for got, column in zip(_columns(again), zip(*steps, strict=True), strict=True):
    np.testing.assert_array_equal(got, np.stack(column))
  for count in (0, 1, 10, 15):
    assert again.whole(0, 0) == (15, log.checksum)
    assert again.checksum_of(count) == (rows["checksum"][count - 1] if count else 0)
  assert again.checksum_of(16) is None


def test_a_row_is_there_as_soon_as_it_is_taken(tmp_path):
  """And what a kill cut short is not."""
  path, steps = tmp_path / "steps.bin", _steps(3)
  log = _log(path)
  for i, step in enumerate(steps):
    log.append(step, False)
    assert len(_read(path)) == i + 1
  log.close()
  path.write_bytes(path.read_bytes()[:-5])
  assert len(_read(path)) == 2
  _write(path, steps[2:])
  np.testing.assert_array_equal(_read(path)["reward"], [step[2] for step in steps])


def test_rows_after_a_damaged_one_are_kept_elsewhere(tmp_path):
  path = tmp_path / "steps.bin"
  _write(path, _steps(9), firsts=(0,))
  data, size = bytearray(path.read_bytes()), step_log.row_type(*SIZES).itemsize
  data[-4 * size + 2] ^= 1  # a bit of the sixth row
  path.write_bytes(data)
  before = _read(path)
  log = StepLog(str(path), *SIZES)
  assert log.rows == 9 and log.checksum_of(9) != before["checksum"][-1]
  assert log.checksum_of(5) == before["checksum"][4]
  assert log.whole(0, 0)[0] == log.whole(3, int(before["checksum"][2]))[0] == 5
  for _ in range(2):
    _write(path, _steps(1, seed=2))  # and the next row fits to the fifth
  assert StepLog(str(path), *SIZES).whole(0, 0)[0] == 7
  np.testing.assert_array_equal(_read(path)[:5], before[:5])
  aside = _read(tmp_path / "aside")
  assert aside["first"].tolist() == [1, 0, 0, 0]
  np.testing.assert_array_equal(aside["reward"], before["reward"][5:])


def test_what_a_simulator_takes_again_is_kept_elsewhere(tmp_path):
  path, steps = tmp_path / "steps.bin", _steps(6)
  _write(path, steps)
  for rows in (4, 2):
    log = StepLog(str(path), *SIZES)
    log.begin(rows, log.checksum_of(rows), str(tmp_path / "aside"))
    log.close()
  aside = _read(tmp_path / "aside")
  np.testing.assert_array_equal(aside["reward"], [steps[i][2] for i in (4, 5, 2, 3)])
  assert aside["first"].tolist() == [1, 0, 1, 0]
  assert len(_read(path)) == 2


def test_another_file_is_refused(tmp_path):
  path = tmp_path / "steps.bin"
  path.write_bytes(b"\x80\x04\x95" * 1_000)
  with pytest.raises(DamagedError, match="does not begin as a log of steps with"):
    StepLog(str(path), *SIZES)
  _write(tmp_path / "other.bin", _steps(30))
  with pytest.raises(DamagedError, match="does not begin"):
    StepLog(str(tmp_path / "other.bin"), 4, 2)
