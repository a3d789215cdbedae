"""Lines 4 to 12 of Algorithm 1, in calls of seconds; and how far an iteration is."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from maac_tf.algorithm.imagined_data import ImaginedData
from maac_tf.algorithm.learner import Maac
from maac_tf.checks import require
from maac_tf.networks import guard

# Updates in one call of the compiled function, at the most: long enough to cost nothing, short
# enough for a progress bar, and for a checkpoint between two.
MAX_UPDATES_PER_CALL = 100
# A call of updates in which a number went wrong is skipped. So many in a row, or all of a pass, end
# the run.
MAX_SKIPPED_CALLS = 3
# D_model holds one iteration's rollouts, older ones come from models and a policy that are out of
# date; and no more than so many transitions.
MAX_MODEL_CAPACITY = 1_000_000

Metrics = dict[str, float | None]


def _no_seconds() -> dict[str, float]:
  names = "collect", "fit", "imagine", "update", "evaluate"
  return {f"seconds/{name}": 0.0 for name in names}


@dataclasses.dataclass
class UnderWay:
  """What was done of a run beside its finished iterations, where no variable says it; all JSON.

  Attributes:
    begun: whether the policy was evaluated before the first update.
    initial_passes: of lines 4-12, before the policy acts.
    offline: iterations, with that under way, that take no environment steps.
    row: metrics of the iteration so far.
    fitted: metrics of the fit, in the pass of lines 4-12 under way; None before it is over.
    calls: of updates, in this pass.
    imagined, updated: metrics of each round, and of each call that was not skipped.
    skipped, skipped_calls: updates since the last finished iteration; and calls, the last ones.
    seconds: wall-clock, by name.
  """

  begun: bool = False
  initial_passes: int = 0
  offline: int = 0
  row: Metrics = dataclasses.field(default_factory=dict)
  fitted: dict[str, float] | None = None
  calls: int = 0
  imagined: list[dict[str, float]] = dataclasses.field(default_factory=list)
  updated: list[dict[str, float]] = dataclasses.field(default_factory=list)
  skipped: int = 0
  skipped_calls: int = 0
  seconds: dict[str, float] = dataclasses.field(default_factory=_no_seconds)

  @contextlib.contextmanager
  def clock(self, name: str) -> Iterator[None]:
    """Adds up seconds."""
    start = time.perf_counter()
    yield
    self.seconds[f"seconds/{name}"] += time.perf_counter() - start

  def end_pass(self) -> None:
    self.fitted, self.calls, self.imagined, self.updated = None, 0, [], []

  def end_iteration(self) -> tuple[Metrics, dict[str, float]]:
    """Returns its row, and its seconds."""
    ended = self.row | {"update/skipped": self.skipped}, self.seconds
    self.row, self.skipped, self.seconds = {}, 0, _no_seconds()
    return ended


class Learning:
  """Fits the models, then imagines and updates.

  Attributes:
    rounds: times of imagining rollouts in an iteration.
    imagined_data: D_model, or None.
  """

  def __init__(
    self,
    learner: Maac,
    rounds: int,
    rollout_frequency: int,
    rollout_starts: int,
    rollout_schedule: Sequence[int],
    next_seed: Callable[[], tf.Tensor],
  ):
    """Gives the learner a D_model, if it imagines.

    Args:
      learner: what is trained.
      rounds: see above.
      rollout_frequency, rollout_starts, rollout_schedule: options of `Trainer`.
      next_seed: gives a fresh seed, [2] int64, at each call.
    """
    require(
      len(rollout_schedule) == 4
      and 1 <= rollout_schedule[0] <= rollout_schedule[1]
      and rollout_schedule[2] < rollout_schedule[3],
      "Trainer.rollout_schedule must be (from, to, first, last) with 1 <= from <= to and "
      f"first < last, not {rollout_schedule}.",
    )
    self._learner, self.rounds, self.rollout_frequency = learner, rounds, rollout_frequency
    self._rollout_starts, self._rollout_schedule = rollout_starts, rollout_schedule
    self._next_seed = next_seed
    self.imagined_data: ImaginedData | None = None
    if learner.imagines:
      assert learner.dynamics, "a learner that imagines has models"
      size = learner.dynamics.ensemble_size
      most = rounds * max(1, rollout_starts // size) * size * rollout_schedule[1]
      self.imagined_data = ImaginedData(learner, max(size, min(most, MAX_MODEL_CAPACITY)))

  def run(
    self,
    iteration: int,
    now: UnderWay,
    progress: Callable[[float], None],
    pause: Callable[[], None],
  ) -> dict[str, float]:
    """Lines 4-12, or what is left of them.

    Args:
      iteration: the number of finished ones.
      now: what was done of it.
      progress: told of the share that was done since it was last told.
      pause: called between two calls of compiled functions, where all that the rest needs is in
        variables and in `now`.

    Returns:
      Metrics.

    Raises:
      FloatingPointError: when numbers went wrong too often (`MAX_SKIPPED_CALLS`), or in the fit.
    """
    if now.fitted is None:
      now.fitted = self.fit(now, pause)
      pause()
    counts = self.updates_per_call()
    calls = self.rounds * len(counts)
    progress(0.1 + 0.9 * now.calls / calls)
    while now.calls < calls:
      if now.calls % len(counts) == 0 and self._learner.imagines:
        with now.clock("imagine"):  # line 7
          now.imagined.append(self.imagine(iteration))
      with now.clock("update"):  # lines 8-11
        self._update(counts[now.calls % len(counts)], min(calls, MAX_SKIPPED_CALLS), now)
      now.calls += 1
      progress(0.9 / calls)
      pause()
    found = now.fitted | _means(now.imagined) | _means(now.updated)
    now.end_pass()
    return found

  def _update(self, count: int, most_skipped: int, now: UnderWay) -> None:
    """So many updates; or none, where a number went wrong."""
    variables = self._learner.updated_variables()
    before = [tf.identity(v) for v in variables]
    metrics = self._learner.train(count, self._next_seed())
    what = self._learner.guard.take()
    if not what:
      now.updated.append(_numbers("", metrics))
      now.skipped_calls = 0
      return
    for variable, value in zip(variables, before, strict=True):
      variable.assign(value)
    now.skipped += count
    now.skipped_calls += 1
    if now.skipped_calls >= most_skipped:
      raise guard.error(what)
    logging.warning("%d updates were skipped: %s.", count, what)

  def fit(self, now: UnderWay, pause: Callable[[], None]) -> dict[str, float]:
    """Lines 4-5: normalisers and models learn from D_env."""
    learner, fit = self._learner, self._learner.dynamics_fit
    if not fit or not fit.is_under_way:
      learner.begin_iteration()
    if not fit:
      return {}
    if not fit.is_under_way:
      with now.clock("fit"):
        fit.begin(self._next_seed())
    while True:
      with now.clock("fit"):
        fit.go_on()
      if not fit.is_under_way:
        return _numbers("model", fit.report())
      pause()

  def imagine(self, iteration: int) -> dict[str, float]:
    """Line 7: imagined rollouts from states of D_env into D_model."""
    assert self.imagined_data and self._learner.dynamics, "nothing uses imagined data"
    length, buffer = self.rollout_length(iteration), self.imagined_data.buffer
    room = buffer.capacity // length
    ensemble_size = self._learner.dynamics.ensemble_size
    starts = max(1, min(self._rollout_starts, room) // ensemble_size) * ensemble_size
    buffer.window.assign(self.rounds * starts * length)  # the last rounds of the one before, too
    share = self.imagined_data.fill(starts, length, self._next_seed())
    return {"imagine/length": length, "imagine/terminated": float(share)}

  def updates_per_call(self) -> list[int]:
    """Of a round; of one size, or two: each is compiled."""
    updates = self.rollout_frequency
    calls = math.ceil(updates / MAX_UPDATES_PER_CALL)
    return [updates // calls + (i < updates % calls) for i in range(calls)]

  def rollout_length(self, iteration: int) -> int:
    """Of the imagined rollouts in an iteration."""
    shortest, longest, first, last = self._rollout_schedule
    share = np.clip((iteration - first) / (last - first), 0.0, 1.0)
    return int(shortest + share * (longest - shortest))


def _numbers(prefix: str, tensors: dict[str, tf.Tensor]) -> dict[str, float]:
  prefix = prefix and prefix + "/"
  return {prefix + key: float(value) for key, value in tensors.items()}


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
  return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} if rows else {}
