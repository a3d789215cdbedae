"""Tasks: an environment with its reward and termination as TensorFlow functions."""

from maac_tf.envs.environment import Environment, TimeStep
from maac_tf.envs.symmetries import Symmetry
from maac_tf.envs.tasks import TASKS, Task, make_task

__all__ = ["TASKS", "Environment", "Symmetry", "Task", "TimeStep", "make_task"]
