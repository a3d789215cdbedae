"""Trains MAAC: `python -m maac_tf.train --gin_file=gin/hopper.gin`."""

import shlex
import shutil
import sys

import gin
import tensorflow as tf
from absl import app, flags, logging

from maac_tf.checks import ConfigError
from maac_tf.runs import command_line, config, devices, experiment, trust, workers

_SETTING, _THREADS = command_line.define_setting(), command_line.define_threads()
_TRUST = command_line.define_trust()
_RUN_DIR = command_line.define_path(
  "run_dir", None, "Where the run goes; one that holds a run resumes. Default: runs/TASK/SEED-TIME."
)
_DEVICE = flags.DEFINE_string(
  "device",
  None,
  "Such as GPU:1 or TPU:0; default: the first GPU if there is one, else the CPU. Several, such as "
  "GPU:0,GPU:1, or GPU or TPU for all of them, share each batch.",
)
_DATASET = command_line.define_path(
  "dataset",
  None,
  "Steps that D_env has before the first: an NPZ file, the folder of another run, or minari:NAME. "
  "A run that resumes does not read it again.",
)
_OFFLINE = flags.DEFINE_bool(
  "offline", False, "Learn from the steps that there are: iterations take no environment steps."
)
_DETERMINISTIC = flags.DEFINE_bool(
  "deterministic",
  False,
  "Only deterministic operations, so that equal runs are equal bit by bit; the exported policies' "
  "`sample` draws the same in every process, too.",
)


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  experiment.use_threads(_THREADS.value)
  if _DETERMINISTIC.value:
    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(0)  # asked for by the exported policy's own random operation
  try:
    overridden = command_line.load(_SETTING, _RUN_DIR.value, _TRUST.value)
    task, run_dir = gin.get_bindings("train").get("task"), _RUN_DIR.value
    if task is None:
      where = f"There is no run in {run_dir!r} and no task" if run_dir else "No task"
      raise ConfigError(
        f"{where}: give --env=ENVIRONMENT or a task file, such as --gin_file=gin/hopper.gin."
      )
    with devices.device(_DEVICE.value) as strategy:
      workers.check_folder(run_dir, strategy)
      run_dir = run_dir or experiment.default_run_dir()
      stopped_by = experiment.train(run_dir, overridden, _DATASET.value, _OFFLINE.value, strategy)
  except (ConfigError, FloatingPointError) as error:
    notes = getattr(error, "__notes__", [])  # on what is saved of a run that had begun
    if notes and isinstance(error, ConfigError):
      notes = [*notes, f"Resume with: {_resume_command(run_dir)}"]
    message = str(error).split("\n  In call to configurable")[0]  # which gin appends
    print(" ".join(["Error:", message, *notes]), file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print(f"Stopped at once. Resume with: {_resume_command(run_dir)}", file=sys.stderr)
    return 130
  except Exception as error:
    error.add_note(f"Resume with: {_resume_command(run_dir)}")
    raise
  if workers.is_chief(strategy):  # the others have saved nothing
    print(
      f"Saved. Resume with: {_resume_command(run_dir)}"
      if stopped_by
      else f"Finished. The best policy is in {run_dir}/policy, the last in {run_dir}/policy_last, "
      f"the curve in {run_dir}/curve.png."
    )
  return 128 + stopped_by if stopped_by else 0


def _resume_command(run_dir: str) -> str:
  """For a shell in this folder: the Python that runs here, and the flags of the invocation."""
  python = "python" if shutil.which("python") == sys.executable else shlex.quote(sys.executable)
  threads = f" --threads={_THREADS.value}" if _THREADS.value else ""
  device = f" --device={_DEVICE.value}" if _DEVICE.value else ""
  options = " --offline" * _OFFLINE.value + " --deterministic" * _DETERMINISTIC.value
  options += " --trust" * trust.names_code(config.text())
  return f"{python} -m maac_tf.train --run_dir={shlex.quote(run_dir)}{threads}{device}{options}"


if __name__ == "__main__":
  app.run(main)
