"""The adapter between a Gymnasium environment and networks whose actions lie in [-1, 1]."""

import math
from typing import Any

import gymnasium as gym
import numpy as np

from maac_tf.data.types import TimeStep
from maac_tf.tasks.actions import ActionBox

LARGEST_REWARD = 1e12  # squares of returns of larger ones are infinite in float32
_WRONG_NUMBER = (
  f"numbers must be finite, and rewards {LARGEST_REWARD:.0e} at the most. Correct the environment."
)


class Environment:
  """A Gymnasium environment with float32 vectors for observations and actions in [-1, 1].

  Observations may be boxes of any shape and type of number, and dictionaries and tuples of them;
  they are flattened. Discrete parts of these are one-hot.

  Attributes:
    env: what is adapted.
    observation_size: S.
    action_size: A.
    action_box: the actions in the environment's units.
  """

  def __init__(self, env: gym.Env):
    """Raises ValueError, with what to do, for an environment that cannot be learned in."""
    self._actions = _checked_actions(env)
    self.env = env
    self.action_box = ActionBox(self._actions)
    self.observation_size = gym.spaces.flatdim(env.observation_space)
    self.action_size = self.action_box.size
    self._high = np.ones(self.action_size, np.float32)
    self._low = -self._high
    self._ones = np.ones(self.observation_size, np.float32)
    space = env.observation_space
    self._vector = (
      space.shape if isinstance(space, gym.spaces.Box) and len(space.shape) == 1 else None
    )
    self._plain_actions = self._actions.dtype == np.float32 and len(self._actions.shape) == 1

  def reset(self, seed: int | None = None) -> np.ndarray:
    """Starts an episode; returns the first observation, [S] float32."""
    answer = self.env.reset(seed=seed)
    if not isinstance(answer, tuple) or len(answer) != 2:
      raise ValueError(
        f"reset() of {_name(self.env)} must return (observation, info), not {_shorten(answer)}."
      )
    observation = self._flat(answer[0], "reset()")
    if not np.isfinite(observation).all():
      raise FloatingPointError(
        f"reset() of {_name(self.env)} returned {_line(observation)}: {_WRONG_NUMBER}"
      )
    return observation

  def step(self, action: np.ndarray) -> TimeStep:
    """Takes `action`, [A] in [-1, 1] (clipped to it).

    Raises:
      ValueError: for what is not of the declared kind.
      FloatingPointError: for a number that is not finite, or a reward beyond `LARGEST_REWARD`.
    """
    # np.clip takes three times as long, and arrays less than numbers.
    action = np.minimum(np.maximum(action, self._low), self._high)
    return self.step_in_units(self.action_box.units_in_numpy(action))

  def step_in_units(self, action: np.ndarray) -> TimeStep:
    """Takes `action`, [A] in the environment's units."""
    space = self._actions
    if not self._plain_actions:  # of float32, the action box has the bounds
      action = action.astype(space.dtype).reshape(space.shape)
      action = np.minimum(np.maximum(action, space.low), space.high)
    answer = self.env.step(action)
    if not isinstance(answer, tuple) or len(answer) != 5:
      raise ValueError(
        f"step() of {_name(self.env)} must return (observation, reward, terminated, truncated, "
        f"info), not {_shorten(answer)}."
      )
    observation, reward, terminal, truncated, info = answer
    observation = self._flat(observation, "step()")
    reward = self._number(reward, "reward")
    # np.isfinite(observation).all() takes thrice as long, but a sum of large numbers is infinite.
    if not (math.isfinite(observation.dot(self._ones)) and abs(reward) <= LARGEST_REWARD):
      if not (np.isfinite(observation).all() and abs(reward) <= LARGEST_REWARD):
        raise FloatingPointError(
          f"step() of {_name(self.env)} returned {_line(observation)} and reward {reward} after "
          f"action {_line(action)}: {_WRONG_NUMBER}"
        )
    if type(terminal) is not bool:
      terminal = bool(self._number(terminal, "terminated"))
    if type(truncated) is not bool:
      truncated = bool(self._number(truncated, "truncated"))
    # What environments of the old interface say of an end at a time limit.
    if isinstance(info, dict) and info.get("TimeLimit.truncated"):
      terminal, truncated = False, True
    return TimeStep(observation, reward, terminal, truncated)

  @property
  def time_limit(self) -> int | None:
    """Steps after which an episode is cut off, where Gymnasium's wrapper says so."""
    limits, env = [], self.env
    while isinstance(env, gym.Wrapper):
      if isinstance(env, gym.wrappers.TimeLimit):
        limits.append(env._max_episode_steps)
      env = env.env
    return min(limits, default=None)

  def close(self) -> None:
    self.env.close()

  def _flat(self, value: Any, source: str) -> np.ndarray:
    if type(value) is np.ndarray and value.shape == self._vector and value.dtype.kind == "f":
      return value.astype(np.float32)  # the usual, in a fifth of the time
    return flatten(self.env.observation_space, value, f"{source} of {_name(self.env)}")

  def _number(self, value: Any, what: str) -> float:
    """Of a number, or an array of one."""
    if isinstance(value, (float, bool, np.floating, np.bool_)):
      return float(value)
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiub":
      raise ValueError(
        f"step() of {_name(self.env)} must return a number for {what}, not {_shorten(value)}."
      )
    return float(array.item())


