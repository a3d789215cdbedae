"""What a run waits for, against the bare matrix products in it: `python -m maac_tf.benchmark`.

One setting, the time of which is wanted:

python -m maac_tf.benchmark --gin_file=gin/hopper.gin --gin_param=Maac.horizon=3
"""

import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import gin
import tensorflow as tf
from absl import app, flags, logging

import maac_tf.experiment  # noqa: F401  (what the gin files name)
from maac_tf import config, matrix_products
from maac_tf.agent import Maac
from maac_tf.envs import make_task
from maac_tf.planner import Planner
from maac_tf.trainer import Trainer

_GIN_FILE = flags.DEFINE_multi_string(
  "gin_file", [], "As in training. Default: the shipped settings, the paper's and the baselines."
)
_GIN_PARAM = flags.DEFINE_multi_string("gin_param", [], "As in training; repeatable.")
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

STANDARD = (
  ("gin/gymnasium/half_cheetah_v5.gin",),
  ("gin/gymnasium/ant_v5.gin",),
  ("gin/half_cheetah.gin", "gin/paper.gin"),
  ("gin/ant.gin", "gin/paper.gin"),
  ("gin/half_cheetah.gin", "gin/baselines/sac.gin"),
  ("gin/half_cheetah.gin", "gin/baselines/mbpo.gin"),
)
SCALING = {
  "Maac.horizon": (0, 1, 2, 4, 8),
  "Dynamics.ensemble_size": (1, 2, 4, 8, 16),
  "Maac.batch_size": (64, 128, 256, 512, 1024),
  "width": (128, 256, 512, 1024),
}
# Their update has the networks, the batch and the critics of these files.
PEERS = ("stable_baselines3", "sbx")
PEERS_FILES = ("gin/half_cheetah.gin", "gin/paper.gin", "gin/baselines/sac.gin")
PEERS_PYTHON = ".venv-peers/bin/python"
PEER_TURNS = 3
LARGE = 2048  # rows of a product at which a machine is as fast as it can be
UPDATES_PER_CALL = 10
SEED = (0, 0)
_STARTED = "MAAC_BENCHMARK_STARTED"  # environment variable: when the process was


class Row(NamedTuple):
  """One line of the table.

  Attributes:
    value: in `unit`.
    floor: the time of the bare matrix products, ms.
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
  if _THREADS.value:
    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    tf.config.threading.set_inter_op_parallelism_threads(_THREADS.value)
  try:
    if _JSON.value:
      print(json.dumps(measure(_GIN_FILE.value, _GIN_PARAM.value)))
      return 0
    settings = [_GIN_FILE.value] if _GIN_FILE.value else STANDARD
    if _SCALING.value:
      rows = scaling(settings[0], _GIN_PARAM.value)
    elif _PEERS.value:
      rows = peers(_GIN_PARAM.value)
    else:
      rows = [row for files in settings for row in _in_a_process(files, _GIN_PARAM.value)]
  except config.ConfigError as error:
    print(f"Error: {error}", file=sys.stderr)
    return 1
  if _OUT.value:
    with open(_OUT.value, "w", newline="") as file:
      csv.writer(file).writerows([Row._fields, *rows])
  print(table(rows))
  return 0


def _in_a_process(files, bindings):
  """`measure` in a process of its own, which has a start and a peak of memory."""
  command = [sys.executable, "-m", "maac_tf.benchmark", "--json", f"--rounds={_ROUNDS.value}"]
  command += [f"--threads={_THREADS.value}", *(f"--gin_file={file}" for file in files)]
  command += [f"--gin_param={binding}" for binding in bindings]
  environment = os.environ | {_STARTED: str(time.time())}
  output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
  if output.returncode:
    raise config.ConfigError(f"{_name(files)} could not be measured.")
  return [Row(*row) for row in json.loads(output.stdout.splitlines()[-1])]


def _name(files):
  return " + ".join(os.path.splitext(os.path.basename(file))[0] for file in files)


def _seconds(*functions):
  """The median time of each, taken in turn, so that what disturbs one disturbs all."""
  times = [[] for _ in functions]
  for _ in range(_ROUNDS.value + 1):
    for function, seconds in zip(functions, times, strict=True):
      start = time.perf_counter()
      function()
      seconds.append(time.perf_counter() - start)
  return [statistics.median(seconds[1:]) for seconds in times]  # the first compiles


def _trainer(files, bindings):
  """As a run is before its first update; (trainer, whether XLA compiles updates)."""
  config.load(files, bindings)
  with config.user_errors():
    trainer = Trainer(make_task(gin.query_parameter("train.task")))
  agent = trainer.agent
  trainer.collect(trainer.random_steps, random=True)
  agent.begin_iteration()
  if agent.uses_model:
    agent.dynamics_fit.fit(SEED)
  if agent.imagines:
    trainer.imagine()
  return trainer, gin.get_bindings(Maac).get("jit_compile")


def _large_rate():
  """GFLOP/s of a large product: what the machine can do at best."""
  matrices = [tf.random.normal([LARGE, LARGE]) for _ in range(2)]
  (seconds,) = _seconds(lambda: tf.matmul(*matrices).numpy())
  return 2e-9 * LARGE**3 / seconds


def _against_floor(setting, part, function, calls, products, jit_compile):
  """The row of a function that does `products` `calls` times."""
  floor = matrix_products.floor(products, jit_compile or None)
  seconds, floor_seconds = _seconds(function, lambda: floor()[-1].numpy())
  milliseconds, floor_milliseconds = 1e3 * seconds / calls, 1e3 * floor_seconds
  gflop = sum(product.flop for product in products) / 1e9
  rate = 1e3 * gflop / milliseconds
  return Row(
    setting, part, milliseconds, "ms", floor_milliseconds, milliseconds / floor_milliseconds, gflop,
    rate, rate / _large_rate(),
  )  # fmt: skip


def _update_row(setting, agent, jit_compile):
  products = matrix_products.products_of(agent.update, agent.draw(SEED))
  count = tf.constant(UPDATES_PER_CALL)

  def updates():
    return agent.train(count, SEED)["critic/loss"].numpy()

  return _against_floor(setting, "update", updates, UPDATES_PER_CALL, products, jit_compile)


def _fit_row(setting, agent, jit_compile):
  """Whole fits, as a run makes them, by training step."""
  fit = agent.dynamics_fit
  indices = tf.zeros([agent.dynamics.ensemble_size, fit.batch_size], tf.int32)
  products = matrix_products.products_of(fit.train_step, agent.env_buffer.gather(indices))
  before = int(fit.steps)

  def whole_fit():
    return fit.fit(SEED)["epochs"].numpy()

  whole_fit()
  steps = int(fit.steps) - before
  return _against_floor(setting, "fitting step", whole_fit, steps, products, jit_compile)


def _act_row(setting, trainer):
  """The environment phase, and the simulator's part in it."""
  env, steps, inside = trainer.environment.env, 1_000, []
  step = env.step

  def timed(action):
    start = time.perf_counter()
    result = step(action)
    inside.append(time.perf_counter() - start)
    return result

  trainer.collect(10)  # compiles
  env.step = timed
  start = time.perf_counter()
  trainer.collect(steps)
  seconds = time.perf_counter() - start
  del env.step
  return Row(setting, "act", steps / seconds, "steps/s", ratio=seconds / sum(inside))


