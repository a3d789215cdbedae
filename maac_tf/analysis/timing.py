"""What a run of one setting waits for, timed: the rows of `maac_tf.benchmark`."""

import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from maac_tf.algorithm.planner import Planner
from maac_tf.analysis import matrix_products
from maac_tf.checks import ConfigError
from maac_tf.runs import config, experiment

PARTS = "update", "fitting step", "imagine", "act", "plan"
SCALING = {
  "Maac.horizon": (0, 1, 2, 4, 8),
  "Dynamics.ensemble_size": (1, 2, 4, 8, 16),
  "Maac.batch_size": (64, 128, 256, 512, 1024),
  "width": (128, 256, 512, 1024),
}
LARGE = 2048  # rows of a product at which a machine is as fast as it can be
CALL = 10  # updates, or passes of a floor, in a call
SEED = (0, 0)


class Row(NamedTuple):
  """One line of the table.

  Attributes:
    value: in `unit`.
    floor: the time of the bare matrix products, ms; of updates and fitting steps only. A fit's
      validation is not in its floor.
    ratio: the time over that of the least that had to be done: the products, the simulator; for a
      peer, its time over ours; of what may grow, the value over that of the first.
    gflop: of the products.
    rate: of these, GFLOP/s.
    of_large: that rate over the one of a large product in the same process.
  """

  setting: str
  part: str
  value: float
  unit: str
  floor: float | None = None
  ratio: float | None = None
  gflop: float | None = None
  rate: float | None = None
  of_large: float | None = None


class Setting:
  """A run as it is before its first update, of which parts are timed."""

  def __init__(self, name: str, files: Sequence[str], bindings: Sequence[str], rounds: int):
    """Collects the random steps, fits the models once and imagines once.

    Args:
      name: what rows are of.
      files, bindings: of gin, as in training.
      rounds: measurements of each time.

    Raises:
      ConfigError: for a wrong value in them.
    """
    config.load(files, bindings)
    self.name, self.rounds = name, rounds
    self.trainer = experiment.make_trainer()
    self.learner = self.trainer.learner
    self.jit_compile = self.learner.jit_compile or None
    self.trainer.collect(self.trainer.random_steps, random=True)
    self.learner.begin_iteration()
    if self.learner.dynamics_fit:
      self.learner.dynamics_fit.fit(SEED)
    if self.learner.imagines:
      self.trainer.learning.imagine(0)

  def train(self) -> int:
    """A call of the compiled updates; how many."""
    self.learner.train(CALL, SEED)["critic/loss"].numpy()
    return CALL

  def update(self) -> Row:
    products = matrix_products.products_of(self.learner.update, self.learner.draw(SEED))
    return self._against_floor("update", self.train, products)

  def fitting_step(self) -> Row:
    """Whole fits, as a run makes them, by training step."""
    fit, dynamics = self.learner.dynamics_fit, self.learner.dynamics
    assert fit and dynamics, "nothing uses the models"
    indices = tf.zeros([dynamics.ensemble_size, fit.batch_size], tf.int32)
    products = matrix_products.products_of(fit.train_step, self.learner.env_buffer.gather(indices))

    def whole_fit() -> int:
      before = int(fit.steps)
      fit.fit(SEED)
      return int(fit.steps) - before

    return self._against_floor("fitting step", whole_fit, products)

  def imagine(self) -> Row:
    buffer = self.learner.model_buffer
    assert buffer, "nothing uses imagined data"

    def imagine() -> int:
      self.trainer.learning.imagine(0)
      return int(buffer.window) // self.trainer.learning.rounds

    (seconds,) = self._seconds(imagine)
    return self.row("imagine", 1 / seconds, "transitions/s")

  def act(self) -> Row:
    """The environment phase, and the simulator's part in it."""
    env: Any = self.trainer.environment.env  # of which two methods are replaced for a while
    steps, inside = 1_000, list[float]()

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
      def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = function(*args, **kwargs)
        inside.append(time.perf_counter() - start)
        return result

      return call

    gc.collect()  # half a second after the other parts, which is not of acting
    env.step, env.reset = timed(env.step), timed(env.reset)
    start = time.perf_counter()
    self.trainer.collect(steps)
    seconds = time.perf_counter() - start
    del env.step, env.reset
    return self.row("act", steps / seconds, "steps/s", ratio=seconds / sum(inside))

  def plan(self, planner: Planner) -> Row:
    observation, seed = tf.zeros([1, self.learner.observation_size]), tf.constant(SEED)

    def plan() -> None:
      planner.plan(observation, seed).numpy()

    (seconds,) = self._seconds(plan)
    return self.row("plan", 1 / seconds, "plans/s")

  def large_product(self) -> Row:
    large = _Large()
    (seconds,) = self._seconds(large)
    return self.row(f"product of {LARGE}", large.gflop / seconds, "GFLOP/s")

  def row(self, part: str, value: float, unit: str, **columns: float) -> Row:
    return Row(self.name, part, value, unit, **columns)

  def _against_floor(
    self, part: str, function: Callable[[], int], products: Sequence[matrix_products.Product]
  ) -> Row:
    """The row of a function that does `products`, and returns how often."""
    passes, large = matrix_products.floor(products, self.jit_compile), _Large()

    def floor() -> int:
      passes(tf.constant(CALL))[-1].numpy()
      return CALL

    seconds, floor_seconds, large_seconds = self._seconds(function, floor, large)
    gflop = sum(product.flop for product in products) / 1e9
    rate, large_rate = gflop / seconds, large.gflop / large_seconds
    return self.row(
      part,
      1e3 * seconds,
      "ms",
      floor=1e3 * floor_seconds,
      ratio=seconds / floor_seconds,
      gflop=gflop,
      rate=rate,
      of_large=rate / large_rate,
    )

  def _seconds(self, *functions: Callable[[], int | None]) -> list[float]:
    """The median time of each, taken in turn, so that what disturbs one disturbs all.

    A function may return how often it did what is to be timed; the time is that of one.
    """
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(self.rounds + 1):
      for function, seconds in zip(functions, times, strict=True):
        start = time.perf_counter()
        count = function() or 1
        seconds.append((time.perf_counter() - start) / count)
    return [statistics.median(seconds[1:]) for seconds in times]  # the first compiles


