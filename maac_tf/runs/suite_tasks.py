"""The tasks of the suite, as results/suite.toml declares them."""

import csv
import os
import tomllib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from maac_tf import files
from maac_tf.checks import ConfigError
from maac_tf.tasks.episodes import run_episodes
from maac_tf.tasks.task import Task

FILE = os.path.join("results", "suite.toml")
RANDOM_RETURNS = "random_returns.csv"  # beside it
COLUMNS = "task", "return", "return_std", "length", "episodes"
SIDE_BY_SIDE = 10  # episodes


class SuiteTask(NamedTuple):
  """A task, what its runs are, and what their returns are measured by."""

  name: str  # of its folder
  task: str  # as of train.task
  env_steps: int  # of a run
  bindings: tuple[str, ...] = ()  # of gin
  reference: float = np.nan  # a return
  random: float = np.nan  # the return of a random policy
  quick: bool = False

  def normalised(self, returns: np.ndarray) -> np.ndarray:
    """0 for a random policy, 1 for the reference; NaN where one of the two is not known."""
    return (returns - self.random) / (self.reference - self.random)


class Suite(NamedTuple):
  """All tasks by name, and the environment steps at which they are reported."""

  tasks: dict[str, SuiteTask]
  steps: tuple[int, ...]
  quick_steps: int

  def select(self, names: Sequence[str]) -> list[SuiteTask]:
    """Those tasks; "quick" is the quick part with its shorter runs, "all" are all.

    Raises:
      ConfigError: for a task that there is not.
    """
    selected: dict[str, SuiteTask] = {}
    for name in names:
      if name == "all":
        selected |= self.tasks
      elif name == "quick":
        quick = {
          n: t._replace(env_steps=self.quick_steps) for n, t in self.tasks.items() if t.quick
        }
        selected |= quick
      elif name in self.tasks:
        selected[name] = self.tasks[name]
      else:
        raise ConfigError(
          f"The suite has no task {name!r}: give quick, all, or some of {', '.join(self.tasks)}."
        )
    return list(selected.values())


def read(path: str = FILE) -> Suite:
  """The suite of a TOML file, with the returns of random policies from the CSV beside it.

  Raises:
    ConfigError: if there is no such file, or it is not as results/suite.toml is.
  """
  try:
    with open(path, "rb") as file:
      text = tomllib.load(file)
    random = _random_returns(os.path.join(os.path.dirname(path), RANDOM_RETURNS))
    common, tasks = text.get("bindings", []), {}
    for name, entry in text["task"].items():
      tasks[name] = SuiteTask(
        name,
        entry.get("task", name),
        int(entry["env_steps"]),
        (*common, *entry.get("bindings", [])),
        float(entry["reference"]),
        random.get(name, np.nan),
        entry.get("quick", False),
      )
    return Suite(tasks, tuple(text["steps"]), int(text["quick_steps"]))
  except (OSError, ValueError, TypeError, AttributeError) as error:
    raise ConfigError(f"The suite's file {path!r} cannot be read: {error}.") from error
  except KeyError as error:
    raise ConfigError(f"The suite's file {path!r} has no {error}.") from error


def measure_random(task: Task, episodes: int) -> dict[str, float]:
  """A row of the CSV: mean and standard deviation of the return of uniform actions, and length."""
  size, rng = task.make_environment().action_size, np.random.default_rng(0)

  def act(observations: np.ndarray) -> np.ndarray:
    return rng.uniform(-1.0, 1.0, (len(observations), size)).astype(np.float32)

  seeds = range(episodes)
  parts = [
    run_episodes(task, act, seeds[i : i + SIDE_BY_SIDE]) for i in range(0, episodes, SIDE_BY_SIDE)
  ]
  returns, lengths = (np.concatenate(part) for part in zip(*parts, strict=True))
  numbers = returns.mean(), returns.std(), lengths.mean()
  return dict(zip(COLUMNS[1:4], map(float, numbers), strict=True)) | {"episodes": episodes}


def write_random(path: str, rows: dict[str, dict[str, float]]) -> str:
  """Puts these rows, by task, into the CSV beside the suite's file at `path`; returns its path."""
  path = os.path.join(os.path.dirname(path), RANDOM_RETURNS)
  texts = {name: {k: f"{v:.6g}" for k, v in row.items()} for name, row in rows.items()}
  kept = {row["task"]: row for row in _random_rows(path)}
  with files.using(path), open(path, "w", newline="") as file:
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows((kept | {name: {"task": name} | row for name, row in texts.items()}).values())
  return path


def _random_rows(path: str) -> list[dict[str, str]]:
  if not os.path.isfile(path):
    return []
  with open(path, newline="") as file:
    return list(csv.DictReader(file))


def _random_returns(path: str) -> dict[str, float]:
  return {row["task"]: float(row["return"]) for row in _random_rows(path)}
