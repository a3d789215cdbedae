"""Writes a SavedModel that plans: `python -m maac_tf.export --run_dir=R --planner=cem`."""

import os
import sys

import tensorflow as tf
from absl import app, flags, logging

from maac_tf.algorithm.planner import Planner
from maac_tf.checks import ConfigError
from maac_tf.runs import command_line, config, experiment, saved_model

_RUN_DIR = command_line.define_path("run_dir", None, "The folder of the run.", required=True)
_PLANNER = flags.DEFINE_enum("planner", "cem", ["cem"], "The cross-entropy method.")
_OUT = command_line.define_path(
  "out", None, "The folder to write; default: RUN_DIR/policy_PLANNER."
)
_GIN_PARAM = flags.DEFINE_multi_string("gin_param", [], "Such as 'Planner.horizon=5'; repeatable.")


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  path = _OUT.value or os.path.join(_RUN_DIR.value, f"policy_{_PLANNER.value}")
  try:
    if os.path.exists(path):
      raise ConfigError(f"{path!r} exists: give another --out.")
    trainer = experiment.restore(_RUN_DIR.value, _GIN_PARAM.value)
    with config.user_errors():
      with trainer.best.in_use():
        saved_model.save_planner(trainer.learner, Planner(trainer.learner), path)
  except ConfigError as error:
    print(f"Error: {error}", file=sys.stderr)
    return 1
  except tf.errors.OpError as error:
    print(f"Error: {path!r} cannot be written: {error.message}", file=sys.stderr)
    return 1
  when = "of the best evaluation" if trainer.best.exists else "as they are, not evaluated yet"
  print(f"Wrote {path}: policy, models and critics {when}.")
  return 0


if __name__ == "__main__":
  app.run(main)
