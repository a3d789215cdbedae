"""A ring of transitions in variables, so that compiled functions sample and fill it."""

import math
from collections.abc import Sequence

import tensorflow as tf

from maac_tf.data.room import require_memory
from maac_tf.data.types import Transition


class _Columns:
  """Variables that no checkpoint finds: it would hold the whole capacity."""

  def __init__(self, sizes: Transition, capacity: int):
    self.variables = Transition(
      *(tf.Variable(tf.zeros((capacity, *size)), trainable=False) for size in sizes)
    )


class ReplayBuffer(tf.Module):
  """The newest `capacity` transitions; one class for D_env and D_model.

  A checkpoint has how many were added, not the transitions: `put` brings them back.

  Attributes:
    added: int64 variable; how many transitions there were so far.
    row_bytes: of one.
    window: int64 variable; samples are of the newest so many only. At first, of all.
  """

  def __init__(
    self,
    capacity: int,
    observation_size: int,
    action_size: int,
    option: str = "Maac.env_capacity",
  ):
    """Takes the memory; `option` is that of the capacity.

    Raises:
      ValueError: where it is not free.
    """
    super().__init__()
    sizes = Transition(
      observation=(observation_size,),
      action=(action_size,),
      reward=(),
      next_observation=(observation_size,),
      terminal=(),
    )
    self.capacity = capacity
    self.row_bytes = 4 * sum(math.prod(size) for size in sizes)
    require_memory(capacity, self.row_bytes, option)
    self._columns = _Columns(sizes, capacity)
    self.added = tf.Variable(0, dtype=tf.int64, trainable=False)
    self.window = tf.Variable(capacity, dtype=tf.int64, trainable=False)

  @property
  def size(self) -> tf.Tensor:
    """How many transitions there are, int64."""
    return tf.minimum(self.added, self.capacity)

  def add(self, transition: Transition) -> None:
    """Writes [N, ...] transitions, N <= capacity, over the oldest."""
    end = self.added + transition.reward.shape[0]
    self.put(transition, end)
    self.added.assign(end)

  def put(self, transition: Transition, end: tf.Tensor | int) -> None:
    """Writes [N, ...] transitions, N <= capacity, where they were when `end` had been added."""
    count = transition.reward.shape[0]
    if count > self.capacity:
      raise ValueError(f"{count} transitions do not fit a buffer of capacity {self.capacity}.")
    indices = (end - count + tf.range(count, dtype=tf.int64)) % self.capacity
    for variable, values in zip(self._columns.variables, transition, strict=True):
      variable.scatter_update(tf.IndexedSlices(tf.cast(values, variable.dtype), indices))

  def random_indices(self, shape: Sequence[int], seed: tf.Tensor) -> tf.Tensor:
    """Uniform indices of transitions in the window; the buffer must not be empty."""
    ages = tf.minimum(self.size, self.window)
    age = tf.random.stateless_uniform(shape, seed, 0, ages, tf.int64)
    return (self.added - 1 - age) % self.capacity

  def newest(self, count: int | tf.Tensor) -> Transition:
    """The last `count` transitions, oldest first."""
    return self.gather((self.added - count + tf.range(count, dtype=tf.int64)) % self.capacity)

  def gather(self, indices: tf.Tensor) -> Transition:
    """The transitions at `indices` [...], with replacement where they repeat."""
    return Transition(*(tf.gather(variable, indices) for variable in self._columns.variables))
