"""What the runs of the suite say: numbers of each task and of all tasks, as tables and as a CSV.

A group is the runs of one setting on one task, one a seed.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from maac_tf import files
from maac_tf.runs.aggregates import (
  interquartile_mean,
  interval,
  probability_of_improvement,
  steadiness,
)
from maac_tf.runs.curves import Run, common_steps, mean_return, return_at
from maac_tf.runs.suite_tasks import SuiteTask
from maac_tf.runs.tables import MISSING, number

Groups = Mapping[tuple[str, str], Sequence[Run]]  # by (task, setting); each run has an evaluation

ALL = "all"  # tasks, or seeds
LAST = "last"  # the last step that all runs on a task have come to
REACHED = 0.9  # of the way from a random policy to the reference


class Number(NamedTuple):
  """A row of the CSV.

  A measure is one of
    return, normalised: of the evaluation at a step;
    curve: the mean return at the steps where every run on the task has begun and none has ended;
    steadiness: see `aggregates.steadiness`;
    minutes: to the first evaluation of a normalised return of `REACHED`;
    interquartile_mean: of the normalised returns of all runs on all tasks;
    probability: that a run is better than one of the base setting on the same task.
  """

  measure: str
  task: str  # or `ALL`
  setting: str
  seed: str  # or `ALL`
  env_steps: str  # or `LAST`; "" for a number of a whole run
  value: float  # of `ALL` seeds their mean
  low: float  # the bounds of its 95 % bootstrap interval
  high: float
  tasks: int  # how many it is of
  runs: int


def numbers(
  groups: Groups, tasks: Mapping[str, SuiteTask], steps: Sequence[int], base: str
) -> list[Number]:
  """Everything that the tables show.

  Args:
    tasks: what is known of tasks; others have no normalised returns.
    steps: environment steps to report at, where a run has come so far.
    base: the setting that the others are compared with.
  """
  every = [run for runs in groups.values() for run in runs]
  places = [str(step) for step in steps if any(np.isfinite(return_at(r, step)) for r in every)]
  found: list[Number] = []
  for (task, setting), runs in groups.items():
    on_task = [run for (other, _), rs in groups.items() if other == task for run in rs]
    measured = _measured(runs, on_task, tasks.get(task), [*places, LAST])
    for (measure, place), values in measured.items():
      kept = [(r.seed, float(v)) for r, v in zip(runs, values, strict=True) if np.isfinite(v)]
      found += [Number(measure, task, setting, seed, place, v, v, v, 1, 1) for seed, v in kept]
      if kept:
        value, low, high = map(float, interval(np.array([v for _, v in kept])))
        found.append(Number(measure, task, setting, ALL, place, value, low, high, 1, len(kept)))
  return found + _over_tasks(found, _settings(groups, base), base)


def _measured(
  runs: Sequence[Run], on_task: Sequence[Run], task: SuiteTask | None, places: Sequence[str]
) -> dict[tuple[str, str], Sequence[float] | np.ndarray]:
  """By (measure, environment steps), [N] each, NaN where a run has none."""
  last, shared = min(run.steps[-1] for run in on_task), common_steps(on_task)
  measured: dict[tuple[str, str], Sequence[float] | np.ndarray] = {}
  for place in places:
    step = last if place == LAST else int(place)
    returns = np.array([return_at(run, step) for run in runs])
    measured["return", place] = returns
    if task:
      measured["normalised", place] = task.normalised(returns)
  if shared.size:
    measured["curve", ""] = [mean_return(run, shared) for run in runs]
  if task:
    scores = [task.normalised(run.returns) for run in runs]
    measured["steadiness", ""] = [steadiness(s) for s in scores]
    reached = [(s >= REACHED).argmax() if (s >= REACHED).any() else None for s in scores]
    measured["minutes", ""] = [
      np.nan if i is None else 60.0 * run.hours[i] for run, i in zip(runs, reached, strict=True)
    ]
  return measured


def _over_tasks(found: Sequence[Number], settings: Sequence[str], base: str) -> list[Number]:
  """Of those tasks for which every setting has a number, so that all rows are of the same."""
  single: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = {}
  for n in found:
    if n.seed != ALL and n.measure in ("normalised", "steadiness"):
      of_place = single.setdefault((n.measure, n.env_steps), {})
      of_place.setdefault((n.task, n.setting), []).append(n.value)
  total = []
  for (measure, place), values in single.items():
    tasks = dict.fromkeys(task for task, _ in values)
    shared = [task for task in tasks if all((task, setting) in values for setting in settings)]
    for setting in settings if shared else ():
      own, others = ([np.array(values[t, s]) for t in shared] for s in (setting, settings[0]))
      if measure == "normalised":
        measures = {"interquartile_mean": interquartile_mean(own)}
        if settings[0] == base != setting:
          measures["probability"] = probability_of_improvement(own, others)
      else:
        measures = {measure: interval(np.concatenate(own))}
      for name, (value, low, high) in measures.items():
        count = len(shared), sum(map(len, own))
        bounds = float(value), float(low), float(high)
        total.append(Number(name, ALL, setting, ALL, place, *bounds, *count))
  return total


def _settings(groups: Groups, base: str) -> list[str]:
  """The base first."""
  return sorted(dict.fromkeys(setting for _, setting in groups), key=lambda name: name != base)


def task_table(found: Sequence[Number], groups: Groups, base: str) -> list[list[str]]:
  """A row a setting of a task: returns, then what is of the whole run."""
  places = _places(found, "return")
  columns: list[tuple[str, str, Callable[[float], str]]] = [("return", p, number) for p in places]
  columns += [("curve", "", number), ("steadiness", "", _percent), ("minutes", "", number)]
  titles = [*map(_title, places), "mean of the curve", "steadiness", "minutes to 90 %", "seeds"]
  lines = [["task", "setting", *titles]]
  known = {(n.task, n.setting, n.measure, n.env_steps): n for n in found if n.seed == ALL}
  for task in dict.fromkeys(task for task, _ in groups):
    for setting in _settings(groups, base):
      if (task, setting) in groups:
        seeds, cells = len(groups[task, setting]), []
        for measure, place, form in columns:
          n = known.get((task, setting, measure, place))
          fewer = f" (n = {n.runs})" if n and n.runs < seeds else ""
          cells.append(_cell(n, form) + fewer if n else MISSING)
        lines.append([task, setting, *cells, str(seeds)])
  return lines


def total_table(found: Sequence[Number]) -> list[list[str]]:
  """A row a setting: interquartile means of normalised returns, and the steadiness; or nothing."""
  lines = _over_all(found, "interquartile_mean")
  steady = {n.setting: n for n in found if (n.measure, n.task) == ("steadiness", ALL)}
  if lines:
    cells = [_cell(steady[s], _percent) if s in steady else MISSING for s, *_ in lines[1:]]
    lines = [[*line, cell] for line, cell in zip(lines, ["steadiness", *cells], strict=True)]
  return lines


def probability_table(found: Sequence[Number]) -> list[list[str]]:
  """A row a variant: the probability that it is better than the base; or nothing."""
  return _over_all(found, "probability")


def _over_all(found: Sequence[Number], measure: str) -> list[list[str]]:
  known = {(n.setting, n.env_steps): n for n in found if n.measure == measure}
  places = _places(found, measure)
  counts = {n.env_steps: n.tasks for n in known.values()}
  titles = [f"{_title(p)} ({counts[p]} task{'s'[: counts[p] > 1]})" for p in places]
  lines = [["setting", *titles]]
  for setting in dict.fromkeys(setting for setting, _ in known):
    lines.append([setting, *(_cell(known[setting, p], "{:.2f}".format) for p in places)])
  return lines if places else []


def _places(found: Sequence[Number], measure: str) -> list[str]:
  """Ascending, and `LAST` at the end."""
  places = {n.env_steps for n in found if n.measure == measure} - {LAST}
  return [*sorted(places, key=int), *[LAST] * any(n.measure == measure for n in found)]


def write_csv(path: str, found: Sequence[Number]) -> None:
  with files.using(path), open(path, "w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(Number._fields)
    for row in found:
      writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in row])


def _title(place: str) -> str:
  return place if place == LAST else f"{int(place):,}"


def _percent(value: float) -> str:
  return f"{value:.0%}"


def _cell(n: Number, form: Callable[[float], str]) -> str:
  return form(n.value) if n.runs == 1 else f"{form(n.value)} [{form(n.low)}, {form(n.high)}]"
