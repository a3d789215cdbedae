"""Soft returns of real episodes, and what the critics say of them.

Shapes: T steps of an episode, N rows, S, A sizes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from maac_tf.algorithm.learner import Maac
from maac_tf.data.types import TimeStep, Transition

# A return cut off by a time limit is used where what follows it has this weight or less.
MAX_BOOTSTRAP_WEIGHT = 0.2
# Of an evaluation, that the critics are asked about, at the most.
MAX_STATES = 512


class Episode(NamedTuple):
  """What a policy did, in NumPy."""

  transition: Transition  # [T, ...]
  log_prob: np.ndarray  # [T], minus the entropy of the policy at each state, or a sample of it


class Recorder:
  """Takes the steps of `tasks.episodes.run_episodes`, as its `record`."""

  def __init__(self, episodes: int):
    self._rows: list[list[tuple[np.ndarray | float, ...]]] = [[] for _ in range(episodes)]

  def __call__(self, i: int, observation: np.ndarray, action: np.ndarray, step: TimeStep) -> None:
    row = observation, action, step.reward, step.observation, step.terminal
    self._rows[i].append(row)

  def transitions(self) -> list[Transition]:
    """Of each episode, [T, ...] float32."""
    columns = (zip(*rows, strict=True) for rows in self._rows if rows)
    return [Transition(*(np.asarray(x, np.float32) for x in episode)) for episode in columns]


def soft_returns(learner: Maac, episode: Episode, temperature: float) -> np.ndarray:
  """G_t = r_t + γ (G_{t+1} - β log π_{t+1}), [T]; after a time limit, Q goes on."""
  transition, log_prob = episode
  after = 0.0
  if not transition.terminal[-1]:
    last = tf.constant(transition.next_observation[-1:])
    noise = tf.random.stateless_normal([64, 1, learner.action_size], [0, 2])
    actions, last_log_prob = learner.act(last, noise)
    value = learner.actor_critic.value(tf.repeat(last[tf.newaxis], len(actions), 0), actions)
    after = float(tf.reduce_mean(value - temperature * last_log_prob))
  returns = np.zeros(len(log_prob))
  for t in reversed(range(len(log_prob))):
    returns[t] = transition.reward[t] + learner.discount * after
    after = returns[t] - temperature * log_prob[t]
  return returns


def known_returns(
  learner: Maac, episodes: Sequence[Episode], num_states: int, multiple_of: int = 1
) -> tuple[Episode, np.ndarray]:
  """Random steps [N, ...] whose soft returns [N] depend little on what was not seen.

  N is `num_states`, or where there are fewer a multiple of `multiple_of`, 0 included.
  """
  temperature = float(learner.temperature)
  starts, returned = [], []
  for episode in episodes:
    returns = soft_returns(learner, episode, temperature)
    weight = learner.discount ** (len(returns) - np.arange(len(returns)))
    known = bool(episode.transition.terminal[-1]) | (weight <= MAX_BOOTSTRAP_WEIGHT)
    returned.append(returns[known])
    starts.append(tf.nest.map_structure(lambda x, known=known: x[known], episode))
  real = np.concatenate(returned)
  count = min(num_states, len(real)) // multiple_of * multiple_of
  chosen = np.random.default_rng(1).choice(len(real), count, replace=False)
  states = tf.nest.map_structure(lambda *x: np.concatenate(x)[chosen], *starts)
  return states, real[chosen]


def critic_errors(learner: Maac, transitions: Sequence[Transition]) -> tuple[float, float] | None:
  """How the critics stand to the real soft returns of episodes of the EMA policy.

  Their values are of a policy that draws its actions: the entropy bonus of each state is a sample
  of that policy's.

  Returns:
    (mean of Q - G, correlation of Q and G over states), None where too few returns are known.
  """
  if not transitions:
    return None
  episodes = []
  for episode in transitions:
    noise = tf.random.stateless_normal(episode.action.shape, [0, 4])
    _, log_prob = learner.act(tf.constant(episode.observation), noise)
    episodes.append(Episode(episode, log_prob.numpy()))
  states, real = known_returns(learner, episodes, MAX_STATES)
  if len(real) < 2:
    return None
  q = learner.actor_critic.value(states.transition.observation, states.transition.action).numpy()
  together = correlation(q, real)
  return None if together is None else (float(np.mean(q - real)), together)


def correlation(believed: np.ndarray, real: np.ndarray) -> float | None:
  """Of [N] and [N] numbers; None where one of the two is constant."""
  if not (np.std(believed) and np.std(real)):
    return None
  return float(np.corrcoef(believed, real)[0, 1])
