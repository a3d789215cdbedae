"""The adapter between a Gymnasium environment and networks whose actions lie in [-1, 1]."""

import math
from typing import Any

import gymnasium as gym
import numpy as np

from maac_tf.data.types import TimeStep


class Environment:
  """A Gymnasium environment with float32 observations and actions in [-1, 1].

  Attributes:
    env: what is adapted.
    observation_size: S.
    action_size: A.
    action_scale, action_shift: [A] float32; an action `a` of the networks is
      `a * action_scale + action_shift` in the environment's units. An action without bounds has
      scale 1: of it, the policy uses [-1, 1].
  """

  def __init__(self, env: gym.Env):
    """Raises ValueError unless observations and actions are flat boxes, actions not half-open."""
    observations = _flat_box("observation", env.observation_space)
    actions = _flat_box("action", env.action_space)
    low, high = actions.low, actions.high
    bounded = np.isfinite(low)
    if np.any(bounded != np.isfinite(high)):
      raise ValueError(f"Every action must have two bounds or none, not {env.action_space}.")
    self.env = env
    self.observation_size = observations.shape[0]
    self.action_size = actions.shape[0]
    low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    self.action_scale = ((high - low) / 2).astype(np.float32)
    self.action_shift = ((high + low) / 2).astype(np.float32)
    self._high = np.ones(self.action_size, np.float32)
    self._low = -self._high

  def reset(self, seed: int | None = None) -> np.ndarray:
    """Starts an episode; returns the first observation, [S] float32."""
    observation, _ = self.env.reset(seed=seed)
    return observation.astype(np.float32)

  def step(self, action: np.ndarray) -> TimeStep:
    """Takes `action`, [A] in [-1, 1] (clipped to it)."""
    # np.clip takes three times as long, and arrays less than numbers.
    action = np.minimum(np.maximum(action, self._low), self._high)
    action = action * self.action_scale + self.action_shift
    observation, reward, terminal, truncated, _ = self.env.step(action)
    # np.isfinite(observation).all() takes thrice as long.
    if not math.isfinite(observation.dot(observation) + reward):
      raise FloatingPointError(
        f"The environment returned {observation} and reward {reward} after action {action}."
      )
    return TimeStep(observation.astype(np.float32), float(reward), terminal, truncated)

  def close(self) -> None:
    self.env.close()


def _flat_box(name: str, space: gym.Space[Any]) -> gym.spaces.Box:
  if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
    raise ValueError(f"The {name} space must be a one-dimensional Box, not {space}.")
  return space
