"""The compiled training step."""

import dataclasses

import gin
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm import objectives
from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.trainer import Trainer
from maac_tf.data.types import Transition
from maac_tf.networks.value_range import RATE
from maac_tf.tasks.coordinates import PLAIN, sine_and_cosine
from maac_tf.tasks.registry import make_task
from maac_tf.tasks.symmetries import Symmetry

SEED = tf.constant([3, 4], tf.int64)


# The ingredients of the shipped setting that are the agent's, and soft returns.
SHIPPED = {
  "horizon": 3,
  "num_final_actions": 1,
  "soft_returns": True,
  "policy_value": "mean",
  "shared_rollout": True,
  "critics_per_target": 2,
  "bound_values": True,
  "normalize_observations": True,
  "reset_optimizers": True,
  "real_fraction": 0.0,
}


def _agent(task=None, **kwargs):
  task = task or make_task("pendulum")
  environment = task.make_environment()
  agent = Maac(task, environment, seed=0, **kwargs)
  rng = np.random.default_rng(0)
  state, action = (200, environment.observation_size), (200, environment.action_size)
  sizes = state, action, (200,), state, (200,)
  columns = [rng.normal(size=size) for size in sizes]
  columns[1], columns[4] = np.tanh(columns[1]), np.zeros(200)
  agent.env_buffer.add(Transition(*(tf.constant(c, tf.float32) for c in columns)))
  agent.begin_iteration()
  if agent.imagines:
    agent.fill_model_buffer(400, 1, SEED)
  return agent


def _values(variables):
  return [np.array(v) for v in variables]


@pytest.mark.parametrize(
  "settings",
  [
    {},
    {"horizon": 0},
    {"critic_horizon": 0},
    SHIPPED,
    SHIPPED | {"horizon": 0},
    SHIPPED | {"task_coordinates": True},
    SHIPPED | {"kl_penalty": 0.3, "policy_decay": 0.9},
  ],
  ids=["steve", "h0", "td", "shipped", "shipped_h0", "torso_frame", "kl_penalty"],
)
def test_xla_and_plain_updates_agree(tiny, settings):
  if "critics_per_target" in settings:
    gin.parse_config("Critic.num_critics = 3")
  task = make_task("ant" if "task_coordinates" in settings else "pendulum")
  plain, xla = _agent(task, **settings), _agent(task, **settings, jit_compile=True)
  draws = [plain.draw(seed) for seed in tf.random.split(SEED, 2)]
  noise = tf.nest.map_structure(lambda *x: tf.stack(x), *draws)
  for _ in range(2):
    want, got = plain.compiled_updates(noise), xla.compiled_updates(noise)
  for name in want:
    np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-5, err_msg=name)
  for network in ("policy", "average_policy", "critic", "target_critic"):
    for a, b in zip(
      getattr(xla, network).variables, getattr(plain, network).variables, strict=True
    ):
      np.testing.assert_allclose(a, b, atol=1e-5, err_msg=network)


def test_compiled_updates_run_in_the_loop_of_a_call(tiny):
  agent = _agent(jit_compile=True)
  assert np.isfinite(agent.train(3, SEED)["critic/loss"])


@pytest.mark.parametrize("settings", [{}, SHIPPED], ids=["steve", "shipped"])
def test_each_loss_moves_its_own_network_only(tiny, settings):
  gin.parse_config("Critic.num_critics = 5")
  agent = _agent(critic_learning_rate=0.0, temperature_learning_rate=0.0, **settings)
  networks = {
    name: getattr(agent, name).trainable_variables
    for name in ("policy", "critic", "target_critic", "dynamics")
  }
  before = {name: _values(variables) for name, variables in networks.items()}
  agent.train(3, SEED)
  for name, variables in networks.items():
    same = all(map(np.array_equal, before[name], _values(variables)))
    assert same == (name != "policy"), name
  agent = _agent(policy_learning_rate=0.0, **settings)
  policy, dynamics = _values(agent.policy.variables), _values(agent.dynamics.variables)
  critic = _values(agent.critic.trainable_variables)
  agent.train(3, SEED)
  assert all(map(np.array_equal, policy, _values(agent.policy.variables)))
  assert all(map(np.array_equal, dynamics, _values(agent.dynamics.variables)))
  assert not any(map(np.array_equal, critic, _values(agent.critic.trainable_variables)))


