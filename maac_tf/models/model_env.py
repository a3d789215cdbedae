"""The ensemble with reward and termination functions: an environment to imagine in.

Shapes: N trajectories, E members, S, A sizes.
"""

from typing import NamedTuple

import tensorflow as tf

from maac_tf.models.ensemble import Dynamics
from maac_tf.models.members import random_member
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.task import Task


class ModelStep(NamedTuple):
  """The outcome of an imagined step, in the task's units."""

  next_observation: tf.Tensor  # [..., S]
  reward: tf.Tensor  # [...]
  terminal: tf.Tensor  # [...] bool


class ModelEnv:
  """The ensemble as the `step` of a rollout.

  Attributes:
    ensemble_size: E.
    draw_noise: (shape, seed) -> what a step takes as the noise of the models, [*shape, O].
  """

  def __init__(self, dynamics: Dynamics, task: Task, environment: Environment):
    """Takes the scale of actions from `environment`, which is not stepped."""
    self._dynamics, self._task = dynamics, task
    self.ensemble_size, self.draw_noise = dynamics.ensemble_size, dynamics.draw_noise
    self._action_box = environment.action_box

  def random_member(
    self, observation: tf.Tensor, action: tf.Tensor, noise: tuple[tf.Tensor, tf.Tensor]
  ) -> ModelStep:
    """f_U: each of [N, ...] trajectories by a random member; noise: (of the model, permutation)."""
    sizes = self._dynamics.sample, self.ensemble_size
    return self._step(observation, action, random_member(*sizes, observation, action, *noise))

  def own_member(self, observation: tf.Tensor, action: tf.Tensor, noise: tf.Tensor) -> ModelStep:
    """f_m: [E, N, ...], each trajectory by the member it is dealt to."""
    return self._step(observation, action, self._dynamics.sample(observation, action, noise))

  def _step(self, observation: tf.Tensor, action: tf.Tensor, outcome: tf.Tensor) -> ModelStep:
    next_observation = self._dynamics.next_observation(observation, outcome)
    arguments = observation, self._action_box.units(action), next_observation
    if self._dynamics.predicts_reward:
      reward = outcome[..., -1]
    else:
      assert self._task.reward_fn, "a reward that has no function is predicted"
      reward = self._task.reward_fn(*arguments)
    return ModelStep(next_observation, reward, self._task.termination_fn(*arguments))
