"""Algorithm 1: collect, fit, imagine, update; and what is evaluated and kept between."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Protocol

import numpy as np
import tensorflow as tf

from maac_tf.algorithm.best_policy import BestPolicy
from maac_tf.algorithm.evaluator import COLUMNS, Evaluator
from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.learning import Learning, UnderWay
from maac_tf.checks import ConfigError, Option, configurable, require
from maac_tf.data.collector import Collector, Environments, Single
from maac_tf.data.types import ROUNDING
from maac_tf.tasks import environment_check
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.parallel import ParallelEnvironment

# Random steps in one go, at the most: a checkpoint is between two.
MAX_RANDOM_STEPS = 1_000


class Progress(Protocol):
  """What is told of a training as it goes on."""

  def __call__(self, phase: str, share: float, work: float = 0.0) -> None:
    """Since the last call were done `share` of the phase and `work`, in iterations' updates."""


def _untold(phase: str, share: float, work: float = 0.0) -> None:
  del phase, share, work


def _nothing() -> None:
  pass


@configurable
class Trainer(tf.Module):
  """The state of a run and the lines of Algorithm 1, one method each.

  Attributes:
    learner: what is trained.
    iteration, env_steps: how many there were.
    under_way: how far the next iteration is.
    collector: steps the environment.
    learning: lines 4-12.
    best: the networks of the best evaluation.
    evaluator: runs evaluations.
    offline: whether iterations take no environment steps; see `go_offline`.
    pause: called where all that the rest of the run needs is in variables, in `under_way` and in
      the real steps taken so far; what it raises ends the run.
  """

  def __init__(
    self,
    learner: Maac,
    environment: Environment,
    seed: int = 0,
    *,
    random_steps: Annotated[
      int,
      Option(
        "environment steps of uniformly random actions, before the first fit; less by the steps of "
        "a dataset",
        low=1,
      ),
    ] = 2_000,
    initial_updates: Annotated[
      int,
      Option("gradient updates on these, before the policy acts; in whole iterations", low=0),
    ] = 2_000,
    steps_per_iteration: Annotated[int, Option("environment steps", low=1)] = 250,
    cut_off_episodes: Annotated[
      bool,
      Option(
        "cut off a training episode where its last 100 rewards are less, in the mean, than those "
        "of D_env; a random one after 100 steps"
      ),
    ] = True,
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
      Option(
        "repeat the episode under way by its actions, and steps after the checkpoint; False, for "
        "hardware: begin a new episode, and keep these steps"
      ),
    ] = True,
  ):
    """Gives the learner a D_model; nothing runs yet.

    Args:
      learner: what is trained.
      environment: what is learned in, or a `ParallelEnvironment`; of the learner's task.
      seed: of everything random but the learner's first weights.

    Raises:
      ValueError: for a value that makes no sense.
    """
    super().__init__()
    rounds = _rounds(steps_per_iteration, updates_per_step, rollout_frequency)
    if learner.dynamics:
      learner.task.check_functions(learner.observation_size, learner.action_size)
      _check_random_steps(random_steps, learner.dynamics.ensemble_size)
    environments: Environments = Single(environment)
    if isinstance(environment, ParallelEnvironment):
      environments = environment
    require(
      max(random_steps, steps_per_iteration) + environments.count - 1
      <= learner.env_buffer.capacity,
      f"Maac.env_capacity ({learner.env_buffer.capacity}) must hold Trainer.random_steps "
      f"({random_steps}) and Trainer.steps_per_iteration ({steps_per_iteration}).",
    )
    self.learner, self.environment = learner, environment
    # The seed is the key, not the counter: streams of different seeds never overlap.
    self.generator = tf.random.Generator.from_key_counter(seed, [0, 0], "philox")
    self.iteration = tf.Variable(0, dtype=tf.int64, trainable=False)  # finished ones
    self.env_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
    self.best = BestPolicy(learner.network_variables())
    self.learning = Learning(
      learner, rounds, rollout_frequency, rollout_starts, rollout_schedule, self._next_seed
    )
    self.collector = Collector(environments, learner.env_buffer, self._next_seed, replay_on_resume)
    self.evaluator = Evaluator(
      learner, environment, evaluation_environment, eval_episodes, self.collector.cut_off
    )
    self.under_way, self.pause, self.offline = UnderWay(), _nothing, False
    self.random_steps, self.initial_updates = random_steps, initial_updates
    self.cut_off_episodes = cut_off_episodes
    self.steps_per_iteration, self.eval_every = steps_per_iteration, eval_every

  @property
  def first_steps(self) -> int:
    """Environment steps before the first fit: the random steps, less those that were logged."""
    logged = int(self.learner.env_buffer.added - self.env_steps)
    return max(0, self.random_steps - logged)

  @property
  def initial_iterations(self) -> int:
    """How many iterations' updates come before the policy acts."""
    return math.ceil(
      self.initial_updates / (self.learning.rollout_frequency * self.learning.rounds)
    )

  def go_offline(self) -> None:
    """From now on, iterations learn from the steps that D_env has, and take none.

    Raises:
      ConfigError: when they are fewer than the random steps.
    """
    left = self.first_steps - int(self.env_steps)
    if left > 0:
      raise ConfigError(
        f"To learn offline, D_env needs Trainer.random_steps ({self.random_steps}) steps, of which "
        f"{left} are missing: give a --dataset that has them, or lower that option."
      )
    self.offline = True

  def begin(self, progress: Progress = _untold) -> dict[str, float | None]:
    """The random steps, or what is left of them, and an evaluation before the first update.

    Returns:
      env_steps and the columns of an evaluation.

    Raises:
      ConfigError: when the random steps show that there is nothing to learn.
    """
    task, environment = self.learner.task, self.environment
    if not self.env_steps:
      environment_check.warn(task, environment_check.of_resets(task, environment))
    while self.env_steps < self.first_steps:
      left = self.first_steps - int(self.env_steps)
      with self.under_way.clock("collect"):
        self.collect(min(left, MAX_RANDOM_STEPS), random=True, progress=progress)
      self.pause()
    steps = self.learner.env_buffer.newest(self.random_steps)
    found = environment_check.of_steps(task, environment.action_box, steps)
    environment_check.warn(task, found)
    with self.under_way.clock("evaluate"):
      progress("evaluation", 0.0)
      evaluation = self.evaluator.evaluate()
    self.under_way.begun = True
    return {"env_steps": int(self.env_steps)} | evaluation

  def run_iteration(self, progress: Progress = _untold) -> dict[str, float | None]:
    """One pass of the loop of Algorithm 1, or what is left of it; begins where it has not begun.

    Args:
      progress: told of what goes on.

    Returns:
      The row of metrics; None where there was no evaluation.

    Raises:
      FloatingPointError: when numbers went wrong (`Learning.run`).
      ConfigError: when the random steps show that there is nothing to learn.
    """
    now = self.under_way
    if not now.begun:
      self.begin(progress)
    self._learn_from_random_steps(progress)
    phase = f"iteration {int(self.iteration) + 1}"
    progress(phase, 0.0)
    if "collect/return" not in now.row:
      now.offline += self.offline
      with now.clock("collect"):  # line 3
        now.row["collect/return"] = self._collect_what_is_due()
      self.pause()
    now.row |= self._learn(lambda share: progress(phase, share, share))
    self.iteration.assign_add(1)
    with now.clock("evaluate"):
      now.row |= self._evaluate_if_due(progress)
      again = self.evaluator.evaluate_again
      self.best.keep(now.row["eval/return"], int(self.env_steps), again)
    counters = {"env_steps": int(self.env_steps), "iteration": int(self.iteration)}
    row, seconds = now.end_iteration()
    return counters | row | self.best.metrics() | seconds

  def _learn_from_random_steps(self, progress: Progress) -> None:
    iterations, phase = self.initial_iterations, "updates before the policy acts"
    while self.under_way.initial_passes < iterations:
      progress(phase, 0.0)
      self._learn(lambda share: progress(phase, share / iterations, share))
      self.under_way.initial_passes += 1

  def _learn(self, progress: Callable[[float], None]) -> dict[str, float]:
    return self.learning.run(int(self.iteration), self.under_way, progress, self.pause)

  def _collect_what_is_due(self) -> float | None:
    """Less than an iteration's steps where a robot took some of them before a restart, or all."""
    iterations = int(self.iteration) + 1 - self.under_way.offline
    due = self.first_steps + iterations * self.steps_per_iteration
    left = due - int(self.env_steps)
    return self.collect(left) if left > 0 else None

  def collect(self, steps: int, random: bool = False, progress: Progress = _untold) -> float | None:
    """Line 3: `steps` real steps into D_env, or up to E - 1 more, as many of each environment.

    Returns:
      The mean return of the episodes that ended or were cut off, None where none did.
    """
    count = self.collector.environments.count
    steps = -(-steps // count) * count
    shape = [steps, self.learner.action_size]
    least = self._least_reward(random) if self.cut_off_episodes else -math.inf
    if random:
      noise = tf.random.stateless_uniform(shape, self._next_seed(), -1.0, 1.0).numpy()
      rows = _telling(progress, "random steps", noise, self.first_steps)
      result = self.collector.collect(lambda _, action: action, rows, least)
    else:
      noise = tf.random.stateless_normal(shape, self._next_seed()).numpy()
      act = self.learner.actor_critic.policy.in_numpy()
      result = self.collector.collect(act, noise, least)
    self.env_steps.assign_add(steps)
    return result

  def _least_reward(self, random: bool) -> float | np.ndarray:
    """What an episode must earn to go on: what others did in as many steps. Random ones do not.

    A robot that lies where it fell would fill D_env, with little of how it fails late in an
    episode. One that starts from rest earns less than one that runs: beside the mean of all steps
    each start would be cut off, and nothing learned of what comes after.
    """
    if random:
      return math.inf
    usual = self.collector.usual_rewards()
    return usual - ROUNDING * np.abs(usual)  # a reward that never changes is not less than itself

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


def _check_random_steps(random_steps: int, ensemble_size: int) -> None:
  least = max(32, 2 * ensemble_size)
  require(
    random_steps >= least,
    f"Trainer.random_steps ({random_steps}) must be {least} or more, so that every member of "
    "the ensemble has transitions to train and to validate on.",
  )


def _telling(progress: Progress, phase: str, rows: np.ndarray, of: int) -> Iterator[np.ndarray]:
  """The rows, one after the other; `progress` is told of each that is done, out of so many."""
  for row in rows:
    yield row
    progress(phase, 1.0 / of)