@pytest.mark.parametrize(
  "settings",
  [{}, {"horizon": 0}, SHIPPED, SHIPPED | {"horizon": 0}],
  ids=["steve", "h0", "shipped", "shipped_h0"],
)
def test_plain_values_are_of_the_return_alone(tiny, settings):
  """Then no temperature changes what the critics learn, nor the range of their values."""
  if "critics_per_target" in settings:
    gin.parse_config("Critic.num_critics = 3")

  def learned(**others):
    rates = {"policy_learning_rate": 0.0, "temperature_learning_rate": 0.0}
    agent = _agent(**settings, **rates, **others)
    metrics = agent.update(agent.draw(SEED))
    return [metrics[k].numpy() for k in metrics if k.startswith("critic/")]

  want = learned(soft_values=False, initial_temperature=1e-6)
  np.testing.assert_allclose(learned(soft_values=False, initial_temperature=3.0), want, rtol=1e-5)
  np.testing.assert_allclose(learned(initial_temperature=1e-6), want, rtol=1e-4, atol=1e-4)
  assert not np.allclose(learned(initial_temperature=3.0), want, rtol=0.01)


def _moved(agent, seed=0):
  """The agent, its average policy no longer its policy."""
  rng = np.random.default_rng(seed)
  for variable in agent.average_policy.trainable_variables:
    variable.assign_add(tf.constant(0.1 * rng.normal(size=variable.shape), tf.float32))
  return agent


def test_the_penalty_is_the_kl_divergence_from_the_average(tiny):
  """Of the Gaussians, from its formula, at the start states; its gradient is added."""
  settings = {"horizon": 0, "critic_horizon": 0, "real_fraction": 1.0, "policy_decay": 0.5}
  agent = _moved(_agent(kl_penalty=7.0, **settings))
  noise = agent.draw(SEED)
  states = agent.env_buffer.gather(noise.env_indices).observation

  def kl():
    (m, s), (m0, s0) = (
      (g.mean(), g.stddev())
      for g in (p(states).distribution for p in (agent.policy, agent.average_policy))
    )
    each = tf.math.log(s0 / s) + (s**2 + (m - m0) ** 2) / (2.0 * s0**2) - 0.5
    return tf.reduce_mean(tf.reduce_sum(each, -1))

  variables = agent.policy.trainable_variables
  with tf.GradientTape() as tape:
    want = kl()
  want_gradient = tape.gradient(want, variables)
  seen = {}

  def gradient_of(agent):
    agent._policy_optimizer.apply = lambda gradient, _: seen.update({agent.kl_penalty: gradient})
    return agent.update(noise)

  got = gradient_of(agent)["policy/kl"]
  assert "policy/kl" not in gradient_of(_moved(_agent(**settings)))
  np.testing.assert_allclose(got, want, rtol=1e-5)
  for with_it, without, kl_gradient in zip(seen[7.0], seen[0.0], want_gradient, strict=True):
    np.testing.assert_allclose(with_it, without + 7.0 * kl_gradient, rtol=1e-4, atol=1e-4)


def test_a_penalty_keeps_the_policy_near_its_average(tiny):
  far = []
  for penalty in (0.0, 100.0):
    agent = _agent(kl_penalty=penalty, policy_decay=0.99, policy_learning_rate=3e-3)
    agent.train(30, SEED)
    states = agent.env_buffer.gather(tf.range(200)).observation
    far.append(np.mean(agent._divergence(states)))
  assert 0.0 < far[1] < 0.2 * far[0], far


def test_targets_follow_the_critics_by_polyak_averaging(tiny):
  agent = _agent(polyak_decay=0.75)
  before = _values(agent.target_critic.trainable_variables)
  agent.update(agent.draw(SEED))
  networks = agent.target_critic, agent.critic
  for old, new, source in zip(before, *(n.trainable_variables for n in networks), strict=True):
    np.testing.assert_allclose(new, 0.75 * old + 0.25 * np.array(source), atol=1e-6)


