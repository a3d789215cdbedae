"""What a run waits for, against the bare matrix products in it: `python -m maac_tf.benchmark`.

One setting, the time of which is wanted:

python -m maac_tf.benchmark --gin_file=gin/hopper.gin --gin_param=Maac.horizon=3
"""

import contextlib
import csv
import gc
import importlib.metadata
import json
import os
import platform
import re
import resource
import shlex
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import gin
import tensorflow as tf
from absl import app, flags, logging

from maac_tf import config, experiment, matrix_products
from maac_tf.agent import Maac
from maac_tf.planner import Planner

_GIN_FILE = flags.DEFINE_multi_string(
  "gin_file",
  [],
  "As in training. Default: the shipped settings, the paper's and the baselines, one by one.",
)
_GIN_PARAM = flags.DEFINE_multi_string("gin_param", [], "As in training; repeatable.")
PARTS = "update", "fitting step", "imagine", "act", "plan"
_PART = flags.DEFINE_multi_enum("part", PARTS, PARTS, "What to measure; repeatable. Default: all.")
_THREADS = flags.DEFINE_integer(
  "threads", 0, "CPU threads to use; 0 is one for each core.", lower_bound=0
)
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Measurements of each time.", lower_bound=1)
_SCALING = flags.DEFINE_bool(
  "scaling", False, "Instead: how the update grows with horizon, models, batch and width."
)
_PEERS = flags.DEFINE_bool(
  "peers", False, "Instead: SAC's update beside Stable-Baselines3's and SBX's (launch/peers.sh)."
)
_OUT = flags.DEFINE_string("out", None, "A CSV file for the table.")
_JSON = flags.DEFINE_bool("json", False, "Print rows for the benchmark that started this process.")

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STANDARD = tuple(
  tuple(os.path.join(_ROOT, "gin", f"{name}.gin") for name in names)
  for names in (
    ("half_cheetah",),
    ("ant",),
    ("half_cheetah", "paper"),
    ("ant", "paper"),
    ("half_cheetah", "baselines/sac"),
    ("half_cheetah", "baselines/mbpo"),
  )
)
SCALING = {
  "Maac.horizon": (0, 1, 2, 4, 8),
  "Dynamics.ensemble_size": (1, 2, 4, 8, 16),
  "Maac.batch_size": (64, 128, 256, 512, 1024),
  "width": (128, 256, 512, 1024),
}
# Their update has the networks, the batch and the critics of these files.
PEERS = ("stable_baselines3", "sbx")
PEERS_FILES = tuple(
  os.path.join(_ROOT, "gin", f"{name}.gin") for name in ("half_cheetah", "paper", "baselines/sac")
)
PEERS_FOLDER = os.path.join(_ROOT, ".venv-peers")
PEER_TURNS = 3
LARGE = 2048  # rows of a product at which a machine is as fast as it can be
CALL = 10  # updates, or passes of a floor, in a call
SEED = (0, 0)
_STARTED = "MAAC_BENCHMARK_STARTED"  # environment variable: when the process was


