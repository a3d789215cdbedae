"""Running statistics against those of everything at once."""

import numpy as np
import tensorflow as tf

from maac_tf.data import statistics
from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.statistics import RunningStatistics, statistics_of
from maac_tf.data.types import Transition


def _check(got, values):
  want = np.asarray(values, np.float64)
  assert got.rows == len(want)
  np.testing.assert_allclose(got.mean, want.mean(0), rtol=1e-12)
  np.testing.assert_allclose(got.std, want.std(0), rtol=1e-9)
  np.testing.assert_array_equal([got.low, got.high], [want.min(0), want.max(0)])
  np.testing.assert_array_equal(got.largest, np.abs(want).max(0))


def test_they_are_of_what_is_in_the_ring_and_read_no_more_than_what_changed(monkeypatch):
  monkeypatch.setattr(statistics, "BLOCK", 16)
  buffer, rng, read = ReplayBuffer(100, 1, 1), np.random.default_rng(0), []
  running = RunningStatistics(buffer, lambda rows: tf.concat([rows.observation, rows.action], -1))
  summary = running._summary_of
  running._summary_of = lambda first, end: read.append(int(end - first)) or summary(first, end)
  for rows in (5, 40, 7, 0, 60, 9, 100, 33):  # round the ring twice, the last block cut short
    numbers = tf.constant(rng.normal(1e3, 1.0, [rows, 1]), tf.float32)
    buffer.add(Transition(numbers, -2.0 * numbers, numbers[:, 0], numbers, numbers[:, 0]))
    read.clear()
    everything = buffer.gather(tf.range(int(buffer.size)))
    _check(running.now(), np.hstack([everything.observation, everything.action]))
    assert (
      sum(read) <= rows + 3 * 16
    )  # what the blocks at both ends, and at the ring's, hold beside


def test_the_statistics_of_some_numbers():
  values = tf.random.stateless_normal([300, 4], [1, 2], 1.0, 3.0)
  _check(statistics_of(values), values)
  _check(statistics_of(values).part(-1), values[:, :-1])
  _check(statistics_of(values).part(1, 3), values[:, 1:3])
