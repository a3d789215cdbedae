"""Updates one after the other, in one compiled call."""

from collections.abc import Callable

import tensorflow as tf

from maac_tf.data.types import Noise

Metrics = dict[str, tf.Tensor]


def in_turn(update: Callable[[Noise], Metrics], noise: Noise) -> Metrics:
  """One update after the other, each with its row of `noise`, whose tensors are [n, ...].

  Returns:
    The metrics of `update`, averaged over those of which they are not NaN.
  """
  # Traced once, before the loop, which has to know what an update returns.
  row = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape[1:], x.dtype), noise)
  traced = tf.function(update, autograph=False).get_concrete_function(row)
  # Not in parallel: only the variables that they change put the updates in order.
  rows = tf.map_fn(
    lambda row: traced(*tf.nest.flatten(row)),
    noise,
    fn_output_signature=tf.nest.map_structure(
      lambda x: tf.TensorSpec(x.shape, x.dtype), traced.structured_outputs
    ),
    parallel_iterations=1,
  )
  return tf.nest.map_structure(_mean, rows)


def _mean(x: tf.Tensor) -> tf.Tensor:
  known = ~tf.math.is_nan(x)
  total = tf.reduce_sum(tf.where(known, x, tf.zeros_like(x)), 0)
  return total / tf.reduce_sum(tf.cast(known, x.dtype), 0)
