"""Trains a setting, and variants of it, on a list of tasks from the same seeds, and reports:

python -m maac_tf.suite --variant=Maac.horizon=3

On one task, that of a gin file:

python -m maac_tf.suite --gin_file=gin/gymnasium/half_cheetah_v5.gin --env_steps=10000 \\
  --variant=Critic.layer_norm=False --variant=gin/baselines/model_free.gin
"""

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence

import gin
import tensorflow as tf
from absl import app, flags, logging

from maac_tf.checks import ConfigError
from maac_tf.runs import (
  command_line,
  config,
  curves,
  experiment,
  suite_report,
  suite_tasks,
  tables,
  trainings,
  trust,
)
from maac_tf.runs.suite_tasks import Suite, SuiteTask

DEFAULT_ENV_STEPS = 10_000

_TASKS = flags.DEFINE_list(
  "tasks",
  None,
  "Tasks of the suite's file; quick is its quick part, all is all. Default: the gin file's task, "
  "else quick.",
)
_GIN_FILE = command_line.define_paths("gin_file", "As in training: what all have in common.")
_GIN_PARAM = flags.DEFINE_multi_string("gin_param", [], "As in training, and as the gin files.")
_VARIANT = command_line.define_paths(
  "variant",
  "A gin file, or bindings such as 'Maac.horizon=3; Maac.discount=0.99', to try over it; "
  "repeatable.",
)
_GRID = flags.DEFINE_multi_string(
  "grid",
  [],
  "An option and its values, such as Maac.horizon=1,3,5: a variant for each; of several, for each "
  "combination. Repeatable.",
)
_NAME = flags.DEFINE_string("name", "default", "Of the setting itself, in folders and tables.")
_ENV_STEPS = flags.DEFINE_integer(
  "env_steps",
  None,
  "Environment steps of each run, the random ones included; rounded up to whole iterations. "
  f"Default: those of the suite's file, and {DEFAULT_ENV_STEPS:,} on the task of a gin file.",
  lower_bound=1,
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "The seeds of each.")
flags.register_validator(
  "seeds",
  lambda seeds: seeds and all(map(str.isdigit, seeds)) and len({*seeds}) == len(seeds),
  "must be different numbers, such as 0,1,2",
)
_JOBS = flags.DEFINE_integer("jobs", 2, "Runs side by side, each on one CPU thread.", lower_bound=1)
_RUN_DIR = command_line.define_path(
  "run_dir", "runs/suite", "Runs go to RUN_DIR/TASK/SETTING-SEED."
)
_TRAIN = flags.DEFINE_bool("train", True, "False: report of the runs that RUN_DIR holds, no more.")
_PRINT_COMMANDS = flags.DEFINE_bool(
  "print_commands",
  False,
  "Print the command of each run, for other machines, and train nothing. With their folders in "
  "RUN_DIR, --notrain reports of them.",
)
_SUITE = command_line.define_path(
  "suite", suite_tasks.FILE, "The file with tasks and their references."
)
_MEASURE_RANDOM = flags.DEFINE_integer(
  "measure_random",
  0,
  "In place of all else: so many episodes of a random policy on each task (default: all), into the "
  f"{suite_tasks.RANDOM_RETURNS} beside the suite's file.",
  lower_bound=0,
)


def main(argv: list[str], make_runner: Callable[[], trainings.Runs] = trainings.Runner) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  tf.get_logger().setLevel("ERROR")  # that settings trace one function each is no news
  try:
    if _MEASURE_RANDOM.value:
      _measure_random(_MEASURE_RANDOM.value)
      return 0
    trust.check_folder(_RUN_DIR.value)
    if not _TRAIN.value:
      _report(_groups_of_folder())
      return 0
    planned = _plan()
    if _PRINT_COMMANDS.value:
      for training in planned:
        print(shlex.join(["python", *training.command[1:]]))
      return 0
    runner = make_runner()
    runner.run(planned, _JOBS.value, _last_return)
    _report(_groups([training for training in planned if training not in runner.failed]))
  except ConfigError as error:
    print(f"Error: {error}", file=sys.stderr)
    return 1
  if runner.interrupted:
    print("Interrupted: the same command goes on.")
    return 130
  return int(bool(runner.failed))