def flatten(space: gym.Space[Any], value: Any, source: str) -> np.ndarray:
  """The numbers of an observation, [S] float32.

  Raises:
    ValueError: for what is not of the space; it begins with `source`.
  """
  parts: list[np.ndarray] = []
  _flatten(space, value, source, "", parts)
  return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _flatten(
  space: gym.Space[Any], value: Any, source: str, key: str, parts: list[np.ndarray]
) -> None:
  """Appends the numbers of an observation, [n] float32 each."""
  if isinstance(space, gym.spaces.Dict):
    missing = [k for k in space.spaces if not isinstance(value, dict) or k not in value]
    if missing:
      raise ValueError(f"{source}: it must be a dictionary with {missing[0]!r}: {space}.")
    for k, part in space.spaces.items():
      _flatten(part, value[k], source, f"{key}[{k!r}]", parts)
  elif isinstance(space, gym.spaces.Tuple):
    if not isinstance(value, (tuple, list)) or len(value) != len(space.spaces):
      raise ValueError(f"{source}: it must have {len(space.spaces)} parts: {space}.")
    for i, part in enumerate(space.spaces):
      _flatten(part, value[i], source, f"{key}[{i}]", parts)
  elif isinstance(space, gym.spaces.Box):
    array = np.asarray(value)
    if array.shape != space.shape or array.dtype.kind not in "fiub":
      raise ValueError(
        f"{source}: the observation{key} must be numbers of shape {space.shape}, as its space "
        f"declares; it is {array.dtype} of shape {array.shape}: {_shorten(value)}."
      )
    parts.append(array.astype(np.float32).ravel())
  else:  # one-hot
    parts.append(np.asarray(gym.spaces.flatten(space, value), np.float32))


def _checked_actions(env: Any) -> gym.spaces.Box:
  """The actions of an environment; ValueError, with the reason, if it cannot be learned in."""
  name = _name(env)
  if isinstance(env, gym.vector.VectorEnv):
    raise ValueError(f"{name} is a vector of environments: give a function that makes one of them.")
  if not isinstance(env, gym.Env):
    raise ValueError(
      f"{name} is no gymnasium.Env but a {type(env).__module__}.{type(env).__name__}: for an "
      "environment of the old package gym, use shimmy's GymV26CompatibilityV0 or "
      "GymV21CompatibilityV0."
    )
  actions = env.action_space
  if not isinstance(actions, gym.spaces.Box) or not np.issubdtype(actions.dtype, np.floating):
    raise ValueError(
      f"The action space of {name} is {actions}: actions must be a Box of real numbers, since the "
      "policy follows the derivative of the return with respect to them."
    )
  if not np.all(actions.low <= actions.high) or not actions.low.size:
    raise ValueError(f"The action space of {name} is {actions}: it is empty.")
  _refuse_observations(env.observation_space, name)
  return actions


def _refuse_observations(space: gym.Space[Any], name: str) -> None:
  if isinstance(space, (gym.spaces.Dict, gym.spaces.Tuple)):
    parts = space.spaces.values() if isinstance(space, gym.spaces.Dict) else space.spaces
    for part in parts:
      _refuse_observations(part, name)
  elif isinstance(space, gym.spaces.Box):
    if len(space.shape) >= 2 and (space.dtype == np.uint8 or len(space.shape) >= 3):
      raise ValueError(
        f"The observations of {name} hold an image, {space}: models of images are not part of this "
        "package. Give the state, or features of the image."
      )
  elif not space.is_np_flattenable:
    raise ValueError(
      f"The observations of {name} hold {space}, which has no fixed number of numbers: use a "
      "wrapper that gives a Box, or a Dict or Tuple of Boxes."
    )


def _name(env: Any) -> str:
  spec = getattr(env, "spec", None)
  return spec.id if spec else type(getattr(env, "unwrapped", env)).__name__


def _line(numbers: np.ndarray) -> str:
  """[N] on one line; of many the first, and the first that is not finite with its place."""
  text = " ".join(str(numbers).split())
  if len(text) <= 200:
    return text
  bad = np.flatnonzero(~np.isfinite(numbers))
  where = f" ({numbers[bad[0]]} at number {bad[0]} of {len(numbers)})" if bad.size else ""
  return f"{text[:100]} ...]{where}"


def _shorten(value: Any) -> str:
  text = " ".join(repr(value).split())
  return text if len(text) <= 80 else f"{text[:77]}..."
