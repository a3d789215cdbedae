"""Statistics over seeds and over tasks (Agarwal et al. 2021).

Scores are normalised returns: 0 is a random policy's, 1 a reference's. Shapes: N seeds, T
evaluations.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
LEVELS = 2.5, 97.5  # percentiles: the bounds of a 95 % interval
FIRST_GOOD = 0.1  # the score from which on a policy counts as one that has learned something
KEPT = 0.9  # of the best score so far, in a steady run


class Interval(NamedTuple):
  """A statistic, usually a mean over the first axis, and its 95 % bootstrap interval."""

  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray


def interval(values: np.ndarray) -> Interval:
  """Mean and percentile bootstrap interval over seeds, [N, ...]; of three seeds it is rough.

  Of one value it is three times itself.
  """
  from scipy import stats  # here, not above: it takes a second, and most commands do not need it

  mean = np.mean(values, 0)
  if len(values) == 1:
    return Interval(mean, mean, mean)
  bounds = stats.bootstrap((values,), np.mean, axis=0, method="percentile", rng=0)
  return Interval(mean, *bounds.confidence_interval)


def interquartile_mean(scores: Sequence[np.ndarray]) -> Interval:
  """Mean of the middle half of all runs of all tasks, with a stratified bootstrap interval.

  Args:
    scores: of each task, [N] of its seeds; not every task needs the same number.

  Returns:
    The mean and the interval of resampled seeds, drawn within each task.
  """
  from scipy import stats  # as above

  resampled = np.concatenate(_resampled(scores, np.random.default_rng(0)), 1)
  means = stats.trim_mean(resampled, 0.25, axis=1)
  return Interval(stats.trim_mean(np.concatenate(scores), 0.25), *np.percentile(means, LEVELS))


def probability_of_improvement(
  scores: Sequence[np.ndarray], others: Sequence[np.ndarray]
) -> Interval:
  """Probability that a run is better than another method's on the same task, drawn at random.

  Args:
    scores: of each task, [N] of the method's seeds.
    others: of the same tasks, [M] of the other method's seeds. A tie counts one half.

  Returns:
    Its mean over tasks, and a stratified bootstrap interval: the seeds of both are resampled.
  """
  rng = np.random.default_rng(0)
  pairs = zip(_resampled(scores, rng), _resampled(others, rng), strict=True)
  resampled = np.mean([_share_of_wins(a, b) for a, b in pairs], 0)
  observed = [_share_of_wins(a, b) for a, b in zip(scores, others, strict=True)]
  return Interval(np.mean(observed), *np.percentile(resampled, LEVELS))


def steadiness(scores: np.ndarray) -> float:
  """Share of a run's evaluations that keep what it had learned.

  Args:
    scores: [T], in the order of the evaluations.

  Returns:
    Of the evaluations after the first of a score of `FIRST_GOOD` or more, the share that is at
    least `KEPT` times the best score so far; NaN if there is none.
  """
  good = scores >= FIRST_GOOD
  later = scores[good.argmax() + 1 :] if good.any() else scores[:0]
  if not later.size:
    return np.nan
  best = np.maximum.accumulate(scores)[-later.size :]
  return float(np.mean(later >= KEPT * best))


def _resampled(groups: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
  """Of each group of [N], [RESAMPLES, N] drawn from it with replacement."""
  return [g[rng.integers(len(g), size=(RESAMPLES, len(g)))] for g in groups]


def _share_of_wins(values: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Of the pairs of [..., N] and [..., M], the share where the first is more: [...]."""
  difference = values[..., :, np.newaxis] - others[..., np.newaxis, :]
  return np.mean((np.sign(difference) + 1.0) / 2.0, axis=(-2, -1))
