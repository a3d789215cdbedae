"""Trains a setting, and variants of it, from the same seeds:

python -m maac_tf.compare --gin_file=gin/gymnasium/half_cheetah_v5.gin --env_steps=10000 \\
  --variant=Critic.layer_norm=False --variant=gin/baselines/model_free.gin
"""

import concurrent.futures
import csv
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from types import FrameType
from typing import NamedTuple

import numpy as np
from absl import app, flags

from maac_tf.checks import ConfigError
from maac_tf.runs import command_line, config, experiment

_GIN_FILE = command_line.define_paths(
  "gin_file", "As in training: what all have in common.", required=True
)
_VARIANT = command_line.define_paths(
  "variant", "A gin file, or one binding such as Maac.horizon=3, to try over it; repeatable."
)
_ENV_STEPS = flags.DEFINE_integer(
  "env_steps",
  10_000,
  "Environment steps of each run, the random ones included; rounded up to whole iterations.",
  lower_bound=1,
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "The seeds of each.")
flags.register_validator(
  "seeds",
  lambda seeds: seeds and all(map(str.isdigit, seeds)) and len({*seeds}) == len(seeds),
  "must be different numbers, such as 0,1,2",
)
_JOBS = flags.DEFINE_integer("jobs", 2, "Runs side by side, each on one CPU thread.", lower_bound=1)
_RUN_DIR = command_line.define_path(
  "run_dir", "runs/compare", "Runs go to RUN_DIR/TASK/VARIANT-SEED."
)


# Of a binding: TensorFlow would take brackets in a path for a pattern.
_IN_FOLDER_NAMES = str.maketrans({" ": None, "/": "_", "[": "(", "]": ")", "*": "x", "?": "_"})


class _Setting(NamedTuple):
  name: str
  command: list[str]  # without seed and folder
  iterations: int

  def run_dir(self, seed: str) -> str:
    task = "+".join(_stem(file) for file in _GIN_FILE.value)
    return os.path.join(_RUN_DIR.value, task, f"{self.name}-{seed}")

  def returns(self, seed: str) -> list[float]:
    """Of its evaluations; NaN alone if the run is not finished."""
    try:
      with open(os.path.join(self.run_dir(seed), "metrics.csv")) as file:
        rows = list(csv.DictReader(file))[: self.iterations]
    except OSError:
      rows = []
    returns = [float(row["eval/return"]) for row in rows if row["eval/return"]]
    return returns if returns and len(rows) == self.iterations else [math.nan]


class _Runs:
  """Starts trainings; the first signal lets them finish their iteration, a second stops them."""

  def __init__(self) -> None:
    self._processes: list[subprocess.Popen[bytes]] = []
    self.failed: list[tuple[str, str] | None] = []  # (setting, seed); None: an error
    self.interrupted = False
    for number in (signal.SIGINT, signal.SIGTERM):
      signal.signal(number, self._stop)

  def run(self, setting: _Setting, seed: str) -> None:
    """One training from its start, or its last checkpoint, to its end."""
    if self.interrupted:
      return
    path = setting.run_dir(seed)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.log", "a") as log:
      command = [*setting.command, f"--run_dir={path}", f"--seed={seed}"]
      # A session of its own: Ctrl-C reaches it through `_stop`, once.
      process = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
      )
    self._processes.append(process)
    print(f"{path}: started")
    code = process.wait()
    if code == 0:
      print(f"{path}: {setting.returns(seed)[-1]:.5g}")
    elif not self.interrupted:
      self.failed.append((setting.name, seed))
      print(f"{path}: ended with {code}, see {path}.log")

  def _stop(self, number: int, frame: FrameType | None) -> None:
    del number, frame
    self.interrupted = True
    os.write(2, b"\nThe runs finish their iteration and save; once more stops them at once.\n")
    for process in self._processes:
      process.send_signal(signal.SIGTERM)  # nothing, to one that has ended


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  try:
    settings = _settings()
  except ConfigError as error:
    print(f"Error: {error}", file=sys.stderr)
    return 1
  runs = _Runs()
  # Seeds outermost: pairs are complete early.
  with concurrent.futures.ThreadPoolExecutor(_JOBS.value) as pool:
    futures = [pool.submit(runs.run, s, seed) for seed in _SEEDS.value for s in settings]
  for failure in filter(None, (future.exception() for future in futures)):
    runs.failed.append(None)
    print(f"Error: {failure}", file=sys.stderr)
  print(_table(settings, runs.failed))
  if runs.interrupted:
    print("Interrupted: the same command goes on.")
    return 130
  return int(bool(runs.failed))


