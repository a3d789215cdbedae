"""Statistics of all that is in a buffer, in a time that does not grow with it.

Shapes: N rows, K numbers in each.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import Transition

BLOCK = 2_048  # rows
SAMPLE = 10_000  # rows, that quantiles are taken of


class Statistics(NamedTuple):
  """Of N rows of numbers."""

  rows: int  # N
  mean: np.ndarray  # [K] float64
  std: np.ndarray  # [K] float64
  low: np.ndarray  # [K] float64, the least
  high: np.ndarray  # [K] float64, the greatest
  center: np.ndarray  # [K] float64, the median
  width: np.ndarray  # [K] float64, half of the middle 68 %, as the std of a normal distribution

  @property
  def largest(self) -> np.ndarray:
    """Without the sign, [K]."""
    return np.maximum(-self.low, self.high)

  def part(self, *places: int | None) -> "Statistics":
    """Of some of the numbers, as of a slice."""
    return Statistics(self.rows, *(x[slice(*places)] for x in self[1:]))


def statistics_of(values: tf.Tensor) -> Statistics:
  """Of [N, K] numbers, summed in float64."""
  blocks = _summary(values).numpy()[np.newaxis]
  return _together(blocks, np.array([len(values)]), np.asarray(values))


class RunningStatistics:
  """Of the transitions in a buffer, from sums of its blocks.

  Only the blocks that were written to since the last time are read again. Nothing is ever taken off
  a sum, so no error grows; what comes out depends on what is in the buffer alone.
  """

  def __init__(self, buffer: ReplayBuffer, columns: Callable[[Transition], tf.Tensor]):
    """Of `columns`: [N, ...] transitions to [N, K]."""
    self._buffer, self._blocks, self._added = buffer, dict[int, np.ndarray](), 0
    self._columns_of = lambda rows: columns(buffer.gather(rows))
    self._summary_of = tf.function(
      lambda first, end: _summary(columns(buffer.gather(tf.range(first, end)))), autograph=False
    )

  def now(self) -> Statistics:
    """The buffer must not be empty."""
    added, size = (int(x.numpy()) for x in (self._buffer.added, self._buffer.size))
    capacity = self._buffer.capacity
    new = added - self._added if added >= self._added else size  # else another one was restored
    written = np.arange(added - min(new, size), added) % capacity
    for block in np.unique(written // BLOCK).tolist():
      ends = block * BLOCK, min((block + 1) * BLOCK, size)
      self._blocks[block] = self._summary_of(*map(tf.constant, ends)).numpy()
    self._added = added
    firsts = np.arange(0, size, BLOCK)
    blocks = np.stack([self._blocks[block] for block in range(len(firsts))])
    rows = np.linspace(0, size - 1, min(size, SAMPLE)).astype(np.int64)
    return _together(blocks, np.minimum(size - firsts, BLOCK), self._columns_of(rows).numpy())


def _summary(values: tf.Tensor) -> tf.Tensor:
  """Mean, sum of squares around it, least and greatest of [N, K]: [4, K] float64."""
  exact = tf.cast(values, tf.float64)
  mean = tf.reduce_mean(exact, 0)
  squares = tf.reduce_sum(tf.square(exact - mean), 0)
  return tf.stack([mean, squares, tf.reduce_min(exact, 0), tf.reduce_max(exact, 0)])


def _together(blocks: np.ndarray, counts: np.ndarray, sample: np.ndarray) -> Statistics:
  """Of summaries [n, 4, K] of so many rows, [n] (Chan, Golub and LeVeque 1983)."""
  means, squares, low, high = blocks.transpose(1, 0, 2)
  count, weights = int(counts.sum()), counts[:, np.newaxis]
  mean = (weights * means).sum(0) / count
  variance = (squares + weights * (means - mean) ** 2).sum(0) / count
  std = np.sqrt(variance)
  below, center, above = np.quantile(sample.astype(np.float64), [0.16, 0.5, 0.84], axis=0)
  width = np.maximum((above - below) / 2, std / 10)
  return Statistics(count, mean, std, low.min(0), high.max(0), center, width)
