"""Numbers that go wrong in an update: seen and named where they appear, and the update undone.

All of it is inside the compiled function: nothing is read before a call of updates is over.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf

# A loss, gradient, reward or return so many times what the data allow has gone wrong.
MULTIPLE = 1_000.0
# A run ends when so many updates were skipped in a row; or this share of an iteration's, if it is
# as many.
IN_A_ROW, SHARE = 10, 0.1
FINITE: float = tf.float32.max  # the limit of what may be as large as it likes

# A number of a batch, [], and the most that its size may be.
Limited = tuple[tf.Tensor, tf.Tensor | float]


class Guard(tf.Module):
  """Undoes updates in which a number went wrong, and notes the first.

  Attributes:
    skipped: how many were undone since `begin`.
  """

  def __init__(self, variables: Sequence[tf.Variable]):
    """Takes all that an update changes."""
    super().__init__()
    self._variables = lambda: variables  # no checkpoint finds them here a second time
    self._names: tuple[str, ...] = ()
    self.skipped, self._in_a_row, self._first = (
      tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(3)
    )
    self._seen = tf.Variable([0.0, 0.0], trainable=False)  # of the first one: its size, the limit

  def begin(self) -> None:
    """Of an iteration: nothing was skipped."""
    self.skipped.assign(0)

  def before(self) -> list[tf.Tensor]:
    """The values of the variables, for `keep_or_undo` after the update."""
    return [tf.identity(v) for v in self._variables()]

  def keep_or_undo(self, before: Sequence[tf.Tensor], numbers: Mapping[str, Limited]) -> tf.Tensor:
    """Gives the variables their values of `before`, if a number is beyond its limit or not finite.

    Args:
      before: of the method of that name.
      numbers: by WHOSE: WHAT, causes before what they lead to.

    Returns:
      Whether the update is kept, [] bool.
    """
    self._names = tuple(numbers)
    sizes = tf.stack([tf.abs(size) for size, _ in numbers.values()])
    limits = tf.stack([tf.minimum(limit, FINITE) for _, limit in numbers.values()])
    is_wrong = ~(sizes <= limits)  # as NaN is
    keep = ~tf.reduce_any(is_wrong)
    for variable, value in zip(self._variables(), before, strict=True):
      variable.assign(tf.where(keep, variable, value))
    first = tf.argmax(tf.cast(is_wrong, tf.int32))
    seen = tf.stack([sizes[first], limits[first]])
    is_known = keep | (self._in_a_row > 0)
    self._first.assign(tf.where(is_known, self._first, first))
    self._seen.assign(tf.where(is_known, self._seen, seen))
    self._in_a_row.assign(tf.where(keep, tf.zeros_like(first), self._in_a_row + 1))
    self.skipped.assign_add(tf.cast(~keep, tf.int64))
    return keep

  def stop_if_many(self, updates: int) -> None:
    """Raises FloatingPointError when too many were skipped, in a row or of so many `updates`."""
    in_a_row, skipped = int(self._in_a_row), int(self.skipped)
    if in_a_row < IN_A_ROW and skipped < max(IN_A_ROW, SHARE * updates):
      return
    whose, _, what = self._names[int(self._first)].partition(": ")
    size, limit = self._seen.numpy()
    most = "a finite number" if limit == FINITE else f"{limit:.3g} at the most"
    raise FloatingPointError(
      f"{whose}: {what} became {size:.4g}, where the data allow {most}. {skipped:,} updates of "
      f"this iteration were skipped, the last {in_a_row:,} in a row. Resuming would lead there "
      "again: start a run with other settings or another seed."
    )
