"""Trains a setting, and variants of it, from the same seeds:

python -m maac_tf.compare --gin_file=gin/gymnasium/half_cheetah_v5.gin --env_steps=10000 \\
  --variant=gin/without/layer_norm.gin --variant=Trainer.updates_per_step=2
"""

import concurrent.futures
import csv
import math
import os
import signal
import subprocess
import sys

import gin
import numpy as np
from absl import app, flags

import maac_tf.experiment  # noqa: F401  (what the gin files name)
from maac_tf import config

_GIN_FILE = flags.DEFINE_multi_string(
  "gin_file", None, "As in training: what all have in common.", required=True
)
_VARIANT = flags.DEFINE_multi_string(
  "variant", [], "A gin file, or one binding such as Maac.horizon=3, to try over it; repeatable."
)
_ENV_STEPS = flags.DEFINE_integer(
  "env_steps", 10_000, "Environment steps of each run, the random ones included.", lower_bound=1
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "The seeds of each.")
flags.register_validator(
  "seeds", lambda seeds: seeds and all(map(str.isdigit, seeds)), "must be numbers, such as 0,1,2"
)
_JOBS = flags.DEFINE_integer("jobs", 2, "Runs side by side, each on one CPU thread.", lower_bound=1)
_RUN_DIR = flags.DEFINE_string("run_dir", "runs/compare", "Runs go to RUN_DIR/TASK/VARIANT-SEED.")


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  try:
    settings = _settings()
  except config.ConfigError as error:
    print(f"Error: {error}", file=sys.stderr)
    return 1
  # Ctrl-C is for the runs, which finish their iteration; no other one is started then.
  interrupted, failed = [], []
  signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))

  def run(command, path):
    if interrupted:
      return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.log", "a") as log:
      command = [*command, f"--run_dir={path}"]
      code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    if code:
      failed.append(path)
    print(f"{path}: {_returns(path)[-1] if code == 0 else f'ended with {code}, see {path}.log'}")

  # Seeds outermost: pairs are complete early.
  with concurrent.futures.ThreadPoolExecutor(_JOBS.value) as pool:
    for seed in _SEEDS.value:
      for name, command in settings.items():
        pool.submit(run, [*command, f"--seed={seed}"], _run_dir(name, seed))
  print(_table(settings))
  return 130 if interrupted else bool(failed)


def _settings():
  """The name of each variant and its command, without seed and folder."""
  settings = {}
  for variant in [None, *_VARIANT.value]:
    files, bindings = list(_GIN_FILE.value), []
    if variant is None:
      name = "shipped"
    elif "=" in variant:
      name = variant.replace(" ", "")
      bindings.append(variant)
    else:
      name = os.path.splitext(os.path.basename(variant))[0]
      files.append(variant)
    if name in settings:
      raise config.ConfigError(f"Two variants have the name {name!r}: rename a file.")
    config.load(files, bindings)
    with config.user_errors():
      random_steps = gin.query_parameter("Trainer.random_steps")
      steps = gin.query_parameter("Trainer.steps_per_iteration")
    gin.clear_config()
    iterations = math.ceil((_ENV_STEPS.value - random_steps) / steps)
    if iterations < 1:
      raise config.ConfigError(
        f"--env_steps must be more than Trainer.random_steps ({random_steps}), not "
        f"{_ENV_STEPS.value}."
      )
    settings[name] = [sys.executable, "-m", "maac_tf.train", "--threads=1"]
    settings[name] += [f"--gin_file={file}" for file in files]
    bindings.append(f"train.iterations={iterations}")
    settings[name] += [f"--gin_param={binding}" for binding in bindings]
  return settings


def _run_dir(name, seed):
  task = os.path.splitext(os.path.basename(_GIN_FILE.value[0]))[0]
  return os.path.join(_RUN_DIR.value, task, f"{name}-{seed}")


def _returns(path):
  """Of the evaluations in a run's metrics; NaN if there is none."""
  try:
    with open(os.path.join(path, "metrics.csv")) as file:
      returns = [float(row["eval/return"]) for row in csv.DictReader(file) if row["eval/return"]]
  except OSError:
    returns = []
  return returns or [math.nan]


def _table(settings):
  """Last return, and mean over the evaluations, of every variant and seed; means over seeds."""
  columns = "".join(f"{column:>10}" for column in [*(f"seed {s}" for s in _SEEDS.value), "mean"])
  lines = []
  for title, reduce in (("last return", lambda r: r[-1]), ("mean of the curve", np.mean)):
    lines.append(f"{title:32}{columns}")
    for name in settings:
      values = [reduce(_returns(_run_dir(name, seed))) for seed in _SEEDS.value]
      lines.append(f"{name:32}" + "".join(f"{v:10,.1f}" for v in [*values, np.mean(values)]))
  return "\n".join(lines)


if __name__ == "__main__":
  app.run(main)
