"""Numbers that go wrong, injected: each is named, and what they did is undone to the bit."""

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm.learning import _means
from maac_tf.algorithm.updates import in_turn
from maac_tf.networks.guard import IN_A_ROW, Guard
from tests.learners import ROLLOUT, SAC, SEED, make_learner


def _state(learner):
  """All that an update or a fitting step may change, as bytes."""
  parts = learner.actor_critic
  changed = [*parts.critic.variables, *parts.target_critic.variables, *parts.policy.variables]
  changed += [*parts.ema_policy.variables, *parts.variables, learner._log_temperature]
  for step in (learner._policy_step, learner._critic_step, learner._temperature_step):
    changed += step._optimizer.variables
  if learner.dynamics:
    fit = learner.dynamics_fit
    changed += [*learner.dynamics.variables, *fit._optimizer.variables, *fit._swapped]
  return [v.numpy().tobytes() for v in changed]


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
def test_each_is_named_and_changes_no_bit(setting, inject, name):
  learner = make_learner(*setting)
  learner.guard.stop_if_many(1)
  inject(learner)
  before = _state(learner)
  metrics = learner.update(learner.draw(SEED))
  assert _state(learner) == before
  assert all(np.isnan(value) for value in metrics.values()) and learner.guard.skipped == 1
  learner.guard.stop_if_many(100)  # one is no reason to stop
  learner.guard._in_a_row.assign(IN_A_ROW)
  with pytest.raises(FloatingPointError, match=name) as error:
    learner.guard.stop_if_many(100)
  assert "\n" not in str(error.value) and "start a run with other settings" in str(error.value)


def test_a_sound_update_is_kept_and_ends_the_row():
  learner = make_learner(*ROLLOUT)
  before = _state(learner)
  learner.guard._in_a_row.assign(IN_A_ROW - 1)
  metrics = learner.update(learner.draw(SEED))
  assert np.isfinite(list(metrics.values())).all() and _state(learner) != before
  assert learner.guard.skipped == 0
  learner.guard.stop_if_many(1)
  assert learner._critic_step.count == 1


@pytest.mark.parametrize("of", ["models", "batch"])
def test_a_fitting_step_that_goes_wrong_is_undone(of):
  learner = make_learner(*ROLLOUT)
  fit = learner.dynamics_fit
  rows = learner.env_buffer.gather(tf.reshape(tf.range(128), [4, 32]))
  if of == "models":
    _nan_in = learner.dynamics._mlp.layers[0].kernel
    _nan_in.assign(tf.tensor_scatter_nd_update(_nan_in, [[2, 0, 0]], [np.nan]))
  else:
    rows = rows._replace(next_observation=rows.next_observation * np.inf)
  before = _state(learner)
  assert fit.train_step(rows) == 0.0 and fit.report()["skipped"] == 1
  assert _state(learner) == before
  fit.guard._in_a_row.assign(IN_A_ROW)
  name = {"models": "the models: loss became nan", "batch": "D_env: what steps change became"}
  with pytest.raises(FloatingPointError, match=name[of]):
    fit.guard.stop_if_many(100)


def test_it_stops_after_so_many_in_a_row_or_a_share_of_an_iteration():
  weight = tf.Variable(0.0)
  guard = Guard([weight])

  def update(number):
    before = guard.before()
    weight.assign_add(1.0)
    return {"loss": tf.where(guard.keep_or_undo(before, {"a: b": (number, 2.0)}), number, np.nan)}

  def run(numbers):
    return in_turn(update, tf.constant(numbers))["loss"]

  assert run([1.0, np.inf, -2.0, 3.0]) == -0.5 and weight == 2.0  # the mean of those kept
  assert guard.skipped == 2
  run([3.0] * (IN_A_ROW - 3))
  guard.stop_if_many(20)
  run([3.0] * 2)
  with pytest.raises(FloatingPointError, match="a: b became 3, where the data allow 2 at the most"):
    guard.stop_if_many(1_000)
  run([1.0])
  guard.stop_if_many(1_000)
  with pytest.raises(FloatingPointError, match="11 updates of this iteration were skipped"):
    guard.stop_if_many(100)
  guard.begin()
  guard.stop_if_many(100)


def test_means_leave_out_calls_in_which_all_was_skipped():
  rows = [{"a": 1.0, "b": np.nan}, {"a": np.nan, "b": np.nan}, {"a": 3.0, "b": np.nan}]
  assert _means(rows) == {"a": 2.0, "b": None}
