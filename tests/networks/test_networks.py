"""Networks against NumPy and TFP."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from maac_tf.data.statistics import statistics_of
from maac_tf.data.types import Transition
from maac_tf.models.ensemble import Dynamics
from maac_tf.networks.critic import Critic
from maac_tf.networks.layers import NUMPY_ACTIVATIONS, EnsembleDense, normalizer, soft_clip
from maac_tf.networks.policy import Policy
from maac_tf.tasks.coordinates import PLAIN, Coordinates, sine_and_cosine, torso_frame

# Of one's own, in TensorFlow: a state x is seen with its first number's square.
SQUARE = PLAIN._replace(features=lambda x: tf.concat([x[..., :1] ** 2, x], -1))


def test_soft_clip_is_bounded_and_nearly_the_identity_inside():
  x = tf.constant([-1e3, -4.0, 0.0, 1e3], tf.float64)
  np.testing.assert_allclose(soft_clip(x, -10.0, 5.0), [-10, -4, 0, 5], atol=1e-2)


def test_ensemble_dense_keeps_members_apart():
  layer = EnsembleDense(3, 5, "relu", seed=1)
  x = np.random.default_rng(0).normal(size=(3, 7, 4)).astype(np.float32)
  got = layer(x)
  kernel, bias = layer.kernel.numpy(), layer.bias.numpy()
  for member in range(3):
    want = np.maximum(x[member] @ kernel[member] + bias[member], 0)
    np.testing.assert_allclose(got[member], want, atol=1e-5)
  limit = np.sqrt(6 / (4 + 5))  # Glorot's, of one member's kernel
  assert 0.8 * limit < np.abs(kernel).max() <= limit
  assert not np.allclose(kernel[0], kernel[1])


def test_policy_returns_a_distribution_and_act_its_log_probability():
  policy = Policy(3, 2, (16,), seed=2)
  observation = tf.random.stateless_normal([5, 3], [0, 1])
  noise = 0.5 * tf.random.stateless_normal([4, 5, 2], [0, 2])
  distribution = policy(observation)
  assert isinstance(distribution, tfp.distributions.Distribution)
  action, log_prob = policy.act(observation, noise)
  assert action.shape == (4, 5, 2) and log_prob.shape == (4, 5)
  np.testing.assert_allclose(log_prob, distribution.log_prob(action), atol=1e-3)
  np.testing.assert_allclose(
    policy.act(observation, tf.zeros([5, 2]))[0],
    np.tanh(distribution.distribution.mean()),
    rtol=1e-5,
  )


def test_some_of_the_critics_are_those_of_all():
  critic = Critic(3, 2, (8, 8), num_critics=5, seed=1)
  observation = tf.random.stateless_normal([4, 6, 3], [0, 1])
  action = tf.random.stateless_uniform([4, 6, 2], [0, 2], -1.0, 1.0)
  some = critic(observation, action, tf.constant([3, 1]))
  np.testing.assert_allclose(some, tf.gather(critic(observation, action), [3, 1]), atol=1e-6)


@pytest.mark.parametrize("activation", NUMPY_ACTIVATIONS)
def test_policy_in_numpy_and_in_plain_operations_is_the_policy(activation):
  policy = Policy(3, 2, (16, 16), activation, seed=2)
  policy.normalizer.fit(statistics_of(tf.random.stateless_normal([50, 3], [0, 3], 1.0, 2.0)))
  observation = 5.0 * tf.random.stateless_normal([40, 3], [0, 1])
  noise = tf.random.stateless_normal([40, 2], [0, 2])
  action = policy.in_numpy()(observation.numpy(), noise.numpy())
  np.testing.assert_allclose(action, policy.act(observation, noise)[0], atol=1e-5)
  one = policy.in_numpy()(observation[0].numpy(), noise[0].numpy())
  assert one.dtype == np.float32
  np.testing.assert_allclose(one, action[0], atol=1e-5)
  weights, plain = policy.plain()
  np.testing.assert_allclose(plain(weights, observation, noise), action, atol=1e-5)
  want, _ = policy.act(observation, tf.zeros_like(noise))
  np.testing.assert_allclose(plain(weights, observation, None), want, atol=1e-5)


@pytest.mark.parametrize(
  "seen", [sine_and_cosine(1), torso_frame(0, 4), SQUARE], ids=["sine", "torso", "own"]
)
def test_policy_and_critics_see_the_features_of_their_coordinates(seen):
  """As a network of plain observations does, of these features."""
  observation = tf.random.stateless_normal([50, 8], [0, 1])
  features = seen.features(observation)
  normals = tf.random.stateless_normal([50, 2], [0, 2])

  def networks(size, coordinates):
    kwargs = {"hidden_units": (16,), "coordinates": coordinates, "seed": 3}
    policy, critic = Policy(size, 2, **kwargs), Critic(size, 2, **kwargs)
    for network in (policy, critic):
      network.normalizer.fit(statistics_of(2.0 * features + 1.0))
    return policy, critic

  policy, critic = networks(8, seen)
  plain_policy, plain_critic = networks(features.shape[1], PLAIN)
  want, _ = plain_policy.act(features, normals)
  np.testing.assert_allclose(policy.act(observation, normals)[0], want, atol=1e-6)
  np.testing.assert_allclose(
    policy.in_numpy()(observation.numpy(), normals.numpy()), want, atol=1e-5
  )
  one = policy.in_numpy()(observation[0].numpy(), normals[0].numpy())
  np.testing.assert_allclose(one, want[0], atol=1e-5)
  values = plain_critic(features, normals)
  np.testing.assert_allclose(critic(observation, normals), values, atol=1e-6)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_policy_in_numpy_clips_the_deviation_as_the_policy_does():
  policy = Policy(3, 5, (16,), seed=2)
  kernel, bias = policy.trainable_variables[-2:]
  kernel.assign(tf.zeros_like(kernel))
  log_std = [-200.0, -11.0, 0.0, 3.0, 200.0]
  bias.assign(tf.reshape(tf.constant([0.0] * 5 + log_std), bias.shape))
  observation, noise = np.ones(3, np.float32), np.full(5, 0.1, np.float32)
  action = policy.in_numpy()(observation, noise)
  np.testing.assert_allclose(action, policy.act(observation, noise)[0], rtol=1e-4)


def test_policy_in_numpy_keeps_the_weights_it_was_made_with():
  policy = Policy(3, 2, (16,), seed=2)
  act = policy.in_numpy()
  before = act(np.ones(3, np.float32), 0.0)
  for variable in policy.trainable_variables:
    variable.value.assign_add(tf.ones_like(variable))
  np.testing.assert_array_equal(act(np.ones(3, np.float32), 0.0), before)


def test_an_activation_that_numpy_does_not_have_is_refused():
  with pytest.raises(ValueError, match="Policy.activation must be 'relu' or .*, not 'mish'"):
    Policy(3, 2, activation="mish")


@pytest.mark.parametrize("units", [64, (0,), (1.5,), (True,)])
def test_hidden_units_that_are_none_are_refused(units):
  message = "Dynamics.hidden_units must be a tuple of integers of 1 or more"
  with pytest.raises(ValueError, match=message):
    Dynamics(3, 2, hidden_units=units)


def test_policy_log_probability_is_a_density():
  """Its exponential integrates to one over the actions."""
  policy = Policy(2, 1, (8,), seed=0)
  actions = np.linspace(-1, 1, 20_001)[1:-1, None].astype(np.float32)
  density = np.exp(policy(tf.ones([1, 2])).log_prob(actions))
  np.testing.assert_allclose(np.trapezoid(density, actions[:, 0]), 1.0, atol=1e-3)


def test_critic_is_independent_networks_over_any_leading_dimensions():
  critic = Critic(3, 2, (8, 8), num_critics=3)
  observation, action = tf.ones([4, 6, 3]), tf.ones([4, 6, 2])
  values = critic(observation, action)
  assert values.shape == (3, 4, 6)
  assert len(np.unique(np.round(values[:, 0, 0], 6))) == 3
  np.testing.assert_allclose(critic(observation[0], action[0]), values[:, 0], rtol=1e-5)


def test_dynamics_predicts_in_units_of_the_environment():
  dynamics = Dynamics(2, 1, ensemble_size=3, hidden_units=(8,))
  rng = np.random.default_rng(0)
  observation = rng.normal(5, 100, (64, 2)).astype(np.float32)
  action = rng.normal(0, 1, (64, 1)).astype(np.float32)
  change = rng.normal([3.0, -1.0], [0.1, 20.0], (64, 2)).astype(np.float32)
  zeros = np.zeros(64, np.float32)
  rows = Transition(observation, action, zeros, observation + change, zeros)
  dynamics.set_normalizer(statistics_of(dynamics.columns(rows)))

  def tile(x):
    return tf.tile(x[None], [3, 1, 1])

  gaussian = dynamics(tile(observation), tile(action))
  # An untrained network predicts about the mean change, up to a few of its standard deviations.
  predicted = gaussian.mean().numpy()
  np.testing.assert_allclose(predicted.mean((0, 1)), [3.0, -1.0], atol=20)
  assert np.all(np.abs((predicted - change.mean(0)) / change.std(0)) < 5)
  one = dynamics.sample(tile(observation), tile(action), tf.ones([3, 64, 2]))
  np.testing.assert_allclose(one, gaussian.mean() + gaussian.stddev(), rtol=1e-5)
  after = dynamics.next_observation(tile(observation), one)
  np.testing.assert_allclose(after, observation + one, rtol=1e-5)


@pytest.mark.parametrize("constant", [0.1, -3e4, 0.0])
def test_a_constant_reads_zero_and_disturbs_nothing_when_it_moves(constant):
  layer = normalizer(2, "float32")
  rows = np.stack([np.full(50, constant), 1e-7 * np.arange(50.0)], -1).astype(np.float32)
  layer.fit(statistics_of(rows))
  read = layer(rows).numpy()
  assert not np.any(read[:, 0]) and read[:, 1].std() == pytest.approx(1.0)
  assert not np.any(layer(np.array([[1e5, 0.0]], np.float32))[:, 0])


def test_statistics_are_exact_far_from_zero():
  values = np.random.default_rng(0).normal(1_234.567, 0.01, (250_000, 1)).astype(np.float32)
  layer = normalizer(1, "float32")
  layer.fit(statistics_of(values))
  assert layer.mean.numpy() == pytest.approx(values.astype(np.float64).mean(), abs=1e-4)
  assert layer.scale.numpy() == pytest.approx(values.astype(np.float64).std(), rel=1e-5)


def test_layer_norm_takes_the_scale_of_the_first_layer_away():
  observation, action = tf.random.stateless_normal([9, 3], [1, 2]), tf.zeros([9, 2])
  for layer_norm in (False, True):
    critic = Critic(3, 2, hidden_units=(16, 16), activation="relu", layer_norm=layer_norm)
    first = critic._mlp.layers[0]
    first.kernel.assign(100 * first.kernel)  # far above the epsilon of the normalisation
    before = critic(observation, action)
    first.kernel.assign(10 * first.kernel)
    same = np.allclose(critic(observation, action), before, atol=0.02 * np.std(before))
    assert same == layer_norm


def test_a_critic_may_start_from_zero():
  arguments = tf.ones([4, 3]), tf.ones([4, 2])
  assert not np.any(Critic(3, 2, zero_last_layer=True)(*arguments))
  assert np.all(Critic(3, 2)(*arguments))


def test_constant_noise_is_of_the_errors_and_the_same_everywhere():
  rng = np.random.default_rng(0)
  columns = [rng.normal(size=(3, 50, *size)) for size in ((2,), (1,), (), (2,), ())]
  rows = Transition(*(tf.constant(c, tf.float32) for c in columns))
  dynamics = Dynamics(2, 1, ensemble_size=3, hidden_units=(8,), constant_noise=True)
  dynamics.set_normalizer(statistics_of(dynamics.columns(Transition(*(x[0] for x in rows)))))
  dynamics.set_noise(rows)
  gaussian = dynamics(rows.observation, rows.action)
  error = gaussian.mean() - (rows.next_observation - rows.observation)
  want = np.sqrt(np.mean(np.square(error), 1, keepdims=True)) * np.ones([3, 50, 2])
  np.testing.assert_allclose(gaussian.stddev(), want, rtol=1e-4)


def test_models_see_and_predict_in_their_coordinates():
  """Of a state x they see its square and predict how log x changes."""
  coordinates = Coordinates(
    features=SQUARE.features,
    change=lambda x, after: tf.math.log(after[..., 1:] / x[..., 1:]),
    apply=lambda x, change: tf.concat([x[..., :1], x[..., 1:] * tf.exp(change)], -1),
  )
  rng = np.random.default_rng(0)
  state, after = (rng.uniform(1, 3, (3, 50, 2)).astype(np.float32) for _ in range(2))
  after[..., 0] = state[..., 0]
  action, reward = np.ones([3, 50, 1], np.float32), rng.normal(size=(3, 50)).astype(np.float32)
  rows = Transition(*map(tf.constant, (state, action, reward, after, 0 * reward)))
  dynamics = Dynamics(2, 1, True, coordinates=coordinates, ensemble_size=3, hidden_units=(8,))
  assert dynamics.outcome_size == 2
  dynamics.set_normalizer(statistics_of(dynamics.columns(Transition(*(x[0] for x in rows)))))
  want = [*np.mean([state[0, :, 0] ** 2, *state[0].T], 1), 1.0]
  np.testing.assert_allclose(dynamics.input_normalizer.mean, want, rtol=1e-5)
  want = np.mean(np.log(after[0, :, 1] / state[0, :, 1])), np.mean(reward[0])
  np.testing.assert_allclose(dynamics.target_normalizer.mean, want, atol=1e-5)
  gaussian = dynamics(state, action)
  noise = (dynamics.outcome(rows) - gaussian.mean()) / gaussian.stddev()
  outcome = dynamics.sample(state, action, noise)
  np.testing.assert_allclose(dynamics.next_observation(state, outcome), after, atol=1e-5)
  np.testing.assert_allclose(outcome[..., 1], reward, atol=1e-5)


def test_the_models_noise_is_normal():
  noise = Dynamics(2, 1).draw_noise([200, 50], tf.constant([1, 2])).numpy()
  assert noise.shape == (200, 50, 2)
  np.testing.assert_allclose([noise.mean(), noise.std()], [0, 1], atol=0.03)
  assert np.mean(noise[..., 0] * noise[..., 1]) == pytest.approx(0, abs=0.05)
