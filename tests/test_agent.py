"""The compiled training step."""

import dataclasses

import gin
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.agent import Maac
from maac_tf.envs import make_task
from maac_tf.objectives import Transition

SEED = tf.constant([3, 4], tf.int64)


def _agent(task=None, **kwargs):
  task = task or make_task("pendulum")
  agent = Maac(task, task.make_environment(), seed=0, **kwargs)
  rng = np.random.default_rng(0)
  sizes = ((200, 3), (200, 1), (200,), (200, 3), (200,))
  columns = [rng.normal(size=size) for size in sizes]
  columns[1], columns[4] = np.tanh(columns[1]), np.zeros(200)
  agent.env_buffer.add(Transition(*(tf.constant(c, tf.float32) for c in columns)))
  if agent.imagines:
    agent.fill_model_buffer(400, 1, SEED)
  return agent


def _values(variables):
  return [np.array(v) for v in variables]


@pytest.mark.parametrize("settings", [{}, {"horizon": 0}, {"critic_horizon": 0}])
def test_xla_and_plain_updates_agree(tiny, settings):
  plain, xla = _agent(**settings), _agent(**settings, jit_compile=True)
  noise = plain.draw(SEED)
  for _ in range(2):
    want, got = plain.compiled_update(noise), xla.compiled_update(noise)
  for name in want:
    np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-5, err_msg=name)
  for network in ("policy", "critic", "target_critic"):
    for a, b in zip(
      getattr(xla, network).variables, getattr(plain, network).variables, strict=False
    ):
      np.testing.assert_allclose(a, b, atol=1e-5, err_msg=network)


def test_compiled_updates_run_in_the_loop_of_a_call(tiny):
  agent = _agent(jit_compile=True)
  assert np.isfinite(agent.train(tf.constant(3), SEED)["critic/loss"])


def test_each_loss_moves_its_own_network_only(tiny):
  agent = _agent(critic_learning_rate=0.0, temperature_learning_rate=0.0)
  networks = {
    name: getattr(agent, name) for name in ("policy", "critic", "target_critic", "dynamics")
  }
  before = {name: _values(network.variables) for name, network in networks.items()}
  agent.train(tf.constant(3), SEED)
  for name, network in networks.items():
    same = all(
      np.array_equal(a, b) for a, b in zip(before[name], _values(network.variables), strict=False)
    )
    assert same == (name != "policy"), name
  agent = _agent(policy_learning_rate=0.0)
  policy, dynamics = _values(agent.policy.variables), _values(agent.dynamics.variables)
  critic = _values(agent.critic.variables)
  agent.train(tf.constant(3), SEED)
  assert all(map(np.array_equal, policy, _values(agent.policy.variables)))
  assert all(map(np.array_equal, dynamics, _values(agent.dynamics.variables)))
  assert not any(map(np.array_equal, critic, _values(agent.critic.variables)))


def test_targets_follow_the_critics_by_polyak_averaging(tiny):
  agent = _agent(polyak_decay=0.75)
  before = _values(agent.target_critic.variables)
  agent.update(agent.draw(SEED))
  for old, new, source in zip(
    before, agent.target_critic.variables, agent.critic.variables, strict=True
  ):
    np.testing.assert_allclose(new, 0.75 * old + 0.25 * np.array(source), atol=1e-6)


def test_one_call_of_train_is_as_many_updates(tiny):
  together, apart = _agent(), _agent()
  mean = together.train(tf.constant(3), SEED)
  losses = [
    apart.compiled_update(apart.draw(tf.random.fold_in(SEED, i)))["critic/loss"] for i in range(3)
  ]
  assert mean["critic/loss"].numpy() == pytest.approx(np.mean(losses), rel=1e-5)
  for a, b in zip(together.policy.variables, apart.policy.variables, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
  assert together.train.experimental_get_tracing_count() == 1
  together.train(tf.constant(5), SEED)
  assert together.train.experimental_get_tracing_count() == 1


def test_imagined_data_has_the_tasks_reward_and_goes_on_after_termination(tiny):
  task = dataclasses.replace(
    make_task("pendulum"), termination_fn=lambda s, a, after: after[..., 0] > 0
  )
  agent = _agent(task, model_capacity=1_200)
  agent.fill_model_buffer(400, 3, SEED)  # three more steps fill the ring
  stored = agent.model_buffer.gather(tf.range(1_200))
  arguments = stored.observation, 2.0 * stored.action, stored.next_observation
  np.testing.assert_allclose(stored.reward, task.reward_fn(*arguments), rtol=1e-5)
  np.testing.assert_array_equal(stored.terminal, stored.next_observation[:, 0] > 0)
  assert 0.1 < stored.terminal.numpy().mean() < 0.9
  # Nothing is imagined from beyond the end: each state is one of D_env's, or one reached alive.
  alive = stored.next_observation.numpy()[stored.terminal.numpy() == 0]
  known = np.concatenate([agent.env_buffer.gather(tf.range(200)).observation, alive])
  known = {row.tobytes() for row in known.astype(np.float32)}
  assert all(row.tobytes() in known for row in stored.observation.numpy())


def test_draws_are_fresh_and_reproducible(tiny):
  agent = _agent()
  first, again, other = (agent.draw(tf.random.fold_in(SEED, i)) for i in (0, 0, 1))
  for a, b, c in zip(*map(tf.nest.flatten, (first, again, other)), strict=True):
    np.testing.assert_array_equal(a, b)
    if a.shape.rank > 1 or a.shape[0] > 2:  # two of four members may be the same by chance
      assert not np.array_equal(a, c)


def test_sac_builds_no_model(tiny):
  agent = _agent(horizon=0, critic_horizon=0, real_fraction=1.0)
  assert agent.dynamics is None and agent.model_buffer is None
  before = _values(agent.policy.variables)
  agent.train(tf.constant(2), SEED)
  assert not all(map(np.array_equal, before, _values(agent.policy.variables)))


@pytest.mark.parametrize(
  ("settings", "binding", "message"),
  [
    ({"horizon": -1}, None, "Maac.horizon must be an integer of 0 or more, not -1"),
    ({"horizon": 2.5}, None, "Maac.horizon must be an integer of 0 or more, not 2.5"),
    ({"num_final_actions": 0}, None, "num_final_actions must be an integer of 1 or more, not 0"),
    ({"models_per_target": 5}, None, "models_per_target is 5, but the ensemble has only 4"),
    ({"batch_size": 30}, None, r"batch_size \(30\) must be a multiple"),
    ({"real_fraction": 0.0}, None, "real_fraction must be a number from 1e-06 to 1, not 0"),
    ({"discount": 1.0}, None, "discount must be a number from 0 to 0.99999, not 1"),
    ({"discount": "x"}, None, "discount must be a number from 0 to 0.99999, not 'x'"),
    ({"critic_learning_rate": -1}, None, "critic_learning_rate must be a number from 0 to 1"),
    ({}, "DynamicsFit.patience = 0", "patience must be an integer of 1 or more, not 0"),
    ({}, "Dynamics.ensemble_size = 0", "ensemble_size must be an integer of 1 or more, not 0"),
    ({}, "Critic.num_critics = 1", "STEVE weighs its targets by the disagreement"),
  ],
)
def test_impossible_settings_are_refused(tiny, settings, binding, message):
  if binding:
    gin.parse_config(binding)
  with pytest.raises(ValueError, match=message):
    _agent(**settings)


def test_one_critic_is_fine_without_steve(tiny):
  gin.parse_config("Critic.num_critics = 1")
  _agent(critic_horizon=0).train(tf.constant(1), SEED)
