"""Algorithm 1: collect, fit, imagine, update; and what is evaluated and kept between."""

import contextlib
import dataclasses
import math
import time

import gin
import numpy as np
import tensorflow as tf
from absl import logging

from maac_tf.algorithm.learner import Maac
from maac_tf.checks import require, require_integers, require_numbers, require_tuples
from maac_tf.data.types import Transition
from maac_tf.tasks.episodes import run_episodes
from maac_tf.tasks.task import Task

# Evaluation episodes start from these seeds and the following ones, the same in every run; the best
# policy is evaluated again on others, as the best of many evaluations was lucky too.
EVALUATION_SEED, BEST_EVALUATION_SEED = 10_000, 20_000
BEST_EVALUATION_EPISODES = 20
_EVALUATION = ("eval/return", "eval/return_std", "eval/length")
_BEST = ("best/return", "best/return_std", "best/env_steps")
# Updates in one call of the compiled function, at the most: long enough to cost nothing, short
# enough for a progress bar.
MAX_UPDATES_PER_CALL = 100


@gin.configurable(denylist=["task", "seed"])
class Trainer(tf.Module):
  """The state of a run and the lines of Algorithm 1, one method each."""

  def __init__(
    self,
    task: Task,
    seed: int = 0,
    *,
    random_steps: int = 5_000,
    episode_steps: int | None = None,
    initial_updates: int = 0,
    steps_per_iteration: int = 1_000,
    updates_per_step: float = 4,
    rounds: int = 4,
    rollout_starts: int = 100_000,
    rollout_schedule: tuple[int, int, int, int] = (1, 1, 0, 1),
    eval_every: int = 1_000,
    eval_episodes: int = 5,
  ):
    """Builds environment and agent; nothing runs yet.

    Args:
      task: what to learn.
      seed: of everything random.
      random_steps: uniformly random actions before the first fit.
      episode_steps: where an episode of training is cut off, the random ones too, as by a time
        limit; None: at that of the task. A policy that is updated 1,000 times between two starts
        forgets how to start; one that never sees what comes after some step fails there.
      initial_updates: gradient updates on these, before the policy acts for the first time: the
        models know enough by then for its first steps to be better than random. Rounded up to
        whole iterations, each with its fit and its rounds.
      steps_per_iteration: environment steps an iteration. The longer a policy climbs the same
        models between two looks at the world, the further it goes into their errors.
      updates_per_step: gradient updates for each environment step. More use the same data further,
        and the same models' errors.
      rounds: how often an iteration imagines and then updates: with more, D_model follows the
        policy more closely.
      rollout_starts: states of D_env that a round imagines from; fewer where its rollouts would not
        fit into D_model.
      rollout_schedule: (from, to, first, last): the imagined rollouts' length grows linearly
        between two iterations. Long ones lead updates to the states of the current policy, short
        ones keep them near real ones.
      eval_every: environment steps between evaluations.
      eval_episodes: episodes of the deterministic policy in each.

    Raises:
      ValueError: for a value that makes no sense.
    """
    super().__init__()
    require_integers(
      "Trainer",
      1,
      random_steps=random_steps,
      steps_per_iteration=steps_per_iteration,
      rounds=rounds,
      rollout_starts=rollout_starts,
      eval_every=eval_every,
      eval_episodes=eval_episodes,
    )
    if episode_steps is not None:
      require_integers("Trainer", 1, episode_steps=episode_steps)
    require_integers("Trainer", 0, initial_updates=initial_updates)
    require_numbers("Trainer", 0, 1e6, updates_per_step=updates_per_step)
    require_tuples("Trainer", 0, rollout_schedule=rollout_schedule)
    updates = steps_per_iteration * updates_per_step
    self.updates_per_round = round(updates / rounds)
    if self.updates_per_round < 1 or abs(self.updates_per_round * rounds - updates) > 1e-6:
      raise ValueError(
        f"Trainer.updates_per_step ({updates_per_step}) makes {updates:g} updates an iteration, "
        f"which Trainer.rounds ({rounds}) must divide into whole ones: change either."
      )
    require(
      len(rollout_schedule) == 4
      and 1 <= rollout_schedule[0] <= rollout_schedule[1]
      and rollout_schedule[2] < rollout_schedule[3],
      "Trainer.rollout_schedule must be (from, to, first, last) with 1 <= from <= to and "
      f"first < last, not {rollout_schedule}.",
    )
    self.task = task
    self.environment = task.make_environment()
    self.agent = Maac(task, self.environment, seed)
    self._judge = self._judge_of_imagined_steps()
    if self._judge:
      self._judge.check_functions(self.agent.observation_size, self.agent.action_size)
    if self.agent.uses_model:
      least = max(32, 2 * self.agent.dynamics.ensemble_size)
      require(
        random_steps >= least,
        f"Trainer.random_steps ({random_steps}) must be {least} or more, so that every member of "
        "the ensemble has transitions to train and to validate on.",
      )
    if max(random_steps, steps_per_iteration) > self.agent.env_buffer.capacity:
      raise ValueError(
        f"Maac.env_capacity ({self.agent.env_buffer.capacity}) must hold Trainer.random_steps "
        f"({random_steps}) and Trainer.steps_per_iteration ({steps_per_iteration})."
      )
    # The seed is the key, not the counter: streams of different seeds never overlap.
    self.generator = tf.random.Generator.from_key_counter(seed, [0, 0], "philox")
    self.iteration = tf.Variable(0, dtype=tf.int64, trainable=False)  # finished ones
    self.env_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
    # The networks of the best evaluation so far, its return, and what `_BEST` names.
    self._best_networks = [tf.Variable(v, trainable=False) for v in self.agent.network_variables()]
    self._best_evaluation = tf.Variable(-np.inf, dtype=tf.float64, trainable=False)
    self.best = tf.Variable([np.nan] * len(_BEST), dtype=tf.float64, trainable=False)
    self.best_is_now = False  # whether the last iteration's
    # Of the episode under way: the seed of its reset (-1: none yet) and its steps so far.
    self._episode = tf.Variable([-1, 0], dtype=tf.int64, trainable=False)
    self._running_episode = None
    self.random_steps, self.episode_steps = random_steps, episode_steps or math.inf
    self.steps_per_iteration = steps_per_iteration
    self.initial_updates, self.rounds = initial_updates, rounds
    self.rollout_starts, self.rollout_schedule = rollout_starts, rollout_schedule
    self.eval_every, self.eval_episodes = eval_every, eval_episodes

  def run_iteration(self, progress=lambda share: None) -> dict[str, float | None]:
    """One pass of the loop of Algorithm 1.

    Args:
      progress: called with the share of the iteration done since its last call.

    Returns:
      The row of metrics; None where there was no evaluation.

    Raises:
      FloatingPointError: when a loss is no longer a finite number.
    """
    metrics, clock, before = {}, _Clock(), 0
    if self.env_steps == 0:
      with clock("collect"):
        self.collect(self.random_steps, random=True)
      if self._judge:
        self._warn_of_disagreements()
      before = math.ceil(self.initial_updates / (self.updates_per_round * self.rounds))
    for _ in range(before):
      self.learn(clock, lambda share: progress(share / (before + 1)))
    with clock("collect"):  # line 3
      metrics |= self.collect(self.steps_per_iteration)
    metrics |= self.learn(clock, lambda share: progress(share / (before + 1)))
    self.iteration.assign_add(1)
    with clock("evaluate"):
      metrics |= self.evaluate() if self._evaluation_is_due() else dict.fromkeys(_EVALUATION)
      metrics |= self.keep_best(metrics["eval/return"])
    counters = {"env_steps": int(self.env_steps), "iteration": int(self.iteration)}
    return counters | metrics | clock.seconds

  def learn(self, clock, progress) -> dict[str, float]:
    """Lines 4-12: fits the models, then imagines and updates, `rounds` times."""
    agent, metrics, rows, imagined = self.agent, {}, [], []
    agent.begin_iteration()
    if agent.uses_model:
      with clock("fit"):  # lines 4-5
        metrics |= _numbers("model", agent.dynamics_fit.fit(self._next_seed()))
    progress(0.1)
    for _ in range(self.rounds):
      if agent.imagines:
        with clock("imagine"):  # lines 6-7
          imagined.append(self.imagine())
      with clock("update"):  # lines 8-11
        rows += self.update(lambda share: progress(0.9 * share / self.rounds))
    metrics |= _means(imagined) | _means(rows)
    for name, value in metrics.items():
      if not np.isfinite(value):
        raise FloatingPointError(
          f"{name} became {value} in iteration {int(self.iteration) + 1}. Resuming would lead "
          "there again: start a run with other settings or another seed."
        )
    return metrics

  def collect(self, steps: int, random: bool = False) -> dict[str, float | None]:
    """Line 3: `steps` steps of the real environment into D_env; its episode goes on.

    Returns:
      The mean return of the episodes that ended or were cut off, None where none did.
    """
    shape = [steps, self.agent.action_size]
    if random:
      noise = tf.random.stateless_uniform(shape, self._next_seed(), -1.0, 1.0).numpy()
    else:
      noise = tf.random.stateless_normal(shape, self._next_seed()).numpy()
    rows, returns = [], []
    act = (lambda _, action: action) if random else self.agent.policy.in_numpy()
    episode = self._running_episode or self._restored_episode()
    for t in range(steps):
      observation = episode.observation
      action = act(observation, noise[t])
      step = episode.step(action)
      rows.append((observation, action, step.reward, step.observation, step.terminal))
      if step.terminal or step.truncated or episode.steps >= self.episode_steps:
        returns.append(episode.total_reward)
        episode = self._new_episode()
    columns = (np.asarray(column, np.float32) for column in zip(*rows, strict=True))
    self.agent.env_buffer.add(Transition(*map(tf.constant, columns)))
    self.env_steps.assign_add(steps)
    self._running_episode = episode
    self._episode.assign([episode.seed, episode.steps])
    return {"collect/return": float(np.mean(returns)) if returns else None}

  def _judge_of_imagined_steps(self):
    """The task as its models use it, with their coordinates and without what they do not."""
    if not self.agent.uses_model:
      return None
    dynamics = self.agent.dynamics
    reward_fn = None if dynamics.predicts_reward else self.task.reward_fn
    return dataclasses.replace(
      self.task,
      reward_fn=reward_fn,
      coordinates=dynamics.coordinates,
      symmetries=self.task.symmetries if self.agent.dynamics_fit.symmetries else (),
    )

  def _warn_of_disagreements(self):
    """Where a task's functions are not those of its environment, which no loss would show."""
    steps = self.agent.env_buffer.newest(self.random_steps)
    action = steps.action * self.environment.action_scale + self.environment.action_shift
    for sentence in self._judge.disagreements(*steps._replace(action=action)):
      logging.warning("Task %r: over the random steps %s.", self.task.name, sentence)

  def _new_episode(self):
    seed = tf.random.stateless_uniform([], self._next_seed(), 0, 2**31 - 1, tf.int32)
    return _Episode(self.environment, int(seed))

  def _restored_episode(self):
    """No checkpoint holds a simulator: the episode under way is played again from D_env."""
    seed, steps = map(int, self._episode.numpy())
    buffer = self.agent.env_buffer
    if seed < 0 or steps > buffer.capacity:  # at the start of a run; or its first steps are lost
      return self._new_episode()
    episode = _Episode(self.environment, seed)
    for action in buffer.newest(steps).action.numpy():
      episode.step(action)
    return episode

  def imagine(self) -> dict[str, float]:
    """Line 6: imagined rollouts from states of D_env into D_model."""
    length = self.rollout_length()
    room = self.agent.model_buffer.capacity // length
    ensemble_size = self.agent.dynamics.ensemble_size
    starts = max(1, min(self.rollout_starts, room) // ensemble_size) * ensemble_size
    # One iteration's rollouts, the last rounds of the one before included; older ones come from
    # models and a policy that are out of date.
    self.agent.model_buffer.window.assign(self.rounds * starts * length)
    share = self.agent.fill_model_buffer(starts, length, self._next_seed())
    return {"imagine/length": length, "imagine/terminated": float(share)}

  def update(self, progress) -> list[dict[str, float]]:
    """Lines 8-11: this round's share of the iteration's updates."""
    updates, rows = self.updates_per_round, []
    calls = math.ceil(updates / MAX_UPDATES_PER_CALL)
    for i in range(calls):  # of one size, or two: each is compiled
      count = updates // calls + (i < updates % calls)
      rows.append(_numbers("", self.agent.train(count, self._next_seed())))
      progress(count / updates)
    return rows

  def evaluate(self) -> dict[str, float]:
    """Episodes of the average policy without noise, from the same start seeds every time."""
    episodes = self._run_episodes(self.eval_episodes, EVALUATION_SEED)
    values = np.mean(episodes.returns), np.std(episodes.returns), np.mean(episodes.lengths)
    return dict(zip(_EVALUATION, map(float, values), strict=True))

  def keep_best(self, evaluation: float | None) -> dict[str, float | None]:
    """Keeps the networks if every evaluation was worse, and evaluates the best on other seeds.

    Returns:
      Return of the best policy, its standard deviation, and when it was found.
    """
    self.best_is_now = evaluation is not None and evaluation > self._best_evaluation
    if self.best_is_now:
      for kept, variable in zip(self._best_networks, self.agent.network_variables(), strict=True):
        kept.assign(variable)
      returns = self._run_episodes(BEST_EVALUATION_EPISODES, BEST_EVALUATION_SEED).returns
      self._best_evaluation.assign(evaluation)
      self.best.assign([np.mean(returns), np.std(returns), int(self.env_steps)])
    values = self.best.numpy().tolist()
    return dict(zip(_BEST, [None if np.isnan(v) else v for v in values], strict=True))

  @property
  def has_best(self) -> bool:
    return bool(self._best_evaluation > -np.inf)

  @contextlib.contextmanager
  def best_networks(self):
    """For a while, the agent has the networks of the best evaluation, if there was one."""
    if not self.has_best:
      yield
      return
    variables = self.agent.network_variables()
    now = [v.numpy() for v in variables]
    try:
      for kept, variable in zip(self._best_networks, variables, strict=True):
        variable.assign(kept)
      yield
    finally:
      for value, variable in zip(now, variables, strict=True):
        variable.assign(value)

  def _run_episodes(self, count, seed):
    act = self.agent.average_policy.in_numpy()
    return run_episodes(
      self.task, lambda observation: act(observation, 0.0), range(seed, seed + count)
    )

  def rollout_length(self) -> int:
    """Of the imagined rollouts in the current iteration."""
    shortest, longest, first, last = self.rollout_schedule
    share = np.clip((int(self.iteration) - first) / (last - first), 0.0, 1.0)
    return int(shortest + share * (longest - shortest))

  def _evaluation_is_due(self):
    steps = self.steps_per_iteration
    done = int(self.iteration) * steps
    return done // self.eval_every > (done - steps) // self.eval_every

  def _next_seed(self) -> tf.Tensor:
    """A fresh seed, [2] int64: all of a run's randomness is split off the one generator."""
    return self.generator.make_seeds(1)[:, 0]


class _Episode:
  """An episode under way: where it is, and what it has come to."""

  def __init__(self, environment, seed):
    self._environment, self.seed = environment, seed
    self.observation, self.steps, self.total_reward = environment.reset(seed), 0, 0.0

  def step(self, action):
    step = self._environment.step(action)
    self.observation = step.observation
    self.steps += 1
    self.total_reward += step.reward
    return step


def _numbers(prefix, tensors):
  prefix = prefix and prefix + "/"
  return {prefix + key: float(value) for key, value in tensors.items()}


def _means(rows):
  return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} if rows else {}


class _Clock:
  """Adds up wall-clock seconds by name."""

  def __init__(self):
    self.seconds = {
      f"seconds/{n}": 0.0 for n in ("collect", "fit", "imagine", "update", "evaluate")
    }

  @contextlib.contextmanager
  def __call__(self, name):
    start = time.perf_counter()
    yield
    self.seconds[f"seconds/{name}"] += time.perf_counter() - start
