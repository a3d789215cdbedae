"""What a trained run believes, against fresh episodes of its own policy in the real environment.

Shapes: T steps of an episode, N rows, H model steps, E ensemble members, S, A, O sizes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from maac_tf.algorithm import objectives
from maac_tf.algorithm.critic_targets import path_targets
from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.noise import policy_noise
from maac_tf.algorithm.real_returns import Episode, Recorder, known_returns
from maac_tf.data.statistics import statistics_of
from maac_tf.data.types import TimeStep, Transition
from maac_tf.models.ensemble import Dynamics
from maac_tf.models.model_env import ModelEnv
from maac_tf.networks.layers import normalizer
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.episodes import run_episodes
from maac_tf.tasks.task import Task


class Values(NamedTuple):
  """What was believed and what came, [N] each: soft returns from a state and its action."""

  q: np.ndarray  # of the critics, reduced as in the policy objective
  model: np.ndarray | None  # return of the policy in the models, which ends with Q
  real: np.ndarray


def collect_episodes(
  task: Task, learner: Maac, seeds: Sequence[int], environment: Environment | None = None
) -> list[Episode]:
  """One episode from each start seed, with actions drawn from the policy that collects data.

  They are in `environment`, or in environments of their own (`run_episodes`).
  """
  rng = np.random.default_rng(list(seeds))
  log_probs: list[np.ndarray] = []  # of a batch each
  recorder, of_batch = Recorder(len(seeds)), [list[np.ndarray]() for _ in seeds]

  def act(observation: np.ndarray) -> np.ndarray:
    noise = rng.normal(size=(len(observation), learner.action_size)).astype(np.float32)
    action, log_prob = (x.numpy() for x in learner.act(tf.constant(observation), noise))
    log_probs.append(log_prob)
    return action

  def record(i: int, observation: np.ndarray, action: np.ndarray, step: TimeStep) -> None:
    recorder(i, observation, action, step)
    # Of episodes that are not side by side, each has the batch for itself.
    of_batch[i].append(log_probs[-1][i % len(log_probs[-1])])

  run_episodes(task, act, seeds, record, environment)
  pairs = zip(recorder.transitions(), of_batch, strict=True)
  return [Episode(transition, np.asarray(log_prob)) for transition, log_prob in pairs]


def open_loop_error(
  learner: Maac, episodes: Sequence[Episode], horizon: int = 50, num_starts: int = 256
) -> tuple[np.ndarray, np.ndarray]:
  """How far the models are off after 1..H real actions from random states of the episodes.

  H is less than `horizon` where none of these states has so many steps after it.

  Returns:
    (root mean square error of the mean predictions [H, S], over members and starts, in standard
    deviations of each state dimension over D_env; how many starts have so many steps after them
    [H]).
  """
  dynamics, model_env = _models(learner)
  starts = [(e, t) for e in episodes for t in range(len(e.log_prob))]
  chosen = [starts[i] for i in np.random.default_rng(0).permutation(len(starts))[:num_starts]]
  horizon = min(horizon, max(len(e.log_prob) - t for e, t in chosen))
  lasts, windows = np.zeros((horizon, len(chosen)), bool), []
  for i, (episode, t) in enumerate(chosen):
    rows = np.minimum(np.arange(t, t + horizon), len(episode.log_prob) - 1)
    lasts[:, i] = t + np.arange(horizon) < len(episode.log_prob)
    windows.append(tf.nest.map_structure(lambda x, rows=rows: x[rows], episode.transition))
  real = tf.nest.map_structure(lambda *x: tf.stack(x, 1), *windows)  # [H, N, ...]
  members = dynamics.ensemble_size

  def for_each_member(x: tf.Tensor) -> tf.Tensor:
    return tf.repeat(x[..., tf.newaxis, :, :], members, -3)

  no_noise = tf.zeros([members, len(chosen), dynamics.outcome_size])
  observation, predicted = for_each_member(real.observation[0]), []
  for action in tf.unstack(for_each_member(real.action)):  # beyond what the models take for an end
    observation, _, _ = model_env.own_member(observation, action, no_noise)
    predicted.append(observation)
  error = tf.stack(predicted) - real.next_observation[:, tf.newaxis]
  unit = normalizer(learner.observation_size, error.dtype)
  unit.fit(statistics_of(learner.env_buffer.newest(int(learner.env_buffer.size)).observation))
  error = (error / unit.scale).numpy()
  squares = np.where(lasts[:, np.newaxis, :, np.newaxis], error**2, 0.0)
  counts = lasts.sum(1)
  return np.sqrt(squares.sum((1, 2)) / (members * counts[:, np.newaxis])), counts


def one_step_error(learner: Maac, episodes: Sequence[Episode]) -> np.ndarray:
  """How much of each dimension's change the models do not know: 0 is nothing, 1 or more all.

  Their likelihood hides that: it is the mean over outputs of a *logarithm*, so that many joints
  known well outweigh a torso that is not known at all.

  Returns:
    Root mean square error of the mean predictions, over members and steps, in standard deviations
    of what the dimension changed by in these episodes (the reward, if it is predicted: of the
    reward), [S] or [S + 1]; 0 of one that never changed.
  """
  dynamics, model_env = _models(learner)
  rows = _for_each_member(dynamics, episodes)
  no_noise = tf.zeros([*rows.reward.shape, dynamics.outcome_size])
  after, reward, _ = model_env.own_member(rows.observation, rows.action, no_noise)
  errors = [after - rows.next_observation]
  changes = [rows.next_observation - rows.observation]
  if dynamics.predicts_reward:
    errors.append((reward - rows.reward)[..., tf.newaxis])
    changes.append(rows.reward[..., tf.newaxis])
  errors = tf.concat(errors, -1).numpy()
  unit = normalizer(errors.shape[-1], "float32")
  unit.fit(statistics_of(tf.concat(changes, -1)[0]))
  return np.sqrt(np.mean(errors**2, (0, 1))) / unit.scale.numpy() * unit.moves.numpy()


def calibration(learner: Maac, episodes: Sequence[Episode]) -> tuple[np.ndarray, np.ndarray]:
  """How much of what happened lies in the models' central intervals.

  Returns:
    (probability of the interval [P], share of the changes, and rewards, in it [P, O]; without
    outputs that never changed).
  """
  dynamics, _ = _models(learner)
  rows = _for_each_member(dynamics, episodes)
  prediction = dynamics.predict(rows.observation, rows.action)
  z = tf.abs(dynamics.errors(prediction, rows)) * tf.exp(-0.5 * prediction.log_var)
  z = tf.boolean_mask(z, dynamics.moves > 0.0, axis=2)
  probability = np.linspace(0.0, 1.0, 51)[1:-1]
  bound = tfp.distributions.Normal(0.0, 1.0).quantile((1.0 + probability.astype(np.float32)) / 2)
  share = [tf.reduce_mean(tf.cast(z < b, tf.float32), [0, 1]) for b in bound]
  return probability, np.stack(share)


def values(
  learner: Maac, episodes: Sequence[Episode], horizon: int = 100, num_states: int = 512
) -> Values | None:
  """Q, the models' H-step return with Q after it, and the real soft return, at random states.

  None where too few real returns are known.
  """
  every = learner.dynamics.ensemble_size if learner.dynamics else 1
  states, real = known_returns(learner, episodes, num_states, every)
  if not len(real):
    return None
  observation, action = states.transition.observation, states.transition.action
  q = learner.actor_critic.value(observation, action).numpy()
  if not learner.model_env:
    return Values(q, None, real)
  noise = policy_noise(horizon, len(real), 1, *learner.noise_arguments, tf.constant([0, 1]))
  first = action, states.log_prob
  path = objectives.imagine_path(
    learner.act, learner.model_env.random_member, observation, noise, first
  )
  model = path_targets(
    path,
    learner.actor_critic.value,
    discount=learner.discount,
    temperature=learner.temperature,
  )
  return Values(q, model.numpy(), real)


def ends(
  learner: Maac, episodes: Sequence[Episode], horizon: int = 50, num_states: int = 512
) -> tuple[float, float] | None:
  """How often what follows terminates within H steps: in the world, and in the models.

  A policy goes where its models let it: where they end too seldom, it will fall.

  Returns:
    (share of random states, share of the policy's imagined rollouts from the same states); None
    where no episode is long enough, and none terminated, to know.
  """
  dynamics, model_env = _models(learner)
  states, followed = [], []
  for episode in episodes:
    left = len(episode.log_prob) - np.arange(len(episode.log_prob))
    terminal = bool(episode.transition.terminal[-1])
    known = terminal | (left >= horizon)
    states.append(episode.transition.observation[known])
    followed.append(terminal & (left <= horizon)[known])
  starts, ended = np.concatenate(states), np.concatenate(followed)
  every = dynamics.ensemble_size
  count = min(num_states, len(starts)) // every * every
  if not count:
    return None
  chosen = np.random.default_rng(2).choice(len(starts), count, replace=False)
  noise = policy_noise(horizon, count, 1, *learner.noise_arguments, tf.constant([0, 3]))
  start = tf.constant(starts[chosen])
  path = objectives.imagine_path(learner.act, model_env.random_member, start, noise)
  imagined = 1.0 - path.trajectory.not_done[-1].numpy()
  return float(ended[chosen].mean()), float(imagined.mean())


def end_probabilities(learner: Maac, episodes: Sequence[Episode]) -> tuple[float, float]:
  """What the models, or the function, expect of the steps taken, mean over members.

  Returns:
    (probability of an end at the steps that did end an episode, at all the others); nan of none.
  """
  dynamics, model_env = _models(learner)
  rows = _for_each_member(dynamics, episodes)
  no_noise = tf.zeros([*rows.reward.shape, dynamics.outcome_size])
  _, _, probability = model_env.own_member(rows.observation, rows.action, no_noise)
  ended = rows.terminal > 0.0
  at_ends, others = (tf.boolean_mask(probability, mask) for mask in (ended, ~ended))
  return float(tf.reduce_mean(at_ends)), float(tf.reduce_mean(others))


def _models(learner: Maac) -> tuple[Dynamics, ModelEnv]:
  if not learner.dynamics or not learner.model_env:
    raise ValueError("There is nothing to know of the models of a run that has none.")
  return learner.dynamics, learner.model_env


def _for_each_member(dynamics: Dynamics, episodes: Sequence[Episode]) -> Transition:
  """All steps, once for each member: [E, N, ...]."""
  return tf.nest.map_structure(
    lambda *x: tf.repeat(np.concatenate(x)[np.newaxis], dynamics.ensemble_size, 0),
    *(e.transition for e in episodes),
  )
