"""What a training will meet in an environment, and what it will cost, before it is started:

python -m maac_tf.check --env=Reacher-v5
"""

import resource
import sys
import time
from collections.abc import Callable

import tensorflow as tf
from absl import app, flags, logging

from maac_tf.checks import ConfigError
from maac_tf.runs import command_line, config, experiment
from maac_tf.tasks import environment_check
from maac_tf.tasks.task import Task

_SETTING, _THREADS = command_line.define_setting(), command_line.define_threads()
_STEPS = flags.DEFINE_integer("steps", 1_000, "Random steps of the environment.", lower_bound=10)
_COST = flags.DEFINE_bool("cost", True, "Measure what a training will cost; takes a minute.")


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  experiment.use_threads(_THREADS.value)
  try:
    command_line.load(_SETTING)
    with config.user_errors():
      task = experiment.bound_task()
      errors = _environment(task)
      if not errors and _COST.value:
        _cost()
  except (ConfigError, FloatingPointError) as error:
    print(f"Error: {error}", file=sys.stderr)
    return 1
  return int(errors)


def _environment(task: Task) -> bool:
  """Prints what an environment of the task does; whether training cannot work."""
  environment = task.make_environment()
  print(
    f"{task.name}: observations of {environment.observation_size} numbers, actions of "
    f"{environment.action_size}; the reward is {_source(task.reward_fn)}, the end of an episode "
    f"{_source(task.termination_fn)}."
  )
  seen = environment_check.random_steps(environment, _STEPS.value)
  environment.close()
  again = environment_check.random_steps(task.make_environment(), _STEPS.value)
  found = environment_check.findings(task, seen, again)
  if environment_check.same_object(task):
    text = "Every call makes the same environment: evaluation would step that of the training."
    found.append(environment_check.Finding("warning", text))
  for level, text in found:
    print(text if level == "note" else f"{level.capitalize()}: {text}")
  print(f"{len(seen.steps.reward) / seen.seconds:,.0f} steps a second.")
  return any(level == "error" for level, _ in found)


def _source(function: object) -> str:
  return "learned" if function is None else "a function of the task"


def _cost() -> None:
  """Prints what a training takes, from a few updates and a fit."""
  trainer = experiment.make_trainer()
  learner = trainer.learner
  start = time.perf_counter()
  trainer.collect(trainer.random_steps, random=True)
  learner.begin_iteration()
  acting = (time.perf_counter() - start) / trainer.random_steps
  seed = tf.constant([0, 0], tf.int64)
  fit = learner.dynamics_fit
  fitting = _seconds(lambda: fit.fit(seed)) if fit else 0.0
  imagining = _seconds(trainer.imagine) if learner.imagines else 0.0
  updating = _seconds(lambda: learner.train(10, seed)["critic/loss"].numpy()) / 10
  updates = trainer.rounds * trainer.rollout_frequency
  learning = fitting + trainer.rounds * imagining + updates * updating
  iteration = trainer.steps_per_iteration * acting + learning
  iterations = int(config.values()["train.iterations"])
  first = trainer.random_steps * acting + -(-trainer.initial_updates // updates) * learning
  steps = trainer.random_steps + iterations * trainer.steps_per_iteration
  print(
    f"A training of {steps:,} steps: about {(first + iterations * iteration) / 60:,.0f} minutes, "
    f"of which {first / 60:,.1f} are before the policy acts, then {iteration:.1f} s an iteration; "
    f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB of memory. (Evaluations "
    "not included; on this machine as it is now.)"
  )


def _seconds(function: Callable[[], object]) -> float:
  function()  # compiles
  start = time.perf_counter()
  function()
  return time.perf_counter() - start


if __name__ == "__main__":
  app.run(main)
