"""What the critics learn: each target against a NumPy loop."""

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm import objectives
from maac_tf.algorithm.critic_targets import CriticTargets, Regression, RolloutTargets
from maac_tf.algorithm.steve import SteveNoise, SteveTargets, steve_targets
from maac_tf.data.types import Transition
from maac_tf.networks.critic import Critic
from maac_tf.networks.policy import Policy
from tests.learners import ROLLOUT, SAC, SEED, STEVE, TD, make_learner, targets

RNG = np.random.default_rng


@pytest.mark.parametrize("horizon", [0, 1, 3])
def test_critics_learn_the_return_of_the_policys_own_rollout(horizon):
  """One number at a time, from the steps of the policy's objective."""
  learner = make_learner(
    *ROLLOUT,
    f"Maac.horizon = {horizon}",
    "Maac.discount = 0.9",
    "Maac.initial_temperature = 0.3",
    "ActorCritic.bound_values = False",
  )
  noise = learner.draw(SEED)
  regression, batch, path = targets(learner, noise)
  regression = _first_rows(regression, len(batch.reward))
  noise = noise._replace(targets=noise.targets.one_step)
  np.testing.assert_array_equal(regression.observation, batch.observation)
  if horizon:
    np.testing.assert_array_equal(regression.action, path.trajectory.action[0])
  else:  # one step from the policy's own first action
    np.testing.assert_array_equal(regression.action, path.final_action[0])
    step, first = (
      learner.model_env.random_member,
      (path.final_action[0], path.final_log_prob[0]),
    )
    path = objectives.imagine_path(learner.act, step, batch.observation, noise.targets, first)
  steps = path.trajectory
  value = learner.actor_critic.target_critic(steps.observation[-1], path.final_action[0]).numpy()
  value = value[noise.critics.numpy()].min(0) - 0.3 * path.final_log_prob[0].numpy()
  want = steps.reward[0].numpy() + 0.9 ** len(steps.reward) * value
  for t in range(1, len(steps.reward)):
    want += 0.9**t * (steps.reward[t] - 0.3 * steps.log_prob[t]).numpy()
  np.testing.assert_allclose(regression.targets, want, rtol=1e-4, atol=1e-4)


def _first_rows(regression, count):
  """Those of the batch; what follows begins with a real step."""
  return Regression(*(x[:count] for x in regression[:3]), regression.metrics)


