"""What a training will cost: from a few updates and fitting steps of it, timed."""

import math
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from maac_tf.algorithm.trainer import Trainer
from maac_tf.runs import exports, room
from maac_tf.runs.saved_model import save_policy
from maac_tf.tasks.environment_check import Seen

SEED = (0, 0)
UPDATES, FITTING_STEPS = 5, 10  # in a call that is timed
TRAINING_SHARE = 0.9  # of D_env; the models are validated on the rest
GUESSED_EPOCHS = 20  # of a fit with early stopping, which no few steps tell


class Cost(NamedTuple):
  """Of a training, on this machine as it is now.

  Attributes:
    start: seconds before the policy acts: the random steps, what compiles, the first updates.
    iteration: seconds of one, without evaluations; the mean of all.
    evaluation: seconds of one.
    total: seconds of it all, but for writing checkpoints, which is up to the disk.
    processor: the share of a processor that this process had; less than 1 beside other programs.
    env_steps: in it.
    memory: GiB.
    checkpoint: GiB of one, after each iteration.
  """

  start: float
  iteration: float
  evaluation: float
  total: float
  processor: float
  env_steps: int
  memory: float
  checkpoint: float


def measure(
  trainer: Trainer, seen: Seen, episode_steps: int, iterations: int, max_batches: int | None
) -> Cost:
  """Times parts of a training, in about a minute; the environment is not stepped.

  Args:
    trainer: a new one, of which D_env gets the steps of `seen`.
    seen: random steps in its environment.
    episode_steps: of an evaluation.
    iterations: of the training.
    max_batches: of a fit of the models; None: early stopping.
  """
  clock, processor = time.perf_counter(), time.process_time()
  learner, fit = trainer.learner, trainer.learner.dynamics_fit
  count = min(len(seen.steps.reward), learner.env_buffer.capacity)
  learner.env_buffer.add(type(seen.steps)(*(tf.constant(x[:count]) for x in seen.steps)))
  learner.begin_iteration()
  act, observation = learner.actor_critic.policy.in_numpy(), seen.steps.observation[0]
  stepping = seen.seconds / len(seen.steps.reward)
  acting = stepping + _seconds(lambda: act(observation, 0.0))[1]
  compiling = imagining = fitting = 0.0
  if learner.dynamics and fit:
    learner.dynamics.set_normalizer(fit.statistics.now())
    step = tf.function(fit.train_step, autograph=False, jit_compile=learner.jit_compile or None)
    rows = tf.zeros([learner.dynamics.ensemble_size, fit.batch_size], tf.int32)
    batch = learner.env_buffer.gather(rows)
    first, seconds = _seconds(lambda: [step(batch).numpy() for _ in range(FITTING_STEPS)])
    compiling, fitting = compiling + first, seconds / FITTING_STEPS
  if learner.imagines:
    first, imagining = _seconds(lambda: trainer.learning.imagine(0))
    compiling += first
  first, seconds = _seconds(lambda: learner.train(UPDATES, SEED)["critic/loss"].numpy())
  compiling, updating = compiling + first, seconds / UPDATES
  with tempfile.TemporaryDirectory() as folder:
    paths = [os.path.join(folder, name) for name in "ab"]
    save_policy(learner, paths[0], {})
    saving = _seconds(lambda: _export(trainer, *paths))[1]
  share = (time.process_time() - processor) / (time.perf_counter() - clock)

  def learn(env_steps: int) -> float:
    rounds = trainer.learning.rounds
    seconds = rounds * (imagining + trainer.learning.rollout_frequency * updating)
    if fit:
      seconds += fitting * _batches(min(env_steps, learner.env_buffer.capacity), max_batches)
    return seconds

  begun, each = trainer.random_steps, trainer.steps_per_iteration
  before = trainer.initial_iterations
  start = begun * stepping + compiling + before * learn(begun)
  steps = [begun + each * (i + 1) for i in range(iterations)]
  learning = sum(map(learn, steps)) + iterations * (each * acting + saving)
  evaluation = trainer.evaluator.episodes * episode_steps * acting
  evaluations = 1 + iterations * each // trainer.eval_every
  total = start + learning + evaluations * evaluation
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  checkpoint = room.of(trainer, iterations).checkpoint / 2**30
  return Cost(start, learning / iterations, evaluation, total, share, steps[-1], memory, checkpoint)


def _export(trainer: Trainer, before: str, path: str) -> None:
  """What a run does after each iteration."""
  shutil.rmtree(path, ignore_errors=True)
  save_policy(trainer.learner, path, exports.metadata(trainer, is_best=False), before)


def _batches(transitions: int, max_batches: int | None) -> int:
  """Of a fit, which are whole epochs."""
  epoch = max(1, int(TRAINING_SHARE * transitions) // 256)
  if max_batches is None:
    return GUESSED_EPOCHS * epoch
  epoch = min(epoch, max_batches)
  return math.ceil(max_batches / epoch) * epoch


def _seconds(function: Callable[[], object]) -> tuple[float, float]:
  """Of the first call, which compiles, and of the next."""
  start = time.perf_counter()
  function()
  middle = time.perf_counter()
  function()
  return middle - start, time.perf_counter() - middle
