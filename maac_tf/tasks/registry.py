"""The tasks, each an environment with the same reward and termination in TensorFlow.

`reward_fn(observation, action, next_observation)` returns the reward and
`termination_fn(observation, action, next_observation)` whether the episode truly ends there. Both
take [..., S], [..., A], [..., S] in the environment's units (action after clipping to the actuator
range) and return [...]; the reward is differentiable, as the H-step objective needs it.

HalfCheetah, Hopper, Walker2d and Ant are those of Wang et al. 2019, which the paper uses:
Gymnasium's physics, no termination, 1,000 steps, all of the velocities, unclipped. The tasks whose
names end in v5 are Gymnasium's own; their rewards are of the distance travelled, which no
observation holds, so that the models learn them.
"""

import dataclasses
import difflib
import functools
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import gymnasium as gym

from maac_tf.checks import Option, configurable
from maac_tf.tasks.gymnasium_tasks import GYMNASIUM_TASKS
from maac_tf.tasks.locomotion import LOCOMOTION_TASKS, make_env
from maac_tf.tasks.task import Task, never_terminates

TASKS = {task.name: task for task in (*LOCOMOTION_TASKS, *GYMNASIUM_TASKS)}


def find_task(name: str | Task) -> Task:
  """The task of that name; a task is itself.

  Args:
    name: of `TASKS`; or the id of a registered Gymnasium environment, of which the models learn
      reward and end; or MODULE:NAME, where NAME is a `Task` of the module, a function that makes a
      Gymnasium environment, or an id that the module registers, such as
      shimmy:dm_control/cartpole-swingup-v0.

  Raises:
    ValueError: if there is no such module, task or environment, naming the nearest.
  """
  if isinstance(name, Task):
    return name
  name = str(name)
  if name in TASKS:
    return TASKS[name]
  module, _, attribute = name.rpartition(":")
  if module == "shimmy" and not all(map(importlib.util.find_spec, ("shimmy", "dm_control"))):
    raise ValueError(
      f"The task {name!r} needs what is not installed: "
      "pip install --constraint constraints.txt --editable '.[dm_control]'."
    )
  if module:
    value = _import(module).get(attribute)
    if isinstance(value, Task):
      return dataclasses.replace(value, name=name)
    if callable(value):
      return Task(name, value)
  if attribute in gym.registry:
    return Task(name, functools.partial(make_env, attribute))
  if module == "__main__" or "<" in name:
    raise ValueError(
      f"The environment {name!r} was an object of a Python program: to go on with the run, give it "
      "again there, MAAC.load(RUN_DIR, ENVIRONMENT)."
    )
  known = [f"{module}:{n}" for n, v in _import(module).items() if isinstance(v, Task)]
  known = known if module else list(TASKS)
  nearest = difflib.get_close_matches(name, [*known, *gym.registry], n=1, cutoff=0.6)
  hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
  raise ValueError(
    f"There is no task and no Gymnasium environment {name!r}.{hint} The tasks are: "
    f"{', '.join(known) or 'none'}."
  )


def task_of(environment: str | Task | Callable[[], gym.Env]) -> Task:
  """The task that a caller means, under a name that a run's config can hold.

  A variable of a module, or of the program that runs, is named MODULE:NAME: there, `find_task`
  finds it again. Nothing finds what is named <NAME>, such as a lambda.

  Args:
    environment: a name as of `find_task`, a task, or a function that makes an environment.

  Raises:
    ValueError: for anything else, or if there is no such environment.
  """
  if isinstance(environment, str):
    return find_task(environment)
  if isinstance(environment, Task):
    if TASKS.get(environment.name) is environment:
      return environment
    name = _variable(environment, sorted(sys.modules, key="__main__".__eq__))  # that one last
    name = name or f"<{environment.name}>"
    return dataclasses.replace(environment, name=name)
  if not callable(environment):
    raise ValueError(
      f"The environment must be an id, a Task or a function that makes one, not {environment!r}: "
      "evaluations need further ones, so give gymnasium.make's id, or lambda: make_my_env()."
    )
  module = getattr(environment, "__module__", "")
  unnamed = getattr(environment, "__qualname__", type(environment).__name__).strip("<>")
  return Task(_variable(environment, [module]) or f"<{unnamed}>", environment)


def _variable(value: object, modules: list[str]) -> str | None:
  """MODULE:NAME of the variable that holds the value, None if none does."""
  for module in modules:
    for name, other in list(getattr(sys.modules.get(module), "__dict__", {}).items()):
      if other is value:
        return f"{module}:{name}"
  return None


@configurable
def make_task(
  name: str | Task,
  learn_reward: Annotated[
    bool, Option("learn the reward, even where the task has a function; always where it has none")
  ] = False,
  learn_end: Annotated[
    bool,
    Option(
      "learn the end of an episode, even where the task has a function: a fall that is coming then "
      "has a gradient. Always without a function, and never where nothing ends"
    ),
  ] = True,
  episode_steps: Annotated[
    int | None,
    Option("a time limit, for an environment that has none; of two the shorter counts", low=1),
  ] = None,
  env_kwargs: Annotated[
    dict[str, Any] | None, Option('keyword arguments of the environment, such as {"xml_file": "a"}')
  ] = None,
) -> Task:
  """The task that `find_task` finds, with that of its knowledge which is to be used."""
  task = find_task(name)

  def make_gym_env(**more: Any) -> gym.Env:
    env = task.make_gym_env(**(env_kwargs or {}), **more)
    return gym.wrappers.TimeLimit(env, episode_steps) if episode_steps else env

  ends = task.termination_fn is not never_terminates
  return dataclasses.replace(
    task,
    make_gym_env=make_gym_env if episode_steps or env_kwargs else task.make_gym_env,
    reward_fn=None if learn_reward else task.reward_fn,
    termination_fn=None if learn_end and ends else task.termination_fn,
  )


def _import(module: str) -> dict[str, Any]:
  """What a module has, by name; of no module nothing."""
  if not module:
    return {}
  try:
    return vars(importlib.import_module(module))
  except ModuleNotFoundError as error:
    if not f"{module}.".startswith(f"{error.name}."):  # a module that this one needs
      raise
    raise ValueError(
      f"There is no module {module!r} in the current folder or among the installed packages, for a "
      "task MODULE:NAME."
    ) from error
  except Exception as error:
    place = traceback.extract_tb(error.__traceback__)[-1]
    raise ImportError(
      f"The module {module!r} of the task fails: {type(error).__name__}: {error} "
      f"({place.filename}, line {place.lineno})."
    ) from error
