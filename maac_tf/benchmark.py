"""What a run waits for, against the bare matrix products in it: `python -m maac_tf.benchmark`.

One setting, the time of which is wanted:

python -m maac_tf.benchmark --gin_file=gin/hopper.gin --gin_param=Maac.horizon=3
"""

import contextlib
import csv
import importlib.metadata
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from absl import app, flags, logging

from maac_tf import files
from maac_tf.analysis import deployment, growth, timing
from maac_tf.analysis.timing import PARTS, Row
from maac_tf.checks import ConfigError
from maac_tf.runs import command_line, experiment
from maac_tf.runs.gin_files import find_gin_file, gin_root

_GIN_FILE = command_line.define_paths(
  "gin_file",
  "As in training. Default: the default settings, the paper's and two baselines, one by one.",
)
_GIN_PARAM = flags.DEFINE_multi_string("gin_param", [], "As in training; repeatable.")
_PART = flags.DEFINE_multi_enum("part", PARTS, PARTS, "What to measure; repeatable. Default: all.")
_THREADS = command_line.define_threads()
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Measurements of each time.", lower_bound=1)
_SCALING = flags.DEFINE_bool(
  "scaling", False, "Instead: how the update grows with horizon, models, batch and width."
)
_PEERS = flags.DEFINE_bool(
  "peers", False, "Instead: SAC's update beside Stable-Baselines3's and SBX's (launch/peers.sh)."
)
_RUNTIMES = flags.DEFINE_bool(
  "runtimes",
  False,
  "Instead: a call of the policy in TensorFlow, LiteRT and ONNX Runtime (--part=act), and of the "
  "exported planner (--part=plan).",
)
_REPLAY_ROWS = flags.DEFINE_list(
  "replay_rows", [], "Instead: an iteration and a checkpoint from a D_env with so many rows, each."
)
_SAVES = flags.DEFINE_integer(
  "saves", 0, "Instead: the memory of a run that is saved so many times.", lower_bound=0
)
_OUT = command_line.define_path("out", None, "A CSV file for the table.")
_JSON = flags.DEFINE_bool("json", False, "Print rows for the benchmark that started this process.")

_ROOT = gin_root()
_GIN = os.path.join(_ROOT, "gin")
STANDARD = tuple(
  tuple(os.path.join(_GIN, f"{name}.gin") for name in names)
  for names in (
    ("half_cheetah",),
    ("ant",),
    ("paper/half_cheetah",),
    ("paper/ant",),
    ("half_cheetah", "baselines/model_free"),
    ("half_cheetah", "baselines/imagined_data"),
  )
)
# Their update has the networks, the batch and the critics of these files.
PEERS = ("stable_baselines3", "sbx")
PEERS_FILES = tuple(
  os.path.join(_GIN, f"{name}.gin") for name in ("paper/half_cheetah", "paper/sac")
)
PEERS_FOLDER = os.path.join(_ROOT, ".venv-peers")
PEER_TURNS = 9  # on shared machines medians of three differed by half
_STARTED = "MAAC_BENCHMARK_STARTED"  # environment variable: when the process was


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  experiment.use_threads(_THREADS.value)
  rows, code, machine = [], 0, _machine()
  try:
    if _JSON.value:
      print(json.dumps(_measure_here()))
      return 0
    if _OUT.value:
      with files.using(_OUT.value):
        open(_OUT.value, "a").close()  # now, not when all is measured
    for row in _rows():
      rows.append(row)
  except (ConfigError, KeyboardInterrupt) as error:
    print(f"Error: {str(error) or 'interrupted'}", file=sys.stderr)
    code = 1
  if rows:
    print(table(rows))  # first: what cannot be written is seen
  try:
    if rows and _OUT.value:
      _write(_OUT.value, rows, machine)
  except ConfigError as error:
    print(f"Error: {error}", file=sys.stderr)
    code = 1
  return code


