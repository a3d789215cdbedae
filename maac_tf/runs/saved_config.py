"""The config that a run directory holds: found, mended, loaded, compared."""

import os
import sys
from collections.abc import Sequence

from maac_tf import files
from maac_tf.checks import ConfigError
from maac_tf.runs import checkpoints, config, sealed, trust, version
from maac_tf.runs.gin_files import read_gin_file


def find(path: str) -> str | None:
  """The gin file of the run in `path`, to resume it without naming its files; None for no run.

  Raises:
    ConfigError: when it is damaged, and no checkpoint has a copy; or for a link in the folder.
  """
  trust.check_folder(path)
  both = [os.path.join(path, name) for name in checkpoints.CONFIGS]
  if not any(map(os.path.isfile, both)):
    return None
  for file in both:
    _mend(path, file)
  return both[0] if all(map(os.path.isfile, both)) else None


def _mend(run_dir: str, file: str) -> None:
  """Takes the copy of a checkpoint where a config is not as the run wrote it."""
  try:
    damaged = not sealed.is_whole(read_gin_file(file))
  except FileNotFoundError:
    damaged = os.path.isdir(os.path.join(run_dir, checkpoints.FOLDER))  # else a start was cut short
  except PermissionError as error:
    raise ConfigError(f"{file!r} cannot be read: {files.reason(error)}.") from error
  except (ConfigError, OSError):
    damaged = True
  if not damaged:
    return
  refuse_old(run_dir)
  checkpoint = checkpoints.newest_state(os.path.join(run_dir, checkpoints.FOLDER))
  if not checkpoint:
    raise ConfigError(
      f"{file!r} is not as the run wrote it, and no checkpoint has a copy: bring it back, or give "
      "another --run_dir."
    )
  with files.using(file):
    kept = f"; it is now {checkpoints.set_aside(file)!r}" if os.path.exists(file) else ""
    checkpoints.write_whole(file, checkpoint.texts[os.path.basename(file)])
  print(
    f"Warning: {file!r} was not as the run wrote it{kept}. The newest checkpoint's copy is in its "
    "place. To change an option, give --gin_param.",
    file=sys.stderr,
  )


def refuse_old(run_dir: str) -> None:
  """Raises ConfigError for a run whose checkpoints are of an older form."""
  if os.path.exists(os.path.join(run_dir, checkpoints.FOLDER, "checkpoint")):
    raise ConfigError(
      f"{run_dir!r} is a run of {version.describe(run_dir)}, whose checkpoints this version does "
      "not read. Go on with it under the version that began it."
    )


def load(
  path: str, gin_params: Sequence[str] = (), given: Sequence[str] = (), trusted: bool = False
) -> set[str]:
  """Loads the config of the run in `path`, then single bindings; returns as `config.load`.

  Args:
    path: the folder.
    gin_params: the bindings.
    given: gin texts that the caller vouches for, see `trust.check_config`; the bindings are, too.
    trusted: whether the config may run any code.

  Raises:
    ConfigError: for no run, one with options that this version of the code does not know, or one
      that names code for which nobody vouches.
  """
  saved = find(path)
  if not saved:
    raise ConfigError(f"There is no run in {path!r}.")
  if not trusted:
    with config.user_errors():
      trust.check_config(saved, read_gin_file(saved), [*gin_params, *given])
  try:
    return config.load([saved], gin_params)
  except ConfigError as error:
    unknown = config.unknown(read_gin_file(saved))
    if not unknown:
      raise
    raise ConfigError(
      f"{path!r} is a run of {version.describe(path)}, with options that this version does not "
      f"know: {', '.join(sorted(unknown))}. Go on with it under the version that began it."
    ) from error


def load_given(
  gin_files: Sequence[str],
  gin_params: Sequence[str],
  path: str | None,
  given: Sequence[str] = (),
  trusted: bool = False,
) -> set[str]:
  """Loads files and bindings; without a file, the config of the run in `path`, if there is one.

  Takes, returns and raises as `load`.
  """
  if path and find(path) and not gin_files:
    return load(path, gin_params, given, trusted)
  return config.load(gin_files, gin_params)


def check(path: str, operative: str) -> None:
  """Raises ConfigError if the run in `path` cannot go on with this config."""
  changed = config.differences(read_gin_file(os.path.join(path, checkpoints.CONFIGS[1])), operative)
  if changed:
    raise ConfigError(
      f"{path!r} holds a run of another config (- its own, + yours):\n"
      + "\n".join(changed)
      + f"\nGive another --run_dir, or to resume it its own config; its code was of "
      f"{version.describe(path)}."
    )