def _settings() -> list[_Setting]:
  """The setting and its variants, each tried out: a wrong value ends here, not after hours."""
  settings: list[_Setting] = []
  default = None
  for variant in [None, *_VARIANT.value]:
    files, bindings, name = list(_GIN_FILE.value), [], "maac"
    if variant and "=" in variant:
      bindings, name = [variant], variant.translate(_IN_FOLDER_NAMES)
    elif variant:
      folder = os.path.basename(os.path.dirname(os.path.abspath(variant)))
      prefix = "without_" if folder == "without" else ""
      files, name = [*files, variant], prefix + _stem(variant)
    if name in [s.name for s in settings]:
      raise ConfigError(f"Two variants have the name {name!r}: leave out or rename one.")
    overridden = config.load(files, bindings)
    if bindings:  # and not what the last of the common files sets
      overridden = config.parameters(bindings)
    owners = {parameter.partition(".")[0] for parameter in overridden}
    if owners and variant and owners <= {"train", "Planner"}:
      raise ConfigError(
        f"{name!r} changes no training: --env_steps and --seeds set steps and seeds, and plans are "
        "made at test time alone."
      )
    values = config.values()
    if values == default:
      raise ConfigError(f"{name!r} changes nothing: every value is what it is without it.")
    default = default or values
    trainer = experiment.make_trainer()
    unused = config.without_effect(overridden, experiment.unused_options(trainer))
    for parameter, reason in unused.items() if variant else ():
      raise ConfigError(f"{parameter} of {name!r} has no effect: {reason}.")
    policy_steps = _ENV_STEPS.value - trainer.random_steps
    if policy_steps < 1:
      raise ConfigError(
        f"--env_steps must be more than Trainer.random_steps ({trainer.random_steps}), not "
        f"{_ENV_STEPS.value}."
      )
    iterations = math.ceil(policy_steps / trainer.steps_per_iteration)
    if iterations * trainer.steps_per_iteration < trainer.eval_every:
      raise ConfigError(
        f"--env_steps ({_ENV_STEPS.value}) end before the first evaluation, "
        f"Trainer.eval_every ({trainer.eval_every}) after Trainer.random_steps "
        f"({trainer.random_steps})."
      )
    command = [sys.executable, "-m", "maac_tf.train", "--threads=1"]
    command += [f"--gin_file={file}" for file in files]
    command += [f"--gin_param={b}" for b in [*bindings, f"train.iterations={iterations}"]]
    settings.append(_Setting(name, command, iterations))
  return settings


def _stem(path: str) -> str:
  return os.path.splitext(os.path.basename(path))[0]


def _table(settings: Sequence[_Setting], failed: Collection[tuple[str, str] | None]) -> str:
  """Last return, and mean over the evaluations, of every setting and seed; means over seeds.

  NaN where it `failed`: what the folder holds may be of another config.
  """
  width = 2 + max(len(name) for name in ["mean of the curve", *(s.name for s in settings)])
  columns = "".join(f"{column:>10}" for column in [*(f"seed {s}" for s in _SEEDS.value), "mean"])
  lines = []
  reductions: dict[str, Callable[[list[float]], float]] = {
    "last return": lambda returns: returns[-1],
    "mean of the curve": lambda returns: float(np.mean(returns)),
  }
  for title, reduce in reductions.items():
    lines.append(f"{title:{width}}{columns}")
    for setting in settings:
      values = [
        math.nan if (setting.name, seed) in failed else reduce(setting.returns(seed))
        for seed in _SEEDS.value
      ]
      lines.append(
        f"{setting.name:{width}}" + "".join(f"{v:10.5g}" for v in [*values, np.mean(values)])
      )
  return "\n".join(lines)


if __name__ == "__main__":
  app.run(main)
