"""Which rows of D_env each member of the ensemble is trained and validated on.

Shapes: E members, N rows.
"""

import tensorflow as tf

from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import Transition

# A member is validated on one of so many slots of the buffer that follow each other.
GROUP = 10
# Rows per member that the validation loss is measured on, at the most.
MAX_VALIDATION_ROWS = 4096
# About so many transitions are the newest ones, of which `recent_fraction` is drawn.
RECENT_TRANSITIONS = 1_000


class Bootstrap:
  """Draws them, in a time that does not grow with the buffer.

  Which slot of a group is for validation is drawn once for each member and never changes, so that
  no member is ever validated on what it was trained on, in this fit or an earlier one.

  Attributes:
    validation_places: [E, groups] int32 in 0..GROUP-1. No variable: it follows from the seed.
  """

  def __init__(
    self,
    buffer: ReplayBuffer,
    ensemble_size: int,
    batch_size: int,
    max_batches: int | None,
    recent_fraction: float,
    seed: int,
  ):
    """See `fit.DynamicsFit`; `seed` is of the roles."""
    self._buffer, self._batch_size, self._recent_fraction = buffer, batch_size, recent_fraction
    self._max_batches, self._ensemble_size = max_batches, ensemble_size
    shape = (ensemble_size, -(-buffer.capacity // GROUP))
    self.validation_places = tf.random.stateless_uniform(shape, [seed, 0], 0, GROUP, tf.int32)

  def draw(self, seed: tf.Tensor) -> tf.Tensor:
    """Rows to train on, [E, N] of whole batches, drawn with replacement from each member's own.

    The same of one seed, as long as nothing is added to the buffer.
    """
    size = tf.cast(self._buffer.size, tf.int32)
    rows = size * (GROUP - 1) // GROUP
    batches = tf.maximum(rows // self._batch_size, 1)
    if self._max_batches is not None:
      batches = tf.minimum(batches, self._max_batches)
    shape = [self._ensemble_size, batches * self._batch_size]
    uniform, kind = tf.unstack(
      tf.random.stateless_uniform([2, *shape], tf.random.split(seed, 2)[0])
    )
    # Training rows have numbers, in the order of their slots.
    count = self._training_rows_before(size)  # [E, 1]
    end = self._training_rows_before(tf.cast(self._buffer.added % self._buffer.capacity, tf.int32))
    recent = tf.minimum(RECENT_TRANSITIONS / size, 1.0)
    recent = tf.cast(recent, tf.float32) * tf.cast(count, tf.float32)
    newest = (end - 1 - tf.cast(uniform * recent, tf.int32)) % count
    any_of_them = tf.minimum(tf.cast(uniform * tf.cast(count, tf.float32), tf.int32), count - 1)
    return self._slots(tf.where(kind < self._recent_fraction, newest, any_of_them))

  def validation(self) -> Transition:
    """Of each member, [E, N, ...]: all rows, or evenly spaced ones where they are too many."""
    groups = tf.maximum(tf.cast(self._buffer.size, tf.int32) // GROUP, 1)  # whole ones
    width = tf.minimum(groups, MAX_VALIDATION_ROWS)
    group = tf.range(width) * groups // width
    return self._buffer.gather(group * GROUP + tf.gather(self.validation_places, group, axis=1))

  def _training_rows_before(self, slot: tf.Tensor) -> tf.Tensor:
    """How many slots before `slot`, [], a member is trained on, [E, 1]."""
    group, place = slot // GROUP, slot % GROUP
    last = tf.minimum(group, self.validation_places.shape[1] - 1)
    is_before = tf.gather(self.validation_places, [last], axis=1) < place
    return group * (GROUP - 1) + place - tf.cast(is_before, tf.int32)

  def _slots(self, rows: tf.Tensor) -> tf.Tensor:
    """Of training rows by their numbers, [E, N]."""
    group, place = rows // (GROUP - 1), rows % (GROUP - 1)
    skip = place >= tf.gather(self.validation_places, group, batch_dims=1)
    return group * GROUP + place + tf.cast(skip, tf.int32)


def in_batches(bag: tf.Tensor, batch_size: int, seed: tf.Tensor) -> tf.Tensor:
  """Rows [E, N] in a random order, the same for all members, [E, batches, batch_size]."""
  keys = tf.random.stateless_uniform(
    tf.shape(bag)[1:], seed, maxval=None, minval=None, dtype=tf.int32
  )
  bag = tf.gather(bag, tf.argsort(keys), axis=1)
  return tf.reshape(bag, [bag.shape[0], -1, batch_size])
