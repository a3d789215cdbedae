"""What goes into D_model."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm.imagined_data import ImaginedData
from maac_tf.tasks.registry import make_task
from tests.learners import ROLLOUT, SEED, make_learner


def test_it_has_the_tasks_reward_and_goes_on_after_termination():
  task = dataclasses.replace(
    make_task("pendulum"), termination_fn=lambda s, a, after: after[..., 0] > 0
  )
  learner = make_learner(*ROLLOUT, task=task)
  data = ImaginedData(learner, 1_200)
  assert learner.model_buffer is data.buffer and data.buffer.capacity == 1_200
  share = data.fill(400, 3, SEED)
  stored = data.buffer.gather(tf.range(1_200))
  arguments = stored.observation, 2.0 * stored.action, stored.next_observation
  np.testing.assert_allclose(stored.reward, task.reward_fn(*arguments), rtol=1e-5)
  np.testing.assert_array_equal(stored.terminal, stored.next_observation[:, 0] > 0)
  assert 0.1 < share < 0.9 and float(share) == pytest.approx(stored.terminal.numpy().mean())
  # Nothing is imagined from beyond the end: each state is one of D_env's, or one reached alive.
  alive = stored.next_observation.numpy()[stored.terminal.numpy() == 0]
  known = np.concatenate([learner.env_buffer.gather(tf.range(200)).observation, alive])
  known = {row.tobytes() for row in known.astype(np.float32)}
  assert all(row.tobytes() in known for row in stored.observation.numpy())


def test_its_noise_is_that_of_the_models():
  """Every outcome is one that a member predicts, up to a normal noise of its own variance."""
  learner = make_learner(*ROLLOUT, "make_task.learn_reward = True")
  stored = learner.model_buffer.newest(40)
  inputs = (tf.tile(x[tf.newaxis], [4, 1, 1]) for x in (stored.observation, stored.action))
  gaussian = learner.dynamics(*inputs)
  error = (learner.dynamics.outcome(stored) - gaussian.mean()) / gaussian.stddev()
  nearest = np.abs(error).max(-1).min(0)  # over outputs, then members
  assert np.all(nearest < 4.0) and np.std(np.min(np.abs(error), 0)) > 0.1
