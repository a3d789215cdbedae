"""Tasks: an environment with its reward and termination as TensorFlow functions."""

from maac_tf.data.types import TimeStep
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.registry import TASKS, make_task
from maac_tf.tasks.symmetries import Symmetry
from maac_tf.tasks.task import Task, never_terminates

__all__ = ["TASKS", "Environment", "Symmetry", "Task", "TimeStep", "make_task", "never_terminates"]
