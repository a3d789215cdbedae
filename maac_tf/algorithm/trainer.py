"""Algorithm 1: collect, fit, imagine, update; and what is evaluated and kept between."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Protocol

import numpy as np
import tensorflow as tf

from maac_tf.algorithm.best_policy import BestPolicy
from maac_tf.algorithm.evaluator import COLUMNS, Evaluator
from maac_tf.algorithm.imagined_data import ImaginedData
from maac_tf.algorithm.learner import Maac
from maac_tf.checks import Option, configurable, require
from maac_tf.data.collector import Collector
from maac_tf.tasks import environment_check
from maac_tf.tasks.adapter import Environment

# Updates in one call of the compiled function, at the most: long enough to cost nothing, short
# enough for a progress bar.
MAX_UPDATES_PER_CALL = 100
# D_model holds one iteration's rollouts, older ones come from models and a policy that are out of
# date; and no more than so many transitions.
MAX_MODEL_CAPACITY = 1_000_000


class Progress(Protocol):
  """What is told of a training as it goes on."""

  def __call__(self, phase: str, share: float, work: float = 0.0) -> None:
    """Since the last call were done `share` of the phase and `work`, in iterations' updates."""


def _untold(phase: str, share: float, work: float = 0.0) -> None:
  del phase, share, work


