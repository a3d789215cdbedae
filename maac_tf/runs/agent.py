"""MAAC as an object, in the form of Stable-Baselines3, for scripts and notebooks."""

import contextlib
import dataclasses
import itertools
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import tensorflow as tf

from maac_tf import files
from maac_tf.algorithm.trainer import Trainer
from maac_tf.checks import ConfigError
from maac_tf.runs import (
  config,
  curves,
  datasets,
  experiment,
  exports,
  plotting,
  room,
  run_directory,
  saved_config,
  unused,
)
from maac_tf.runs.experiment import Callback
from maac_tf.runs.policy import Policy, policy_of
from maac_tf.runs.run_directory import RunDirectory
from maac_tf.tasks.episodes import Episodes
from maac_tf.tasks.registry import task_of
from maac_tf.tasks.task import Task

if TYPE_CHECKING:
  from matplotlib.figure import Figure

Path = str | os.PathLike[str]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Without TensorFlow's notes: in a notebook it tells of each file, and of a second agent."""
  logger = tf.get_logger()
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    yield
  finally:
    logger.setLevel(level)


class MAAC:
  """An agent: its settings, its run and its policies.

      agent = MAAC("Hopper-v5", run_dir="runs/hopper", settings={"Maac.horizon": 3})
      agent.learn(env_steps=20_000)
      action, _ = agent.predict(observation, deterministic=True)

  The settings are the object's own: another agent, or what is bound in gin, has no part in them.

  Attributes:
    run_dir: the folder of the run, as `python -m maac_tf.train` makes it; None before `learn`.
  """

  def __init__(
    self,
    environment: str | Task | Callable[[], gym.Env] | None = None,
    *,
    run_dir: Path | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    gin_files: Path | Sequence[Path] = (),
    trust: bool = False,
    dataset: Path | None = None,
    strategy: tf.distribute.Strategy | None = None,
  ):
    """Makes the networks, and restores what `run_dir` holds; writes nothing.

    Args:
      environment: a name as of `--env`, a `Task`, or a function that makes a new environment at
        each call; None: as the gin files, or the run, say.
      run_dir: where the run goes. One that holds a run goes on; without `gin_files`, this run's
        settings are the base of `settings`. None: a new runs/TASK/SEED-TIME.
      seed: of everything random; None: as the settings say, else 0.
      settings: values by option, such as {"Maac.horizon": 3}; they win over the gin files. A text
        that begins with @ is gin's, such as "@SteveTargets()".
      gin_files: one or several, as of `--gin_file`.
      trust: whether the settings of a run in `run_dir` may name code. The other arguments may.
      dataset: logged steps that a new run has at first, as of `--dataset`; a path or "minari:NAME".
      strategy: such as tf.distribute.MirroredStrategy(), whose devices share each batch.

    Raises:
      ConfigError: a ValueError, of what cannot be trained, or goes on with no run of `run_dir`.
    """
    self._strategy = strategy
    self.run_dir = None if run_dir is None else files.local(run_dir)
    named = dict(settings or {}) | ({} if seed is None else {"train.seed": seed})
    self._bindings = config.Bindings()
    with self._bindings:
      texts = [config.binding(name, value) for name, value in named.items()]
      given, own = _given(environment)
      overridden = saved_config.load_given(_paths(gin_files), texts, self.run_dir, own, trust)
      self._task = _bound_task(given)
      config.bind("train.task", self._task.name)
    self._dataset = None if dataset is None else os.path.expanduser(dataset)
    self._logged: datasets.Dataset | None = None  # what was read of it
    self._trainer: Trainer | None = None  # to be made
    self._policies: dict[str, tuple[int, Policy]] = {}  # each with its iteration
    self._noise = np.random.default_rng(seed or 0)  # of actions that are drawn
    unused.warn(self.trainer, overridden, self._task)

  @classmethod
  def load(
    cls,
    run_dir: Path,
    environment: str | Task | Callable[[], gym.Env] | None = None,
    settings: Mapping[str, Any] | None = None,
    trust: bool = False,
  ) -> "MAAC":
    """The agent of a run, as its newest checkpoint has it; `learn` goes on.

    Args:
      run_dir: its folder; another process may be training in it.
      environment: where the run's has no name that its config can hold, such as a lambda.
      settings: what may change in a run, such as {"Trainer.eval_every": 500}.
      trust: whether the run's settings may name code, such as a module's environment.

    Raises:
      ConfigError: if there is no run, or this code and settings cannot go on with it.
    """
    run_dir = files.local(run_dir)
    if not saved_config.find(run_dir):
      raise ConfigError(f"There is no run in {run_dir!r}.")
    return cls(environment, run_dir=run_dir, settings=settings, trust=trust)

  @property
  def trainer(self) -> Trainer:
    """Learner, data and counters, as they are now."""
    if self._trainer is None:
      self._trainer = self._make_trainer()
    return self._trainer

  @property
  def env_steps(self) -> int:
    """Environment steps so far, the random ones included."""
    return int(self.trainer.env_steps)

  def learn(
    self,
    env_steps: int | None = None,
    callbacks: Callback | Sequence[Callback] = (),
    progress: bool = True,
    offline_updates: int | None = None,
  ) -> "MAAC":
    """Trains until the run has `env_steps` environment steps, and saves each iteration.

    They are those of the whole run: learn(10_000) and then learn(20_000) take 20,000 steps, and the
    same script goes on where it was stopped. (Stable-Baselines3's total_timesteps come on top of
    what was learned.)

    Ctrl-C and SIGTERM save at the next pause, in seconds; then KeyboardInterrupt or SystemExit is
    raised. A second one stops at once. After these, and any other error, `learn` goes on from what
    was saved last.

    Args:
      env_steps: in all, the random ones included; rounded up to whole iterations. None: those of
        train.iterations.
      callbacks: one or several, called after each iteration with its row of metrics, as in
        metrics.csv; None in it is an empty cell. One that returns False ends the training.
      progress: whether it is printed.
      offline_updates: in place of `env_steps`, gradient updates from the steps that there are, such
        as `dataset`, without new ones; in all, after `Trainer.initial_updates`.

    Returns:
      Itself.

    Raises:
      ConfigError: for a wrong or too small number of steps, what the machine has no room for, or a
        run directory that cannot be used.
      FloatingPointError: when numbers went on going wrong in updates.
    """
    callbacks = [callbacks] if callable(callbacks) else callbacks
    trainer = self.trainer
    trainer.offline = False
    with _quiet():
      with self._bindings:
        iterations = _iterations(trainer, env_steps, offline_updates)
        config.bind("train.iterations", iterations)
        run_dir = self.run_dir or _unused(experiment.default_run_dir())
        room.check(trainer, run_dir, iterations, progress)
        run = RunDirectory(run_dir, trainer, self._logged)
        self.run_dir, self._logged = run_dir, None
      try:
        with contextlib.closing(run):
          stopped_by = experiment.iterate(trainer, run, iterations, callbacks, progress)
        _raise_if(stopped_by, run_dir)
      except BaseException:  # perhaps in mid-iteration: the next is made from the checkpoint
        self._trainer = None
        trainer.environment.close()
        raise
    return self

  @property
  def best(self) -> Policy:
    """The policy of the best evaluation so far; before the first, the newest."""
    return self._policy("best")

  @property
  def last(self) -> Policy:
    """The newest policy."""
    return self._policy("last")

  def predict(
    self,
    observation: Any,
    state: Any = None,
    episode_start: Any = None,
    deterministic: bool = False,
  ) -> tuple[np.ndarray, None]:
    """The best policy's action, see `Policy.predict`; `last.predict` is the newest one's."""
    return self.best.predict(observation, state, episode_start, deterministic)

  def evaluate(self, episodes: int = 20, seed: int = 0) -> Episodes:
    """Runs the best policy without noise, as `python -m maac_tf.evaluate --run_dir` does.

    Args:
      episodes: how many.
      seed: start seed of the first; the others have the following ones.

    Returns:
      (returns [episodes], lengths [episodes] in environment steps).
    """
    with self.trainer.best.in_use():
      return self.trainer.evaluator.run(episodes, seed)

  @property
  def metrics(self) -> dict[str, np.ndarray]:
    """The columns of metrics.csv, [iterations] each, NaN for an empty cell; {} before `learn`."""
    path = os.path.join(self.run_dir or "", "metrics.csv")
    return curves.read_metrics(path) if self.run_dir and os.path.isfile(path) else {}

  def plot(self, path: Path | None = None) -> "Figure":
    """The curve of the run, as in curve.png; written to `path`, a PNG, if there is one.

    Raises:
      ConfigError: before there is an iteration.
    """
    if not self.metrics:
      raise ConfigError("There is no curve before learn().")
    assert self.run_dir, "metrics have a folder"
    out = None if path is None else files.local(path)
    with files.using(out or self.run_dir):
      return plotting.plot_run(os.path.join(self.run_dir, "metrics.csv"), out)

  @_quiet()
  def export(
    self, path: Path, planner: str | None = None, settings: Mapping[str, Any] | None = None
  ) -> None:
    """Writes the best policy to a file, or folder, that needs none of this package.

    Args:
      path: what to write. One that ends in .tflite is a file of LiteRT, in .onnx one of ONNX, any
        other a SavedModel.
      planner: "cem": one that plans, with models and critics inside.
      settings: of the planner, such as {"Planner.horizon": 5}.

    Raises:
      ConfigError: for a path that exists, a wrong setting, or what cannot be converted.
    """
    path = files.local(path)
    if planner not in (None, "cem"):
      raise ConfigError(f"planner must be 'cem' or None, not {planner!r}.")
    if not planner:
      exports.export_policy(self.trainer, path, exports.format_of(path))
    else:
      with self._bindings:
        own = config.text()
      with config.Bindings():
        config.load([], [own, *itertools.starmap(config.binding, (settings or {}).items())])
        exports.export_planner(self.trainer, path)

  @_quiet()
  def _make_trainer(self) -> Trainer:
    with self._bindings:
      with config.user_errors():
        of_run = config.value("train.seed"), config.value("train.environments")
        trainer = experiment.build_trainer(self._task, *of_run, self._strategy)
      if self.run_dir and run_directory.has_checkpoint(self.run_dir):
        saved_config.check(self.run_dir, config.operative())
        run_directory.restore(trainer, self.run_dir)
      self._logged = experiment.take(trainer, self._dataset, self.run_dir)
    return trainer

  def _policy(self, name: str) -> Policy:
    """Made once an iteration."""
    trainer, iteration = self.trainer, int(self.trainer.iteration)
    if name not in self._policies or self._policies[name][0] != iteration:
      with trainer.best.in_use() if name == "best" else contextlib.nullcontext():
        policy = policy_of(trainer.learner, trainer.environment.env, self._noise)
      self._policies[name] = iteration, policy
    return self._policies[name][1]


