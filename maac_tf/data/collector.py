"""Real steps into D_env (Algorithm 1, line 3); episodes go on from one call to the next."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf
from absl import logging

from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.step_log import StepLog
from maac_tf.data.types import TimeStep, Transition

# Of an episode, the newest rewards that say whether it goes on.
NEWEST = 100
# Of which steps of an episode the rewards are told apart; those after them count as the last.
STEPS_APART = 1_000


class Steppable(Protocol):
  """An environment: a `tasks.adapter.Environment`, or what behaves like one."""

  @property
  def time_limit(self) -> int | None:
    """Steps after which an episode is cut off, where they are known."""

  def reset(self, seed: int | None = None) -> np.ndarray:
    """Starts an episode; returns the first observation, [S] float32."""

  def step(self, action: np.ndarray) -> TimeStep:
    """Takes `action`, [A] in [-1, 1]."""


@dataclasses.dataclass
class Episode:
  """An episode under way: where it is, and what it has come to."""

  seed: int
  observation: np.ndarray
  steps: int = 0
  total_reward: float = 0.0
  newest: collections.deque[float] = dataclasses.field(
    default_factory=lambda: collections.deque(maxlen=NEWEST)
  )

  def take(self, step: TimeStep) -> None:
    self.observation = step.observation
    self.steps += 1
    self.total_reward += step.reward
    self.newest.append(step.reward)

  def earns(self, least: np.ndarray) -> bool:
    """Whether its newest rewards are, in the mean, `least` [STEPS_APART] of its last step or more.

    Fewer than `NEWEST` always are.
    """
    limit = least[min(self.steps, STEPS_APART) - 1]
    return len(self.newest) < NEWEST or math.fsum(self.newest) / NEWEST >= limit


def play_again(environment: Steppable, seed: int, rows: Transition) -> tuple[Episode, bool]:
  """Takes the actions of [N, ...] rows, as long as what comes of them is what it was.

  Returns:
    The episode, and whether it is where it was.
  """
  episode = Episode(seed, environment.reset(seed))
  for observation, action, reward, next_observation, _ in zip(*rows, strict=True):
    if not np.array_equal(episode.observation, observation):
      return episode, False
    step = environment.step(action)
    episode.take(step)
    same = np.array_equal(step.observation, next_observation) and np.float32(step.reward) == reward
    if not same or step.terminal or step.truncated:
      return episode, False
  return episode, True


class Environments(Protocol):
  """What is collected from: E environments side by side, by their numbers from 0."""

  count: int

  @property
  def time_limit(self) -> int | None:
    """As of `Steppable`."""

  def begin(self, seeds: Mapping[int, int]) -> list[Episode]:
    """An episode in each that has a seed; the others stay where they are."""

  def step_all(self, actions: Sequence[np.ndarray]) -> Sequence[TimeStep]:
    """Takes an action in each, [A] in [-1, 1]."""

  def play_again(
    self, seeds: Sequence[int], rows: Sequence[Transition]
  ) -> list[tuple[Episode, bool]]:
    """The function of this name, in each."""


class Single:
  """One environment, as `Environments`."""

  count = 1

  def __init__(self, environment: Steppable):
    self.environment, self.time_limit = environment, environment.time_limit

  def begin(self, seeds: Mapping[int, int]) -> list[Episode]:
    return [Episode(seed, self.environment.reset(seed)) for seed in seeds.values()]

  def step_all(self, actions: Sequence[np.ndarray]) -> Sequence[TimeStep]:
    return (self.environment.step(actions[0]),)

  def play_again(
    self, seeds: Sequence[int], rows: Sequence[Transition]
  ) -> list[tuple[Episode, bool]]:
    return [play_again(self.environment, seeds[0], rows[0])]


class Collector(tf.Module):
  """Environments, of which the episodes under way are part of the checkpoint.

  Steps are in the order in which they are taken: each environment takes one before any takes its
  next. No checkpoint holds a simulator: after a restore, the episodes are played again from D_env.
  Where an environment does not repeat its own, a new one begins.

  Attributes:
    environments: what is stepped.
    replay: whether a restored episode is played again.
    log: gets each step as soon as it is taken, if there is one.
  """

  def __init__(
    self,
    environments: Environments,
    buffer: ReplayBuffer,
    next_seed: Callable[[], tf.Tensor],
    replay: bool = True,
  ):
    """Does not step an environment yet.

    Args:
      environments: as `Single`, or of `tasks.parallel`.
      buffer: D_env.
      next_seed: gives a fresh seed, [2] int64, at each call.
      replay: whether a restored episode is played again.
    """
    super().__init__()
    self.environments, self._buffer, self._next_seed = environments, buffer, next_seed
    self.replay = replay
    self.log: StepLog | None = None
    self._limit_watch = _LimitWatch(environments.time_limit)
    # Of all steps, by their number in the episode: how many, and the sum of their rewards.
    self._seen = tf.Variable(tf.zeros([2, STEPS_APART], tf.float64), trainable=False)
    # Of each episode under way: the seed of its reset (-1: none yet) and its steps so far.
    self._episode = tf.Variable([-1, 0] * environments.count, dtype=tf.int64, trainable=False)
    self._running: list[Episode] = []

  def collect(
    self,
    act: Callable[[np.ndarray, np.ndarray], np.ndarray],
    noise: Iterable[np.ndarray],
    least: float | np.ndarray = -math.inf,
  ) -> float | None:
    """A step for each row of `noise` [N, A], N a multiple of E.

    Args:
      act: gives the action `act(observation, noise)` of [S] and [A]; of several environments, those
        of [E, S] and [E, A].
      least: an episode of which the newest rewards are less, in the mean, is cut off, as by a time
        limit; for all steps of an episode, or [STEPS_APART].

    Returns:
      The mean return of the episodes that ended or were cut off, None where none did.
    """
    count, rows, returns = self.environments.count, [], []
    least, seen = np.broadcast_to(least, STEPS_APART), self._seen.numpy()
    episodes = self._running or self._restored_episodes()
    for drawn in zip(*[iter(noise)] * count, strict=True):
      if count == 1:
        actions = [act(episodes[0].observation, drawn[0])]
      else:
        actions = list(act(np.stack([e.observation for e in episodes]), np.stack(drawn)))
      over, steps = [], self.environments.step_all(actions)
      for i, (episode, action, step) in enumerate(zip(episodes, actions, steps, strict=True)):
        rows.append((episode.observation, action, step.reward, step.observation, step.terminal))
        episode.take(step)
        seen[:, min(episode.steps, STEPS_APART) - 1] += 1.0, step.reward
        if self.log:
          self.log.append(rows[-1], episode.steps == 1, i)
        ended = step.terminal or step.truncated
        if ended:
          self._limit_watch(episode.steps, step.terminal)
        if ended or not episode.earns(least):
          returns.append(episode.total_reward)
          over.append(i)
      if over:
        self._begin(episodes, over)
    columns = (np.asarray(column, np.float32) for column in zip(*rows, strict=True))
    self._buffer.add(Transition(*map(tf.constant, columns)))
    self._seen.assign(seen)
    self._running = episodes
    self._episode.assign([number for e in episodes for number in (e.seed, e.steps)])
    return float(np.mean(returns)) if returns else None

  def usual_rewards(self) -> np.ndarray:
    """[STEPS_APART]: for each step of an episode the mean reward of all steps until it, so far.

    Of an episode that is longer than any before: that of all steps. Before the first step: -inf.
    """
    count, total = np.cumsum(self._seen.numpy(), 1)
    return np.divide(total, count, out=np.full(STEPS_APART, -math.inf), where=count > 0)

  def cut_off(self) -> None:
    """The environment is needed elsewhere: the next step is the first of a new episode."""
    self._running = []
    self._episode.assign([-1, 0] * self.environments.count)

  def _begin(self, episodes: list[Episode], which: Sequence[int]) -> None:
    """New episodes in the place of some."""
    seeds = {i: self._new_seed() for i in which}
    for i, episode in zip(which, self.environments.begin(seeds), strict=True):
      episodes[i] = episode

  def _new_seed(self) -> int:
    return int(tf.random.stateless_uniform([], self._next_seed(), 0, 2**31 - 1, tf.int32))

  def _restored_episodes(self) -> list[Episode]:
    count = self.environments.count
    seeds, steps = self._episode.numpy().reshape(count, 2).T.tolist()
    length = max(steps)
    # There are none; or the first steps are lost.
    if min(seeds) < 0 or length * count > self._buffer.capacity or not self.replay:
      return self.environments.begin({i: self._new_seed() for i in range(count)})
    stored = [x.numpy() for x in self._buffer.newest(length * count)]
    rows = [Transition(*(x[i::count][length - n :] for x in stored)) for i, n in enumerate(steps)]
    played = self.environments.play_again(seeds, rows)
    episodes, differing = [episode for episode, _ in played], []
    for i, (episode, is_same) in enumerate(played):
      if not is_same:
        logging.warning(
          "The environment does not repeat the episode under way from its seed and actions (it "
          "differs after %d of %d steps): a new episode begins.",
          episode.steps,
          steps[i],
        )
        differing.append(i)
    if differing:
      self._begin(episodes, differing)
    return episodes


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