@pytest.mark.parametrize("most", [0, 0.2, 0.75])
def test_the_average_policy_is_of_a_share_of_the_updates(tiny, most):
  agent = _agent(policy_decay=most)
  average = _values(agent.average_policy.trainable_variables)
  for seed in range(3):
    agent.update(agent.draw(tf.constant([seed, 0], tf.int64)))
    policy = _values(agent.policy.trainable_variables)
    decay = min(most, (2 + seed) / (11 + seed))  # 0.18, 0.25, 0.31 where nothing limits it
    average = [decay * a + (1 - decay) * p for a, p in zip(average, policy, strict=True)]
  got = _values(agent.average_policy.trainable_variables)
  for a, b in zip(got, average, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
  assert most or all(map(np.array_equal, got, policy))


def test_one_call_of_train_is_as_many_updates(tiny):
  together, apart = _agent(policy_decay=0.27), _agent(policy_decay=0.27)
  mean = together.train(3, SEED)
  losses = [apart.update(apart.draw(seed))["critic/loss"] for seed in tf.random.split(SEED, 3)]
  assert mean["critic/loss"].numpy() == pytest.approx(np.mean(losses), rel=1e-5)
  for name in ("policy", "average_policy"):
    networks = getattr(together, name), getattr(apart, name)
    for a, b in zip(*(network.variables for network in networks), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-6)
  assert together.train.experimental_get_tracing_count() == 1
  together.train(3, SEED)
  assert together.train.experimental_get_tracing_count() == 1


def test_imagined_data_has_the_tasks_reward_and_goes_on_after_termination(tiny):
  task = dataclasses.replace(
    make_task("pendulum"), termination_fn=lambda s, a, after: after[..., 0] > 0
  )
  agent = _agent(task, model_capacity=1_200)
  share = agent.fill_model_buffer(400, 3, SEED)  # three more steps fill the ring
  stored = agent.model_buffer.gather(tf.range(1_200))
  arguments = stored.observation, 2.0 * stored.action, stored.next_observation
  np.testing.assert_allclose(stored.reward, task.reward_fn(*arguments), rtol=1e-5)
  np.testing.assert_array_equal(stored.terminal, stored.next_observation[:, 0] > 0)
  assert 0.1 < share < 0.9 and float(share) == pytest.approx(stored.terminal.numpy().mean())
  # Nothing is imagined from beyond the end: each state is one of D_env's, or one reached alive.
  alive = stored.next_observation.numpy()[stored.terminal.numpy() == 0]
  known = np.concatenate([agent.env_buffer.gather(tf.range(200)).observation, alive])
  known = {row.tobytes() for row in known.astype(np.float32)}
  assert all(row.tobytes() in known for row in stored.observation.numpy())


def test_a_learned_reward_is_what_the_models_predict(tiny):
  agent = _agent(learn_reward=True)
  assert agent.dynamics.outcome_size == 4
  observation, action = tf.ones([8, 3]), tf.zeros([8, 1])
  noise = tf.random.stateless_normal([8, 4], [1, 2]), tf.range(8)
  after, reward, _ = agent.steps.random_member(observation, action, noise)
  predicted = agent.dynamics.sample(
    *(tf.reshape(x, [4, 2, -1]) for x in (observation, action, noise[0]))
  )
  predicted = tf.reshape(predicted, [8, 4])
  np.testing.assert_allclose(after, observation + predicted[:, :3], rtol=1e-5)
  np.testing.assert_allclose(reward, predicted[:, 3], rtol=1e-5)
  agent.train(1, SEED)


@pytest.mark.parametrize("own", [True, False])
def test_networks_have_the_coordinates_of_the_task_if_asked(tiny, own):
  task = dataclasses.replace(make_task("pendulum"), coordinates=sine_and_cosine(2))
  agent = _agent(task, task_coordinates=own)
  policies, critics = [agent.policy, agent.average_policy], [agent.critic, agent.target_critic]
  for network in (agent.dynamics, *policies, *critics):
    assert network.coordinates == (task.coordinates if own else PLAIN)
  agent.train(1, SEED)
  stored = agent.model_buffer.newest(400)
  assert stored.next_observation.shape == (400, 3) and np.isfinite(stored.next_observation).all()


@pytest.mark.parametrize("own", [True, False])
def test_models_learn_the_images_of_the_task_if_asked(tiny, own):
  """Of actions in the networks' units, where those of this task are twice as large."""
  shifted = Symmetry(tf.negative, lambda u: u + 1.0)
  task = dataclasses.replace(make_task("pendulum"), symmetries=(shifted,))
  gin.parse_config(f"Maac.task_symmetries = {own}")
  trainer = Trainer(task)
  symmetries = trainer.agent.dynamics_fit.symmetries
  assert len(symmetries) == own and len(trainer._judge.symmetries) == own
  for symmetry in symmetries:
    np.testing.assert_allclose(symmetry.action(tf.constant([[-0.5]])), [[0.0]])


def test_a_price_on_the_divergence_from_itself_is_refused(tiny):
  with pytest.raises(ValueError, match="which with Maac.policy_decay = 0 is the policy itself"):
    _agent(kl_penalty=1.0)


def test_normalisers_have_the_statistics_of_the_features(tiny):
  task = dataclasses.replace(make_task("pendulum"), coordinates=sine_and_cosine(2))
  agent = _agent(task, **SHIPPED, task_coordinates=True)
  features = task.coordinates.features(agent.env_buffer.gather(tf.range(200)).observation).numpy()
  for network in (agent.policy, agent.average_policy, agent.critic, agent.target_critic):
    np.testing.assert_allclose(network.normalizer.mean, features.mean(0), atol=1e-5)
    np.testing.assert_allclose(network.normalizer.scale, features.std(0), rtol=1e-4)


def test_without_a_reward_function_the_reward_is_learned(tiny):
  task = dataclasses.replace(make_task("pendulum"), reward_fn=None)
  assert _agent(task).dynamics.predicts_reward


@pytest.mark.parametrize("horizon", [0, 1, 3])
def test_critics_learn_the_return_of_the_policys_own_rollout(tiny, horizon):
  """The targets of a shared rollout, from its steps: one number at a time."""
  gin.parse_config("Critic.num_critics = 3")
  agent = _agent(**SHIPPED | {"horizon": horizon, "bound_values": False})
  noise = agent.draw(SEED)
  batch = agent.model_buffer.gather(noise.model_indices)
  path = objectives.imagine_path(
    agent.policy.act, agent.steps.random_member, batch.observation, noise.policy
  )
  parameters = {"discount": 0.9, "temperature": 0.3}
  observation, action, targets, _ = agent._targets(path, batch, noise, **parameters)
  np.testing.assert_array_equal(observation, batch.observation)
  if horizon:
    np.testing.assert_array_equal(action, path.trajectory.action[0])
  else:  # one step from the policy's own first action
    np.testing.assert_array_equal(action, path.final_action[0])
    first = path.final_action[0], path.final_log_prob[0]
    path = objectives.imagine_path(
      agent.policy.act, agent.steps.random_member, batch.observation, noise.target, first
    )
  steps = path.trajectory
  value = agent.target_critic(steps.observation[-1], path.final_action[0]).numpy()
  value = value[noise.target_critics.numpy()].min(0) - 0.3 * path.final_log_prob[0].numpy()
  want = steps.reward[0].numpy() + 0.9 ** len(steps.reward) * value
  for t in range(1, len(steps.reward)):
    want += 0.9**t * (steps.reward[t] - 0.3 * steps.log_prob[t]).numpy()
  np.testing.assert_allclose(targets, want, rtol=1e-4, atol=1e-4)


def test_values_are_bounded_by_the_rewards_seen(tiny):
  agent = _agent(discount=0.9, **SHIPPED)
  rewards = agent.env_buffer.gather(tf.range(200)).reward.numpy()
  low, high = np.sort(rewards)[[2, 197]]  # 1 % and 99 % of 200
  np.testing.assert_allclose(agent.value_range.reward_quantiles, [low, high], rtol=1e-5)
  assert agent.critic.scale.numpy() == pytest.approx(10 * (high - low), rel=1e-5)
  assert agent.target_critic.scale.numpy() == agent.critic.scale.numpy()
  agent.target_critic._mlp.layers[-1].bias.assign(
    tf.constant([[[1e3]], [[-1e3]]]) * tf.ones_like(agent.target_critic._mlp.layers[-1].bias)
  )
  noise = agent.draw(SEED)
  batch = agent.model_buffer.gather(noise.model_indices)
  path = objectives.imagine_path(
    agent.policy.act, agent.steps.random_member, batch.observation, noise.policy
  )
  targets = agent._targets(path, batch, noise, discount=1.0, temperature=0.0)[2]
  rewards = np.sum(path.trajectory.reward, 0)
  np.testing.assert_allclose(targets - rewards, 10 * low, rtol=1e-4)
  bias = agent.target_critic._mlp.layers[-1].bias
  bias.assign(tf.fill(bias.shape, 1e3))
  targets = agent._targets(path, batch, noise, discount=1.0, temperature=0.0)[2]
  np.testing.assert_allclose(targets - rewards, 10 * high, rtol=1e-4)
  before = agent.value_range.reward_quantiles.numpy()
  agent.update(noise)
  trajectory = path.trajectory
  soft = trajectory.reward[0] - 0.1 * trajectory.log_prob[0]
  quantiles = np.percentile(soft, [1, 99], method="nearest")
  np.testing.assert_allclose(
    agent.value_range.reward_quantiles, before + RATE * (quantiles - before), rtol=1e-4
  )


def test_an_iteration_begins_with_new_statistics_and_fresh_optimizers(tiny):
  agent = _agent(**SHIPPED)
  observations = agent.env_buffer.gather(tf.range(200)).observation.numpy()
  for network in (agent.policy, agent.average_policy, agent.critic, agent.target_critic):
    np.testing.assert_allclose(network.normalizer.mean, observations.mean(0), atol=1e-5)
    np.testing.assert_allclose(network.normalizer.scale, observations.std(0), rtol=1e-4)
  agent.train(2, SEED)
  fresh = agent._policy_optimizer, agent._critic_optimizer
  for optimizer in (*fresh, agent._temperature_optimizer):
    assert optimizer.iterations.numpy() == 2
  agent.begin_iteration()
  assert agent._temperature_optimizer.iterations.numpy() == 2  # which counts the run's updates
  for optimizer in fresh:
    assert optimizer.learning_rate.numpy() == pytest.approx(3e-4)
    for variable in optimizer.variables:
      assert variable is optimizer.learning_rate or not np.any(variable), variable.path


def test_normalised_networks_are_the_plain_ones_on_normalised_observations(tiny):
  agent = _agent(**SHIPPED)
  plain = _agent()
  observation, action = tf.random.stateless_normal([5, 3], [1, 2]), tf.zeros([5, 1])
  normalised = (observation - agent.policy.normalizer.mean) / agent.policy.normalizer.scale
  np.testing.assert_allclose(
    agent.policy.act(observation, action)[0], plain.policy.act(normalised, action)[0], rtol=1e-4
  )
  np.testing.assert_allclose(
    agent.critic(observation, action) / agent.critic.scale,
    plain.critic(normalised, action),
    rtol=1e-4,
    atol=1e-5,
  )


def test_draws_are_fresh_and_reproducible(tiny):
  gin.parse_config("Critic.num_critics = 8")
  agent = _agent(critics_per_target=4)
  first, again, other = (agent.draw(tf.random.fold_in(SEED, i)) for i in (0, 0, 1))
  for a, b, c in zip(*map(tf.nest.flatten, (first, again, other)), strict=True):
    np.testing.assert_array_equal(a, b)
    if a.shape.rank > 1 or a.shape[0] > 2:  # two of a few may be the same by chance
      assert not np.array_equal(a, c)


@pytest.mark.parametrize("settings", [{}, SHIPPED], ids=["steve", "shipped"])
def test_all_that_is_imagined_may_have_the_noise_of_past_errors(tiny, settings):
  gin.parse_config("Dynamics.empirical_errors = 5")
  agent = _agent(**settings)
  agent.dynamics.errors.assign(tf.reshape(tf.range(60.0), [20, 3]))
  noise = agent.draw(SEED)
  drawn = [noise.policy.rollout.model[0]]
  drawn += [] if settings else [noise.target.rollout.model]
  for rows in drawn:
    first = rows[..., 0].numpy()
    assert set(first.ravel()) <= set(range(0, 60, 3)) and len(set(first.ravel())) > 10
    np.testing.assert_array_equal(rows, np.stack([first, first + 1, first + 2], -1))
  # In D_model: with one and the same error everywhere, outcomes are what the members predict.
  agent.dynamics.errors.assign(tf.tile([[2.0, -1.0, 0.5]], [20, 1]))
  agent.fill_model_buffer(400, 1, SEED)
  stored = agent.model_buffer.newest(400)
  inputs = (tf.tile(x[tf.newaxis], [4, 1, 1]) for x in (stored.observation, stored.action))
  gaussian = agent.dynamics(*inputs)
  error = agent.dynamics.outcome(stored) - gaussian.mean()
  distance = np.abs(error / gaussian.stddev() - [2.0, -1.0, 0.5]).max(-1)  # for each member
  assert distance.min(0).max() < 1e-3


def test_sac_builds_no_model(tiny):
  agent = _agent(horizon=0, critic_horizon=0, real_fraction=1.0)
  assert agent.dynamics is None and agent.model_buffer is None
  before = _values(agent.policy.variables)
  agent.train(2, SEED)
  assert not all(map(np.array_equal, before, _values(agent.policy.variables)))


@pytest.mark.parametrize(
  ("settings", "binding", "message"),
  [
    ({"horizon": -1}, None, "Maac.horizon must be an integer of 0 or more, not -1"),
    ({"horizon": 2.5}, None, "Maac.horizon must be an integer of 0 or more, not 2.5"),
    ({"num_final_actions": 0}, None, "num_final_actions must be an integer of 1 or more, not 0"),
    ({"models_per_target": 5}, None, "models_per_target is 5, but the ensemble has only 4"),
    ({"batch_size": 30}, None, r"batch_size \(30\) must be a multiple"),
    ({"real_fraction": -1}, None, "real_fraction must be a number from 0 to 1, not -1"),
    ({"discount": 1.0}, None, "discount must be a number from 0 to 0.99999, not 1"),
    ({"discount": "x"}, None, "discount must be a number from 0 to 0.99999, not 'x'"),
    ({"critic_learning_rate": -1}, None, "critic_learning_rate must be a number from 0 to 1"),
    ({}, "DynamicsFit.patience = 0", "patience must be an integer of 1 or more, not 0"),
    ({}, "Dynamics.ensemble_size = 0", "ensemble_size must be an integer of 1 or more, not 0"),
    ({}, "Critic.num_critics = 1", "STEVE weighs its targets by the disagreement"),
    ({"critics_per_target": 1}, None, "STEVE weighs its targets by the disagreement"),
    ({}, "Critic.zero_last_layer = True", "critics that start from zero agree"),
    ({"critics_per_target": 3}, None, r"critics_per_target \(3\) must be between 1 and"),
    ({"bound_values": True}, None, "critics that are clipped"),
    ({"critics_per_target": 0}, None, "critics_per_target must be an integer of 1 or more, not 0"),
    ({}, "DynamicsFit.max_batches = 0", "max_batches must be an integer of 1 or more, not 0"),
    ({}, "DynamicsFit.weight_decay = -1", "weight_decay must be a number from 0 to 1000, not -1"),
    ({"policy_value": "max"}, None, "policy_value must be 'min' or 'mean', not 'max'"),
  ],
)
def test_impossible_settings_are_refused(tiny, settings, binding, message):
  if binding:
    gin.parse_config(binding)
  with pytest.raises(ValueError, match=message):
    _agent(**settings)


def test_one_critic_is_fine_without_steve(tiny):
  gin.parse_config("Critic.num_critics = 1")
  _agent(critic_horizon=0).train(1, SEED)
