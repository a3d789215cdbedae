"""Numbers that go wrong in updates: the first one is named.

They are looked at after the loop of a compiled call of updates. Inside the loop, XLA compiles ten
times as long.
"""

from collections.abc import Mapping
from typing import TypeAlias

import tensorflow as tf

# A loss, gradient or return so many times what the data allow has gone wrong.
MULTIPLE = 1_000.0
FINITE: float = tf.float32.max  # the limit of what may be as large as it likes

Limit: TypeAlias = tf.Tensor | float  # the most that a number's size may be


class Guard(tf.Module):
  """Notes the first number that went wrong."""

  def __init__(self) -> None:
    super().__init__()
    self._names: tuple[str, ...] = ()
    self._first = tf.Variable(-1, dtype=tf.int64, trainable=False)  # which of the names; -1: none
    self._seen = tf.Variable([0.0, 0.0], trainable=False)  # its size, and the limit

  def look(self, numbers: Mapping[str, tuple[tf.Tensor, Limit]]) -> None:
    """Looks for one that is beyond its limit or not finite, in the first update that has one.

    Args:
      numbers: that of each of n updates, [n], and its limit, by WHOSE: WHAT; causes first.
    """
    self._names = tuple(numbers)
    sizes = tf.stack([tf.abs(size) for size, _ in numbers.values()], 1)  # [n, names]
    limits = tf.stack([tf.minimum(limit, FINITE) for _, limit in numbers.values()])
    is_wrong = tf.reshape(~(sizes <= limits), [-1])  # as NaN is
    place = tf.argmax(tf.cast(is_wrong, tf.int32))
    first = place % len(numbers)
    seen = tf.stack([tf.gather(tf.reshape(sizes, [-1]), place), tf.gather(limits, first)])
    is_new = tf.reduce_any(is_wrong) & (self._first < 0)
    self._seen.assign(tf.where(is_new, seen, self._seen))
    self._first.assign(tf.where(is_new, first, self._first))

  def take(self) -> str | None:
    """What was found, in words, which is then forgotten; or None."""
    if (first := int(self._first.numpy())) < 0:
      return None
    self._first.assign(-1)
    size, limit = self._seen.numpy()
    return said(self._names[first], size, limit)


def said(name: str, size: float, limit: float = FINITE) -> str:
  """Of a number, by WHOSE: WHAT, that is beyond its limit."""
  most = "a finite number" if limit == FINITE else f"{limit:.3g} at the most"
  return f"{name} became {size:.4g}, where the data allow {most}"


def error(what: str) -> FloatingPointError:
  """That ends a run, of what was `said`."""
  return FloatingPointError(
    f"{what}. Resuming would lead there again: start a run with other settings or another seed."
  )
