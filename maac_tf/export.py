"""Writes the best policy of a run for other programs, and checks what it wrote:

python -m maac_tf.export --run_dir=R --format=litert

or a SavedModel that plans: `python -m maac_tf.export --run_dir=R --planner=cem`; or the real steps:

python -m maac_tf.export --run_dir=R --format=minari --out=hopper/mine-v0
"""

import os
import sys

from absl import app, flags, logging

from maac_tf.checks import ConfigError
from maac_tf.runs import (
  command_line,
  datasets,
  experiment,
  exports,
  version,
)

_RUN_DIR = command_line.define_path("run_dir", None, "The folder of the run.", required=True)
_VOUCHED = command_line.define_vouched()
_FORMAT = flags.DEFINE_enum(
  "format",
  "saved_model",
  [*exports.EXTENSIONS, *datasets.FORMATS],
  "What to write: npz and minari are of the real steps, the others of the policy.",
)
_QUANTIZE = flags.DEFINE_enum(
  "quantize", None, exports.QUANTIZATIONS, "With --format=litert: the weights. Prints the loss."
)
_EPISODES = flags.DEFINE_integer(
  "episodes", 20, "With --quantize: how many episodes with each policy.", lower_bound=2
)
_PLANNER = flags.DEFINE_enum(
  "planner", None, ["cem"], "With --format=saved_model: the cross-entropy method."
)
_OUT = command_line.define_path(
  "out",
  None,
  "What to write; default: in RUN_DIR, policy with the other flags in its name, or steps.npz. Of "
  "minari, which has folders of its own, the name of the dataset, such as hopper/mine-v0.",
)
_GIN_PARAM = flags.DEFINE_multi_string(
  "gin_param", [], "With --planner: such as 'Planner.horizon=5'; repeatable."
)


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  path = _OUT.value or _default_path()
  try:
    if os.path.exists(path) and _FORMAT.value != "minari":
      raise ConfigError(f"{path!r} exists: give another --out.")
    if _FORMAT.value in datasets.FORMATS:
      _export_steps(path)
      return 0
    if _PLANNER.value and _FORMAT.value != "saved_model":
      raise ConfigError(
        f"A planner draws random numbers, which files of {_FORMAT.value} do not: leave out "
        "--planner, or --format."
      )
    if _GIN_PARAM.value and not _PLANNER.value:
      raise ConfigError("--gin_param is of the planner: give --planner=cem, too.")
    trainer = _VOUCHED.restore(_RUN_DIR.value, _GIN_PARAM.value)
    code = version.of_run(_RUN_DIR.value)
    if _PLANNER.value:
      exports.export_planner(trainer, path, code)
      said = "policy, models and critics"
    else:
      difference = exports.export_policy(trainer, path, _FORMAT.value, _QUANTIZE.value, code)
      said = (
        f"the policy, whose actions differ by up to {difference:.2g} (of those in [-1, 1]) over "
        f"{exports.NUM_OBSERVATIONS:,} stored observations,"
      )
  except ConfigError as error:
    print(f"Error: {error}", file=sys.stderr)
    return 1
  when = "of the best evaluation" if trainer.best.exists else "as they are, not evaluated yet"
  print(f"Wrote {path}: {said} {when}.")
  if _QUANTIZE.value:
    pair = exports.paired_episodes(trainer, path, _EPISODES.value)
    policy, file = (episodes.returns for episodes in pair)
    spread = (file - policy).std(ddof=1) / len(policy) ** 0.5
    print(
      f"Its return is {file.mean():.5g}, and the policy's {policy.mean():.5g} from the same "
      f"{len(policy)} start states: a loss of {(policy - file).mean():.3g} ± {spread:.2g}."
    )
  return 0


def _export_steps(path: str) -> None:
  if _PLANNER.value or _QUANTIZE.value:
    raise ConfigError("--planner and --quantize are of a policy: leave them out, or --format.")
  if _FORMAT.value == "minari" and not _OUT.value:
    raise ConfigError("Give the dataset's name, such as --out=hopper/mine-v0.")
  _VOUCHED.load(_RUN_DIR.value)
  environment = experiment.bound_task().make_environment()
  steps = datasets.read(_RUN_DIR.value, environment)
  datasets.write(steps, environment, _FORMAT.value, path)
  print(f"Wrote {path}: {len(steps.first):,} real steps.")


def _default_path() -> str:
  if _FORMAT.value in datasets.FORMATS:
    return os.path.join(_RUN_DIR.value, "steps.npz")
  parts = ["policy", _PLANNER.value, _QUANTIZE.value]
  if _FORMAT.value == "saved_model" and not _PLANNER.value:
    parts.append("saved_model")  # `policy` is the training's
  name = "_".join(filter(None, parts)) + exports.EXTENSIONS[_FORMAT.value]
  return os.path.join(_RUN_DIR.value, name)


if __name__ == "__main__":
  app.run(main)
