"""Actions of networks, in [-1, 1], and of an environment, in its own units."""

import gymnasium as gym
import numpy as np
import tensorflow as tf

NO_BOUND = np.finfo(np.float32).max  # how some simulators say that there is none


class ActionBox:
  """The box of an environment's actions, and how the networks' [-1, 1] fills it.

  An action `a` of the networks is `a * scale + shift` in the environment's units, clipped to the
  box: in float32 a product ends a rounding beyond it in nearly half of the cases. Of a number
  without bounds the policy uses [-1, 1]; of one with a single bound, an interval of length 2 that
  begins or ends there. A number whose bounds are equal is constant.

  Attributes:
    scale, shift, low, high: [A] float32, where actions of any shape are flattened to A numbers; low
      and high are infinite where there is no bound.
  """

  def __init__(self, space: gym.spaces.Box):
    low, high = (np.asarray(bound, np.float64).ravel() for bound in (space.low, space.high))
    has_low, has_high = low > -NO_BOUND, high < NO_BOUND
    first = np.where(has_low, low, np.where(has_high, high - 2.0, -1.0))
    last = np.where(has_high, high, np.where(has_low, low + 2.0, 1.0))
    self.scale = ((last - first) / 2).astype(np.float32)
    self.shift = ((last + first) / 2).astype(np.float32)
    self.low = np.where(has_low, _round(low, np.inf, low < high), np.float32(-np.inf))
    self.high = np.where(has_high, _round(high, -np.inf, low < high), np.float32(np.inf))

  @property
  def size(self) -> int:
    """A."""
    return len(self.scale)

  def equals(self, other: "ActionBox") -> bool:
    """Whether actions in [-1, 1] mean the same in both."""
    return np.array_equal(self.scale, other.scale) and np.array_equal(self.shift, other.shift)

  def units(self, action: tf.Tensor) -> tf.Tensor:
    """In the environment's units, of actions [..., A] in [-1, 1]."""
    return tf.clip_by_value(action * self.scale + self.shift, self.low, self.high)

  def units_in_numpy(self, action: np.ndarray) -> np.ndarray:
    """The same for NumPy arrays, of which np.clip takes three times as long."""
    return np.minimum(np.maximum(action * self.scale + self.shift, self.low), self.high)

  def fractions(self, units: tf.Tensor) -> tf.Tensor:
    """In [-1, 1], of actions [..., A] in the environment's units; 0 of a constant one."""
    constant = self.scale == 0.0
    scale = np.where(constant, np.float32(1.0), self.scale)
    return tf.where(constant, 0.0, (units - self.shift) / scale)


def _round(bound: np.ndarray, inwards: float, where: np.ndarray) -> np.ndarray:
  """To float32; a bound of float64 that lies between two numbers becomes the one inside."""
  nearest = bound.astype(np.float32)
  outside = nearest < bound if inwards > 0 else nearest > bound
  return np.where(outside & where, np.nextafter(nearest, np.float32(inwards)), nearest)
