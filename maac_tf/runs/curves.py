"""Learning curves of several runs: read, grouped by method, and averaged over seeds."""

import csv
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NEAREST = 500  # environment steps that an evaluation may be away from the step it is asked for


class Run(NamedTuple):
  """The evaluations of a run, [N] each."""

  task: str
  method: str
  seed: str
  steps: np.ndarray  # environment steps
  hours: np.ndarray  # wall-clock
  returns: np.ndarray  # mean over the episodes of an evaluation: a seed is the unit of replication
  left_out: int = 0  # evaluations whose row is cut short, or whose return is not a finite number


class Band(NamedTuple):
  """A statistic over seeds and its 95 % interval, at [N] places."""

  x: np.ndarray
  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray


def find_runs(paths: Sequence[str]) -> list[str]:
  """The folders, these or below them, that hold a metrics.csv."""
  return sorted(
    {
      os.path.normpath(folder)
      for path in paths
      for folder, _, files in os.walk(path)
      if "metrics.csv" in files
    }
  )


def read_metrics(path: str) -> dict[str, np.ndarray]:
  """The columns of a metrics.csv, [N] float64 each, NaN for an empty cell."""
  names, rows = _read(path)
  return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}


def _read(path: str) -> tuple[list[str], list[dict[str, str]]]:
  """The names of the columns, and the rows; raises ValueError for what is no CSV."""
  with open(path, newline="") as file:
    reader = csv.DictReader(file)
    try:
      return list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
      raise ValueError(str(error)) from error


def read_run(path: str) -> Run:
  """Reads a run's metrics.csv; task, method and seed are those of its path, TASK/METHOD-SEED.

  The folder's name is METHOD-3, METHOD_seed3, or the seed alone, of the method "maac"; a date and
  time after it are left out. Any other name is that of a method, without a seed.

  Raises:
    ValueError: for a column that is not there, or a value that is no number.
  """
  folder, name = os.path.split(os.path.abspath(path))
  name = re.sub(r"-\d{8}-\d{6}$", "", name)
  pattern = r"(?:(?P<a>.*)-)?(?P<x>\d+)|(?:(?P<b>.*)[-_])?seed(?P<y>\d+)|(?P<c>.*)"
  found = re.fullmatch(pattern, name)
  assert found, "its last part takes any name"
  groups = found.groupdict()
  method = groups["a"] or groups["b"] or groups["c"] or "maac"
  seed = groups["x"] or groups["y"] or ""
  columns = ("env_steps", "seconds/total", "eval/return")
  names, rows = _read(os.path.join(path, "metrics.csv"))
  missing = [c for c in columns if c not in (names or columns)]
  if missing:
    raise ValueError(f"it has no column {', '.join(missing)}")
  rows = [row for row in rows if row["eval/return"]]
  whole = [row for row in rows if None not in row.values()]  # a kill in mid-write cuts the last
  values = np.array([[float(row[c]) for c in columns] for row in whole]).reshape(-1, 3)
  values = values[np.isfinite(values).all(1)]
  steps, seconds, returns = values.T
  left_out = len(rows) - len(values)
  return Run(os.path.basename(folder), method, seed, steps, seconds / 3_600, returns, left_out)


def until(run: Run, env_steps: int) -> Run:
  """The run's evaluations up to so many environment steps."""
  kept = run.steps <= env_steps
  return run._replace(steps=run.steps[kept], hours=run.hours[kept], returns=run.returns[kept])


def return_at(run: Run, step: int) -> float:
  """The return of the evaluation nearest to that step; NaN if none is within `NEAREST` steps."""
  nearest = np.abs(run.steps - step).argmin()
  return run.returns[nearest] if abs(run.steps[nearest] - step) <= NEAREST else np.nan


def common_steps(runs: Sequence[Run]) -> np.ndarray:
  """The environment steps of all evaluations, [N], where every run has begun and none has ended."""
  first, last = max(run.steps[0] for run in runs), min(run.steps[-1] for run in runs)
  steps = np.unique(np.concatenate([run.steps for run in runs]))
  return steps[(steps >= first) & (steps <= last)]


def mean_return(run: Run, at: np.ndarray) -> float:
  """The mean over the environment steps `at`; between its evaluations a curve is linear."""
  return np.interp(at, run.steps, run.returns).mean()


def band(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> Band | None:
  """Interquartile mean over curves, with a bootstrapped interval (Agarwal et al. 2021).

  Of fewer than four curves it is their mean.

  Args:
    curves: (x, y) of each seed, x ascending. Between its points a curve is linear.

  Returns:
    What holds where all curves have values; None if there is no such place. The interval of one
    curve is empty: low and high are the mean.
  """
  from scipy import stats  # here, not above: it takes a second, and most commands do not need it

  first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
  x = np.unique(np.concatenate([x for x, _ in curves]))
  x = x[(x >= first) & (x <= last)]
  if not x.size:
    return None
  values = np.stack([np.interp(x, *curve) for curve in curves])

  def interquartile_mean(values: np.ndarray, axis: int) -> np.ndarray:
    return stats.trim_mean(values, 0.25, axis=axis)

  mean = interquartile_mean(values, 0)
  if len(curves) == 1:
    return Band(x, mean, mean, mean)
  interval = stats.bootstrap(
    (values,), interquartile_mean, n_resamples=2_000, method="percentile", rng=0
  ).confidence_interval
  return Band(x, mean, *interval)
