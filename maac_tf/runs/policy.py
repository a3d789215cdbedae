"""A policy to act with, in the form of Stable-Baselines3's `predict`."""

import os
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import tensorflow as tf

from maac_tf import files
from maac_tf.algorithm.learner import Maac
from maac_tf.checks import ConfigError
from maac_tf.runs import runtimes
from maac_tf.tasks.adapter import flatten

# (observations [N, S] float32, deterministic) -> actions [N, A] in the environment's units.
Act = Callable[[np.ndarray, bool], np.ndarray]


class Policy:
  """Acts in an environment, or in several side by side.

  Attributes:
    observation_space, action_space: of one environment.
  """

  def __init__(self, act: Act, observation_space: gym.Space[Any], action_space: gym.spaces.Box):
    self._act = act
    self.observation_space, self.action_space = observation_space, action_space

  def predict(
    self,
    observation: Any,
    state: Any = None,
    episode_start: Any = None,
    deterministic: bool = False,
  ) -> tuple[np.ndarray, None]:
    """The action for an observation, or the actions for those of N environments.

    Args:
      observation: what the environment returned, or N of them as a vector of environments returns
        them: an array with a leading dimension, and of a Dict or Tuple one of such arrays.
      state, episode_start: for recurrent policies: they have no effect.
      deterministic: the most likely action, or else one that is drawn.

    Returns:
      (action, None): of the action space's shape and type, in its units; of N observations, N.

    Raises:
      ValueError: for an observation of another shape.
    """
    del state, episode_start
    observations, one = _rows(self.observation_space, observation)
    space = self.action_space
    actions = self._act(observations, deterministic).astype(space.dtype)
    actions = np.clip(actions.reshape(-1, *space.shape), space.low, space.high)
    return (actions[0] if one else actions), None


def _rows(space: gym.Space[Any], observation: Any) -> tuple[np.ndarray, bool]:
  """([N, S] float32, whether it was one observation without a dimension N)."""
  source = "The observation for predict()"
  part, value = _first(space, observation)
  if np.ndim(value) != len(part.shape or ()) + 1:
    return flatten(space, observation, source)[np.newaxis], True
  rows = gym.vector.utils.iterate(gym.vector.utils.batch_space(space, len(value)), observation)
  return np.stack([flatten(space, row, source) for row in rows]), False


def _first(space: Any, value: Any) -> tuple[Any, Any]:
  """The first part of a space that is no Dict or Tuple, and of the value; None if it has none."""
  while isinstance(space, (gym.spaces.Dict, gym.spaces.Tuple)):
    key: Any = next(iter(space.spaces)) if isinstance(space, gym.spaces.Dict) else 0
    try:
      space, value = space[key], value[key]
    except (IndexError, KeyError, TypeError):
      return space, None
  return space, value


def policy_of(learner: Maac, env: gym.Env, generator: np.random.Generator) -> Policy:
  """A copy of a learner's EMA policy, as it is now.

  Args:
    env: one with the spaces of its task.
    generator: of the noise of actions that are drawn.
  """
  in_numpy, box = learner.actor_critic.ema_policy.in_numpy(), learner.action_box

  def act(observations: np.ndarray, deterministic: bool) -> np.ndarray:
    shape = len(observations), box.size
    noise = 0.0 if deterministic else generator.standard_normal(shape, np.float32)
    return box.units_in_numpy(in_numpy(observations, noise))

  assert isinstance(env.action_space, gym.spaces.Box), "the adapter refuses others"
  return Policy(act, env.observation_space, env.action_space)


def load_policy(path: str | os.PathLike[str], environment: gym.Env | None = None) -> Policy:
  """The policy in a SavedModel, such as RUN_DIR/policy, or in a file of LiteRT or ONNX.

  A SavedModel is a program: load one that you trust, or else a file of LiteRT. That of LiteRT or
  ONNX holds the deterministic policy alone.

  Args:
    path: the folder, a file .tflite or .onnx, or the name of a pre-trained policy, such as
      "hopper_v5".
    environment: where observations or actions are no vectors: one with their spaces. It is not
      stepped. Without it, observations are [S] or [N, S], and actions float32 [A] or [N, A].

  Raises:
    ConfigError: for no such policy, or one for another environment.
  """
  path = files.local(path)
  is_file = os.path.splitext(path)[1] in (".tflite", ".onnx")
  act, sizes = (_in_file if is_file else _in_saved_model)(path)
  spaces: list[Any] = [gym.spaces.Box(-np.inf, np.inf, (n,), np.float32) for n in sizes]
  if environment is not None:
    if not isinstance(environment, gym.Env | gym.vector.VectorEnv):
      raise ConfigError(
        f"environment must be one of Gymnasium, such as gym.make('Hopper-v5'), not {environment!r}."
      )
    given = environment.observation_space, environment.action_space
    for space, size, what in zip(given, sizes, ("observations", "actions"), strict=True):
      if gym.spaces.flatdim(space) != size:
        raise ConfigError(
          f"The policy in {path!r} is for {what} of {size} numbers, and the environment "
          f"has {gym.spaces.flatdim(space)}."
        )
    spaces = list(given)
  return Policy(act, *spaces)


def _in_saved_model(path: str) -> tuple[Act, tuple[int, int]]:
  """The policy, and the sizes of observation and action."""
  signatures = runtimes.saved_model(path).signatures
  try:
    functions = {True: signatures["serving_default"]}
    functions[False] = signatures.get("sample", functions[True])  # a planner has none
    observation = functions[True].structured_input_signature[1]["observation"]
    sizes = observation.shape[-1], functions[True].structured_outputs["action"].shape[-1]
  except KeyError as error:
    raise ConfigError(
      f"The SavedModel in {path!r} has no {error}: it is none of maac_tf's policies."
    ) from error

  def act(observations: np.ndarray, deterministic: bool) -> np.ndarray:
    return functions[deterministic](observation=tf.constant(observations))["action"].numpy()

  return act, sizes


def _in_file(path: str) -> tuple[Act, tuple[int, int]]:
  """The same of LiteRT or ONNX."""
  loaded = runtimes.load(path)
  if list(loaded.inputs) != ["observation"] or "action" not in loaded.outputs:
    raise ConfigError(f"The policy in {path!r} is none of maac_tf's.")
  size = int(loaded.inputs["observation"][-1] or 0)
  action_size = loaded.act(np.zeros([1, size], np.float32)).shape[-1]
  return lambda observations, deterministic: loaded.act(observations), (size, action_size)
