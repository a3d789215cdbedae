"""Averages, normalisers and bounds of policy and critics, by their formulas."""

import dataclasses

import gin
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.data.statistics import statistics_of
from maac_tf.data.types import Transition
from maac_tf.networks.actor_critic import ActorCritic
from maac_tf.networks.value_range import RATE, ValueRange
from maac_tf.tasks.coordinates import PLAIN, sine_and_cosine
from maac_tf.tasks.registry import make_task
from tests.learners import ROLLOUT, SEED, make_learner, targets, values_of


def _make(num_critics=5, coordinates=PLAIN, **options):
  gin.bind_parameter("Critic.num_critics", num_critics)
  return ActorCritic(3, 2, coordinates, 0.9, (1, 2), hidden_units=(16, 16), **options)


def _data():
  rng = np.random.default_rng(0)
  observation, action = rng.normal(2.0, 3.0, [200, 3]), rng.uniform(-1, 1, [200, 2])
  return (tf.constant(x, tf.float32) for x in (observation, action, rng.normal(size=200)))


def _fit(parts, observation, reward):
  rows = Transition(observation, None, reward, None, None)
  parts.fit_normalizers(statistics_of(parts.columns(rows)), reward)


def _shake(variables, seed):
  rng = np.random.default_rng(seed)
  for variable in variables:
    variable.assign_add(tf.constant(0.1 * rng.normal(size=variable.shape), tf.float32))


def test_targets_follow_the_critics_by_polyak_averaging():
  parts = _make(polyak_decay=0.75)
  _shake(parts.critic.trainable_variables, 0)
  before = values_of(parts.target_critic.trainable_variables)
  parts.update_averages(tf.constant(1))
  networks = parts.target_critic, parts.critic
  for old, new, source in zip(before, *(n.trainable_variables for n in networks), strict=True):
    np.testing.assert_allclose(new, 0.75 * old + 0.25 * source.numpy(), atol=1e-6)


