"""Real steps into D_env (Algorithm 1, line 3); episodes go on from one call to the next."""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf

from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import TimeStep, Transition


class Steppable(Protocol):
  """What is collected from: a `tasks.adapter.Environment`, or what behaves like one."""

  def reset(self, seed: int | None = None) -> np.ndarray:
    """Starts an episode; returns the first observation, [S] float32."""

  def step(self, action: np.ndarray) -> TimeStep:
    """Takes `action`, [A] in [-1, 1]."""


class Collector(tf.Module):
  """An environment, of which the episode under way is part of the checkpoint.

  No checkpoint holds a simulator: after a restore, the episode is played again from D_env.
  """

  def __init__(
    self,
    environment: Steppable,
    buffer: ReplayBuffer,
    episode_steps: int | None,
    next_seed: Callable[[], tf.Tensor],
  ):
    """Does not step the environment yet.

    Args:
      environment: as of `tasks.adapter`.
      buffer: D_env.
      episode_steps: where an episode is cut off, as by a time limit; None: at the task's own.
      next_seed: gives a fresh seed, [2] int64, at each call.
    """
    super().__init__()
    self._environment, self._buffer, self._next_seed = environment, buffer, next_seed
    self._episode_steps = episode_steps or math.inf
    # Of the episode under way: the seed of its reset (-1: none yet) and its steps so far.
    self._episode = tf.Variable([-1, 0], dtype=tf.int64, trainable=False)
    self._running: _Episode | None = None

  def collect(
    self, act: Callable[[np.ndarray, np.ndarray], np.ndarray], noise: np.ndarray
  ) -> float | None:
    """A step for each row of `noise` [N, A], with the action `act(observation, noise)` [A].

    Returns:
      The mean return of the episodes that ended or were cut off, None where none did.
    """
    rows, returns = [], []
    episode = self._running or self._restored_episode()
    for row in noise:
      observation = episode.observation
      action = act(observation, row)
      step = episode.step(action)
      rows.append((observation, action, step.reward, step.observation, step.terminal))
      if step.terminal or step.truncated or episode.steps >= self._episode_steps:
        returns.append(episode.total_reward)
        episode = self._new_episode()
    columns = (np.asarray(column, np.float32) for column in zip(*rows, strict=True))
    self._buffer.add(Transition(*map(tf.constant, columns)))
    self._running = episode
    self._episode.assign([episode.seed, episode.steps])
    return float(np.mean(returns)) if returns else None

  def _new_episode(self) -> "_Episode":
    seed = tf.random.stateless_uniform([], self._next_seed(), 0, 2**31 - 1, tf.int32)
    return _Episode(self._environment, int(seed))

  def _restored_episode(self) -> "_Episode":
    seed, steps = map(int, self._episode.numpy())
    if seed < 0 or steps > self._buffer.capacity:  # the start of a run; or its first steps are lost
      return self._new_episode()
    episode = _Episode(self._environment, seed)
    for action in self._buffer.newest(steps).action.numpy():
      episode.step(action)
    return episode


class _Episode:
  """An episode under way: where it is, and what it has come to."""

  def __init__(self, environment: Steppable, seed: int):
    self._environment, self.seed = environment, seed
    self.observation, self.steps, self.total_reward = environment.reset(seed), 0, 0.0

  def step(self, action: np.ndarray) -> TimeStep:
    step = self._environment.step(action)
    self.observation = step.observation
    self.steps += 1
    self.total_reward += step.reward
    return step
