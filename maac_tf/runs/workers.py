"""Workers: processes, often on several machines, that train one run together.

Each has the whole state and takes the same environment steps, of the same seed; gradients are
averaged over all. The first one, the chief, writes the run; the others read where it resumes.
TF_CONFIG says who they are, as everywhere in TensorFlow.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from maac_tf.algorithm.trainer import Trainer
from maac_tf.checks import ConfigError
from maac_tf.runs import run_directory
from maac_tf.runs.datasets import Dataset
from maac_tf.runs.run_directory import RunDirectory

_VARIABLE = "TF_CONFIG"
_KINDS = "chief", "worker"


def strategy() -> tf.distribute.MultiWorkerMirroredStrategy | None:
  """Of the workers that TF_CONFIG names, once all are there; None where it names one, or none.

  Raises:
    ConfigError: for what TensorFlow does not take.
  """
  text = os.environ.get(_VARIABLE)
  if not text:
    return None
  try:
    cluster = json.loads(text).get("cluster", {})
    if sum(len(cluster.get(kind, ())) for kind in _KINDS) <= 1:
      return None
    return tf.distribute.MultiWorkerMirroredStrategy()
  except (ValueError, AttributeError, TypeError, RuntimeError, tf.errors.OpError) as error:
    reason = str(error).partition("\n")[0]
    raise ConfigError(f"{_VARIABLE} is of no workers that can train together: {reason}") from error


def several(strategy: tf.distribute.Strategy | None) -> bool:
  """Whether it is of workers."""
  return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
  """Whether this process writes the run: the only one does."""
  if strategy is None or not several(strategy):
    return True
  resolver = strategy.cluster_resolver
  kinds = resolver.cluster_spec().as_dict()
  return resolver.task_id == 0 and resolver.task_type == next(k for k in _KINDS if kinds.get(k))


def check_folder(run_dir: str | None, strategy: tf.distribute.Strategy | None) -> None:
  """Raises ConfigError where each of several workers would choose a folder of its own."""
  if not run_dir and several(strategy):
    raise ConfigError("Several workers need one --run_dir, which all of them can read.")


def open_run(path: str, trainer: Trainer, dataset: Dataset | None) -> "RunDirectory | Follower":
  """Restores `trainer`, in all workers from the same checkpoint; takes what `RunDirectory` takes.

  Raises:
    ConfigError: as `RunDirectory`; and for hardware, which cannot take a step for each worker.
  """
  if several(trainer.learner.strategy) and not trainer.collector.replay:
    raise ConfigError(
      "Several workers take the same steps, each in a simulator of its own: that is none with "
      "Trainer.replay_on_resume = False. Train hardware with one process."
    )
  run = (
    RunDirectory(path, trainer, dataset)
    if is_chief(trainer.learner.strategy)
    else Follower(path, trainer)
  )
  try:
    with errors(trainer):
      agree(trainer)
  except BaseException:
    run.close()
    raise
  return run


@contextlib.contextmanager
def errors(trainer: Trainer) -> Iterator[None]:
  """What TensorFlow raises when another worker has gone becomes a ConfigError."""
  try:
    yield
  except tf.errors.OpError as error:
    if not several(trainer.learner.strategy):
      raise
    raise ConfigError("Another worker has gone, or cannot be reached.") from error


def agree(trainer: Trainer) -> None:
  """Compares policy and newest step with those of the other workers.

  Raises:
    ConfigError: when they differ.
  """
  if not several(trainer.learner.strategy):
    return
  learner = trainer.learner
  weights = learner.actor_critic.policy.trainable_variables
  newest = learner.env_buffer.newest(min(1, int(learner.env_buffer.size)))
  numbers = trainer.env_steps, trainer.iteration, *newest, *weights
  sums = [tf.reduce_sum(tf.cast(x, tf.float32)) for x in numbers]
  of_all = _gather(learner.strategy, tf.stack(sums)).numpy()
  if np.any(of_all != of_all[0]):
    raise ConfigError(
      "The workers have not the same steps or networks: give all of them the same options and a "
      "--run_dir that all can read, in a simulator that repeats itself from a seed."
    )


@tf.function(autograph=False)
def _gather(strategy: tf.distribute.Strategy, mine: tf.Tensor) -> tf.Tensor:
  """[N] numbers of each worker, [workers, N]."""

  def gather() -> tf.Tensor:
    return tf.distribute.get_replica_context().all_gather(mine[tf.newaxis], 0)

  return strategy.experimental_local_results(strategy.run(gather))[0]


class Follower:
  """In the place of a `RunDirectory`, where another worker writes it: nothing is written."""

  def __init__(self, path: str, trainer: Trainer):
    """Restores `trainer`, where the run has begun; raises as `run_directory.restore`."""
    self.path, self.metrics = path, _Unwritten()
    self.resumed = run_directory.has_checkpoint(path)
    if self.resumed:
      run_directory.restore(trainer, path)

  def close(self) -> None:
    """As `RunDirectory`."""

  def save(self) -> None:
    """As `RunDirectory`."""

  def save_checkpoint(self) -> None:
    """As `RunDirectory`."""

  def what_is_saved(self) -> str:
    """A sentence."""
    return "The first worker saves the run."


class _Unwritten:
  def log(self, row: Mapping[str, Any]) -> None:
    """As `Metrics`."""

  def log_events(self, row: Mapping[str, Any]) -> None:
    """As `Metrics`."""
