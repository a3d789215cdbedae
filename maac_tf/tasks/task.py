"""What the algorithm must know of an environment."""

import dataclasses
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import tensorflow as tf

from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.coordinates import PLAIN, Coordinates
from maac_tf.tasks.symmetries import Symmetry

TensorFn = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def never_terminates(
  observation: tf.Tensor, action: tf.Tensor, next_observation: tf.Tensor
) -> tf.Tensor:
  """The termination function of a task that only a time limit ends: False, [...]."""
  del observation, action
  return tf.zeros(tf.shape(next_observation)[:-1], tf.bool)


@dataclasses.dataclass(frozen=True)
class Task:
  """A named environment and what the imagined rollouts must know of it."""

  name: str
  make_gym_env: Callable[..., gym.Env]  # of keyword arguments that the environment has
  reward_fn: TensorFn | None = None  # None: the models learn the reward
  termination_fn: TensorFn | None = None  # None: the models learn the probability of an end
  coordinates: Coordinates = PLAIN  # what networks see of a state, and models predict
  symmetries: tuple[Symmetry, ...] = ()  # what is true of a transition is true of its images, too

  def __post_init__(self) -> None:
    if not all(isinstance(symmetry, Symmetry) for symmetry in self.symmetries):
      raise ValueError(
        f"The symmetries of task {self.name!r} must be a tuple of `Symmetry`, such as "
        f"(Symmetry(observation, action),), not {self.symmetries!r}."
      )

  def make_environment(self, **kwargs: Any) -> Environment:
    """Args: keyword arguments of the environment, such as `render_mode`."""
    return Environment(self.make_gym_env(**kwargs))

  def check_functions(self, observation_size: int, action_size: int) -> None:
    """Raises ValueError where one of the functions does not return what it must.

    Of reward and termination of [..., S], [..., A] and [..., S] that is [...]; of a symmetry of
    [..., S] and of [..., A] the same.
    """
    shape = 2, observation_size + action_size + 1  # no other size equals it
    state, action = tf.zeros([*shape, observation_size]), tf.zeros([*shape, action_size])
    kinds = ("reward", self.reward_fn, tf.float32), ("termination", self.termination_fn, tf.bool)
    for kind, function, dtype in kinds:
      if function is None:
        continue
      # As training traces it: a Python `if` on a tensor, or a column that there is not, is refused.
      value = tf.function(function, autograph=False)(state, action, state)
      if not tf.is_tensor(value) or value.dtype != dtype or value.shape != shape:
        what = f"{value.dtype.name} {list(value.shape)}" if tf.is_tensor(value) else repr(value)
        raise ValueError(
          f"The {kind} function of task {self.name!r} must return {dtype.name} [...] of [..., S], "
          f"[..., A] and [..., S], such as {list(shape)} of {list(state.shape)}, "
          f"{list(action.shape)} and {list(state.shape)}; it returned {what}."
        )
    for i, symmetry in enumerate(self.symmetries):
      for kind, of, x in zip(symmetry._fields, symmetry, (state, action), strict=True):
        graph = tf.function(of, autograph=False).get_concrete_function(x)
        image = graph.structured_outputs
        if not tf.is_tensor(image) or image.shape != x.shape or image.dtype != x.dtype:
          what = f"{image.dtype.name} {list(image.shape)}" if tf.is_tensor(image) else repr(image)
          raise ValueError(
            f"The image of an {kind} by symmetry {i} of task {self.name!r} must be float32 and of "
            f"the same size, {list(x.shape)}; it is {what}."
          )

  def disagreements(
    self,
    observation: tf.Tensor,
    action: tf.Tensor,
    reward: tf.Tensor,
    next_observation: tf.Tensor,
    terminal: tf.Tensor,
  ) -> list[str]:
    """Where the functions say otherwise than the environment did, a sentence each.

    Args:
      observation, action, reward, next_observation, terminal: [N, S], [N, A], [N], [N, S], [N],
        real steps in the environment's units. Rewards within a hundredth of their standard
        deviation, or float32's rounding, are equal; numbers of a state x within 0.001 (1 + |x|).
    """
    observation, action, next_observation = arguments = [
      tf.cast(x, tf.float32) for x in (observation, action, next_observation)
    ]
    sentences, tolerance = [], 1e-5 * np.max(np.abs(reward)) + 0.01 * np.std(reward)
    if self.reward_fn is not None:
      errors = np.abs(np.asarray(self.reward_fn(*arguments)) - reward)
      if not np.all(errors <= tolerance):  # nor is one that is no number
        sentences.append(
          f"its reward function differs from the environment's reward by {np.mean(errors):.3g} on "
          f"average (from {np.mean(reward):.3g} ± {np.std(reward):.3g})"
        )
    change = self.coordinates.change(observation, next_observation)
    error = np.abs(self.coordinates.apply(observation, change) - next_observation)
    if not np.all(error <= 1e-3 * (1.0 + np.abs(next_observation))):
      sentences.append(
        "its coordinates do not lead back to the next observation: apply(observation, "
        f"change(observation, next_observation)) is off by up to {np.max(error):.3g}"
      )
    terminal = np.asarray(terminal, bool)
    ends = np.asarray(self.termination_fn(*arguments)) if self.termination_fn else terminal
    if np.any(ends != terminal):
      sentences.append(
        f"its termination function ends {np.sum(ends)} steps and the environment "
        f"{np.sum(terminal)}, {np.sum(ends & terminal)} of them the same"
      )
    for i, symmetry in enumerate(self.symmetries):
      see, act = symmetry
      images = see(observation), act(action), see(next_observation)
      for kind, function in (("reward", self.reward_fn), ("end", self.termination_fn)):
        if function is None:
          continue
        same = [np.asarray(function(*x), np.float32) for x in (images, arguments)]
        if not np.all(np.abs(same[0] - same[1]) <= tolerance * (kind == "reward")):
          sentences.append(f"the {kind} of images by its symmetry {i} is not that of the steps")
    return sentences
