"""Gymnasium's own tasks, and the double integrator of section 5.2."""

import functools
from typing import Any

import gymnasium as gym
import tensorflow as tf

from maac_tf.tasks.double_integrator import DoubleIntegrator
from maac_tf.tasks.locomotion import make_env
from maac_tf.tasks.task import Task, TensorFn, never_terminates


def _gymnasium_task(
  name: str,
  gym_id: str,
  termination_fn: TensorFn = never_terminates,
  **kwargs: Any,
) -> Task:
  """Gymnasium's own task, with its reward and termination."""
  return Task(name, functools.partial(make_env, gym_id, **kwargs), None, termination_fn)


def _hopper_terminates(
  observation: tf.Tensor, action: tf.Tensor, next_observation: tf.Tensor
) -> tf.Tensor:
  """Gymnasium's: fallen (z <= 0.7 or |angle| >= 0.2), or any number beyond 100 but z."""
  del observation, action
  z, angle, rest = next_observation[..., 0], next_observation[..., 1], next_observation[..., 1:]
  healthy = (z > 0.7) & (tf.abs(angle) < 0.2) & tf.reduce_all(tf.abs(rest) < 100.0, -1)
  return ~healthy


def _walker2d_terminates(
  observation: tf.Tensor, action: tf.Tensor, next_observation: tf.Tensor
) -> tf.Tensor:
  """Gymnasium's: z outside (0.8, 2) or |angle| >= 1."""
  del observation, action
  z, angle = next_observation[..., 0], next_observation[..., 1]
  return ~((z > 0.8) & (z < 2.0) & (tf.abs(angle) < 1.0))


def _ant_terminates(
  observation: tf.Tensor, action: tf.Tensor, next_observation: tf.Tensor
) -> tf.Tensor:
  """Gymnasium's: z outside [0.2, 1]."""
  del observation, action
  z = next_observation[..., 0]
  return ~((z >= 0.2) & (z <= 1.0))


def _pendulum_reward(
  observation: tf.Tensor, action: tf.Tensor, next_observation: tf.Tensor
) -> tf.Tensor:
  """Gymnasium's: the cost of the angle, speed and torque before the step."""
  del next_observation
  cos, sin, speed = tf.unstack(observation, axis=-1)
  angle = tf.atan2(sin, cos)
  return -(tf.square(angle) + 0.1 * tf.square(speed) + 0.001 * tf.square(action[..., 0]))


def _double_integrator_reward(
  observation: tf.Tensor, action: tf.Tensor, next_observation: tf.Tensor
) -> tf.Tensor:
  del next_observation
  return -0.5 * (tf.reduce_sum(tf.square(observation), -1) + tf.square(action[..., 0]))


def _make_double_integrator() -> gym.Env:
  return gym.wrappers.TimeLimit(DoubleIntegrator(), max_episode_steps=200)


GYMNASIUM_TASKS = (
  _gymnasium_task("half_cheetah_v5", "HalfCheetah-v5"),
  _gymnasium_task("hopper_v5", "Hopper-v5", _hopper_terminates),
  _gymnasium_task("walker2d_v5", "Walker2d-v5", _walker2d_terminates),
  _gymnasium_task("ant_v5", "Ant-v5", _ant_terminates, include_cfrc_ext_in_observation=False),
  Task("pendulum", functools.partial(make_env, "Pendulum-v1"), _pendulum_reward, never_terminates),
  Task("double_integrator", _make_double_integrator, _double_integrator_reward, never_terminates),
)
