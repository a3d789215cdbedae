"""Shared by all tests."""

import os
import signal

# A test compiles for seconds what it then runs for milliseconds: XLA need not optimise it.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import maac_tf  # noqa: F401  isort: skip  (first: it imports TensorFlow quietly)
import gc
import math

import filelock
import gin
import pytest
import tensorflow as tf

import maac_tf.runs.experiment  # (TINY binds what it imports)
import maac_tf.runs.saved_model  # noqa: F401  (and the planner)
from maac_tf import checks
from maac_tf.runs import pauses
from tests import commands

commands.collect_less_garbage()
# As XLA above: most graphs run a few times.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

# As in a terminal: what a shell in the background has ignored, runs would ignore, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Of the package alone: examples and tests declare others.
OPTIONS = tuple(checks.options())

# A run that takes seconds, with every part of the algorithm in it.
TINY = (
  "Trainer.random_steps = 300",
  "Trainer.initial_updates = 0",
  "Trainer.steps_per_iteration = 40",
  "Trainer.updates_per_step = 0.5",
  "Trainer.rollout_frequency = 5",
  "Trainer.rollout_starts = 40",
  "Trainer.eval_every = 40",
  "Trainer.eval_episodes = 2",
  "Maac.batch_size = 32",
  "Maac.env_capacity = 2_000",
  "Maac.jit_compile = False",
  "ActorCritic.hidden_units = (16, 16)",
  "Dynamics.hidden_units = (16, 16)",
  "Dynamics.ensemble_size = 4",
  "DynamicsFit.max_batches = 3",
)

# One with an update an iteration and nothing to unroll, where what surrounds a run is the point.
BARE = (
  *TINY,
  "train.task = 'pendulum'",
  "Trainer.rollout_frequency = 1",
  "Trainer.updates_per_step = 0.025",
  "Trainer.rollout_schedule = (1, 1, 0, 1)",
  "Maac.horizon = 1",
  "Maac.discount = 0.97",  # after which the returns of an episode are known
  "Critic.num_critics = 2",
  "DynamicsFit.max_batches = 1",
)


@pytest.fixture(autouse=True)
def clear_gin():
  yield
  gin.clear_config()


@pytest.fixture(autouse=True, scope="module")
def collect_garbage():
  """Graphs refer to each other: without this, a worker holds gigabytes of them."""
  yield
  gc.collect()


@pytest.fixture(scope="session")
def original_run(tmp_path_factory):
  """The folder of a run of two iterations, BARE, which no test changes; one for all workers."""
  folder = tmp_path_factory.getbasetemp()
  if "PYTEST_XDIST_WORKER" in os.environ:
    folder = folder.parent
  path = folder / "original_run"
  with filelock.FileLock(folder / ".original_run"):
    if not path.exists():
      _train(path)
  return path


def _train(path):
  from tests.learners import eagerly  # which imports this module

  gin.parse_config(BARE)
  with eagerly(), pytest.MonkeyPatch.context() as patch:
    patch.setattr(pauses, "SAVE_EVERY", math.inf)
    assert maac_tf.runs.experiment.train(str(path), iterations=2) is None
  gin.clear_config()


@pytest.fixture
def tiny():
  """Binds TINY."""
  gin.parse_config(TINY)
