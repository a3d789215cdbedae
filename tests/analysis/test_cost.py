"""The cost of a training, against what one does."""

import gin
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.analysis import cost
from maac_tf.runs import config
from maac_tf.runs.experiment import build_trainer
from maac_tf.tasks import environment_check
from tests.learners import eagerly

STEPPING, ACTING, FITTING, IMAGINING, UPDATING, SAVING = 0.5, 2.0, 3.0, 5.0, 7.0, 11.0
COMPILING = 100.0
SHORT = "Trainer.rollout_schedule = (1, 1, 0, 1)", "Maac.horizon = 1"


def _trainer(*bindings):
  gin.parse_config(["Trainer.random_steps = 600", "Trainer.eval_every = 80", *bindings])
  return build_trainer("pendulum")


def _measured(monkeypatch, trainer, iterations):
  """With the times above, in the order in which they are taken."""
  times = [
    ACTING - STEPPING,
    cost.FITTING_STEPS * FITTING,
    IMAGINING,
    cost.UPDATES * UPDATING,
    SAVING,
  ]
  times = iter(times if trainer.learner.dynamics else [times[0], *times[-2:]])
  monkeypatch.setattr(cost, "_seconds", lambda function: (COMPILING, next(times)))
  seen = environment_check.random_steps(trainer.environment, 50)
  seen = seen._replace(seconds=50 * STEPPING)
  max_batches = config.value("DynamicsFit.max_batches")
  return cost.measure(trainer, seen, 200, iterations, max_batches)


@pytest.mark.parametrize("model_free", [False, True])
def test_it_is_that_of_what_a_training_does(tiny, monkeypatch, model_free):
  options = ["Trainer.initial_updates = 30", "DynamicsFit.max_batches = 5", *SHORT]
  if model_free:
    options += ["Maac.horizon = 0", "Maac.real_fraction = 1.0"]
    options += ["Maac.critic_targets = @SteveTargets()", "SteveTargets.horizon = 0"]
    options += ["ActorCritic.bound_values = False"]
  trainer, iterations = _trainer(*options), 3
  found = _measured(monkeypatch, trainer, iterations)

  trainer, done = _trainer(*options), dict.fromkeys(("updates", "imagined", "evaluated"), 0)

  def count(name, by, result):
    def counted(*arguments):
      done[name] += by(*arguments)
      return result

    return counted

  trainer.learner.train = count("updates", lambda number, seed: number, {})
  trainer.learning.imagine = count("imagined", lambda iteration: 1, {})
  evaluation = dict.fromkeys(("eval/return", "eval/return_std", "eval/length"), 0.0)
  trainer.evaluator.evaluate = count("evaluated", lambda: 1, evaluation)
  trainer.evaluator.evaluate_again = lambda: np.zeros(1)
  with eagerly():
    for _ in range(iterations):
      trainer.run_iteration()
  batches = int(trainer.learner.dynamics_fit.steps) if trainer.learner.dynamics else 0
  assert done["updates"] == 40 + 20 * iterations and done["evaluated"] == 2
  assert batches == (0 if model_free else 2 * 6 + 2 * 6 + 6)  # epochs of 2 batches, then of 2
  total = (
    COMPILING * (1 if model_free else 3)
    + 600 * STEPPING
    + 40 * iterations * ACTING
    + iterations * SAVING
    + batches * FITTING
    + done["imagined"] * IMAGINING
    + done["updates"] * UPDATING
    + done["evaluated"] * 2 * 200 * ACTING
  )
  assert found.total == pytest.approx(total)
  assert found.env_steps == int(trainer.env_steps)
  whole = found.start + iterations * found.iteration + done["evaluated"] * found.evaluation
  assert whole == pytest.approx(total)


def test_the_environment_is_left_alone_and_memory_counts_the_buffer(tiny, monkeypatch):
  trainer = _trainer("Maac.env_capacity = 700", *SHORT)
  environment = trainer.environment
  seen = environment_check.random_steps(environment, 800)
  monkeypatch.setattr(environment, "step", None)
  monkeypatch.setattr(environment, "reset", None)
  with eagerly():
    found = cost.measure(trainer, seen, 200, 2, 3)
  assert 0 < found.start < found.total and 0.1 < found.memory < 100
  stored = trainer.learner.env_buffer
  assert stored.size == 700
  assert all(np.isfinite(v.numpy()).all() for v in trainer.learner.network_variables())
  assert tf.reduce_all(tf.math.is_finite(stored.newest(700).reward))
