"""The compiled training step, and the settings that there are not."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.tasks.coordinates import PLAIN, sine_and_cosine
from maac_tf.tasks.registry import make_task
from maac_tf.tasks.symmetries import Symmetry
from tests.learners import ROLLOUT, SAC, SEED, STEVE, TD, eagerly, make_learner, values_of


@pytest.mark.parametrize(
  "bindings",
  [
    (*STEVE, "Maac.horizon = 1", "SteveTargets.horizon = 1"),
    ROLLOUT,
  ],
  ids=["steve", "rollouts"],
)
def test_xla_and_plain_updates_agree(bindings):
  plain, xla = make_learner(*bindings), make_learner(*bindings, "Maac.jit_compile = True")
  draws = [plain.draw(seed) for seed in tf.random.split(SEED, 2)]
  noise = tf.nest.map_structure(lambda *x: tf.stack(x), *draws)
  for _ in range(2):
    got = xla.compiled_updates(noise)
    with eagerly():
      want = plain.updates(noise)
  for name in want:
    np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-5, err_msg=name)
  for a, b in zip(xla.network_variables(), plain.network_variables(), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5, err_msg=a.name)


def test_compiled_updates_run_in_the_loop_of_a_call():
  learner = make_learner(*SAC, "Maac.jit_compile = True")
  variables = learner.updated_variables()
  read, before = [tf.identity(v) for v in variables], values_of(variables)
  assert np.isfinite(learner.train(2, SEED)["critic/loss"])
  # What was read before a call, to go back to, is not what XLA writes into.
  assert all(map(np.array_equal, read, before))
  assert not all(map(np.array_equal, values_of(variables), before))


@pytest.mark.parametrize("bindings", [STEVE, ROLLOUT], ids=["steve", "rollouts"])
def test_each_loss_moves_its_own_network_only(bindings):
  def moved(still):
    """What two updates move, with a learning rate of 0 for one of the networks."""
    learner = make_learner(*bindings)
    for name in (still, "temperature"):
      getattr(learner, f"_{name}_step")._optimizer.learning_rate.assign(0.0)
    parts = learner.actor_critic
    networks = {name: getattr(parts, name) for name in ("policy", "critic", "target_critic")}
    networks["dynamics"] = learner.dynamics
    before = {name: values_of(n.trainable_variables) for name, n in networks.items()}
    for seed in tf.random.split(SEED, 2):
      learner.update(learner.draw(seed))
    return {
      name
      for name, network in networks.items()
      if not all(map(np.array_equal, before[name], values_of(network.trainable_variables)))
    }

  assert moved(still="critic") == {"policy"}
  assert moved(still="policy") == {"critic", "target_critic"}


def test_policy_and_critics_have_the_learning_rate_and_the_temperature_its_own():
  """A first step of Adam is the learning rate, whatever the gradient."""
  learner = make_learner(*SAC, "Maac.learning_rate = 2e-3", "Maac.temperature_learning_rate = 5e-4")
  networks = learner.actor_critic.policy, learner.actor_critic.critic
  watched = [*(n.trainable_variables[0].value for n in networks), learner._log_temperature]
  before = values_of(watched)
  learner.update(learner.draw(SEED))
  steps = [np.abs(new - old).max() for new, old in zip(values_of(watched), before, strict=True)]
  np.testing.assert_allclose(steps, [2e-3, 2e-3, 5e-4], rtol=1e-2)


def test_one_call_of_train_is_as_many_updates():
  together, apart = (make_learner(*SAC, "ActorCritic.ema_decay = 0.27") for _ in range(2))
  mean = together.train(3, SEED)
  losses = [apart.update(apart.draw(seed))["critic/loss"] for seed in tf.random.split(SEED, 3)]
  assert mean["critic/loss"].numpy() == pytest.approx(np.mean(losses), rel=1e-5)
  for a, b in zip(together.network_variables(), apart.network_variables(), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
  assert together.train.experimental_get_tracing_count() == 1
  together.train(3, SEED)
  assert together.train.experimental_get_tracing_count() == 1


def test_a_learned_reward_is_what_the_models_predict():
  learner = make_learner(*ROLLOUT, "make_task.learn_reward = True")
  assert learner.dynamics.outcome_size == 4
  observation, action = tf.ones([8, 3]), tf.zeros([8, 1])
  noise = tf.random.stateless_normal([8, 4], [1, 2]), tf.range(8)
  after, reward, _ = learner.model_env.random_member(observation, action, noise)
  predicted = learner.dynamics.sample(
    *(tf.reshape(x, [4, 2, -1]) for x in (observation, action, noise[0]))
  )
  predicted = tf.reshape(predicted, [8, 4])
  np.testing.assert_allclose(after, observation + predicted[:, :3], rtol=1e-5)
  np.testing.assert_allclose(reward, predicted[:, 3], rtol=1e-5)
  assert np.isfinite(learner.update(learner.draw(SEED))["critic/loss"])


def test_without_a_reward_function_the_reward_is_learned():
  task = dataclasses.replace(make_task("pendulum"), reward_fn=None)
  assert make_learner(*ROLLOUT, task=task).dynamics.predicts_reward
  assert not make_learner(*ROLLOUT).dynamics.predicts_reward


@pytest.mark.parametrize("coordinates", [PLAIN, sine_and_cosine(2)], ids=["plain", "own"])
def test_networks_have_the_coordinates_of_the_task(coordinates):
  task = dataclasses.replace(make_task("pendulum"), coordinates=coordinates)
  learner = make_learner(*ROLLOUT, task=task)
  for network in (learner.dynamics, *learner.actor_critic.networks):
    assert network.coordinates == coordinates
  assert np.isfinite(learner.update(learner.draw(SEED))["critic/loss"])
  stored = learner.model_buffer.newest(40)
  assert stored.next_observation.shape == (40, 3) and np.isfinite(stored.next_observation).all()


def test_models_learn_the_images_of_the_task():
  """Of actions in the networks' units, where those of this task are twice as large."""
  shifted = Symmetry(tf.negative, lambda u: u + 1.0)
  task = dataclasses.replace(make_task("pendulum"), symmetries=(shifted,))
  (symmetry,) = make_learner(*ROLLOUT, task=task).dynamics_fit.symmetries
  np.testing.assert_allclose(symmetry.action(tf.constant([[-0.5]])), [[0.0]])
  assert not make_learner(*ROLLOUT).dynamics_fit.symmetries


