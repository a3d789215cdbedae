"""A run from its start, or its last checkpoint, to its end; with logs and checkpoints."""

import contextlib
import math
import os
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated

import gin
import tensorflow as tf

from maac_tf.algorithm.evaluator import BEST_EVALUATION_EPISODES
from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.trainer import Trainer
from maac_tf.checks import ConfigError, Option, configurable, integer
from maac_tf.runs import (
  config,
  datasets,
  room,
  run_directory,
  saved_config,
  unused,
  version,
  workers,
)
from maac_tf.runs.pauses import Pauses, Stopped
from maac_tf.runs.progress import Progress
from maac_tf.runs.run_directory import RunDirectory
from maac_tf.runs.workers import Follower
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.parallel import ParallelEnvironment
from maac_tf.tasks.registry import make_task
from maac_tf.tasks.task import Task

# Called with the row of metrics after each iteration; False ends the training.
Callback = Callable[[dict[str, float | None]], object]


@configurable
def train(
  run_dir: str,
  overridden: Collection[str] = (),
  dataset: str | None = None,
  offline: bool = False,
  strategy: tf.distribute.Strategy | None = None,
  *,
  task: Annotated[
    str,
    Option(
      "a name of `maac_tf.tasks.TASKS`; the id of a Gymnasium environment, such as Reacher-v5; or "
      "MODULE:NAME of your own `Task`, or of a function that makes an environment"
    ),
  ] = gin.REQUIRED,
  seed: Annotated[int, Option("of everything random", low=0)] = 0,
  iterations: Annotated[int, Option("of Algorithm 1's loop, in all", low=1)] = 200,
  environments: Annotated[
    int, Option("that steps are taken in side by side, each in a process of its own", low=1)
  ] = 1,
) -> int | None:
  """Trains MAAC on a task, or goes on with the run that `run_dir` holds.

  A signal of `pauses.SIGNALS`, such as Ctrl-C, saves and ends it some seconds later; a second one
  at once, which loses what came after the newest checkpoint: some seconds, and no real step.

  Args:
    run_dir: the folder of the run, see `RunDirectory`.
    overridden: names of parameters that the user set; what has no effect is reported.
    dataset: logged steps that D_env has at first, see `datasets.read`; a run that goes on has them.
    offline: whether iterations, from now on, take no environment steps.
    strategy: of several devices, see `devices.device`.

  Returns:
    The number of the signal that stopped the run, or None when it is finished.

  Raises:
    ConfigError: for a wrong value, or what the machine has no room for, before anything is created;
      for what cannot be written, with a note on what is saved.
    Exception: whatever the environment raises, with a note on what is saved.
  """
  with config.user_errors():
    trainer = build_trainer(task, seed, environments, strategy)
  if show := workers.is_chief(strategy):
    unused.warn(trainer, overridden)
  logged = take(trainer, dataset, run_dir)
  if offline and not run_directory.has_checkpoint(run_dir):
    trainer.go_offline()
  room.check(trainer, run_dir, iterations, show)
  with contextlib.closing(workers.open_run(run_dir, trainer, logged)) as run:
    if offline:
      trainer.go_offline()
    return iterate(trainer, run, iterations, show=show)


def take(trainer: Trainer, dataset: str | None, run_dir: str | None) -> datasets.Dataset | None:
  """Reads logged steps, if there are some, into D_env; not where the run in `run_dir` has begun.

  Raises:
    ConfigError: for what cannot be read or does not fit, or a run that began with others.
  """
  if run_dir and run_directory.has_checkpoint(run_dir):
    if dataset not in (None, version.dataset_of(run_dir)):
      raise ConfigError(
        f"The run in {run_dir!r} did not begin with {dataset!r}: leave that out, or give a new "
        "run_dir."
      )
    return None
  if dataset is None:
    return None
  logged = datasets.read(dataset, trainer.environment)
  datasets.put(trainer, logged)
  return logged


def default_run_dir() -> str:
  """runs/TASK/SEED-TIME, of the config that was loaded."""
  bound = gin.get_bindings("train")
  task = re.sub("[<>]", "", str(bound["task"])).replace(":", ".")
  return os.path.join("runs", task, f"{bound.get('seed', 0)}-{time.strftime('%Y%m%d-%H%M%S')}")


def use_threads(count: int) -> None:
  """CPU threads, for one operation and for several; 0 is one for each core."""
  if count:
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def iterations_until(trainer: Trainer, env_steps: int, name: str = "env_steps") -> int:
  """Iterations, in all, of a run with so many environment steps, or those of its last iteration.

  Args:
    env_steps: the random ones included.
    name: of that number, for a message.

  Raises:
    ConfigError: for fewer than an iteration needs.
  """
  first = trainer.first_steps
  env_steps = integer(name, env_steps)
  if env_steps <= first:
    raise ConfigError(f"{name} must be more than Trainer.random_steps ({first}), not {env_steps}.")
  online = math.ceil((env_steps - first) / trainer.steps_per_iteration)
  return online + trainer.under_way.offline


def iterations_offline(trainer: Trainer, updates: int) -> int:
  """Iterations, in all, of a run that goes offline until so many gradient updates were so.

  Raises:
    ConfigError: for less than one, or too few steps to learn from.
  """
  updates = integer("offline_updates", updates)
  if updates < 1:
    raise ConfigError(f"offline_updates must be 1 or more, not {updates}.")
  trainer.go_offline()
  now, learning = trainer.under_way, trainer.learning
  begun = int(trainer.iteration) + ("collect/return" in now.row)
  offline = math.ceil(updates / (learning.rounds * learning.rollout_frequency))
  return begun - now.offline + max(offline, now.offline)