def measure(files, bindings) -> list[Row]:
  """All that a run of one setting waits for."""
  started = float(os.environ.get(_STARTED, time.time()))
  name = _name(files)
  trainer, jit_compile = _trainer(files, bindings)
  agent = trainer.agent
  agent.train(tf.constant(1), SEED)["critic/loss"].numpy()
  rows = [Row(name, "start to first update", time.time() - started, "s")]
  rows.append(_update_row(name, agent, jit_compile))
  if agent.uses_model:
    rows.append(_fit_row(name, agent, jit_compile))
  if agent.imagines:
    (seconds,) = _seconds(trainer.imagine)
    transitions = int(agent.model_buffer.window) / trainer.rounds
    rows.append(Row(name, "imagine", transitions / seconds, "transitions/s"))
  rows.append(_act_row(name, trainer))
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  if agent.uses_model:
    planner, observation = Planner(agent), tf.zeros([1, agent.observation_size])
    (seconds,) = _seconds(lambda: planner.plan(observation, SEED).numpy())
    rows.append(Row(name, "plan", 1 / seconds, "plans/s"))
  rows.append(Row(name, f"product of {LARGE}", _large_rate(), "GFLOP/s"))
  return [*rows, Row(name, "peak memory", memory, "GiB")]


def scaling(files, bindings) -> list[Row]:
  """The update at other horizons, ensembles, batches and widths, the rest as it is."""
  rows = []
  for parameter, values in SCALING.items():
    for value in values:
      changed = [f"{parameter} = {value}"]
      if parameter == "width":
        networks = ("Policy", "Critic", "Dynamics")
        changed = [f"{network}.hidden_units = {(value,) * 3}" for network in networks]
      # A start that is as short as may be: the update's time does not depend on it.
      trainer, jit_compile = _trainer(files, [*bindings, *changed, "DynamicsFit.max_epochs = 1"])
      rows.append(_update_row(f"{parameter} = {value}", trainer.agent, jit_compile))
      gin.clear_config()
  return rows


def peers(bindings) -> list[Row]:
  """One SAC update, here and in other libraries, each in a process of its own, in turn."""
  if not os.path.exists(PEERS_PYTHON):
    raise config.ConfigError(f"There is no {PEERS_PYTHON}: make it with launch/peers.sh.")
  times = {name: [] for name in ("maac_tf", *PEERS)}
  for _ in range(PEER_TURNS):
    for name, milliseconds in times.items():
      if name == "maac_tf":
        rows = _in_a_process(PEERS_FILES, bindings)
        milliseconds += [row.value for row in rows if row.part == "update"]
      else:
        numbers = str(_THREADS.value), str(_ROUNDS.value)
        command = [PEERS_PYTHON, "launch/peer_sac.py", "update", name, *numbers]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        milliseconds.append(float(output.splitlines()[-1]))
  ours = statistics.median(times["maac_tf"])
  medians = {name: statistics.median(milliseconds) for name, milliseconds in times.items()}
  return [Row(name, "SAC update", m, "ms", ratio=m / ours) for name, m in medians.items()]


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
  return f"{cell:,.0f}" if cell >= 1000 else f"{cell:.3g}"


if __name__ == "__main__":
  app.run(main)
