"""Trainings of settings on tasks from seeds: tried out first, then run side by side."""

import concurrent.futures
import gc
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NamedTuple, Protocol

import gin

from maac_tf import files
from maac_tf.checks import ConfigError
from maac_tf.runs import config, experiment, unused
from maac_tf.runs.suite_tasks import SuiteTask

# Of a binding: TensorFlow would take brackets in a path for a pattern.
_IN_FOLDER_NAMES = str.maketrans({" ": None, "/": "_", "[": "(", "]": ")", "*": "x", "?": "_"})


class Setting(NamedTuple):
  """What to train with: gin files, then single bindings."""

  name: str
  files: tuple[str, ...]
  bindings: tuple[str, ...]
  change: tuple[str, ...] = ()  # the file, or the bindings, in which a variant differs
  of_grid: bool = False  # it may be the setting itself, which is not trained twice


class Training(NamedTuple):
  """A setting on a task from a seed."""

  task: str  # of its folder
  setting: str
  seed: str
  env_steps: int  # after its last iteration
  run_dir: str
  command: tuple[str, ...]


def with_variants(
  name: str,
  files: Sequence[str],
  bindings: Sequence[str],
  variants: Sequence[str],
  grid: Sequence[str] = (),
) -> list[Setting]:
  """The setting of that name, then its variants, then the combinations of a grid.

  Args:
    variants: gin files, or bindings such as "Maac.horizon=3"; several with ; between.
    grid: options with several values each, such as "Maac.horizon=1,3,5"; each of one with each of
      the others.

  Raises:
    ConfigError: where two have one name, or for a grid without values.
  """
  found = [Setting(name, tuple(files), tuple(bindings))]
  of_grid = itertools.product(*map(_values, grid)) if grid else ()
  for own in [*map(_bindings, variants), *of_grid]:
    if "=" in own[0]:
      title = ",".join(own).translate(_IN_FOLDER_NAMES)
      setting = Setting(title, tuple(files), (*bindings, *own), tuple(own))
    else:
      folder = os.path.basename(os.path.dirname(os.path.abspath(own[0])))
      prefix = "without_" if folder == "without" else ""
      stem = os.path.splitext(os.path.basename(own[0]))[0]
      setting = Setting(prefix + stem, (*files, own[0]), tuple(bindings), (own[0],))
    if setting.name in [s.name for s in found]:
      raise ConfigError(f"Two variants have the name {setting.name!r}: leave out or rename one.")
    found.append(setting._replace(of_grid=isinstance(own, tuple)))
  return found


def _bindings(variant: str) -> list[str]:
  """Those of a variant; or its file alone."""
  if "=" not in variant:
    return [variant]
  return [part.strip() for part in variant.split(";") if part.strip()]


def _values(option: str) -> list[str]:
  """A binding for each value of NAME=VALUE,VALUE; commas in brackets and quotes are of a value."""
  name, equals, values = option.partition("=")
  found = re.findall(r"""(?:[^,([{'"]|\(.*?\)|\[.*?\]|\{.*?\}|'.*?'|".*?")+""", values)
  if not equals or not found:
    raise ConfigError(
      f"--grid must be an option and its values, as Maac.horizon=1,3, not {option}."
    )
  return [f"{name.strip()}={value.strip()}" for value in found]


