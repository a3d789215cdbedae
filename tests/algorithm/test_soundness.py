"""Numbers that go wrong, injected: each is named."""

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm.updates import in_turn
from maac_tf.networks.guard import Guard
from tests.learners import ROLLOUT, SAC, SEED, make_learner


def _nan_in_one_critic(learner):
  kernel = learner.actor_critic.critic._mlp.layers[0].kernel
  kernel.assign(tf.tensor_scatter_nd_update(kernel, [[1, 3, 2]], [np.nan]))


def _nan_in_a_target_critic(learner):
  bias = learner.actor_critic.target_critic._mlp.layers[-1].bias
  bias.assign(np.nan * tf.ones_like(bias))


def _nan_in_the_policy(learner):
  bias = learner.actor_critic.policy._mlp.layers[0].bias
  bias.assign(np.nan * tf.ones_like(bias))


def _inf_of_the_models(learner):
  bias = learner.dynamics._mlp.layers[-1].bias
  bias.assign(np.inf * tf.ones_like(bias))


def _exploding_rewards(learner):
  rows = learner.env_buffer.newest(200)
  learner.env_buffer.add(rows._replace(reward=rows.reward * 1e7))


@pytest.mark.parametrize(
  ("setting", "inject", "name"),
  [
    (ROLLOUT, _nan_in_one_critic, "the critics: imagined return became nan"),
    (ROLLOUT, _nan_in_a_target_critic, "the critics' targets: mean became nan"),
    (ROLLOUT, _nan_in_the_policy, "the policy: log-probability became nan"),
    (ROLLOUT, _inf_of_the_models, "the models: imagined observations became (inf|nan)"),
    (SAC, _exploding_rewards, "D_env: rewards became .*e[+]06, where the data allow"),
  ],
)
def test_each_is_named(setting, inject, name):
  learner = make_learner(*setting)
  learner.update(learner.draw(SEED))
  learner.guard.stop_if_wrong()  # nothing is
  inject(learner)
  learner.update(learner.draw(SEED))
  with pytest.raises(FloatingPointError, match=name) as error:
    learner.guard.stop_if_wrong()
  assert "\n" not in str(error.value) and "start a run with other settings" in str(error.value)


@pytest.mark.parametrize("of", ["models", "batch"])
def test_so_is_that_of_a_fitting_step(of):
  learner = make_learner(*ROLLOUT)
  fit = learner.dynamics_fit
  rows = learner.env_buffer.gather(tf.reshape(tf.range(128), [4, 32]))
  fit.train_step(rows)
  fit.guard.stop_if_wrong()
  if of == "models":
    kernel = learner.dynamics._mlp.layers[0].kernel
    kernel.assign(tf.tensor_scatter_nd_update(kernel, [[2, 0, 0]], [np.nan]))
  else:
    rows = rows._replace(next_observation=rows.next_observation * np.inf)
  fit.train_step(rows)
  name = {"models": "the models: loss became nan", "batch": "D_env: what steps change became"}
  with pytest.raises(FloatingPointError, match=name[of]):
    fit.guard.stop_if_wrong()


def test_the_first_of_several_updates_is_named():
  guard = Guard()

  def update(number):
    guard.look({"a: b": (number, 2.0), "c: d": (10.0 * number, 20.0)})
    return {"loss": number}

  assert in_turn(update, tf.constant([1.0, -2.0, 1.0]))["loss"] == 0.0
  guard.stop_if_wrong()
  in_turn(update, tf.constant([1.0, -3.0, np.inf]))
  with pytest.raises(FloatingPointError, match="a: b became 3, where the data allow 2 at the most"):
    guard.stop_if_wrong()