def _plan() -> list[trainings.Training]:
  config.load(_GIN_FILE.value, _GIN_PARAM.value)
  task = gin.get_bindings("train").get("task")
  if task is None:
    tasks = suite_tasks.read(_SUITE.value).select(_TASKS.value or ["quick"])
  elif _TASKS.value:
    raise ConfigError(f"The gin file sets the task {task!r}: leave out --tasks, or that file.")
  else:
    tasks = [SuiteTask(re.sub("[:/]", ".", task), task, DEFAULT_ENV_STEPS)]
  if _ENV_STEPS.value:
    tasks = [t._replace(env_steps=_ENV_STEPS.value) for t in tasks]
  common = _NAME.value, _GIN_FILE.value, _GIN_PARAM.value
  settings = trainings.with_variants(*common, _VARIANT.value, _GRID.value)
  return trainings.plan(tasks, settings, _SEEDS.value, _RUN_DIR.value)


def _last_return(training: trainings.Training) -> str:
  run = _read(training.run_dir, training.env_steps)
  return f"{run.returns[-1]:,.1f}" if run else "finished"


def _read(path: str, env_steps: int | None) -> curves.Run | None:
  """A run, up to so many environment steps; None, with a word to the user, of what is not one."""
  try:
    run = curves.read_run(path)
  except (OSError, ValueError) as error:
    print(f"Left out: {path}: its metrics.csv is not that of a run: {error}.")
    return None
  run = curves.until(run, env_steps) if env_steps else run
  return run if run.steps.size else None


def _groups(planned: Sequence[trainings.Training]) -> suite_report.Groups:
  """The runs of these trainings that have an evaluation."""
  groups: dict[tuple[str, str], list[curves.Run]] = {}
  for training in planned:
    begun = os.path.isfile(os.path.join(training.run_dir, "metrics.csv"))
    if begun and (run := _read(training.run_dir, training.env_steps)):
      groups.setdefault((training.task, training.setting), []).append(run)
  return groups


def _groups_of_folder() -> suite_report.Groups:
  """All runs below --run_dir, or those of --tasks."""
  names = _TASKS.value and {t.name for t in suite_tasks.read(_SUITE.value).select(_TASKS.value)}
  groups: dict[tuple[str, str], list[curves.Run]] = {}
  for path in curves.find_runs([_RUN_DIR.value]):
    run = _read(path, _ENV_STEPS.value)
    if run and (not names or run.task in names):
      groups.setdefault((run.task, run.method), []).append(run)
  if not groups:
    raise ConfigError(f"There is no run with an evaluation in {_RUN_DIR.value!r}.")
  return groups


def _report(groups: suite_report.Groups) -> None:
  """Prints the tables, and writes their numbers to RUN_DIR/suite.csv."""
  if not groups:
    print("No run has an evaluation yet.")
    return
  suite = suite_tasks.read(_SUITE.value) if os.path.isfile(_SUITE.value) else Suite({}, (), 0)
  found = suite_report.numbers(groups, suite.tasks, suite.steps, _NAME.value)
  print("\nReturns: mean over seeds [95 % interval]")
  print(tables.aligned(suite_report.task_table(found, groups, _NAME.value)))
  for title, lines in (
    ("Interquartile mean of normalised returns", suite_report.total_table(found)),
    (f"Probability of being better than {_NAME.value}", suite_report.probability_table(found)),
  ):
    if lines:
      print(f"\n{title} [95 % interval]")
      print(tables.aligned(lines))
  path = os.path.join(_RUN_DIR.value, "suite.csv")
  suite_report.write_csv(path, found)
  print(f"\nWrote {path}")


def _measure_random(episodes: int) -> None:
  rows = {}
  for task in suite_tasks.read(_SUITE.value).select(_TASKS.value or ["all"]):
    config.load([], [*task.bindings, f"train.task={task.task!r}"])
    rows[task.name] = suite_tasks.measure_random(experiment.bound_task(), episodes)
    print(f"{task.name}: {rows[task.name]['return']:,.2f} over {episodes} episodes")
    suite_tasks.write_random(_SUITE.value, rows)


if __name__ == "__main__":
  app.run(main)