class Row(NamedTuple):
  """One line of the table.

  Attributes:
    value: in `unit`.
    floor: the time of the bare matrix products, ms; of updates and fitting steps only. A fit's
      validation is not in its floor.
    ratio: the time over that of the least that had to be done: the products, the simulator; for a
      peer, its time over ours.
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


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  experiment.use_threads(_THREADS.value)
  rows, code, machine = [], 0, _machine()
  try:
    if _JSON.value:
      print(json.dumps(measure(_GIN_FILE.value, _GIN_PARAM.value)))
      return 0
    if _OUT.value:
      with config.user_errors():
        open(_OUT.value, "a").close()  # now, not when all is measured
    for row in _rows():
      rows.append(row)
  except (config.ConfigError, KeyboardInterrupt) as error:
    print(f"Error: {str(error) or 'interrupted'}", file=sys.stderr)
    code = 1
  if rows and _OUT.value:
    with open(_OUT.value, "w", newline="") as file:
      writer = csv.writer(file)
      writer.writerow([*Row._fields, *machine])
      writer.writerows([*row, *machine.values()] for row in rows)
  if rows:
    print(table(rows))
  return code


def _machine():
  """What the numbers are of, as columns of the CSV."""
  processor = platform.processor() or platform.machine()
  with contextlib.suppress(OSError, KeyError), open("/proc/cpuinfo") as file:
    facts = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", file.read(), re.MULTILINE))
    processor = "{model name} (family {cpu family}, model {model})".format_map(facts)
  packages = "tensorflow", "tensorflow-probability", "keras", "mujoco", "gymnasium"
  versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
  versions += ["peers: launch/peers.txt"] if _PEERS.value else []
  threads = _THREADS.value or len(os.sched_getaffinity(0))
  return {"processor": processor, "threads": threads, "versions": ", ".join(versions)}


def _rows():
  """One after the other, so that none is lost when a later one fails."""
  if _PEERS.value:
    if _GIN_FILE.value or _GIN_PARAM.value or _SCALING.value:
      raise config.ConfigError(
        "--peers has its own setting: leave out --gin_file, --gin_param and --scaling."
      )
    yield from peers()
  elif _SCALING.value:
    yield from scaling(_GIN_FILE.value or STANDARD[0], _GIN_PARAM.value)
  else:
    for files in [_GIN_FILE.value] if _GIN_FILE.value else STANDARD:
      yield from _in_a_process(files, _GIN_PARAM.value, _PART.value)


def _in_a_process(files, bindings, parts):
  """`measure` in a process of its own, which has a start and a peak of memory."""
  print(f"Measuring {_name(files)} ...", file=sys.stderr)
  command = [sys.executable, "-m", "maac_tf.benchmark", "--json", f"--rounds={_ROUNDS.value}"]
  command += [f"--threads={_THREADS.value}", *(f"--part={part}" for part in parts)]
  command += [f"--gin_file={file}" for file in files]
  command += [f"--gin_param={binding}" for binding in bindings]
  output = _output(command, os.environ | {_STARTED: str(time.time())})
  return [Row(*row) for row in json.loads(output)]


def _output(command, environment=None):
  """The last line that a command prints."""
  done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
  if done.returncode:
    raise config.ConfigError(f"this could not be measured: {shlex.join(command)}")
  return done.stdout.splitlines()[-1]


def _name(files):
  return " + ".join(os.path.splitext(os.path.basename(file))[0] for file in files)


def _seconds(*functions):
  """The median time of each, taken in turn, so that what disturbs one disturbs all.

  A function may return how often it did what is to be timed; the time is that of one.
  """
  times = [[] for _ in functions]
  for _ in range(_ROUNDS.value + 1):
    for function, seconds in zip(functions, times, strict=True):
      start = time.perf_counter()
      count = function() or 1
      seconds.append((time.perf_counter() - start) / count)
  return [statistics.median(seconds[1:]) for seconds in times]  # the first compiles


def _trainer(files, bindings):
  """As a run is before its first update; (trainer, whether XLA compiles updates)."""
  config.load(files, bindings)
  trainer = experiment.make_trainer()
  agent = trainer.agent
  trainer.collect(trainer.random_steps, random=True)
  agent.begin_iteration()
  if agent.uses_model:
    agent.dynamics_fit.fit(SEED)
  if agent.imagines:
    trainer.imagine()
  return trainer, gin.get_bindings(Maac).get("jit_compile")


class _Large:
  """A product at which the machine is as fast as it can be."""

  gflop = 2e-9 * LARGE**3

  def __init__(self):
    self._matrices = [tf.random.normal([LARGE, LARGE]) for _ in range(2)]

  def __call__(self):
    tf.matmul(*self._matrices).numpy()


def _against_floor(setting, part, function, products, jit_compile):
  """The row of a function that does `products`, and returns how often."""
  passes, large = matrix_products.floor(products, jit_compile or None), _Large()

  def floor():
    passes(tf.constant(CALL))[-1].numpy()
    return CALL

  seconds, floor_seconds, large_seconds = _seconds(function, floor, large)
  gflop = sum(product.flop for product in products) / 1e9
  rate, large_rate = gflop / seconds, large.gflop / large_seconds
  return Row(
    setting, part, 1e3 * seconds, "ms", 1e3 * floor_seconds, seconds / floor_seconds, gflop, rate,
    rate / large_rate,
  )  # fmt: skip


def _update_row(setting, agent, jit_compile):
  products = matrix_products.products_of(agent.update, agent.draw(SEED))

  def update():
    agent.train(CALL, SEED)["critic/loss"].numpy()
    return CALL

  return _against_floor(setting, "update", update, products, jit_compile)


def _fit_row(setting, agent, jit_compile):
  """Whole fits, as a run makes them, by training step."""
  fit = agent.dynamics_fit
  indices = tf.zeros([agent.dynamics.ensemble_size, fit.batch_size], tf.int32)
  products = matrix_products.products_of(fit.train_step, agent.env_buffer.gather(indices))

  def whole_fit():
    before = int(fit.steps)
    fit.fit(SEED)
    return int(fit.steps) - before

  return _against_floor(setting, "fitting step", whole_fit, products, jit_compile)


def _imagine_row(setting, trainer):
  def imagine():
    trainer.imagine()
    return int(trainer.agent.model_buffer.window) // trainer.rounds

  (seconds,) = _seconds(imagine)
  return Row(setting, "imagine", 1 / seconds, "transitions/s")


def _act_row(setting, trainer):
  """The environment phase, and the simulator's part in it."""
  env, steps, inside = trainer.environment.env, 1_000, []

  def timed(function):
    def call(*args, **kwargs):
      start = time.perf_counter()
      result = function(*args, **kwargs)
      inside.append(time.perf_counter() - start)
      return result

    return call

  gc.collect()  # half a second after the other parts, which is not of acting
  env.step, env.reset = timed(env.step), timed(env.reset)
  start = time.perf_counter()
  trainer.collect(steps)
  seconds = time.perf_counter() - start
  del env.step, env.reset
  return Row(setting, "act", steps / seconds, "steps/s", ratio=seconds / sum(inside))


