"""The tasks, each an environment with the same reward and termination in TensorFlow.

`reward_fn(observation, action, next_observation)` returns the reward and
`termination_fn(observation, action, next_observation)` whether the episode truly ends there. Both
take [..., S], [..., A], [..., S] in the environment's units (action after clipping to the actuator
range) and return [...]; the reward is differentiable, as the H-step objective needs it.

HalfCheetah, Hopper, Walker2d and Ant are those of Wang et al. 2019, which the paper uses:
Gymnasium's physics, no termination, 1,000 steps, all of the velocities, unclipped. The tasks whose
names end in v5 are Gymnasium's own; their rewards are of the distance travelled, which no
observation holds, so that the models learn them.

Where a robot can turn over, the task has coordinates (`make_task.coordinates`): sine and cosine of
its pitch, or the frame of its torso. Gymnasium's hopper and walker fall before; their velocities
are shown clipped, and so imagined. Of a robot that is alike left and right, or all round, the task
has symmetries (`make_task.symmetries`).
"""

import dataclasses
import difflib
import importlib
import traceback
from typing import Annotated

from maac_tf.checks import Option, configurable
from maac_tf.tasks.coordinates import PLAIN
from maac_tf.tasks.gymnasium_tasks import GYMNASIUM_TASKS
from maac_tf.tasks.locomotion import LOCOMOTION_TASKS
from maac_tf.tasks.task import Task

TASKS = {task.name: task for task in (*LOCOMOTION_TASKS, *GYMNASIUM_TASKS)}


def find_task(name: str) -> Task:
  """The task of that name, or of MODULE:NAME, a `Task` called NAME in a module of the user's.

  Raises:
    ValueError: if there is no such module or task, naming the nearest.
  """
  module = str(name).rpartition(":")[0]
  tasks = _tasks_of(module) if module else TASKS
  if name not in tasks:
    nearest = difflib.get_close_matches(str(name), tasks, n=1, cutoff=0)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(
      f"There is no task {name!r}.{hint} The tasks are: {', '.join(tasks) or 'none'}."
    )
  return tasks[name]


@configurable
def make_task(
  name: str,
  learn_reward: Annotated[
    bool, Option("learn the reward, even where the task has a function; always where it has none")
  ] = False,
  coordinates: Annotated[
    bool,
    Option(
      "observation preprocessing: policy, critics and models see, and models predict, in the "
      "coordinates of the task, where it has some (an ant's: in the frame of its torso). After a "
      "whole turn a robot is what it was before; velocities that are shown clipped are imagined so"
    ),
  ] = True,
  symmetries: Annotated[
    bool,
    Option(
      "data augmentation: the models learn the images of transitions, too, by the symmetries of "
      "the task, where it has some (a walker's: left and right)"
    ),
  ] = False,
) -> Task:
  """The task that `find_task` finds, with that of its knowledge which is to be used."""
  task = find_task(name)
  return dataclasses.replace(
    task,
    reward_fn=None if learn_reward else task.reward_fn,
    coordinates=task.coordinates if coordinates else PLAIN,
    symmetries=task.symmetries if symmetries else (),
  )


def _tasks_of(module: str) -> dict[str, Task]:
  """The tasks in a module, by MODULE:NAME, which is what a run and its policy remember."""
  try:
    found = vars(importlib.import_module(module))
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
  found = {f"{module}:{name}": value for name, value in found.items() if isinstance(value, Task)}
  return {name: dataclasses.replace(task, name=name) for name, task in found.items()}
