"""What networks see of a state, and models predict: plain numbers, or some that say more."""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Coordinates(NamedTuple):
  """What policy, critics and models see, and models predict, in the place of plain observations.

  As `obs_preproc`, `targ_proc` and `obs_postproc` of Chua et al. (2018). S is the size of an
  observation. Where the policy acts, `features` gets a float32 NumPy array, often of one state,
  [S], which TensorFlow's functions take as well; one that then uses NumPy's is faster.
  """

  # observation [..., S] -> [..., F], what they see.
  features: Callable[[tf.Tensor], tf.Tensor]
  # (observation, next_observation) [..., S] -> [..., C], what models predict.
  change: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
  # (observation [..., S], change [..., C]) -> next_observation [..., S].
  apply: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

  @functools.cache  # noqa: B019
  def sizes(self, observation_size: int) -> tuple[int, int]:
    """(F, C) where observations have S numbers.

    Raises:
      ValueError: if one of the functions cannot be traced with these, or returns another shape, or
        `features` of a NumPy array are others than float32.
    """
    shape = 2, observation_size + 1  # no other size equals it

    def there_and_back(state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
      change = self.change(state, state)
      return self.features(state), change, self.apply(state, change)

    state = tf.TensorSpec([*shape, observation_size])
    graph = tf.function(there_and_back, autograph=False).get_concrete_function(state)
    shapes = [x.shape.as_list() for x in graph.structured_outputs]
    if any(len(x) != 3 or tuple(x[:2]) != shape for x in shapes) or shapes[2][2] != state.shape[2]:
      raise ValueError(
        f"The coordinates of a task must lead from observations {state.shape.as_list()} to "
        "features and changes of the same number of rows, and by `apply` back to observations; "
        "features, change and apply returned {}, {} and {}.".format(*shapes)
      )
    # As an exported policy sees states, and as one that acts does, which must not change them.
    rows = tf.TensorSpec([None, observation_size])
    tf.function(self.features, autograph=False).get_concrete_function(rows)
    state = np.ones(observation_size, np.float32)
    state.setflags(write=False)
    try:
      seen = np.asarray(self.features(state))
      problem = f"they are {seen.dtype.name} {list(seen.shape)}"
      good = seen.dtype == np.float32 and list(seen.shape) == shapes[0][2:]
    except Exception as error:  # whatever a user's function raises
      good, problem = False, str(error)
    if not good:
      raise ValueError(
        "The features of the coordinates of a task must also take a float32 NumPy array "
        f"[{observation_size}], of one state, leave it as it is, and be float32 "
        f"{shapes[0][2:]}: {problem}."
      )
    return shapes[0][2], shapes[1][2]


PLAIN = Coordinates(
  features=lambda observation: observation,
  change=lambda observation, next_observation: next_observation - observation,
  apply=lambda observation, change: observation + change,
)


def clipped(first: int, limit: float) -> Coordinates:
  """Plain ones of an observation that shows its numbers from `first` on within ±`limit` alone.

  As the velocities of Gymnasium's hopper and walker, 10 at the most: an imagined one is no larger.
  """

  def apply(observation: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    after = observation + change
    shown = tf.clip_by_value(after[..., first:], -limit, limit)
    return tf.concat([after[..., :first], shown], -1)

  return PLAIN._replace(apply=apply)


def sine_and_cosine(angle: int) -> Coordinates:
  """Sine and cosine of one angle are seen, the same after a whole turn.

  Args:
    angle: its index, from 0.
  """

  def features(observation: tf.Tensor) -> tf.Tensor:
    x = observation[..., angle : angle + 1]
    if x.shape[-1] != 1:
      raise ValueError(
        f"sine_and_cosine(angle={angle}): observations have {observation.shape[-1]} numbers, and "
        "the first is 0."
      )
    xp = _library(observation)
    parts = observation[..., :angle], xp.sin(x), xp.cos(x), observation[..., angle + 1 :]
    return xp.concat(parts, -1)

  return PLAIN._replace(features=features)


def torso_frame(orientation: int, velocity: int) -> Coordinates:
  """Coordinates in the frame of a torso that moves freely, such as the ant's.

  The observation is MuJoCo's, with a free joint: a quaternion, the linear velocity along the
  world's axes, the angular one in the torso's own frame; `orientation` and `velocity` are where the
  quaternion (4) and the linear velocity (3) begin. Seen in the place of these are the world's
  vertical and its x axis (6), and the linear velocity, in the torso's frame. Models predict how the
  torso turns in its own frame, 2 tan(angle / 2) around an axis (3), and the changes of the velocity
  in it (3) and of all else. An imagined quaternion is of unit length. The x axis is there for the
  reward's sake: that of an ant is along it, the motion is the same whichever way the torso faces.
  """
  if not 0 <= orientation <= velocity - 4:
    raise ValueError(
      f"torso_frame(orientation={orientation}, velocity={velocity}): the four numbers of the "
      "quaternion come before the velocity, and the first is 0."
    )
  before, between = slice(0, orientation), slice(orientation + 4, velocity)
  after = slice(velocity + 3, None)

  def split(observation: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
    """The quaternion, the world's axes in the torso's frame, and the velocity in it."""
    # After a reset, Gymnasium's is not of unit length.
    torso, xp = observation[..., orientation : orientation + 4], _library(observation)
    square = sum(torso[..., i : i + 1] ** 2 for i in range(4))
    torso = torso / xp.sqrt(xp.maximum(square, 1e-12))
    axes = _world_axes(torso)
    speeds = (observation[..., i : i + 1] for i in range(velocity, velocity + 3))
    return torso, axes, sum(speed * axis for speed, axis in zip(speeds, axes, strict=True))

  def features(observation: tf.Tensor) -> tf.Tensor:
    _, (x, _, z), own_velocity = split(observation)
    parts = observation[..., before], z, x, observation[..., between], own_velocity
    return _library(observation).concat([*parts, observation[..., after]], -1)

  def change(observation: tf.Tensor, next_observation: tf.Tensor) -> tf.Tensor:
    torso, _, own_velocity = split(observation)
    next_torso, _, next_own_velocity = split(next_observation)
    turn = _quaternion_product(_inverse(torso), next_torso)
    w = turn[..., :1]  # no step turns by more than 169 degrees, where it is 0.1
    turn = 2.0 * w * turn[..., 1:] / tf.maximum(w * w, 0.01)
    rest = next_observation - observation
    parts = rest[..., before], turn, rest[..., between], next_own_velocity - own_velocity
    return tf.concat([*parts, rest[..., after]], -1)

  def apply(observation: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    torso, _, own_velocity = split(observation)
    sizes = [orientation, 3, velocity - orientation - 4, 3, -1]
    first, turn, middle, acceleration, last = tf.split(change, sizes, -1)
    turn = tf.concat([tf.ones_like(turn[..., :1]), 0.5 * turn], -1)
    torso = _quaternion_product(torso, tf.math.l2_normalize(turn, -1))
    parts = observation[..., before] + first, torso, observation[..., between] + middle
    own_velocity += acceleration
    speeds = [tf.reduce_sum(axis * own_velocity, -1, keepdims=True) for axis in _world_axes(torso)]
    return tf.concat([*parts, *speeds, observation[..., after] + last], -1)

  return Coordinates(features, change, apply)


def _library(x: tf.Tensor | np.ndarray) -> ModuleType:
  """What has the functions for `x`: NumPy, where it is an array of it, or TensorFlow."""
  return np if isinstance(x, np.ndarray) else tf


def _inverse(quaternion: tf.Tensor) -> tf.Tensor:
  """Of unit length: the rotation back."""
  return quaternion * tf.constant([1, -1, -1, -1], quaternion.dtype)


def _quaternion_product(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
  """Of two quaternions (w, x, y, z), [..., 4]: first b, then a."""
  (aw, ax, ay, az), (bw, bx, by, bz) = (tf.unstack(q, axis=-1) for q in (a, b))
  parts = (
    aw * bw - ax * bx - ay * by - az * bz,
    aw * bx + ax * bw + ay * bz - az * by,
    aw * by - ax * bz + ay * bw + az * bx,
    aw * bz + ax * by - ay * bx + az * bw,
  )
  return tf.stack(parts, -1)


def _world_axes(quaternion: tf.Tensor) -> list[tf.Tensor]:
  """The world's x, y and z axis, [..., 3] each, in the frame that a unit quaternion turns to."""
  xp = _library(quaternion)
  w, x, y, z = xp.unstack(quaternion, axis=-1)
  axes = (
    (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
    (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
    (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
  )
  return [xp.stack(axis, -1) for axis in axes]
