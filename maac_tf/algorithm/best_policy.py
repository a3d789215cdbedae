"""The networks of the best evaluation of a run."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

COLUMNS = "best/return", "best/return_std", "best/env_steps"


class BestPolicy(tf.Module):
  """Keeps copies of a learner's networks, and what they return in further episodes.

  The best of many evaluations was lucky, too: its return is measured again.

  Attributes:
    statistics: [3] float64, what `COLUMNS` names: mean and standard deviation of the return in
      further episodes, and the environment steps at which it was found.
    is_now: whether the last evaluation was the best.
  """

  def __init__(self, variables: Sequence[tf.Variable]):
    """Takes the `network_variables` of a learner."""
    super().__init__()
    self._variables = lambda: variables  # no checkpoint finds them here a second time
    self._kept = [tf.Variable(v, trainable=False) for v in variables]
    self._evaluation = tf.Variable(-np.inf, dtype=tf.float64, trainable=False)
    self.statistics = tf.Variable([np.nan] * len(COLUMNS), dtype=tf.float64, trainable=False)
    self.is_now = False

  @property
  def exists(self) -> bool:
    return bool(self._evaluation > -np.inf)

  def keep(
    self, evaluation: float | None, env_steps: int, evaluate_again: Callable[[], np.ndarray]
  ) -> None:
    """Keeps the networks as they are if every evaluation before was worse.

    Args:
      evaluation: the return of now; None where there was no evaluation.
      env_steps: of now.
      evaluate_again: gives the returns of further episodes, [N].
    """
    self.is_now = evaluation is not None and evaluation > self._evaluation
    if self.is_now:
      for kept, variable in zip(self._kept, self._variables(), strict=True):
        kept.assign(variable)
      returns = evaluate_again()
      self._evaluation.assign(evaluation)
      self.statistics.assign([np.mean(returns), np.std(returns), env_steps])

  def metrics(self) -> dict[str, float | None]:
    """The statistics by column, None before the first evaluation."""
    values = self.statistics.numpy().tolist()
    return dict(zip(COLUMNS, [None if np.isnan(v) else v for v in values], strict=True))

  @contextlib.contextmanager
  def in_use(self) -> Iterator[None]:
    """For a while, the learner has the networks of the best evaluation, if there was one."""
    if not self.exists:
      yield
      return
    now = [v.numpy() for v in self._variables()]
    try:
      for kept, variable in zip(self._kept, self._variables(), strict=True):
        variable.assign(kept)
      yield
    finally:
      for value, variable in zip(now, self._variables(), strict=True):
        variable.assign(value)
