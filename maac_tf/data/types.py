"""What every part of the package calls a step."""

from typing import NamedTuple

import tensorflow as tf


class Transition(NamedTuple):
  """One step; `terminal` is true termination, 1.0 or 0.0, never a time limit."""

  observation: tf.Tensor  # [..., S]
  action: tf.Tensor  # [..., A] in [-1, 1]
  reward: tf.Tensor  # [...]
  next_observation: tf.Tensor  # [..., S]
  terminal: tf.Tensor  # [...]
