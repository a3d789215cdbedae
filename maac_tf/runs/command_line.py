"""Flags that several commands have: paths, what to train, and on how many threads."""

import os
import runpy
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags

from maac_tf import files
from maac_tf.algorithm.trainer import Trainer
from maac_tf.checks import ConfigError
from maac_tf.runs import experiment, gin_files, saved_config

flags.disclaim_key_flags()  # they are of the command that asks for them


class _PathParser(flags.ArgumentParser[str]):
  """A path, as of `files.local`: a shell expands ~ at the start of a word alone."""

  syntactic_help = "a path"

  def parse(self, argument: str) -> str:
    try:
      return files.local(argument)
    except ConfigError as error:
      raise SystemExit(f"Error: {error}") from None  # one line, which absl would put more around

  def flag_type(self) -> str:
    return "path"


def define_path(
  name: str, default: str | None, doc: str, required: bool = False
) -> flags.FlagHolder[Any]:
  """Defines a flag that is a path for the caller."""
  serializer: flags.ArgumentSerializer[str] = flags.ArgumentSerializer()
  return flags.DEFINE(_PathParser(), name, default, doc, serializer=serializer, required=required)


def define_paths(name: str, doc: str, required: bool = False) -> flags.FlagHolder[Any]:
  """Defines a flag that is a path and may be repeated, none by default, for the caller."""
  serializer: flags.ArgumentSerializer[str] = flags.ArgumentSerializer()
  default: list[str] | None = None if required else []
  return flags.DEFINE_multi(_PathParser(), serializer, name, default, doc, required=required)


class Setting(NamedTuple):
  """What to train: the flags' holders."""

  gin_file: flags.FlagHolder[Any]
  gin_param: flags.FlagHolder[Any]
  env: flags.FlagHolder[Any]
  episode_steps: flags.FlagHolder[Any]
  envs: flags.FlagHolder[Any]
  seed: flags.FlagHolder[Any]


def define_setting() -> Setting:
  """Defines --gin_file, --gin_param, --env, --episode_steps, --envs and --seed for the caller."""
  return Setting(
    define_paths(
      "gin_file",
      "A gin file; repeatable, later ones win. A path that begins with gin/ means a file of the "
      "package where the working folder has none of that name.",
    ),
    flags.DEFINE_multi_string(
      "gin_param", [], "A gin binding such as 'Maac.horizon=0'; repeatable, wins over the files."
    ),
    flags.DEFINE_string(
      "env",
      None,
      "A Gymnasium environment, such as Reacher-v5, module:Id-v0 or module:function; needs no gin "
      "file. The same as the binding train.task.",
    ),
    flags.DEFINE_integer(
      "episode_steps",
      None,
      "A time limit, for an environment that has none. The same as make_task.episode_steps.",
      lower_bound=1,
    ),
    flags.DEFINE_integer(
      "envs",
      None,
      "Environments to take steps in, each in a process of its own; default 1. The same as "
      "train.environments.",
      lower_bound=1,
    ),
    flags.DEFINE_integer("seed", None, "Of everything random; default 0.", lower_bound=0),
  )


def define_trust() -> flags.FlagHolder[Any]:
  """Defines --trust for the caller."""
  return flags.DEFINE_bool(
    "trust", False, "The run may name code, which is run: modules, gin files, environments."
  )


class Vouched(NamedTuple):
  """What of a run that is read may run code: the flags' holders."""

  trust: flags.FlagHolder[Any]
  env: flags.FlagHolder[Any]
  gin_file: flags.FlagHolder[Any]

  def restore(self, run_dir: str, gin_params: Sequence[str] = ()) -> Trainer:
    """As `experiment.restore`."""
    return experiment.restore(run_dir, gin_params, *self._arguments())

  def load(self, run_dir: str) -> None:
    """As `experiment.load_run`."""
    experiment.load_run(run_dir, (), *self._arguments())

  def _arguments(self) -> tuple[str | None, list[str], bool]:
    given = [text for path in self.gin_file.value for text in gin_files.read_with_included(path)]
    return self.env.value, given, self.trust.value


def define_vouched(env: str = "") -> Vouched:
  """Defines --trust, --env and --gin_file for the caller, which reads a run.

  Args:
    env: what else --env means there.
  """
  return Vouched(
    define_trust(),
    flags.DEFINE_string("env", None, f"{env}The run's own: it is of a module that you trust."),
    define_paths("gin_file", "One that the run was trained with: it is yours; repeatable."),
  )


def define_threads() -> flags.FlagHolder[Any]:
  """Defines --threads for the caller."""
  return flags.DEFINE_integer(
    "threads", 0, "CPU threads to use; 0 is one for each core.", lower_bound=0
  )


def load(setting: Setting, run_dir: str | None = None, trusted: bool = False) -> set[str]:
  """Loads what the flags say, and without a file the config of the run in `run_dir`, if any.

  Args:
    trusted: whether that config may run any code.

  Returns:
    The names of the parameters that the user overrode, as of `config.load`.

  Raises:
    ConfigError: for a wrong file or binding, or as `saved_config.load`.
  """
  params = list(setting.gin_param.value)
  named = {
    "train.task": setting.env.value,
    "make_task.episode_steps": setting.episode_steps.value,
    "train.environments": setting.envs.value,
    "train.seed": setting.seed.value,
  }
  params += [f"{name} = {value!r}" for name, value in named.items() if value is not None]
  return saved_config.load_given(setting.gin_file.value, params, run_dir, trusted=trusted)


def console_script() -> None:
  """Runs the command that this script is named after: maac-train is `python -m maac_tf.train`."""
  name = os.path.basename(sys.argv[0]).removeprefix("maac-").replace("-", "_")
  sys.path.insert(0, os.getcwd())  # as `python -m` does: modules of the user's own
  runpy.run_module(f"maac_tf.{name}", run_name="__main__", alter_sys=True)
