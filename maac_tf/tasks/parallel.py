"""Several environments of a task side by side, each in a process of its own.

They are Gymnasium's `AsyncVectorEnv`, whose processes adapt what they step as `adapter` does here.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from maac_tf.checks import ConfigError
from maac_tf.data.collector import Episode, play_again
from maac_tf.data.types import TimeStep, Transition
from maac_tf.tasks.adapter import Environment

# A process with TensorFlow's threads must not be forked: from one that only imports it, all are.
_START, _IMPORTED = "forkserver", ["maac_tf.tasks.registry"]
_OF_THE_PARENT = signal.SIGINT, signal.SIGHUP, signal.SIGUSR1  # which a terminal sends to all


class _Adapted(gym.Env):
  """An adapted environment in Gymnasium's form; in the process that made it, its spaces alone."""

  def __init__(self, make: Callable[[], gym.Env], number: int, sizes: tuple[int, int], parent: int):
    self._number = number
    self.observation_space = gym.spaces.Box(-np.inf, np.inf, (sizes[0],), np.float32)
    self.action_space = gym.spaces.Box(-1.0, 1.0, (sizes[1],), np.float32)
    if os.getpid() != parent:
      for ignored in _OF_THE_PARENT:
        signal.signal(ignored, signal.SIG_IGN)
      self._environment = Environment(make())

  def reset(
    self, *, seed: int | None = None, options: dict[str, Any] | None = None
  ) -> tuple[np.ndarray, dict[str, Any]]:
    return self._environment.reset(seed), {}

  def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    return *self._environment.step(action), {}

  def play_again(self, seeds: Sequence[int], rows: Sequence[Transition]) -> tuple[Episode, bool]:
    return play_again(self._environment, seeds[self._number], rows[self._number])

  def close(self) -> None:
    if hasattr(self, "_environment"):
      self._environment.close()


class ParallelEnvironment(Environment):
  """An environment of this process, and `count` more to collect from, as `collector.Environments`.

  Their processes start when the first step is near, and end with this one at the latest.
  """

  def __init__(self, make: Callable[[], gym.Env], count: int):
    """Makes that of this process, which is for sizes and evaluations.

    Args:
      make: makes each; for another process it is pickled by cloudpickle.
    """
    super().__init__(make())
    self._make, self.count = make, count

  @functools.cached_property
  def _processes(self) -> AsyncVectorEnv:
    multiprocessing.get_context(_START).set_forkserver_preload(_IMPORTED)
    sizes = self.observation_size, self.action_size
    makers = [
      functools.partial(_Adapted, self._make, i, sizes, os.getpid()) for i in range(self.count)
    ]
    with self._one_line():
      return AsyncVectorEnv(
        makers, copy=False, context=_START, autoreset_mode=AutoresetMode.DISABLED
      )

  def begin(self, seeds: Mapping[int, int]) -> list[Episode]:
    """As of `collector.Environments`."""
    chosen = [i in seeds for i in range(self.count)]
    vector = self._processes
    with self._one_line():
      observations, _ = vector.reset(
        seed=[seeds.get(i) for i in range(self.count)], options={"reset_mask": np.array(chosen)}
      )
    return [Episode(seed, observations[i].copy()) for i, seed in seeds.items()]

  def step_all(self, actions: Sequence[np.ndarray]) -> Sequence[TimeStep]:
    """As of `collector.Environments`."""
    vector = self._processes
    with self._one_line():
      observations, rewards, terminal, truncated, _ = vector.step(np.stack(actions))
    columns = (x.tolist() for x in (rewards, terminal, truncated))
    return [TimeStep(*step) for step in zip(observations.copy(), *columns, strict=True)]

  def play_again(
    self, seeds: Sequence[int], rows: Sequence[Transition]
  ) -> list[tuple[Episode, bool]]:
    """As of `collector.Environments`."""
    vector = self._processes
    with self._one_line():
      return list(vector.call("play_again", seeds, rows))

  def close(self) -> None:
    super().close()
    if "_processes" in self.__dict__:
      self._processes.close(terminate=True)
      del self._processes

  @contextlib.contextmanager
  def _one_line(self) -> Iterator[None]:
    """Says which process has gone, where a pipe to it says only that it is closed."""
    try:
      yield
    except (EOFError, BrokenPipeError, ConnectionResetError) as error:
      vector = self.__dict__.get("_processes")
      if vector and None in vector.parent_pipes:
        raise  # the environment's own
      for process in vector.processes if vector else ():
        process.join(0.1)
      codes = enumerate(p.exitcode for p in vector.processes) if vector else ()
      gone = ", ".join(f"{i} ({code})" for i, code in codes if code is not None)
      raise ConfigError(
        f"The process of an environment has ended: number and exit code {gone or 'unknown'}."
      ) from error
