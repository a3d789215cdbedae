"""Updates one after the other, in one compiled call."""

from collections.abc import Callable

import tensorflow as tf

from maac_tf.data.types import Noise

Metrics = dict[str, tf.Tensor]


def in_turn(update: Callable[[Noise], Metrics], noise: Noise) -> Metrics:
  """One update after the other, each with its row of `noise`, whose tensors are [n, ...].

  Returns:
    The metrics of `update`, [n] each.
  """
  if tf.config.functions_run_eagerly():  # a concrete function would be traced all the same
    rows = zip(*map(tf.unstack, tf.nest.flatten(noise)), strict=True)
    found = [update(tf.nest.pack_sequence_as(noise, row)) for row in rows]
    return tf.nest.map_structure(lambda *x: tf.stack(x), *found)
  # Traced once, before the loop, which has to know what an update returns.
  row = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape[1:], x.dtype), noise)
  traced = tf.function(update, autograph=False).get_concrete_function(row)
  # Not in parallel: only the variables that they change put the updates in order.
  return tf.map_fn(
    tf.autograph.experimental.do_not_convert(lambda row: traced(*tf.nest.flatten(row))),
    noise,
    fn_output_signature=tf.nest.map_structure(
      lambda x: tf.TensorSpec(x.shape, x.dtype), traced.structured_outputs
    ),
    parallel_iterations=1,
  )