def plan(
  tasks: Sequence[SuiteTask], settings: Sequence[Setting], seeds: Sequence[str], run_dir: str
) -> list[Training]:
  """Every setting on every task from every seed, to go to RUN_DIR/TASK/SETTING-SEED.

  Each is tried out: a wrong value ends here, not after hours. Seeds are outermost, so that pairs
  are complete early.

  Raises:
    ConfigError: for a wrong value, a variant that changes nothing or has no effect on any of the
      tasks, or a run that would end before its first evaluation.
  """
  commands: dict[tuple[str, str], tuple[int, list[str]]] = {}
  first: dict[str, dict[str, str]] = {}  # the first setting's values on each task
  for setting in settings:
    own = _own_parameters(setting)
    owners = {parameter.partition(".")[0] for parameter in own}
    if owners and owners <= {"train", "Planner"}:
      raise ConfigError(
        f"{setting.name!r} changes no training: --env_steps and --seeds set steps and seeds, and "
        "plans are made at test time alone."
      )
    changed, idle, found = not setting.change, [], dict[tuple[str, str], tuple[int, list[str]]]()
    for task in tasks:
      bindings = [f"train.task={task.task!r}", *task.bindings, *setting.bindings]
      config.load(setting.files, bindings)
      values = config.values()
      changed |= values != first.setdefault(task.name, values)
      iterations, env_steps, unused = _try_out(task.env_steps)
      idle.append(config.without_effect(own, unused))
      bindings.append(f"train.iterations={iterations}")
      command = [sys.executable, "-m", "maac_tf.train", "--threads=1"]
      command += [f"--gin_file={file}" for file in setting.files]
      command += [f"--gin_param={binding}" for binding in bindings]
      found[task.name, setting.name] = env_steps, command
    if not changed and setting.of_grid:
      continue
    if not changed:
      raise ConfigError(f"{setting.name!r} changes nothing: every value is what it is without it.")
    for parameter in sorted(set.intersection(*map(set, idle))):
      raise ConfigError(f"{parameter} of {setting.name!r} has no effect: {idle[0][parameter]}.")
    commands |= found
  trainings = []
  for seed in seeds:
    for task in tasks:
      for setting in settings:
        if (task.name, setting.name) not in commands:
          continue
        env_steps, command = commands[task.name, setting.name]
        path = os.path.join(run_dir, task.name, f"{setting.name}-{seed}")
        whole = *command, f"--run_dir={path}", f"--seed={seed}"
        trainings.append(Training(task.name, setting.name, seed, env_steps, path, whole))
  return trainings


def _own_parameters(setting: Setting) -> set[str]:
  """What a variant sets itself; of no variant nothing."""
  if not setting.change or "=" in setting.change[0]:
    return config.parameters(setting.change)
  config.load(setting.change)
  return config.parameters([gin.config_str(max_line_length=100_000)])


def _try_out(env_steps: int) -> tuple[int, int, dict[str, str]]:
  """Iterations for so many environment steps, the steps after them, and options without effect."""
  trainer = experiment.make_trainer()
  random_steps, steps = trainer.random_steps, trainer.steps_per_iteration
  iterations = experiment.iterations_until(trainer, env_steps, "--env_steps")
  if iterations * steps < trainer.eval_every:
    raise ConfigError(
      f"--env_steps ({env_steps}) end before the first evaluation, Trainer.eval_every "
      f"({trainer.eval_every}) after Trainer.random_steps ({random_steps})."
    )
  without_effect = unused.options(trainer)
  del trainer
  gc.collect()  # its graphs refer to each other, and its buffers are large
  return iterations, random_steps + iterations * steps, without_effect


class Runs(Protocol):
  """What runs trainings.

  Attributes:
    failed: those that ended with an error.
    interrupted: whether a signal came.
  """

  failed: list[Training]
  interrupted: bool

  def run(
    self, trainings: Sequence[Training], jobs: int, result: Callable[[Training], str]
  ) -> None:
    """Runs them in their order, `jobs` at a time, each from its start or its last checkpoint.

    Args:
      result: of a training that is finished, what to print of it.
    """


class Runner(Runs):
  """Runs them on this machine; the first signal lets them save and end, a second stops them."""

  def __init__(self) -> None:
    self._processes: list[subprocess.Popen[bytes]] = []
    self.failed: list[Training] = []
    self.interrupted = False
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
      signal.signal(number, self._stop)

  def run(
    self, trainings: Sequence[Training], jobs: int, result: Callable[[Training], str]
  ) -> None:
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
      futures = [pool.submit(self._run, training, result) for training in trainings]
    for training, future in zip(trainings, futures, strict=True):
      if failure := future.exception():
        self.failed.append(training)
        print(f"Error: {failure}", file=sys.stderr)

  def _run(self, training: Training, result: Callable[[Training], str]) -> None:
    if self.interrupted:
      return
    path = training.run_dir
    with files.using(path):
      os.makedirs(os.path.dirname(path), exist_ok=True)
      log_file = open(f"{path}.log", "a")
    with log_file as log:
      # A session of its own: Ctrl-C reaches it through `_stop`, once.
      process = subprocess.Popen(
        training.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
      )
    self._processes.append(process)
    print(f"{path}: started")
    code = process.wait()
    if code == 0:
      print(f"{path}: {result(training)}")
    elif not self.interrupted:
      self.failed.append(training)
      print(f"{path}: ended with {code}, see {path}.log")

  def _stop(self, number: int, frame: FrameType | None) -> None:
    del number, frame
    self.interrupted = True
    os.write(2, b"\nThe runs save in some seconds; once more stops them at once.\n")
    for process in self._processes:
      process.send_signal(signal.SIGTERM)  # nothing, to one that has ended