def _plan_row(setting, agent, planner):
  observation, seed = tf.zeros([1, agent.observation_size]), tf.constant(SEED)

  def plan():
    planner.plan(observation, seed).numpy()

  (seconds,) = _seconds(plan)
  return Row(setting, "plan", 1 / seconds, "plans/s")


def measure(files, bindings) -> list[Row]:
  """What a run of one setting waits for."""
  started, name, parts = float(os.environ.get(_STARTED, time.time())), _name(files), _PART.value
  trainer, jit_compile = _trainer(files, bindings)
  agent = trainer.agent
  agent.train(CALL, SEED)["critic/loss"].numpy()
  rows = [Row(name, "start to first updates", time.time() - started, "s")]
  planner = None
  if agent.uses_model and "plan" in parts:
    with config.user_errors():
      planner = Planner(agent)
  # All that a run does has been done once, but for this; the floors need memory of their own.
  trainer.collect(trainer.steps_per_iteration)
  trainer.evaluate()
  rows.append(Row(name, "peak memory", _peak_gib(), "GiB"))
  if "update" in parts:
    rows.append(_update_row(name, agent, jit_compile))
  if agent.uses_model and "fitting step" in parts:
    rows.append(_fit_row(name, agent, jit_compile))
    samples = agent.dynamics_fit.batch_size * agent.dynamics.ensemble_size
    rows.append(Row(name, "fit", 1e3 * samples / rows[-1].value, "samples/s"))
  if agent.imagines and "imagine" in parts:
    rows.append(_imagine_row(name, trainer))
  if "act" in parts:
    rows.append(_act_row(name, trainer))
  if planner:
    rows.append(_plan_row(name, agent, planner))
  large = _Large()
  (seconds,) = _seconds(large)
  return [*rows, Row(name, f"product of {LARGE}", large.gflop / seconds, "GFLOP/s")]


def _peak_gib():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def scaling(files, bindings):
  """Rows of the update at other horizons, ensembles, batches and widths, the rest as it is."""
  tf.get_logger().setLevel("ERROR")  # it warns of functions that are traced anew, as these must be
  short = ["Trainer.random_steps = 500", "DynamicsFit.max_epochs = 1"]
  _trainer(files, [*bindings, *short])  # which must be possible; not all of the others are
  for parameter, values in SCALING.items():
    for value in values:
      config.load(files, bindings)
      changed = [f"{parameter} = {value}"]
      if parameter == "width":
        names = [f"{network}.hidden_units" for network in ("Policy", "Critic", "Dynamics")]
        changed = [f"{n} = {(value,) * len(gin.query_parameter(n))}" for n in names]
      print(f"Measuring {parameter} = {value} ...", file=sys.stderr)
      try:
        trainer, jit_compile = _trainer(files, [*bindings, *changed, *short])
      except config.ConfigError as error:
        print(f"left out: {error}", file=sys.stderr)
        continue
      yield _update_row(f"{parameter} = {value}", trainer.agent, jit_compile)


def peers():
  """Rows of one SAC update, here and in other libraries, each in a process of its own, in turn."""
  if not os.path.exists(os.path.join(PEERS_FOLDER, ".made_from")):
    raise config.ConfigError(f"There is no {PEERS_FOLDER}: make it with launch/peers.sh.")
  command = [os.path.join(PEERS_FOLDER, "bin", "python"), f"{_ROOT}/launch/peer_sac.py", "update"]
  times = {name: [] for name in ("maac_tf", *PEERS)}
  for _ in range(PEER_TURNS):
    for name, milliseconds in times.items():
      if name == "maac_tf":
        rows = _in_a_process(PEERS_FILES, [], ["update"])
        milliseconds += [row.value for row in rows if row.part == "update"]
      else:
        print(f"Measuring {name} ...", file=sys.stderr)
        numbers = str(_THREADS.value), str(_ROUNDS.value)
        milliseconds.append(float(_output([*command, name, *numbers])))
  medians = {name: statistics.median(milliseconds) for name, milliseconds in times.items()}
  for name, milliseconds in medians.items():
    yield Row(name, "SAC update", milliseconds, "ms", ratio=milliseconds / medians["maac_tf"])


def table(rows: list[Row]) -> str:
  """Of all rows, as text."""
  titles = "setting", "part", "value", "unit", "floor", "ratio", "GFLOP", "GFLOP/s", "of large"
  lines = [titles, *([_text(cell) for cell in row] for row in rows)]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  left = {0, 1, 3}
  return "\n".join(
    "  ".join(
      cell.ljust(width) if i in left else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()
    for line in lines
  )


def _text(cell):
  if cell is None:
    return ""
  if isinstance(cell, str):
    return cell
  return f"{cell:,.0f}" if cell >= 999.5 else f"{cell:.3g}"


if __name__ == "__main__":
  app.run(main)
