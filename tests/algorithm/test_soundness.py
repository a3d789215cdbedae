"""Numbers that go wrong, injected: each is named."""

import re

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.networks.guard import Guard
from tests.learners import ROLLOUT, SAC, SEED, eagerly, make_learner


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
    (ROLLOUT, _nan_in_one_critic, "models or critics: imagined return became nan"),
    (ROLLOUT, _nan_in_a_target_critic, "the critics' targets: mean became nan"),
    (ROLLOUT, _nan_in_the_policy, "the policy: entropy became nan"),
    (ROLLOUT, _inf_of_the_models, "models or critics: imagined return became (inf|nan)"),
    (SAC, _exploding_rewards, "the critics.*: .* became .*e[+].*, where the data allow"),
  ],
)
def test_each_is_named(setting, inject, name):
  learner = make_learner(*setting)

  def update():
    learner.updates(tf.nest.map_structure(lambda x: x[tf.newaxis], learner.draw(SEED)))

  with eagerly():
    update()
    assert learner.guard.take() is None
    inject(learner)
    update()
  what = learner.guard.take()
  assert re.match(name, what) and "\n" not in what
  assert learner.guard.take() is None  # it is forgotten


def test_so_is_the_loss_of_a_fit():
  learner = make_learner(*ROLLOUT)
  kernel = learner.dynamics._mlp.layers[0].kernel
  kernel.assign(tf.tensor_scatter_nd_update(kernel, [[2, 0, 0]], [np.nan]))
  with eagerly(), pytest.raises(FloatingPointError, match="the models: loss became nan"):
    learner.dynamics_fit.fit(SEED)


def test_the_first_of_several_updates_is_named():
  guard = Guard()
  guard.look({"a: b": (tf.constant([1.0, -2.0, 2.0]), 2.0), "c: d": (tf.zeros(3), 20.0)})
  assert guard.take() is None
  later = {"a: b": (tf.constant([1.0, 2.0, np.nan]), 2.0), "c: d": (tf.fill([3], -30.0), 20.0)}
  guard.look(later | {"c: d": (tf.constant([0.0, -30.0, np.inf]), 20.0)})
  assert guard.take() == "c: d became 30, where the data allow 20 at the most"