@pytest.mark.parametrize("horizon", [0, 1, 3])
def test_beside_them_are_returns_that_begin_with_a_real_step(horizon):
  """r_0 + γ (1 - d_0) (imagined steps from the real s_1, H in all, and the target critics)."""
  learner = make_learner(
    *ROLLOUT,
    f"Maac.horizon = {horizon}",
    "RolloutTargets.real_share = 0.75",
    "Maac.discount = 0.9",
    "Maac.initial_temperature = 0.3",
    "ActorCritic.bound_values = False",
  )
  noise = learner.draw(SEED)
  indices = noise.targets.real.indices.numpy()
  stored = learner.env_buffer.newest(200)
  ends = np.isin(np.arange(200), indices[::3]).astype(np.float32)
  learner.env_buffer.put(stored._replace(terminal=tf.constant(ends)), 200)
  regression, batch, _ = targets(learner, noise)
  assert len(indices) == 0.75 * len(batch.reward)
  real = learner.env_buffer.gather(indices)
  np.testing.assert_array_equal(regression.observation[len(batch.reward) :], real.observation)
  np.testing.assert_array_equal(regression.action[len(batch.reward) :], real.action)

  later = noise.targets.real.later
  observation, parts = real.next_observation, []
  for t in range(max(horizon, 1) - 1):
    action, log_prob = learner.act(observation, later.rollout.action[t])
    member_noise = tf.nest.map_structure(lambda x, t=t: x[t], later.rollout.model)
    step = learner.model_env.random_member(observation, action, member_noise)
    observation = step[0]
    parts.append((step[1] - 0.3 * log_prob).numpy())
  action, log_prob = learner.act(observation, later.final_action[0])
  value = learner.actor_critic.target_critic(observation, action).numpy()
  parts.append(value[noise.critics.numpy()].min(0) - 0.3 * log_prob.numpy())
  after = sum(0.9 ** (t + 1) * part for t, part in enumerate(parts))
  want = real.reward.numpy() + (1 - real.terminal.numpy()) * after
  assert 0 < np.mean(real.terminal) < 1
  np.testing.assert_allclose(regression.targets[len(batch.reward) :], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bindings", [TD, SAC], ids=["td", "sac"])
def test_one_step_targets_are_those_of_sac(bindings):
  """Of the stored step: its reward, and the lesser target critic at the policy's next action."""
  learner = make_learner(*bindings, "Maac.discount = 0.9", "Maac.initial_temperature = 0.3")
  noise = learner.draw(SEED)
  regression, batch, _ = targets(learner, noise)
  action, log_prob = learner.act(batch.next_observation, noise.targets.action[0])
  value = learner.actor_critic.target_critic(batch.next_observation, action).numpy().min(0)
  want = batch.reward + 0.9 * (1 - batch.terminal) * (value - 0.3 * log_prob)
  np.testing.assert_allclose(regression.targets, want, rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(regression.action, batch.action)


def test_steve_is_of_a_random_half_of_the_ensemble_and_reports_its_weights():
  learner, drawn = make_learner(*STEVE), set()
  for seed in range(20):
    members = learner.draw(tf.constant([seed, 0])).targets.members.numpy()
    assert len({*members}) == 2  # of four
    drawn.add(tuple(sorted(members)))
  assert len(drawn) == 6
  metrics = targets(learner, learner.draw(SEED))[0].metrics
  assert list(metrics) == [f"critic/steve_weight_{h}" for h in range(3)]
  assert sum(metrics.values()).numpy() == pytest.approx(1.0, rel=1e-5)


def test_targets_say_whether_they_need_models():
  assert RolloutTargets().uses_models()
  assert [SteveTargets(horizon).uses_models() for horizon in (0, 1)] == [False, True]
  assert not CriticTargets().uses_models()


def test_no_gradient_flows_from_the_targets_of_a_rollout():
  learner = make_learner(*ROLLOUT)
  with tf.GradientTape() as tape:
    got = targets(learner, learner.draw(SEED))[0].targets
  networks = *learner.actor_critic.networks, learner.dynamics
  variables = [v for network in networks for v in network.trainable_variables]
  assert tape.gradient(got, variables) == [None] * len(variables)


def _steve_case(horizon, members, batch=8, ensemble_size=4, seed=0, ends=True):
  """Transitions, noise and fakes; the model's prediction names its member."""
  rng = RNG(seed)
  state, action, m = 2, 1, len(members)
  dealt = (ensemble_size, batch // ensemble_size * m)

  def normal(*shape):
    return tf.constant(rng.normal(size=shape))

  transition = Transition(
    normal(batch, state),
    normal(batch, action),
    normal(batch),
    normal(batch, state),
    tf.constant((rng.uniform(size=batch) < 0.3).astype(float)),
  )
  noise = SteveNoise(
    normal(horizon + 1, batch, action), normal(horizon, *dealt, state), tf.constant(members)
  )

  def act(s, e):
    return tf.tanh(s[..., :1] + 0.5 * e), s[..., 1] - e[..., 0]

  def step(s, a, e):
    named = 0.3 * tf.range(ensemble_size, dtype=s.dtype)[:, None, None]
    after = 0.8 * s + a + named + 0.1 * e
    terminal = after[..., 0] > (1.0 if ends else 1e9)
    return after, after[..., 1] + a[..., 0], terminal

  def q_value(s, a):
    return tf.stack([s[..., 0] + a[..., 0], s[..., 1] - 2 * a[..., 0], s[..., 0] * s[..., 1]])

  return act, step, q_value, transition, noise


def _steve_loop(transition, noise, horizon, members, ensemble_size, discount, temperature):
  """The definition of STEVE's targets, one number at a time."""
  batch = len(transition.reward)
  group = batch // ensemble_size
  transition = [x.numpy() for x in transition]
  _, _, reward, next_observation, terminal = transition
  targets, all_weights = [], []
  for i in range(batch):
    candidates = np.zeros((horizon + 1, len(members), 3))
    for j, shift in enumerate(members):
      member = (i // group + shift) % ensemble_size
      slot = j * group + i % group
      s, e = next_observation[i], noise.action[0, i].numpy()
      total, c = reward[i], 1 - terminal[i]
      for h in range(horizon + 1):
        a = np.tanh(s[0] + 0.5 * e[0])
        log_pi = s[1] - e[0]
        for q, value in enumerate((s[0] + a, s[1] - 2 * a, s[0] * s[1])):
          candidates[h, j, q] = total + discount ** (h + 1) * c * (value - temperature * log_pi)
        if h == horizon:
          break
        after = 0.8 * s + a + 0.3 * member + 0.1 * noise.model[h, member, slot].numpy()
        total += discount ** (h + 1) * c * (after[1] + a - temperature * log_pi)
        c *= 1.0 - (after[0] > 1.0)
        s = after
        e = noise.action[h + 1, i].numpy()
    variance = candidates.var(2, ddof=1).mean(1)
    if len(members) > 1:
      variance += candidates.mean(2).var(1, ddof=1)
    weights = 1 / (variance + 1e-8)
    weights /= weights.sum()
    targets.append(np.sum(weights * candidates.min(2).mean(1)))
    all_weights.append(weights)
  return np.array(targets), np.array(all_weights).T


@pytest.mark.parametrize(
  ("horizon", "members"), [(0, [1, 3]), (1, [2]), (2, [3, 0]), (3, [1, 0, 3, 2])]
)
def test_steve_targets_equal_a_loop(horizon, members):
  act, step, q_value, transition, noise = _steve_case(horizon, members)
  parameters = {"discount": 0.9, "temperature": 0.2}
  targets, weights = steve_targets(act, step, q_value, transition, noise, **parameters)
  want, want_weights = _steve_loop(transition, noise, horizon, members, 4, **parameters)
  np.testing.assert_allclose(targets, want, rtol=1e-10)
  np.testing.assert_allclose(weights, want_weights, rtol=1e-8)


def test_steve_targets_have_nothing_of_what_comes_after_an_end():
  act, step, q_value, transition, noise = _steve_case(2, [0, 1, 2, 3])
  ended = transition.terminal[:, tf.newaxis] > 0
  assert 0 < np.sum(ended) < 8
  beyond = tf.where(ended, np.nan, transition.next_observation)
  before, after = (
    steve_targets(act, step, q_value, t, noise, discount=0.9, temperature=0.2)[0]
    for t in (transition, transition._replace(next_observation=beyond))
  )
  np.testing.assert_array_equal(before, after)


def test_steve_horizon_zero_is_td():
  act, step, q_value, transition, noise = _steve_case(0, [0])
  targets, weights = steve_targets(
    act, step, q_value, transition, noise, discount=0.9, temperature=0.2
  )
  action, log_prob = act(transition.next_observation, noise.action[0])
  value = np.min(q_value(transition.next_observation, action), 0) - 0.2 * log_prob
  np.testing.assert_allclose(
    targets, transition.reward + 0.9 * (1 - transition.terminal) * value, rtol=1e-12
  )
  np.testing.assert_array_equal(weights, np.ones([1, 8]))


def test_steve_distrusts_a_horizon_on_which_a_member_disagrees():
  act, step, q_value, transition, noise = _steve_case(2, [0, 1, 2, 3], ends=False)
  transition = transition._replace(terminal=tf.zeros_like(transition.terminal))

  def weights(step):
    return steve_targets(act, step, q_value, transition, noise, discount=0.9, temperature=0.0)[
      1
    ].numpy()

  def wild_step(s, a, e):
    after, reward, terminal = step(s, a, e)
    wild = tf.constant([0.0, 0.0, 50.0, 0.0], s.dtype)[:, None]
    return after, reward + wild, terminal

  calm, wild = weights(step), weights(wild_step)
  assert np.all(wild[1:] < 0.1 * calm[1:])
  np.testing.assert_array_less(calm[0], wild[0])


def _weights_of_a_game(step):
  """With γ = 1, of critics that disagree by the same everywhere and a policy that is random."""
  _, _, _, transition, noise = _steve_case(3, [0, 1, 2, 3], ends=False)
  transition = transition._replace(terminal=tf.zeros_like(transition.terminal))

  def act(s, e):
    return tf.tanh(s[..., :1] + 2.0 * e), s[..., 1] - e[..., 0]

  def q_value(s, a):
    value = s[..., 0] * a[..., 0]
    return tf.stack([value - 1.0, value, value + 1.0])

  return steve_targets(act, step, q_value, transition, noise, discount=1.0, temperature=0.2)[1]


def _known_step(s, a, e):
  del e
  after = 0.8 * s + a
  return after, after[..., 1] * a[..., 0], tf.zeros(s.shape[:-1], tf.bool)


def test_steve_trusts_all_rollouts_of_perfect_models_alike():
  """The policy's noise is not the models' disagreement; h = 0 has no advantage."""
  np.testing.assert_allclose(_weights_of_a_game(_known_step), 0.25, rtol=1e-6)


def test_steve_distrusts_rollouts_from_where_a_model_is_wrong():
  steps = []

  def wrong_from_the_second(s, a, e):
    after, reward, terminal = _known_step(s, a, e)
    steps.append(s)
    wrong = tf.constant([0.0, 0.0, 5.0 * (len(steps) >= 2), 0.0], s.dtype)[:, None]
    return after, reward + wrong, terminal

  weights = _weights_of_a_game(wrong_from_the_second).numpy()
  np.testing.assert_allclose(weights[0], weights[1], rtol=1e-6)
  assert np.all(weights[2:] < 0.2 * weights[1])


def test_no_gradient_flows_from_the_targets_of_steve():
  policy = Policy(2, 1, (8,), dtype="float64")
  critic = Critic(2, 1, hidden_units=(8,), dtype="float64")
  _, step, _, transition, noise = _steve_case(2, [0, 1, 2, 3])
  with tf.GradientTape() as tape:
    targets, _ = steve_targets(
      policy.act, step, critic, transition, noise, discount=0.9, temperature=0.2
    )
  variables = policy.trainable_variables + critic.trainable_variables
  assert tape.gradient(targets, variables) == [None] * len(variables)