@configurable
class Trainer(tf.Module):
  """The state of a run and the lines of Algorithm 1, one method each.

  Attributes:
    learner: what is trained.
    iteration, env_steps: how many there were.
    best: the networks of the best evaluation.
    evaluator: runs evaluations.
  """

  def __init__(
    self,
    learner: Maac,
    environment: Environment,
    seed: int = 0,
    *,
    random_steps: Annotated[
      int, Option("environment steps of uniformly random actions, before the first fit", low=1)
    ] = 5_000,
    initial_updates: Annotated[
      int,
      Option("gradient updates on these, before the policy acts; in whole iterations", low=0),
    ] = 5_000,
    steps_per_iteration: Annotated[int, Option("environment steps", low=1)] = 250,
    episode_steps: Annotated[
      int | None,
      Option("where an episode of training is cut off; None: at the task's time limit", low=1),
    ] = None,
    updates_per_step: Annotated[
      float, Option("gradient updates for each environment step", low=0, high=1e6)
    ] = 1,
    rollout_frequency: Annotated[
      int, Option("updates between two times of imagining rollouts into D_model", low=1)
    ] = 25,
    rollout_starts: Annotated[
      int, Option("states of D_env that rollouts are imagined from each time", low=1)
    ] = 256,
    rollout_schedule: Annotated[
      tuple[int, ...],
      Option("their model steps: from, to, growing between these two iterations", low=0),
    ] = (20, 20, 0, 1),
    eval_every: Annotated[int, Option("environment steps between evaluations", low=1)] = 1_000,
    eval_episodes: Annotated[
      int, Option("episodes of the deterministic policy in each evaluation", low=1)
    ] = 5,
    evaluation_environment: Annotated[
      str,
      Option(
        'evaluations have "own" ones, or that of the "training", whose episode is then cut off; '
        '"auto": own ones, if a second one can be open',
        choices=("auto", "own", "training"),
      ),
    ] = "auto",
    replay_on_resume: Annotated[
      bool,
      Option("repeat the episode under way by its actions; False, for hardware: begin a new one"),
    ] = True,
  ):
    """Gives the learner a D_model; nothing runs yet.

    Args:
      learner: what is trained.
      environment: what is learned in; of the learner's task.
      seed: of everything random but the learner's first weights.

    Raises:
      ValueError: for a value that makes no sense.
    """
    super().__init__()
    self.rounds = _rounds(steps_per_iteration, updates_per_step, rollout_frequency)
    _check_rollout_schedule(rollout_schedule)
    if learner.dynamics:
      learner.task.check_functions(learner.observation_size, learner.action_size)
      _check_random_steps(random_steps, learner.dynamics.ensemble_size)
    require(
      max(random_steps, steps_per_iteration) <= learner.env_buffer.capacity,
      f"Maac.env_capacity ({learner.env_buffer.capacity}) must hold Trainer.random_steps "
      f"({random_steps}) and Trainer.steps_per_iteration ({steps_per_iteration}).",
    )
    self.learner, self.environment = learner, environment
    self.imagined_data: ImaginedData | None = None
    if learner.imagines:
      assert learner.dynamics, "a learner that imagines has models"
      ensemble_size = learner.dynamics.ensemble_size
      most = self.rounds * (rollout_starts // ensemble_size * ensemble_size) * rollout_schedule[1]
      self.imagined_data = ImaginedData(learner, max(ensemble_size, min(most, MAX_MODEL_CAPACITY)))
    # The seed is the key, not the counter: streams of different seeds never overlap.
    self.generator = tf.random.Generator.from_key_counter(seed, [0, 0], "philox")
    self.iteration = tf.Variable(0, dtype=tf.int64, trainable=False)  # finished ones
    self.env_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
    self.best = BestPolicy(learner.network_variables())
    self._collector = Collector(
      environment, learner.env_buffer, episode_steps, self._next_seed, replay_on_resume
    )
    self.evaluator = Evaluator(
      learner, environment, evaluation_environment, eval_episodes, self._collector.cut_off
    )
    self._clock = _Clock()
    self.random_steps, self.initial_updates = random_steps, initial_updates
    self.steps_per_iteration, self.rollout_frequency = steps_per_iteration, rollout_frequency
    self.rollout_starts, self.rollout_schedule = rollout_starts, rollout_schedule
    self.eval_every = eval_every

  @property
  def initial_iterations(self) -> int:
    """How many iterations' updates come before the policy acts."""
    return math.ceil(self.initial_updates / (self.rollout_frequency * self.rounds))

  def begin(self, progress: Progress = _untold) -> dict[str, float | None]:
    """The random steps, and an evaluation of the policy before it learns.

    Returns:
      env_steps and the columns of an evaluation.

    Raises:
      ConfigError: when the random steps show that there is nothing to learn.
    """
    task, environment = self.learner.task, self.environment
    environment_check.warn(task, environment_check.of_resets(task, environment))
    with self._clock("collect"):
      self.collect(self.random_steps, random=True, progress=progress)
    steps = self.learner.env_buffer.newest(self.random_steps)
    found = environment_check.of_steps(task, environment.action_box, steps)
    environment_check.warn(task, found)
    with self._clock("evaluate"):
      progress("evaluation", 0.0)
      return {"env_steps": int(self.env_steps)} | self.evaluator.evaluate()

  def run_iteration(self, progress: Progress = _untold) -> dict[str, float | None]:
    """One pass of the loop of Algorithm 1; the first begins, where `begin` was not called.

    Args:
      progress: told of what goes on.

    Returns:
      The row of metrics; None where there was no evaluation.

    Raises:
      FloatingPointError: when a loss is no longer a finite number.
      ConfigError: when the random steps show that there is nothing to learn.
    """
    if self.env_steps == 0:
      self.begin(progress)
    if self.iteration == 0:
      self._learn_from_random_steps(progress)
    metrics: dict[str, float | None] = {}
    clock, phase = self._clock, f"iteration {int(self.iteration) + 1}"
    progress(phase, 0.0)
    with clock("collect"):  # line 3
      metrics["collect/return"] = self.collect(self.steps_per_iteration)
    metrics |= self.learn(clock, lambda share: progress(phase, share, share))
    self.iteration.assign_add(1)
    with clock("evaluate"):
      metrics |= self._evaluate_if_due(progress)
      again = self.evaluator.evaluate_again
      self.best.keep(metrics["eval/return"], int(self.env_steps), again)
    counters = {"env_steps": int(self.env_steps), "iteration": int(self.iteration)}
    self._clock = _Clock()
    return counters | metrics | self.best.metrics() | clock.seconds

  def _learn_from_random_steps(self, progress: Progress) -> None:
    iterations, phase = self.initial_iterations, "updates before the policy acts"
    for _ in range(iterations):
      progress(phase, 0.0)
      self.learn(self._clock, lambda share: progress(phase, share / iterations, share))

  def learn(self, clock: "_Clock", progress: Callable[[float], None]) -> dict[str, float]:
    """Lines 4-12: fits the models, then imagines and updates, `rounds` times."""
    learner, metrics, rows, imagined = self.learner, dict[str, float](), [], []
    learner.begin_iteration()
    if learner.dynamics_fit:
      with clock("fit"):  # lines 4-5
        metrics |= _numbers("model", learner.dynamics_fit.fit(self._next_seed()))
    progress(0.1)
    for _ in range(self.rounds):
      if learner.imagines:
        with clock("imagine"):  # line 7
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

  def collect(self, steps: int, random: bool = False, progress: Progress = _untold) -> float | None:
    """Line 3: `steps` steps of the real environment into D_env; its episode goes on.

    Returns:
      The mean return of the episodes that ended or were cut off, None where none did.
    """
    shape = [steps, self.learner.action_size]
    if random:
      noise = tf.random.stateless_uniform(shape, self._next_seed(), -1.0, 1.0).numpy()
      rows = _telling(progress, "random steps", noise)
      result = self._collector.collect(lambda _, action: action, rows)
    else:
      noise = tf.random.stateless_normal(shape, self._next_seed()).numpy()
      result = self._collector.collect(self.learner.actor_critic.policy.in_numpy(), noise)
    self.env_steps.assign_add(steps)
    return result

  def imagine(self) -> dict[str, float]:
    """Line 7: imagined rollouts from states of D_env into D_model."""
    assert self.imagined_data and self.learner.dynamics, "nothing uses imagined data"
    length, buffer = self.rollout_length(), self.imagined_data.buffer
    room = buffer.capacity // length
    ensemble_size = self.learner.dynamics.ensemble_size
    starts = max(1, min(self.rollout_starts, room) // ensemble_size) * ensemble_size
    buffer.window.assign(self.rounds * starts * length)  # the last rounds of the one before, too
    share = self.imagined_data.fill(starts, length, self._next_seed())
    return {"imagine/length": length, "imagine/terminated": float(share)}

  def update(self, progress: Callable[[float], None]) -> list[dict[str, float]]:
    """Lines 8-11: this round's share of the iteration's updates."""
    updates, rows = self.rollout_frequency, []
    calls = math.ceil(updates / MAX_UPDATES_PER_CALL)
    for i in range(calls):  # of one size, or two: each is compiled
      count = updates // calls + (i < updates % calls)
      rows.append(_numbers("", self.learner.train(count, self._next_seed())))
      progress(count / updates)
    return rows

  def rollout_length(self) -> int:
    """Of the imagined rollouts in the current iteration."""
    shortest, longest, first, last = self.rollout_schedule
    share = np.clip((int(self.iteration) - first) / (last - first), 0.0, 1.0)
    return int(shortest + share * (longest - shortest))

  def _evaluate_if_due(self, progress: Progress) -> Mapping[str, float | None]:
    steps = self.steps_per_iteration
    done = int(self.iteration) * steps
    if done // self.eval_every == (done - steps) // self.eval_every:
      return dict.fromkeys(COLUMNS)
    progress("evaluation", 0.0)
    return self.evaluator.evaluate()

  def _next_seed(self) -> tf.Tensor:
    """A fresh seed, [2] int64: all of a run's randomness is split off the one generator."""
    return self.generator.make_seeds(1)[:, 0]


def _rounds(steps_per_iteration: int, updates_per_step: float, rollout_frequency: int) -> int:
  """Times of imagining rollouts in an iteration."""
  updates = steps_per_iteration * updates_per_step
  rounds = round(updates / rollout_frequency)
  require(
    rounds and abs(rounds * rollout_frequency - updates) <= 1e-6,
    f"Trainer.updates_per_step ({updates_per_step}) makes {updates:g} updates an iteration, "
    f"which Trainer.rollout_frequency ({rollout_frequency}) must divide: change either.",
  )
  return rounds


def _check_rollout_schedule(schedule: Sequence[int]) -> None:
  require(
    len(schedule) == 4 and 1 <= schedule[0] <= schedule[1] and schedule[2] < schedule[3],
    "Trainer.rollout_schedule must be (from, to, first, last) with 1 <= from <= to and "
    f"first < last, not {schedule}.",
  )


def _check_random_steps(random_steps: int, ensemble_size: int) -> None:
  least = max(32, 2 * ensemble_size)
  require(
    random_steps >= least,
    f"Trainer.random_steps ({random_steps}) must be {least} or more, so that every member of "
    "the ensemble has transitions to train and to validate on.",
  )


def _telling(progress: Progress, phase: str, rows: np.ndarray) -> Iterator[np.ndarray]:
  """The rows, one after the other; `progress` is told of each that is done."""
  for row in rows:
    yield row
    progress(phase, 1.0 / len(rows))


def _numbers(prefix: str, tensors: dict[str, tf.Tensor]) -> dict[str, float]:
  prefix = prefix and prefix + "/"
  return {prefix + key: float(value) for key, value in tensors.items()}


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
  return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} if rows else {}


class _Clock:
  """Adds up wall-clock seconds by name."""

  def __init__(self) -> None:
    self.seconds = {
      f"seconds/{n}": 0.0 for n in ("collect", "fit", "imagine", "update", "evaluate")
    }

  @contextlib.contextmanager
  def __call__(self, name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    self.seconds[f"seconds/{name}"] += time.perf_counter() - start
