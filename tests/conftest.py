"""Shared by all tests."""

import maac_tf  # noqa: F401  isort: skip  (first: it imports TensorFlow quietly)
import gin
import pytest

import maac_tf.runs.experiment  # noqa: F401  (TINY binds what it imports)

# A run that takes seconds, with every part of the algorithm in it.
TINY = (
  "Trainer.random_steps = 300",
  "Trainer.initial_updates = 0",
  "Trainer.rounds = 4",
  "Trainer.steps_per_iteration = 40",
  "Trainer.updates_per_step = 0.5",
  "Trainer.rollout_starts = 400",
  "Trainer.eval_every = 40",
  "Trainer.eval_episodes = 2",
  "Maac.batch_size = 32",
  "Maac.env_capacity = 2_000",
  "Maac.model_capacity = 4_000",
  "Maac.jit_compile = False",
  "Policy.hidden_units = (16, 16)",
  "Critic.hidden_units = (16, 16)",
  "Dynamics.hidden_units = (16, 16)",
  "Dynamics.ensemble_size = 4",
  "DynamicsFit.max_epochs = 3",
)


@pytest.fixture(autouse=True)
def clear_gin():
  yield
  gin.clear_config()


@pytest.fixture
def tiny():
  """Binds TINY."""
  gin.parse_config(TINY)