def _iterations(trainer: Trainer, env_steps: int | None, offline_updates: int | None) -> int:
  """Of the whole run, see `MAAC.learn`; no fewer than there were."""
  if offline_updates is not None:
    wanted = experiment.iterations_offline(trainer, offline_updates)
  elif env_steps is not None:
    wanted = experiment.iterations_until(trainer, env_steps)
  else:
    wanted = int(config.value("train.iterations"))
  return max(wanted, int(trainer.iteration))


def _raise_if(stopped_by: int | None, run_dir: str) -> None:
  if stopped_by == signal.SIGINT:
    raise KeyboardInterrupt(f"Saved in {run_dir}: learn() goes on.")
  if stopped_by:
    raise SystemExit(128 + stopped_by)


def _paths(gin_files: Path | Sequence[Path]) -> list[str]:
  several = [gin_files] if isinstance(gin_files, (str, os.PathLike)) else gin_files
  return [files.local(path) for path in several]


def _given(environment: str | Task | Callable[[], gym.Env] | None) -> tuple[Task | None, list[str]]:
  """What a caller gave, and as a gin text."""
  if environment is None:
    return None, []
  with config.user_errors():
    task = task_of(environment)
  return task, [config.binding("train.task", task.name)]


def _bound_task(given: Task | None) -> Task:
  """What a caller gave, or the config that was loaded says."""
  bound = config.value("train.task")
  if not (given or isinstance(bound, str)):
    raise ConfigError(
      'No environment: give one, such as MAAC("Hopper-v5"), or gin_files with a task file.'
    )
  with config.user_errors():
    task = given or task_of(bound)
  if task.name.startswith("<") and isinstance(bound, str) and bound.startswith("<"):
    return dataclasses.replace(task, name=bound)  # a run of an object without a name goes on
  return task


def _unused(path: str) -> str:
  """The path, or with a number after it: another run may have begun in the same second."""
  paths = itertools.chain([path], (f"{path}-{i}" for i in itertools.count(2)))
  return next(p for p in paths if not os.path.exists(p))