def test_draws_are_fresh_and_reproducible():
  learner = make_learner(*ROLLOUT, "Critic.num_critics = 8")
  first, again, other = (learner.draw(tf.random.fold_in(SEED, i)) for i in (0, 0, 1))
  for a, b, c in zip(*map(tf.nest.flatten, (first, again, other)), strict=True):
    np.testing.assert_array_equal(a, b)
    if a.shape.rank > 1 or a.shape[0] > 2:  # two of a few may be the same by chance
      assert not np.array_equal(a, c)


def test_targets_are_of_two_critics_at_random():
  learner = make_learner(*SAC, "Critic.num_critics = 4")
  drawn = [learner.draw(tf.constant([seed, 0])).critics.numpy() for seed in range(60)]
  assert all(len({*which}) == 2 for which in drawn)
  assert len({tuple(sorted(which)) for which in drawn}) == 6  # all pairs of four
  assert make_learner(*SAC).draw(SEED).critics == ()  # of two, both


def test_sac_builds_no_model():
  learner = make_learner(*SAC)
  assert not learner.uses_model and not learner.imagines
  parts = learner.dynamics, learner.dynamics_fit, learner.model_env, learner.model_buffer
  assert parts == (None,) * 4
  assert np.isfinite(learner.update(learner.draw(SEED))["critic/loss"])


@pytest.mark.parametrize(
  ("bindings", "message"),
  [
    (["Maac.batch_size = 30"], r"batch_size \(30\) must be a multiple"),
    (["Critic.num_critics = 1"], "STEVE weighs its targets by the disagreement"),
    (["ActorCritic.bound_values = True"], "critics that start from zero and are clipped"),
    (["Maac.horizon = -1"], "Maac.horizon must be an integer of 0 or more, not -1"),
    (["Maac.critic_targets = 'steve'"], "critic_targets must be a CriticTargets, or None, not"),
  ],
)
def test_impossible_settings_are_refused(bindings, message):
  with pytest.raises(ValueError, match=message):
    make_learner(*STEVE, *bindings)


def test_one_critic_is_fine_without_steve():
  learner = make_learner(*TD, "Critic.num_critics = 1")
  assert np.isfinite(learner.update(learner.draw(SEED))["critic/loss"])
