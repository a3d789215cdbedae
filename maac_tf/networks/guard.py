"""Numbers that go wrong in an update: seen and named where they appear, inside the compiled call.

Nothing is read before a call of updates is over. Then the run ends, before a checkpoint has what
came of it. (To undo the one update, all that it changes would have to be copied before: XLA then
compiles ten times as long.)
"""

from collections.abc import Mapping

import tensorflow as tf

# A loss, gradient, reward or return so many times what the data allow has gone wrong.
MULTIPLE = 1_000.0
FINITE: float = tf.float32.max  # the limit of what may be as large as it likes

# A number of a batch, [], and the most that its size may be.
Limited = tuple[tf.Tensor, tf.Tensor | float]


class Guard(tf.Module):
  """Notes the first number that went wrong."""

  def __init__(self) -> None:
    super().__init__()
    self._names: tuple[str, ...] = ()
    self._first = tf.Variable(-1, dtype=tf.int64, trainable=False)  # which of the names; -1: none
    self._seen = tf.Variable([0.0, 0.0], trainable=False)  # its size, and the limit

  def look(self, numbers: Mapping[str, Limited]) -> None:
    """Looks for one that is beyond its limit or not finite.

    Args:
      numbers: by WHOSE: WHAT, causes before what they lead to.
    """
    self._names = tuple(numbers)
    sizes = tf.stack([tf.abs(size) for size, _ in numbers.values()])
    limits = tf.stack([tf.minimum(limit, FINITE) for _, limit in numbers.values()])
    is_wrong = ~(sizes <= limits)  # as NaN is
    first = tf.argmax(tf.cast(is_wrong, tf.int32))
    is_new = tf.reduce_any(is_wrong) & (self._first < 0)
    self._seen.assign(tf.where(is_new, tf.stack([sizes[first], limits[first]]), self._seen))
    self._first.assign(tf.where(is_new, first, self._first))

  def stop_if_wrong(self) -> None:
    """Raises FloatingPointError, which names the number, if one was found."""
    if (first := int(self._first)) < 0:
      return
    whose, _, what = self._names[first].partition(": ")
    size, limit = self._seen.numpy()
    most = "a finite number" if limit == FINITE else f"{limit:.3g} at the most"
    raise FloatingPointError(
      f"{whose}: {what} became {size:.4g}, where the data allow {most}. Resuming would lead there "
      "again: start a run with other settings or another seed."
    )
