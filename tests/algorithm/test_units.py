"""The units of a task change nothing: in powers of two, to the last bit."""

import dataclasses

import gin
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm.learner import Maac
from maac_tf.data.types import Transition
from maac_tf.tasks.registry import find_task
from tests.conftest import TINY
from tests.learners import ROLLOUT, SEED, eagerly, fill, values_of


def _learned(observation_unit, reward_unit, *bindings):
  """Weights after two updates on the same transitions in other units, and β."""
  gin.clear_config()
  gin.parse_config([*TINY, *ROLLOUT, "ActorCritic.normalize_rewards = True", *bindings])
  task = dataclasses.replace(find_task("pendulum"), reward_fn=None, termination_fn=None)
  learner = Maac(task, task.make_environment(), seed=0)
  add = learner.env_buffer.add

  def in_units(rows):
    state, after = (observation_unit * x for x in (rows.observation, rows.next_observation))
    ends = tf.cast(rows.reward > 1.5, tf.float32)
    reward = reward_unit * rows.reward
    add(Transition(state, rows.action, reward, after, ends))

  learner.env_buffer.add = in_units
  fill(learner)
  with eagerly():
    learner.dynamics_fit.fit(SEED)
    for i in range(2):
      learner.update(learner.draw(SEED + i))
  networks = learner.actor_critic.policy, learner.actor_critic.critic, learner.dynamics
  weights = [values_of(n.trainable_variables) for n in networks]
  return [w for ws in weights for w in ws], learner


@pytest.fixture(scope="module")
def in_its_units():
  return _learned(1.0, 1.0)[0]


@pytest.mark.parametrize("units", [(2.0**-20, 1.0), (1.0, 2.0**-10), (2.0**10, 2.0**17)])
def test_what_is_learned_is_the_same_in_other_units(in_its_units, units):
  got, learner = _learned(*units)
  want = in_its_units
  for a, b in zip(got, want, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  # Values are in the task's units.
  rows = learner.env_buffer.newest(50)
  assert learner.temperature.numpy() == pytest.approx(0.1 * units[1] * 0.93, rel=0.2)
  assert np.isfinite(learner.actor_critic.value(rows.observation, rows.action)).all()


def test_without_the_option_the_reward_has_its_units():
  _, learner = _learned(1.0, 2.0**10, "ActorCritic.normalize_rewards = False")
  assert learner.temperature.numpy() == pytest.approx(0.1, rel=0.01)