class _Large:
  """A product at which the machine is as fast as it can be."""

  gflop = 2e-9 * LARGE**3

  def __init__(self) -> None:
    self._matrices = [tf.random.normal([LARGE, LARGE]) for _ in range(2)]

  def __call__(self) -> None:
    tf.matmul(*self._matrices).numpy()


def measure(
  name: str,
  files: Sequence[str],
  bindings: Sequence[str],
  rounds: int,
  parts: Collection[str],
  started: float,
) -> list[Row]:
  """What a run of one setting waits for, in this process, which began at `started`."""
  setting = Setting(name, files, bindings, rounds)
  trainer, learner = setting.trainer, setting.learner
  setting.train()
  rows = [setting.row("start to first updates", time.time() - started, "s")]
  planner = None
  if learner.uses_model and "plan" in parts:
    with config.user_errors():
      planner = Planner(learner)
  # All that a run does has been done once, but for this; the floors need memory of their own.
  trainer.collect(trainer.steps_per_iteration)
  trainer.evaluator.evaluate()
  peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  rows.append(setting.row("peak memory", peak_gib, "GiB"))
  if "update" in parts:
    rows.append(setting.update())
  if learner.dynamics and learner.dynamics_fit and "fitting step" in parts:
    rows.append(setting.fitting_step())
    samples = learner.dynamics_fit.batch_size * learner.dynamics.ensemble_size
    rows.append(setting.row("fit", 1e3 * samples / rows[-1].value, "samples/s"))
  if learner.imagines and "imagine" in parts:
    rows.append(setting.imagine())
  if "act" in parts:
    rows.append(setting.act())
  if planner:
    rows.append(setting.plan(planner))
  return [*rows, setting.large_product()]


def scaling(files: Sequence[str], bindings: Sequence[str], rounds: int) -> Iterator[Row]:
  """Rows of the update at other horizons, ensembles, batches and widths, the rest as it is."""
  tf.get_logger().setLevel("ERROR")  # it warns of functions that are traced anew, as these must be
  bindings = [*bindings, "Trainer.random_steps = 500", "DynamicsFit.max_batches = 1"]
  Setting("", files, bindings, rounds)  # which must be possible; not all of the others are
  for parameter, values in SCALING.items():
    for value in values:
      changed = [f"{parameter} = {value}"]
      if parameter == "width":
        config.load(files, bindings)
        names = "ActorCritic.hidden_units", "Dynamics.hidden_units"
        layers = [config.values()[name].count(",") + 1 for name in names]
        changed = [f"{n} = {(value,) * count}" for n, count in zip(names, layers, strict=True)]
      print(f"Measuring {parameter} = {value} ...", file=sys.stderr)
      try:
        setting = Setting(f"{parameter} = {value}", files, [*bindings, *changed], rounds)
      except ConfigError as error:
        print(f"left out: {error}", file=sys.stderr)
        continue
      yield setting.update()
