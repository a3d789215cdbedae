"""Updates on the two CPUs that a process has, and on one; `tests.test_replicas` runs it."""

import dataclasses
import json

import numpy as np
import tensorflow as tf

from maac_tf.runs import devices
from maac_tf.tasks.registry import make_task
from maac_tf.tasks.symmetries import Symmetry
from tests.learners import SEED, STEVE, make_learner

TINY_NETWORKS = "ActorCritic.hidden_units = (8,)", "Dynamics.hidden_units = (8,)"
SETTING = (
  "Maac.horizon = 1",
  "Dynamics.ensemble_size = 4",
  "Maac.batch_size = 16",
  "Maac.real_fraction = 0.5",
  "Critic.num_critics = 3",
  *TINY_NETWORKS,
)
MIRROR = Symmetry(lambda x: x * [1.0, -1.0, -1.0], lambda a: -a)
UPDATES, MEMBERS = 5, 4


def merged(shares):
  """The noise of a batch, for one device, of [R, ...] noises for its shares, in NumPy.

  Of a share, the real rows come before those of D_model; so they do in the batch.
  """
  count = len(shares.env_indices)
  real, imagined = shares.env_indices.shape[1], shares.model_indices.shape[1]
  rows = np.arange(count * (real + imagined)).reshape(count, -1)  # as they are concatenated
  order = np.concatenate([rows[:, :real].ravel(), rows[:, real:].ravel()])
  steps = shares.targets.real
  beside = np.arange(steps.indices.numpy().size).reshape(count, -1)
  later = merged_policy_noise(steps.later, beside, beside.ravel())
  noise = shares._replace(
    env_indices=shares.env_indices.numpy().ravel(),
    model_indices=shares.model_indices.numpy().ravel(),
    policy=merged_policy_noise(shares.policy, rows, order),
    targets=shares.targets._replace(
      real=steps._replace(indices=steps.indices.numpy().ravel(), later=later)
    ),
    critics=shares.critics[0],
  )
  return tf.nest.map_structure(tf.constant, noise)


def merged_policy_noise(noise, rows, order):
  """Of shares whose rows have these numbers [R, b], in a batch in this order, [R b]."""

  def batch(x):  # [R, n, b, ...] -> [n, R b, ...]
    return np.concatenate(list(x.numpy()), 1)[:, order]

  model_noise, permutations = noise.rollout.model
  place = np.argsort(order)[rows]  # of the shares' rows in the batch
  dealt = np.stack([p[x] for p, x in zip(place, permutations.numpy(), strict=True)])  # [R, H, b]
  shares, steps, size = dealt.shape
  dealt = dealt.reshape(shares, steps, MEMBERS, size // MEMBERS).transpose(1, 2, 0, 3)
  dealt = dealt.reshape(steps, shares * size).astype(np.int32)  # the members' turns, in each share
  rollout = noise.rollout._replace(
    action=batch(noise.rollout.action), model=(batch(model_noise), dealt)
  )
  return noise._replace(rollout=rollout, final_action=batch(noise.final_action))


def largest_difference(one, two):
  one, two = np.asarray(one, np.float64), np.asarray(two, np.float64)
  return float(np.max(np.abs(one - two)) / np.max(np.abs(one), initial=1e-30))


def go_back(learner, train):
  """Largest difference of what `train` updates from what it was, once it is assigned again."""
  variables = learner.updated_variables()
  before = [tf.identity(v) for v in variables]
  train()
  assert any(np.any(v.numpy() != x.numpy()) for v, x in zip(variables, before, strict=True))
  for variable, value in zip(variables, before, strict=True):
    variable.assign(value)
  pairs = [(x, copy) for v, x in zip(variables, before, strict=True) for copy in v.values]
  return max(largest_difference(*pair) for pair in pairs)


def steve(strategy):
  """Differences of two devices that have the same share from one that has it."""
  setting = (*STEVE, *TINY_NETWORKS)
  one = make_learner(*setting, "Maac.batch_size = 8")
  two = make_learner(*setting, "Maac.batch_size = 16", strategy=strategy)
  found, update = {}, tf.function(one.update, autograph=False)
  for i, seed in enumerate(tf.unstack(tf.random.split(SEED, UPDATES))):
    noise = one.draw(seed)
    want = update(noise)
    got = two.compiled_updates(tf.nest.map_structure(lambda x: tf.stack([x, x])[tf.newaxis], noise))
    found |= {f"STEVE, {name}, {i}": largest_difference(x, got[name]) for name, x in want.items()}
  return found


def main():
  """Prints the largest relative difference of each metric and weight, by name, as JSON."""
  task = dataclasses.replace(make_task("pendulum"), symmetries=(MIRROR,))
  one = make_learner(*SETTING, task=task)
  with devices.device("CPU") as strategy:
    two = make_learner(*SETTING, task=task, strategy=strategy)
  assert strategy.num_replicas_in_sync == 2 and two.batch_size == 8
  found, update = {}, tf.function(one.update, autograph=False)
  for i, seed in enumerate(tf.unstack(tf.random.split(SEED, UPDATES))):
    shares = two.draw(seed)
    got = two.compiled_updates(tf.nest.map_structure(lambda x: x[tf.newaxis], shares))
    want = update(merged(shares))
    found |= {f"{name}, {i}": largest_difference(x, got[name]) for name, x in want.items()}
  rng = np.random.default_rng(0)
  batch = one.env_buffer.gather(tf.constant(rng.integers(0, 200, [4, 32])))
  losses = one.dynamics_fit.train_step(batch), two.dynamics_fit._compiled_step(batch)
  found["model/train_loss"] = largest_difference(*losses)
  for a, b in zip(one.network_variables(), two.network_variables(), strict=True):
    first, second = b.values
    np.testing.assert_array_equal(first, second)
    found[f"weights, {b.name}, {len(found)}"] = largest_difference(a, b.numpy())
  again = tf.nest.map_structure(lambda x: x[tf.newaxis], two.draw(SEED))
  found["skipped"] = go_back(two, lambda: two.compiled_updates(again))
  found |= steve(strategy)
  print(json.dumps(found))