@pytest.mark.parametrize("most", [0, 0.2, 0.75])
def test_the_ema_policy_is_of_a_share_of_the_updates(most):
  parts = _make(ema_decay=most)
  average = values_of(parts.ema_policy.trainable_variables)
  for updates in (1, 2, 3):
    _shake(parts.policy.trainable_variables, updates)
    parts.update_averages(tf.constant(updates))
    policy = values_of(parts.policy.trainable_variables)
    decay = min(most, (1 + updates) / (10 + updates))  # 0.18, 0.25, 0.31 where nothing limits it
    average = [decay * a + (1 - decay) * p for a, p in zip(average, policy, strict=True)]
  got = values_of(parts.ema_policy.trainable_variables)
  for a, b in zip(got, average, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
  assert most or all(map(np.array_equal, got, policy))


@pytest.mark.parametrize("coordinates", [PLAIN, sine_and_cosine(2)], ids=["plain", "own"])
def test_normalisers_have_the_statistics_of_the_features(coordinates):
  parts, (observation, _, reward) = _make(coordinates=coordinates), _data()
  _fit(parts, observation, reward)
  features = np.array(coordinates.features(observation))
  for network in parts.networks:
    np.testing.assert_allclose(network.normalizer.mean, features.mean(0), atol=1e-5)
    np.testing.assert_allclose(network.normalizer.scale, features.std(0), rtol=1e-4)


def test_normalised_networks_are_the_plain_ones_on_normalised_observations():
  normalising, plain = (
    _make(bound_values=False, normalize_observations=switch) for switch in (True, False)
  )
  observation, action, reward = _data()
  for parts in (normalising, plain):
    _fit(parts, observation, reward)
  normaliser = normalising.policy.normalizer
  normalised = (observation - normaliser.mean) / normaliser.scale
  for network in ("policy", "critic"):
    call = {"policy": "act", "critic": "__call__"}[network]
    got, want = (
      getattr(getattr(parts, network), call)(x, action)
      for parts, x in ((normalising, observation), (plain, normalised))
    )
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(want), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_policys_value_is_the_mean_of_many_critics_and_the_less_of_two():
  observation, action, _ = _data()
  for num_critics, reduce in ((1, np.min), (2, np.min), (3, np.mean), (5, np.mean)):
    parts = _make(num_critics, bound_values=False)
    values = parts.critic(observation, action).numpy()
    assert len(values) == num_critics
    np.testing.assert_allclose(
      parts.value(observation, action), reduce(values, 0), rtol=1e-5, atol=1e-6
    )


def test_target_values_are_of_the_critics_that_are_asked_for():
  observation, action, _ = _data()
  parts = _make(5, bound_values=False)
  assert parts.draws_critics
  values = parts.target_critic(observation, action).numpy()
  some = parts.target_values(tf.constant([3, 1]))(observation, action)
  np.testing.assert_allclose(some, values[[3, 1]], rtol=1e-6)
  parts = _make(2, bound_values=False)  # then always both
  assert not parts.draws_critics
  both = parts.target_critic(observation, action)
  np.testing.assert_array_equal(parts.target_values(())(observation, action), both)


def test_unbounded_critics_start_apart_and_bounded_ones_from_zero():
  observation, action, reward = _data()
  for bound_values in (False, True):
    parts = _make(bound_values=bound_values)
    _fit(parts, observation, reward)
    for critic in (parts.critic, parts.target_critic):
      assert np.any(critic(observation, action)) != bound_values
    assert bool(parts.value_range) == bound_values


def test_values_are_bounded_by_the_rewards_seen():
  learner = make_learner(*ROLLOUT, "Maac.discount = 0.9")
  parts = learner.actor_critic
  rewards = learner.env_buffer.gather(tf.range(200)).reward.numpy()
  low, high = np.sort(rewards)[[2, 197]]  # 1 % and 99 % of 200
  np.testing.assert_allclose(parts.value_range.reward_quantiles, [low, high], rtol=1e-5)
  usual, rare = high - low, (rewards.max() - high) + (low - rewards.min())
  assert rare > 0
  width = 10 * usual + rare / (1 - 0.9**100)
  assert parts.critic.scale.numpy() == pytest.approx(width, rel=1e-5)
  assert parts.target_critic.scale.numpy() == parts.critic.scale.numpy()
  learner.discount, learner._log_temperature = 1.0, tf.constant(-np.inf)  # targets are plain sums
  noise = learner.draw(SEED)
  bias = parts.target_critic._mlp.layers[-1].bias
  bounds = [
    10 * b + (e - b) / (1 - 0.9**100) for b, e in ((low, rewards.min()), (high, rewards.max()))
  ]
  for value, bound in zip(((1e3, -1e3, -1e3), (1e3, 1e3, 1e3)), bounds, strict=True):
    bias.assign(tf.reshape(tf.constant(value), bias.shape))
    regression, _, path = targets(learner, noise)
    rewards = np.sum(path.trajectory.reward, 0)
    found = regression.targets[: len(rewards)] - rewards  # the others begin with a real step
    np.testing.assert_allclose(found, bound, rtol=1e-4)


def test_the_bounds_follow_the_soft_rewards():
  learner = make_learner(*ROLLOUT)
  value_range, noise = learner.actor_critic.value_range, learner.draw(SEED)
  before = value_range.reward_quantiles.numpy()
  trajectory = targets(learner, noise)[2].trajectory
  soft = trajectory.reward[0] - learner.temperature * trajectory.log_prob[0]
  quantiles = np.percentile(soft, [1, 99], method="nearest")
  learner.update(noise)
  want = before + RATE * (quantiles - before)
  np.testing.assert_allclose(value_range.reward_quantiles, want, rtol=1e-4)
  rewards = learner.env_buffer.gather(tf.range(200)).reward.numpy()
  rare = max(rewards.max() - want[1], 0) - min(rewards.min() - want[0], 0)  # want holds 0
  width = (want[1] - want[0]) / (1 - learner.discount) + rare / (1 - learner.discount**100)
  assert learner.actor_critic.critic.scale.numpy() == pytest.approx(width, rel=1e-4)


def test_an_iteration_begins_with_new_statistics():
  task = dataclasses.replace(make_task("pendulum"), coordinates=sine_and_cosine(2))
  learner = make_learner(*ROLLOUT, task=task)
  seen = learner.env_buffer.gather(tf.range(200)).observation
  learner.env_buffer.add(learner.env_buffer.newest(100)._replace(observation=5.0 + seen[:100]))
  learner.begin_iteration()
  features = task.coordinates.features(tf.concat([seen, 5.0 + seen[:100]], 0)).numpy()
  for network in learner.actor_critic.networks:
    np.testing.assert_allclose(network.normalizer.mean, features.mean(0), atol=1e-5)
    np.testing.assert_allclose(network.normalizer.scale, features.std(0), rtol=1e-4)


def test_a_reward_at_the_goal_alone_is_within_the_bounds():
  """One reward in a thousand steps: as valued by who reaches the goal a hundred steps later."""
  value_range = ValueRange(discount=0.99)
  value_range.see(-0.1, 100.0, tf.constant([-0.1] * 999 + [100.0]))
  low, high = (float(x) for x in value_range.bounds())
  assert low == pytest.approx(-10.0, rel=1e-4)
  assert 0.99**100 * 100.0 - 10.0 < 100.0 < high < 200.0