def _write(path: str, rows: Sequence[Row], machine: Mapping[str, str | int]) -> None:
  with files.using(path), open(path, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow([*Row._fields, *machine])
    writer.writerows([*row, *machine.values()] for row in rows)


def _machine() -> dict[str, str | int]:
  """What the numbers are of, as columns of the CSV."""
  processor = platform.processor() or platform.machine()
  with contextlib.suppress(OSError, KeyError), open("/proc/cpuinfo") as file:
    facts = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", file.read(), re.MULTILINE))
    processor = "{model name} (family {cpu family}, model {model})".format_map(facts)
  packages = ["tensorflow", "tensorflow-probability", "keras", "mujoco", "gymnasium"]
  packages += ["ai-edge-litert", "onnxruntime"] if _RUNTIMES.value else []
  versions = []
  for package in packages:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # an extra
      versions.append(f"{package} {importlib.metadata.version(package)}")
  versions += ["peers: launch/peers.txt"] if _PEERS.value else []
  threads = _THREADS.value or len(os.sched_getaffinity(0))
  return {"processor": processor, "threads": threads, "versions": ", ".join(versions)}


def _rows() -> Iterator[Row]:
  """One after the other, so that none is lost when a later one fails."""
  if _PEERS.value:
    if _GIN_FILE.value or _GIN_PARAM.value or _SCALING.value:
      raise ConfigError(
        "--peers has its own setting: leave out --gin_file, --gin_param and --scaling."
      )
    yield from peers()
  elif _RUNTIMES.value:
    files = _GIN_FILE.value or STANDARD[0]
    yield from deployment.measure(_name(files), files, _GIN_PARAM.value, _ROUNDS.value, _PART.value)
  elif _SCALING.value:
    yield from timing.scaling(_GIN_FILE.value or STANDARD[0], _GIN_PARAM.value, _ROUNDS.value)
  elif _REPLAY_ROWS.value:
    counts = [_count(text) for text in _REPLAY_ROWS.value]
    yield from growth.with_rows(_GIN_FILE.value or STANDARD[0], _GIN_PARAM.value, counts)
  elif _SAVES.value:
    yield from growth.with_saves(_GIN_FILE.value or STANDARD[0], _GIN_PARAM.value, _SAVES.value)
  else:
    for files in [_GIN_FILE.value] if _GIN_FILE.value else STANDARD:
      yield from _in_a_process(files, _GIN_PARAM.value, _PART.value)


def _count(text: str) -> int:
  if not text.strip().isdecimal() or not int(text):
    raise ConfigError(f"--replay_rows must be numbers such as 10000,100000, not {text!r}.")
  return int(text)


def _measure_here() -> list[Row]:
  files, started = _GIN_FILE.value, float(os.environ.get(_STARTED, time.time()))
  return timing.measure(_name(files), files, _GIN_PARAM.value, _ROUNDS.value, _PART.value, started)


def _in_a_process(files: Sequence[str], bindings: Sequence[str], parts: Sequence[str]) -> list[Row]:
  """`_measure_here` in a process of its own, which has a start and a peak of memory."""
  print(f"Measuring {_name(files)} ...", file=sys.stderr)
  command = [sys.executable, "-m", "maac_tf.benchmark", "--json", f"--rounds={_ROUNDS.value}"]
  command += [f"--threads={_THREADS.value}", *(f"--part={part}" for part in parts)]
  command += [f"--gin_file={file}" for file in files]
  command += [f"--gin_param={binding}" for binding in bindings]
  output = _output(command, os.environ | {_STARTED: str(time.time())})
  return [Row(*row) for row in json.loads(output)]


def _output(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
  """The last line that a command prints."""
  done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
  if done.returncode:
    raise ConfigError(f"this could not be measured: {shlex.join(command)}")
  return done.stdout.splitlines()[-1]


def _name(files: Sequence[str]) -> str:
  """Of the project's own files with their folder in gin/: two have the name half_cheetah."""
  paths = [os.path.relpath(find_gin_file(file), _GIN) for file in files]
  paths = [os.path.basename(path) if path.startswith("..") else path for path in paths]
  return " + ".join(os.path.splitext(path)[0] for path in paths)


def peers() -> Iterator[Row]:
  """Rows of one SAC update, here and in other libraries, each in a process of its own, in turn."""
  if not os.path.exists(os.path.join(PEERS_FOLDER, ".made_from")):
    raise ConfigError(
      f"There is no {PEERS_FOLDER!r}: --peers needs a checkout of the project, and launch/peers.sh."
    )
  command = [os.path.join(PEERS_FOLDER, "bin", "python"), f"{_ROOT}/launch/peer_sac.py", "update"]
  times: dict[str, list[float]] = {name: [] for name in ("maac_tf", *PEERS)}
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
  for name, median in medians.items():
    yield Row(name, "SAC update", median, "ms", ratio=median / medians["maac_tf"])


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


def _text(cell: str | float | None) -> str:
  if cell is None:
    return ""
  if isinstance(cell, str):
    return cell
  return f"{cell:,.0f}" if cell >= 999.5 else f"{cell:.3g}"


if __name__ == "__main__":
  app.run(main)
