"""What every part of the package calls a step, and the functions that make one."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

# A tensor or a nest of them. Only the function that takes it knows which, and the one that drew it.
Noise = Any
# (observation [..., S], noise [..., A]) -> (action [..., A] in [-1, 1], log_prob [...]).
Act = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
# (observation, action, noise) -> (next_observation [..., S], reward [...], terminal [...]); the
# last is a bool, or a probability.
Step = Callable[[tf.Tensor, tf.Tensor, Noise], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]
# (observation, action) -> values: [...], or [Q, ...] of several critics.
Value = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
# (shape, seed [2] int) -> a models' noise [*shape, O].
DrawNoise = Callable[[Sequence[int], tf.Tensor], tf.Tensor]
# A standard deviation up to this share of the largest number is of rounding: a constant.
ROUNDING = 1e-6


class TimeStep(NamedTuple):
  """What one step returns; `terminal` is true termination, `truncated` a time limit."""

  observation: np.ndarray  # [S] float32
  reward: float
  terminal: bool
  truncated: bool


class Transition(NamedTuple):
  """One step; `terminal` is true termination, 1.0 or 0.0, never a time limit."""

  observation: tf.Tensor  # [..., S]
  action: tf.Tensor  # [..., A] in [-1, 1]
  reward: tf.Tensor  # [...]
  next_observation: tf.Tensor  # [..., S]
  terminal: tf.Tensor  # [...]
