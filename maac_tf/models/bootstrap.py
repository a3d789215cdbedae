"""Which rows of D_env each member of the ensemble is trained and validated on.

Shapes: E members, N rows.
"""

import tensorflow as tf

from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import Transition

# Rows per member that the validation loss is measured on, at the most.
MAX_VALIDATION_ROWS = 4096
# About so many transitions are the newest ones, of which `recent_fraction` is drawn.
RECENT_TRANSITIONS = 1_000


class Bootstrap:
  """Draws them.

  Which slot of the buffer is for validation is drawn once for each member and never changes, so
  that no member is ever validated on what it was trained on, in this fit or an earlier one.

  Attributes:
    is_validation: [E, capacity] bool. No variable: it follows from the seed.
  """

  def __init__(
    self,
    buffer: ReplayBuffer,
    ensemble_size: int,
    batch_size: int,
    recent_fraction: float,
    validation_fraction: float,
    seed: int,
  ):
    """See `fit.DynamicsFit`; `seed` is of the roles."""
    self._buffer, self._batch_size, self._recent_fraction = buffer, batch_size, recent_fraction
    self._train_fraction = 1.0 - validation_fraction
    shape = (ensemble_size, buffer.capacity)
    roles = tf.random.stateless_uniform(shape, [seed, 0]) < validation_fraction
    # A row at the least, however little data there is.
    self.is_validation: tf.Tensor = roles | (tf.eye(*shape) > 0)

  def draw(self, seed: tf.Tensor) -> tuple[tf.Tensor, Transition]:
    """The same of one seed, as long as nothing is added to the buffer.

    Returns:
      Rows to train on [E, N], whole batches, and validation data [E, N, ...].
    """
    size = tf.cast(self._buffer.size, tf.int32)
    is_validation = self.is_validation[:, :size]
    # Training rows first, each kind from the oldest to the newest.
    last = tf.cast(is_validation, tf.int64) * self._buffer.size
    order = tf.argsort(last - self._buffer.ages(), axis=-1)
    num_validation = tf.reduce_sum(tf.cast(is_validation, tf.int32), -1)  # [E]
    bag = self.rows(order, size - num_validation, tf.random.split(seed, 2)[0])
    # The last rows of `order` are the validation rows; evenly spaced ones where they are too many.
    width = tf.minimum(tf.reduce_max(num_validation), MAX_VALIDATION_ROWS)
    places = tf.range(width)[tf.newaxis] * num_validation[:, tf.newaxis] // width
    validation_rows = tf.gather(order, size - num_validation[:, tf.newaxis] + places, batch_dims=1)
    return bag, self._buffer.gather(validation_rows)

  def rows(self, order: tf.Tensor, num_train: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Rows [E, whole batches], drawn with replacement from each member's own training rows."""
    rows = tf.cast(tf.cast(tf.shape(order)[1], tf.float32) * self._train_fraction, tf.int32)
    batches = tf.maximum(rows // self._batch_size, 1)
    shape = [order.shape[0], batches * self._batch_size]
    limit = num_train[:, tf.newaxis]
    uniform, kind = tf.unstack(tf.random.stateless_uniform([2, *shape], seed))
    recent = tf.cast(RECENT_TRANSITIONS / tf.shape(order)[1], tf.float32)
    newest = 1.0 - tf.minimum(recent, 1.0) * (1.0 - uniform)
    uniform = tf.where(kind < self._recent_fraction, newest, uniform)
    drawn = tf.cast(uniform * tf.cast(limit, tf.float32), tf.int32)
    return tf.gather(order, tf.minimum(drawn, limit - 1), batch_dims=1)