def iterate(
  trainer: Trainer,
  run: RunDirectory | Follower,
  iterations: int,
  callbacks: Sequence[Callback] = (),
  show: bool = True,
) -> int | None:
  """Algorithm 1's loop up to `iterations` in all, with a checkpoint after each.

  Args:
    callbacks: called when an iteration is saved.
    show: whether progress is printed.

  Returns:
    As `train`; None also where a callback ended it.
  """
  try:
    with workers.errors(trainer):
      return _iterate(trainer, run, iterations, callbacks, show)
  except Exception as error:
    error.add_note(run.what_is_saved())
    raise


def _iterate(
  trainer: Trainer,
  run: RunDirectory | Follower,
  iterations: int,
  callbacks: Sequence[Callback],
  show: bool,
) -> int | None:
  initial, passes = trainer.initial_iterations, trainer.under_way.initial_passes
  progress = Progress(initial + iterations, passes + int(trainer.iteration), show)
  if run.resumed:
    progress.write(f"Resuming {run.path} after {int(trainer.env_steps):,} environment steps.")
  with Pauses(run.save_checkpoint) as pauses, progress, contextlib.suppress(Stopped):
    trainer.pause = pauses
    if not trainer.under_way.begun:
      first = trainer.begin(progress)
      workers.agree(trainer)
      run.metrics.log_events(first)
      progress.write(f"{_summary(first, trainer.offline)}  (before the first update)")
    while int(trainer.iteration) < iterations and pauses.signal is None:
      row = trainer.run_iteration(progress)
      workers.agree(trainer)
      run.metrics.log(row)
      run.save()
      pauses.saved()
      if row["eval/return"] is not None:
        progress.write(_summary(row, trainer.offline))
      if any([callback(row) is False for callback in callbacks]):
        break
  if trainer.best.exists:
    mean, std, found = trainer.best.statistics.numpy()
    after = f", after {found:,.0f} steps" if found else ""  # learned offline, it has none
    progress.write(
      f"The best policy{after}: return {mean:.5g} ± {std:.5g} over "
      f"{BEST_EVALUATION_EPISODES} further episodes."
    )
  return pauses.signal if int(trainer.iteration) < iterations else None


def _summary(row: Mapping[str, float | None], offline: bool) -> str:
  count = (
    f"{row.get('iteration', 0):>9,} iterations" if offline else f"{row['env_steps']:>9,} steps"
  )
  text = f"{count}  return {row['eval/return']:.5g} ± {row['eval/return_std']:.5g}"
  if "model/validation_loss" in row:
    text += f"  model loss {row['model/validation_loss']:.2f}"
  return text


def build_trainer(
  task: str | Task,
  seed: int = 0,
  environments: int = 1,
  strategy: tf.distribute.Strategy | None = None,
) -> Trainer:
  """Environment, learner and trainer, with the options that are bound.

  Args:
    environments: how many steps are taken in.
    strategy: of the learner, with several devices; None: there is one.

  Raises:
    ValueError: for a wrong one.
  """
  made = make_task(task)
  if environments > 1:
    environment: Environment = ParallelEnvironment(made.make_gym_env, environments)
  else:
    environment = made.make_environment()
  with (strategy or tf.distribute.get_strategy()).scope():
    learner = Maac(made, environment, seed)
  return Trainer(learner, environment, seed)


def bound_task() -> Task:
  """The task of the config that was loaded.

  Raises:
    ConfigError: if there is none.
  """
  name = gin.get_bindings("train").get("task")
  if name is None:
    raise ConfigError(
      "No task: give --env=ENVIRONMENT or a task file, such as --gin_file=gin/hopper.gin."
    )
  with config.user_errors():
    return make_task(name)


def make_trainer() -> Trainer:
  """As `train` begins, of the config that was loaded and with seed 0; nothing is written.

  Raises:
    ConfigError: for a wrong value.
  """
  name = bound_task().name
  with config.user_errors():
    return build_trainer(name, environments=config.value("train.environments"))


def load_run(
  run_dir: str,
  gin_params: Sequence[str] = (),
  env: str | None = None,
  given: Sequence[str] = (),
  trusted: bool = False,
) -> None:
  """Loads a run's config; takes and raises as `restore`, and needs no checkpoint."""
  if not saved_config.find(run_dir):
    raise ConfigError(f"There is no run with a checkpoint in {run_dir!r}.")
  own = [] if env is None else [config.binding("train.task", env)]
  saved_config.load(run_dir, gin_params, [*given, *own], trusted)
  if env not in (None, task := config.value("train.task")):
    raise ConfigError(f"{run_dir!r} is a run of {task!r}, not of {env!r}.")


def restore(
  run_dir: str,
  gin_params: Sequence[str] = (),
  env: str | None = None,
  given: Sequence[str] = (),
  trusted: bool = False,
) -> Trainer:
  """The trainer of a run as its newest checkpoint has it, for a look; the run stays as it is.

  Args:
    run_dir: its folder.
    gin_params: bindings of `Planner`, which is no part of training.
    env: the environment that it was trained in, which may be of a module then.
    given: gin texts that the caller vouches for, see `trust.check_config`.
    trusted: whether the run's config may run any code.

  Raises:
    ConfigError: when there is no run or no checkpoint, none that fits this code, for a binding of
      anything else, or a config that names code for which nobody vouches.
  """
  for name in sorted(config.parameters(gin_params)):
    if not name.startswith("Planner."):
      raise ConfigError(f"{name} is not of the planner: all else is as the run was trained.")
  load_run(run_dir, gin_params, env, given, trusted)
  trainer = make_trainer()
  run_directory.restore(trainer, run_dir)
  return trainer
