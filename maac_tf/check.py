"""What a training will meet in an environment, and what it will cost, before it is started:

python -m maac_tf.check --env=Reacher-v5

Takes random actions. Exit code 1: training cannot work.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator

import gymnasium as gym
from absl import app, flags, logging

import maac_tf
from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.trainer import Trainer
from maac_tf.analysis import cost
from maac_tf.checks import ConfigError
from maac_tf.runs import command_line, config, experiment
from maac_tf.tasks import environment_check
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.environment_check import Seen
from maac_tf.tasks.registry import task_of
from maac_tf.tasks.task import Task

_SETTING, _THREADS = command_line.define_setting(), command_line.define_threads()
_STEPS = flags.DEFINE_integer(
  "steps", 1_000, "Random steps; as many again in a second environment.", lower_bound=10
)
_COST = flags.DEFINE_bool("cost", True, "Measure what a training will cost; takes a minute.")


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  experiment.use_threads(_THREADS.value)
  try:
    command_line.load(_SETTING)
    return int(not check(experiment.bound_task(), _STEPS.value, _COST.value))
  except ConfigError as error:
    print(f"Error: {error}", file=sys.stderr)
    return 1


def check(
  environment: str | Task | Callable[[], gym.Env], steps: int = 1_000, cost: bool = False
) -> bool:
  """Prints what a training will meet, and whether it can work; for a notebook, too.

  Args:
    environment: as of `MAAC`.
    steps: random ones; as many again in a second environment.
    cost: whether to measure what a training will cost, too; takes a minute.

  Raises:
    ConfigError: for an environment that fails, or that cannot be learned in.
  """
  with config.user_errors():
    task = environment if isinstance(environment, Task) else task_of(environment)
    with contextlib.closing(_make(task)) as made:
      return _can_train(task, made, steps, cost)


def _make(task: Task) -> Environment:
  with _one_line(task):
    return task.make_environment()


def _can_train(task: Task, environment: Environment, steps: int, cost: bool) -> bool:
  """Prints the page; whether training can work."""
  task.check_functions(environment.observation_size, environment.action_size)
  seed = int(config.value("train.seed"))
  with _one_line(task):
    seen = environment_check.random_steps(environment, steps, seed)
    found = [
      *environment_check.of_episodes(seen, environment.time_limit),
      *environment_check.of_actions(environment.action_box),
      *environment_check.of_steps(task, environment.action_box, seen.steps),
      *environment_check.of_repetition(task, environment, seen, seed),
    ]
  print(
    f"{task.name}: observations of {environment.observation_size} numbers, actions of "
    f"{environment.action_size}. The reward is {_source(task.reward_fn)}, the end of an episode "
    f"{_source(task.termination_fn)}."
  )
  print(f"{steps:,} random steps, {steps / seen.seconds:,.0f} in a second.")
  for level, text in sorted(found, key=lambda finding: finding.level != "note"):
    print(text if level == "note" else f"{level.capitalize()}: {text}")
  if any(finding.level == "error" for finding in found):
    return False
  if cost:
    print(_cost(task, environment, seen))
  return True


def _source(function: object) -> str:
  return "learned" if function is None else "a function of the task"


def _cost(task: Task, environment: Environment, seen: Seen) -> str:
  trainer = Trainer(Maac(task, environment), environment)
  episode_steps = environment.time_limit or max([*seen.ends, *seen.limits, len(seen.steps.reward)])
  iterations, max_batches = map(config.value, ("train.iterations", "DynamicsFit.max_batches"))
  found = cost.measure(trainer, seen, episode_steps, iterations, max_batches)
  alone = ""
  if found.processor < 0.8:
    alone = f" (Other programs run, too: alone, {_time(found.total * found.processor)}.)"
  guess = "" if max_batches else " The models' fits stop early: this is a guess."
  return (
    f"A training of {found.env_steps:,} steps will take about {_time(found.total)} and "
    f"{found.memory:.1f} GiB of memory, on this machine as it is now.{alone}{guess}\n"
    f"The policy acts after {_time(found.start)}. Then {trainer.steps_per_iteration} steps take "
    f"{_time(found.iteration)}, an evaluation {_time(found.evaluation)}, and a checkpoint "
    f"{found.checkpoint:.2g} GiB of disk.\n"
    "A training is shorter with fewer train.iterations or Trainer.updates_per_step."
  )


def _time(seconds: float) -> str:
  for unit, size in (("hours", 3_600), ("minutes", 60)):
    if seconds >= 1.5 * size:
      return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"
  return f"{seconds:.2g} seconds"


@contextlib.contextmanager
def _one_line(task: Task) -> Iterator[None]:
  """Turns what an environment's own code raises into one line that says where."""
  try:
    yield
  except Exception as error:
    place = traceback.extract_tb(error.__traceback__)[-1]
    if place.filename.startswith(os.path.dirname(maac_tf.__file__)):  # the adapter's
      raise
    raise ConfigError(
      f"The environment of {task.name!r} failed: {type(error).__name__}: "
      f"{' '.join(str(error).split())} ({place.filename}, line {place.lineno})."
    ) from error


if __name__ == "__main__":
  app.run(main)
