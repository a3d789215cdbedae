"""Real steps into D_env (Algorithm 1, line 3); episodes go on from one call to the next."""

import collections
import math
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import tensorflow as tf
from absl import logging

from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.step_log import StepLog
from maac_tf.data.types import TimeStep, Transition

WINDOW = 100


class Steppable(Protocol):
  """What is collected from: a `tasks.adapter.Environment`, or what behaves like one."""

  @property
  def time_limit(self) -> int | None:
    """Steps after which an episode is cut off, where they are known."""

  def reset(self, seed: int | None = None) -> np.ndarray:
    """Starts an episode; returns the first observation, [S] float32."""

  def step(self, action: np.ndarray) -> TimeStep:
    """Takes `action`, [A] in [-1, 1]."""


class Collector(tf.Module):
  """An environment, of which the episode under way is part of the checkpoint.

  No checkpoint holds a simulator: after a restore, the episode is played again from D_env. Where
  the environment does not repeat it, a new one begins.

  Attributes:
    replay: whether a restored episode is played again.
    log: gets each step as soon as it is taken, if there is one.
  """

  def __init__(
    self,
    environment: Steppable,
    buffer: ReplayBuffer,
    next_seed: Callable[[], tf.Tensor],
    replay: bool = True,
  ):
    """Does not step the environment yet.

    Args:
      environment: as of `tasks.adapter`.
      buffer: D_env.
      next_seed: gives a fresh seed, [2] int64, at each call.
      replay: whether a restored episode is played again.
    """
    super().__init__()
    self._environment, self._buffer, self._next_seed = environment, buffer, next_seed
    self.replay = replay
    self.log: StepLog | None = None
    self._limit_watch = _LimitWatch(environment.time_limit)
    # Of the episode under way: the seed of its reset (-1: none yet) and its steps so far.
    self._episode = tf.Variable([-1, 0], dtype=tf.int64, trainable=False)
    self._running: _Episode | None = None

  def collect(
    self,
    act: Callable[[np.ndarray, np.ndarray], np.ndarray],
    noise: Iterable[np.ndarray],
    least: float = -math.inf,
  ) -> float | None:
    """A step for each row of `noise` [N, A], with the action `act(observation, noise)` [A].

    Args:
      least: where its last `WINDOW` rewards are less than this in the mean, an episode is cut off, as
        by a time limit.

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
      if self.log:
        self.log.append(rows[-1], first=episode.steps == 1)
      over = step.terminal or step.truncated
      if over:
        self._limit_watch(episode.steps, step.terminal)
      if over or episode.recent() < least:
        returns.append(episode.total_reward)
        episode = self._new_episode()
    columns = (np.asarray(column, np.float32) for column in zip(*rows, strict=True))
    self._buffer.add(Transition(*map(tf.constant, columns)))
    self._running = episode
    self._episode.assign([episode.seed, episode.steps])
    return float(np.mean(returns)) if returns else None

  def cut_off(self) -> None:
    """The environment is needed elsewhere: the next step is the first of a new episode."""
    self._running = None
    self._episode.assign([-1, 0])

  def _new_episode(self) -> "_Episode":
    seed = tf.random.stateless_uniform([], self._next_seed(), 0, 2**31 - 1, tf.int32)
    return _Episode(self._environment, int(seed))

  def _restored_episode(self) -> "_Episode":
    seed, steps = map(int, self._episode.numpy())
    # There is none; or its first steps are lost.
    if seed < 0 or steps > self._buffer.capacity or not self.replay:
      return self._new_episode()
    episode = _Episode(self._environment, seed)
    stored = (column.numpy() for column in self._buffer.newest(steps))
    for observation, action, reward, next_observation, _ in zip(*stored, strict=True):
      if not episode.repeats(observation, action, reward, next_observation):
        logging.warning(
          "The environment does not repeat the episode under way from its seed and actions (it "
          "differs after %d of %d steps): a new episode begins.",
          episode.steps,
          steps,
        )
        return self._new_episode()
    return episode


class _Episode:
  """An episode under way: where it is, and what it has come to."""

  def __init__(self, environment: Steppable, seed: int):
    self._environment, self.seed = environment, seed
    self.observation, self.steps, self.total_reward = environment.reset(seed), 0, 0.0
    self._rewards: collections.deque[float] = collections.deque(maxlen=WINDOW)

  def step(self, action: np.ndarray) -> TimeStep:
    step = self._environment.step(action)
    self.observation = step.observation
    self.steps += 1
    self.total_reward += step.reward
    self._rewards.append(step.reward)
    return step

  def recent(self) -> float:
    """The mean of the last rewards; infinite before there are so many."""
    return float(np.mean(self._rewards)) if len(self._rewards) == WINDOW else math.inf

  def repeats(
    self,
    observation: np.ndarray,
    action: np.ndarray,
    reward: np.float32,
    next_observation: np.ndarray,
  ) -> bool:
    """Takes `action`, if it is where it was; whether the outcome is what it was, too."""
    if not np.array_equal(self.observation, observation):
      return False
    step = self.step(action)
    same = np.array_equal(step.observation, next_observation) and np.float32(step.reward) == reward
    return bool(same) and not (step.terminal or step.truncated)


class _LimitWatch(tf.Module):
  """Warns, once in a run, of a time limit that the environment returns as a termination.

  Where a time limit is known, the first episode that reaches it shows it. Elsewhere three episodes
  in a row, none of those before longer, that terminate after the same number of steps.
  """

  def __init__(self, time_limit: int | None):
    super().__init__()
    self._time_limit = time_limit
    # The longest episode, and how many in a row were as long; -1: it is decided.
    self._longest = tf.Variable([0, 0], dtype=tf.int64, trainable=False)

  def __call__(self, steps: int, terminal: bool) -> None:
    """Notes an episode that the environment ended after so many steps."""
    longest, in_a_row = map(int, self._longest.numpy())
    if in_a_row < 0 or (self._time_limit and steps < self._time_limit):
      return
    if self._time_limit:
      found, what = terminal, "An episode terminated after %d steps, its time limit."
    else:
      in_a_row = 1 if steps > longest else (in_a_row + 1) * (steps == longest)
      found, what = terminal and in_a_row == 3, "Three episodes in a row terminated after %d steps."
    if found:
      logging.warning(
        f"{what} If only time ended it, return that as truncated: what comes after a termination "
        "is worth nothing.",
        steps,
      )
    decided = found or self._time_limit or not terminal
    self._longest.assign([max(longest, steps), -1 if decided else in_a_row])
