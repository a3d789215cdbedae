"""The tasks of Wang et al. 2019, which the paper uses."""

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import tensorflow as tf
from absl import logging
from gymnasium.envs.mujoco import MujocoEnv

from maac_tf.tasks.task import Task, never_terminates


def _log_mujoco_warning(message: str) -> None:
  # Gymnasium's half-cheetah and ant set this; it is not for their user to mend.
  if "settotalmass" not in message:
    logging.warning("MuJoCo: %s", message)


def make_env(gym_id: str, **kwargs: Any) -> gym.Env:
  """Gymnasium's environment of that id; MuJoCo's warnings go to the log."""
  # Without a handler of its own, MuJoCo writes MUJOCO_LOG.TXT into the working directory.
  mujoco.set_mju_user_warning(_log_mujoco_warning)
  return gym.make(gym_id, **kwargs)


class _LocomotionEnv(gym.Wrapper):
  """Wang et al.'s observation and reward over Gymnasium's physics.

  Observation: (q[skipped:], v). Reward: v_x - 0.1 |a|², and -3 (z - height)² + 1 with a height.
  """

  def __init__(self, gym_id: str, skipped: int, z_index: int, height: float | None, **kwargs: Any):
    super().__init__(make_env(gym_id, **kwargs))
    self._skipped, self._z_index, self._height = skipped, z_index, height
    size = self._observation().size
    self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)

  @property
  def _data(self) -> mujoco.MjData:
    """Of the simulation, as it is now."""
    robot = self.unwrapped
    assert isinstance(robot, MujocoEnv), "as `make_env` makes it"
    return robot.data

  def _observation(self) -> np.ndarray:
    data = self._data
    return np.concatenate([data.qpos[self._skipped :], data.qvel])

  def reset(
    self, *, seed: int | None = None, options: dict[str, Any] | None = None
  ) -> tuple[np.ndarray, dict[str, Any]]:
    _, info = self.env.reset(seed=seed, options=options)
    return self._observation(), info

  def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    _, _, terminated, truncated, info = self.env.step(action)
    data = self._data
    reward = data.qvel[0] - 0.1 * np.sum(np.square(action))
    if self._height is not None:
      reward += 1.0 - 3.0 * (data.qpos[self._z_index] - self._height) ** 2
    return self._observation(), reward, terminated, truncated, info


def _locomotion_task(
  name: str,
  gym_id: str,
  *,
  positions: int,
  skipped: int,
  z_index: int = 0,
  height: float | None = None,
  **kwargs: Any,
) -> Task:
  """A task of Wang et al.; `positions` is the length of MuJoCo's q, `z_index` of z in it."""
  x_velocity = positions - skipped  # v follows q[skipped:] in the observation

  def reward_fn(
    observation: tf.Tensor, action: tf.Tensor, next_observation: tf.Tensor
  ) -> tf.Tensor:
    del observation
    reward = next_observation[..., x_velocity] - 0.1 * tf.reduce_sum(tf.square(action), -1)
    if height is not None:
      z = next_observation[..., z_index - skipped]
      reward += 1.0 - 3.0 * tf.square(z - height)
    return reward

  def make_gym_env(**more: Any) -> gym.Env:
    return _LocomotionEnv(gym_id, skipped, z_index, height, **kwargs, **more)

  return Task(name, make_gym_env, reward_fn, never_terminates)


LOCOMOTION_TASKS = (
  _locomotion_task("half_cheetah", "HalfCheetah-v5", positions=9, skipped=1),
  _locomotion_task(
    "hopper",
    "Hopper-v5",
    positions=6,
    skipped=1,
    z_index=1,
    height=1.3,
    terminate_when_unhealthy=False,
  ),
  _locomotion_task(
    "walker2d",
    "Walker2d-v5",
    positions=9,
    skipped=1,
    z_index=1,
    height=1.3,
    terminate_when_unhealthy=False,
    xml_file="walker2d.xml",  # the v5 file has other foot friction than the authors'
  ),
  _locomotion_task(
    "ant",
    "Ant-v5",
    positions=15,
    skipped=2,
    z_index=2,
    height=0.57,
    terminate_when_unhealthy=False,
  ),
)
