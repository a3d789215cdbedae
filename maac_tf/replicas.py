"""Replicas of the networks, one on each device of a `tf.distribute.Strategy`.

Each has its share of a batch, and all make the same step: down the mean of their gradients. Of a
single device, nothing here adds an operation.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from maac_tf.checks import require

Nest = Any  # a tensor, or a structure of them


def count() -> int:
  """R, how many there are in the strategy in whose scope, or replica, this is called."""
  return int(tf.distribute.get_strategy().num_replicas_in_sync)


def require_shares(name: str, rows: int) -> None:
  """Raises ValueError where a batch of so many rows has no equal shares."""
  require(rows % count() == 0, f"{name} ({rows}) must be a multiple of the {count()} devices.")


def on_each(
  strategy: tf.distribute.Strategy, function: Callable[[Nest], Nest]
) -> Callable[[Nest], Nest]:
  """A function that runs on each replica, and returns the mean of what it returns there."""
  if strategy.num_replicas_in_sync == 1:
    return function

  def on_all(x: Nest) -> Nest:
    return tf.nest.map_structure(
      lambda value: strategy.reduce("MEAN", value, axis=None), strategy.run(function, (x,))
    )

  return on_all


def row(x: Nest) -> Nest:
  """On a replica, its row of [R, ...] tensors; on the only one, x as it is."""
  return x if count() == 1 else tf.nest.map_structure(lambda rows: rows[_number()], x)


def share(x: Nest, axis: int) -> Nest:
  """On a replica, its part of tensors that are split into R equal ones."""
  if count() == 1:
    return x
  return row(tf.nest.map_structure(lambda whole: tf.stack(tf.split(whole, count(), axis)), x))


def together(x: tf.Tensor) -> tf.Tensor:
  """On a replica, the parts [N, ...] of all, [R N, ...]."""
  return x if count() == 1 else _context().all_gather(x, 0)


def average(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
  """On a replica, the mean over all."""
  return tensors if count() == 1 else list(_context().all_reduce("MEAN", tensors))


def summands(gradient: list[tf.Tensor]) -> list[tf.Tensor]:
  """What Keras' optimizers take on a replica, as they add it up over all: the R-th part."""
  return gradient if count() == 1 else [x / count() for x in gradient]


def _context() -> tf.distribute.ReplicaContext:
  return tf.distribute.get_replica_context()


def _number() -> tf.Tensor | int:
  return _context().replica_id_in_sync_group
