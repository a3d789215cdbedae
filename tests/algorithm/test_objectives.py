"""The objective against closed forms, finite differences and NumPy loops."""

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm import objectives
from maac_tf.algorithm.critic_targets import path_targets
from maac_tf.algorithm.objectives import PolicyNoise
from maac_tf.algorithm.rollout import RolloutNoise, Trajectory
from maac_tf.models.members import random_member
from maac_tf.networks.critic import Critic
from maac_tf.networks.policy import Policy
from maac_tf.tasks.double_integrator import DT
from maac_tf.tasks.registry import find_task

RNG = np.random.default_rng


def _policy_noise(horizon, trajectories, final_actions, sizes, seed=0):
  rng = RNG(seed)
  state, action = sizes
  permutation = rng.permuted(np.tile(np.arange(trajectories), (horizon, 1)), axis=1)
  return PolicyNoise(
    rollout=RolloutNoise(
      action=tf.constant(rng.normal(size=(horizon, trajectories, action))),
      model=(
        tf.constant(rng.normal(size=(horizon, trajectories, state))),
        tf.constant(permutation, tf.int32),
      ),
    ),
    final_action=tf.constant(rng.normal(size=(final_actions, trajectories, action))),
  )


def _linear_gaussian(ensemble_size=2, state=3, action=2):
  """An ensemble of known linear-Gaussian models with a smooth reward, as a `step`."""
  rng = RNG(7)
  a = tf.constant(0.4 * rng.normal(size=(ensemble_size, state, state)))
  b = tf.constant(rng.normal(size=(ensemble_size, action, state)))

  def predict(observation, action, noise):
    return tf.matmul(observation, a) + tf.matmul(action, b) + 0.1 * noise

  def step(observation, action, noise):
    after = random_member(predict, ensemble_size, observation, action, *noise)
    reward = tf.sin(after[..., 0]) - 0.1 * tf.reduce_sum(tf.square(action), -1)
    return after, reward, after[..., 1] > 2.0

  return step


def _least(q_value):
  return lambda s, a: tf.reduce_min(q_value(s, a), 0)


def _policy_loss(act, step, value, observation, noise, **parameters):
  """Imagines, and returns loss and path."""
  path = objectives.imagine_path(act, step, observation, noise)
  return objectives.policy_loss(path, value, **parameters), path


@pytest.mark.parametrize("horizon", range(5))
def test_policy_gradient_equals_finite_differences(horizon):
  policy = Policy(3, 2, (8,), "tanh", dtype="float64")
  critic = Critic(3, 2, hidden_units=(8,), activation="tanh", dtype="float64")
  observation = tf.constant(RNG(1).normal(size=(6, 3)))
  noise = _policy_noise(horizon, 6, 3, (3, 2))
  variables = [v.value for v in policy.trainable_variables]

  def loss():
    return _policy_loss(
      policy.act,
      _linear_gaussian(),
      _least(critic),
      observation,
      noise,
      discount=0.9,
      temperature=0.3,
    )[0]

  with tf.GradientTape() as tape:
    value = loss()
  gradient = tape.gradient(value, variables)
  rng = RNG(2)
  for _ in range(3):
    direction = [rng.normal(size=v.shape) for v in variables]
    epsilon = 1e-6
    sides = []
    for sign in (1, -1):
      for v, d in zip(variables, direction, strict=True):
        v.assign_add(sign * epsilon * d)
      sides.append(loss().numpy())
      for v, d in zip(variables, direction, strict=True):
        v.assign_sub(sign * epsilon * d)
    numerical = (sides[0] - sides[1]) / (2 * epsilon)
    analytic = sum(np.sum(g * d) for g, d in zip(gradient, direction, strict=True))
    assert abs(numerical) > 1e-3
    assert analytic == pytest.approx(numerical, rel=1e-6)


def test_horizon_zero_is_the_policy_loss_of_sac():
  policy, critic = Policy(3, 2, (8,)), Critic(3, 2, hidden_units=(8,))
  observation = RNG(1).normal(size=(6, 3)).astype(np.float32)
  noise = tf.nest.map_structure(
    lambda x: tf.cast(x, tf.float32) if x.dtype.is_floating else x,
    _policy_noise(0, 6, 1, (3, 2)),
  )
  loss, path = _policy_loss(
    policy.act, None, _least(critic), tf.constant(observation), noise, discount=0.9, temperature=0.3
  )
  # SAC, written out: a = tanh(μ + σ ε), log π with the density of the tanh, min of the critics.
  gaussian = policy(observation).distribution
  mean, std = gaussian.mean().numpy(), gaussian.stddev().numpy()
  epsilon = noise.final_action[0].numpy()
  action = np.tanh(mean + std * epsilon)
  log_pi = -0.5 * epsilon**2 - np.log(std) - 0.5 * np.log(2 * np.pi) - np.log(1 - action**2)
  log_pi = log_pi.sum(-1)
  value = critic(observation, action).numpy().min(0)
  np.testing.assert_allclose(path.final_log_prob[0], log_pi, atol=1e-5)
  assert loss.numpy() == pytest.approx(np.mean(0.3 * log_pi - value), abs=1e-5)


class _LinearControl:
  """The double integrator under a = θ·s, with its true value function -sᵀPs, in closed form."""

  discount = 0.99
  a = np.array([[1.0, DT], [0.0, 1.0]])
  b = np.array([[0.0], [DT]])

  def value_matrix(self, gain):
    """P of V(s) = -sᵀPs: P = (I + θθᵀ)/2 + γ MᵀPM with M = A + Bθᵀ, by vectorisation."""
    m = self.a + self.b @ gain[None]
    cost = 0.5 * (np.eye(2) + np.outer(gain, gain))
    p = np.linalg.solve(np.eye(4) - self.discount * np.kron(m.T, m.T), cost.reshape(4))
    return p.reshape(2, 2)

  def action_gradient(self, gain, states):
    """∂Q/∂a at a = θ·s: -(a + 2 γ Bᵀ P M s)."""
    m = self.a + self.b @ gain[None]
    downstream = states @ (2 * self.discount * self.b.T @ self.value_matrix(gain) @ m).T
    return -(states @ gain[:, None] + downstream)[:, 0]

  def closed_form(self, gain, states, horizon):
    """Σ_{t=0..H} γ^t (∂π/∂θ)ᵀ ∂Q/∂a, averaged over the start states."""
    m, total = self.a + self.b @ gain[None], 0.0
    for t in range(horizon + 1):
      total += self.discount**t * self.action_gradient(gain, states) @ states / len(states)
      states = states @ m.T
    return total

  def maac_gradient(self, gain, states, horizon):
    task = find_task("double_integrator")
    theta = tf.Variable(gain)
    p = tf.constant(self.value_matrix(gain))

    def next_state(s, a):
      return s @ self.a.T + a @ self.b.T

    def act(s, noise):
      del noise
      return tf.linalg.matvec(s, theta)[..., None], tf.zeros(tf.shape(s)[:-1], s.dtype)

    def step(s, a, noise):
      del noise
      after = next_state(s, a)
      return after, task.reward_fn(s, a, after), task.termination_fn(s, a, after)

    def q_value(s, a):
      after = next_state(s, a)
      value = -tf.reduce_sum(after * (after @ p), -1)
      return task.reward_fn(s, a, after) + self.discount * value

    noise = PolicyNoise(
      RolloutNoise(tf.zeros([horizon, len(states), 1], tf.float64), ()),
      tf.zeros([1, len(states), 1], tf.float64),
    )
    with tf.GradientTape() as tape:
      loss, _ = _policy_loss(
        act, step, q_value, tf.constant(states), noise, discount=self.discount, temperature=0.0
      )
    return -tape.gradient(loss, theta).numpy()


def test_double_integrator_gradient_is_the_closed_form_and_nears_the_full_one():
  control, gain = _LinearControl(), np.array([-1.0, -1.0])
  # Four states with the second moments of the uniform distribution on [-1, 1]²: all is quadratic.
  states = np.sqrt(2 / 3) * np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])

  def expected_return(theta):
    return -np.trace(control.value_matrix(theta)) / 3

  steps = 1e-6 * np.eye(2)
  full = np.array([(expected_return(gain + s) - expected_return(gain - s)) / 2e-6 for s in steps])
  distances = []
  for horizon in (0, 1, 2, 4, 20, 80):
    gradient = control.maac_gradient(gain, states, horizon)
    np.testing.assert_allclose(
      gradient, control.closed_form(gain, states, horizon), rtol=1e-9, atol=1e-12
    )
    distances.append(np.abs(gradient - full).sum() / np.abs(full).sum())
  assert distances == sorted(distances, reverse=True)
  assert distances[0] > 0.9 and distances[-1] < 0.02


def test_policy_loss_stops_counting_after_termination():
  """Rewards 1, 2, 4; the second step terminates: 1 + γ 2, no third reward, no bootstrap."""

  def act(s, noise):
    return 0 * noise, s[..., 0] * 0

  def step(s, a, noise):
    del a, noise
    return s + 1, tf.pow(2.0, s[..., 0]), s[..., 0] >= 1

  noise = PolicyNoise(RolloutNoise(tf.zeros([3, 1, 1]), ()), tf.zeros([1, 1, 1]))
  loss, path = _policy_loss(
    act,
    step,
    lambda s, a: tf.fill(a.shape[:-1], 1e6),
    tf.zeros([1, 1]),
    noise,
    discount=0.5,
    temperature=0.0,
  )
  assert -loss.numpy() == pytest.approx(1 + 0.5 * 2)
  np.testing.assert_allclose(np.stack(path.trajectory.not_done)[:, 0], [1, 1, 0, 0])


@pytest.mark.parametrize("horizon", [0, 1, 3])
def test_path_returns_equal_a_loop(horizon):
  """Of the policy's objective and of the critics' targets, one number at a time."""
  rng, batch, finals, discount, temperature = RNG(5), 6, 2, 0.9, 0.2
  reward, log_prob = rng.normal(size=(2, horizon, batch))
  final_log_prob, value = rng.normal(size=(2, finals, batch))
  terminal = rng.uniform(size=(horizon, batch)) < 0.3
  not_done = np.cumprod(np.concatenate([np.ones((1, batch)), 1.0 - terminal]), 0)
  constants = [tf.unstack(tf.constant(x)) for x in (reward, log_prob, not_done)]
  states, actions = [tf.zeros([batch, 2])] * (horizon + 1), [tf.zeros([batch, 1])] * horizon
  trajectory = Trajectory(states, actions, constants[1], constants[0], list(terminal), constants[2])
  path = objectives.Path(trajectory, tf.zeros([finals, batch, 1]), tf.constant(final_log_prob))
  parameters = {"discount": discount, "temperature": temperature}

  def returns(entropy_steps):
    found = []
    for i in range(batch):
      alive, total = 1.0, 0.0
      bonus = [temperature * (t in entropy_steps) for t in range(horizon + 1)]
      for t in range(horizon):
        total += discount**t * alive * (reward[t, i] - bonus[t] * log_prob[t, i])
        alive *= 0.0 if terminal[t, i] else 1.0
      last = np.mean([value[n, i] - bonus[-1] * final_log_prob[n, i] for n in range(finals)])
      found.append(total + discount**horizon * alive * last)
    return found

  def believed(observation, action):
    return tf.constant(value)

  for steps in ((), (0,), range(horizon + 1)):
    got = objectives.path_return(path, believed, steps, **parameters)
    np.testing.assert_allclose(got, returns(steps), rtol=1e-12)
  loss = objectives.policy_loss(path, believed, **parameters)
  assert loss.numpy() == pytest.approx(-np.mean(returns((0,))))
  if horizon:
    targets = path_targets(path, believed, **parameters)
    np.testing.assert_allclose(targets, returns(range(1, horizon + 1)), rtol=1e-12)


def test_policy_loss_averages_over_final_actions_of_the_worse_critic():
  def act(s, noise):
    return s + noise, -s[..., 0]

  def q_value(s, a):
    del s
    return tf.stack([a[..., 0], 3 - a[..., 0]])

  final = tf.constant([0.0, 1.0, 2.0])[:, None, None]
  noise = PolicyNoise(RolloutNoise(tf.zeros([0, 1, 1]), ()), final)
  loss, _ = _policy_loss(
    act, None, _least(q_value), tf.ones([1, 1]), noise, discount=0.9, temperature=0.25
  )
  # Actions 1, 2, 3: the worse values are 1, 1, 0; log π = -1.
  assert loss.numpy() == pytest.approx(-0.25 - 2 / 3)


def test_policy_gradient_has_nothing_of_what_comes_after_an_end():
  """Where reward, policy and critic are not even numbers. One start of two ends at once."""
  gain = tf.Variable(0.5, dtype=tf.float64)
  starts = tf.constant([[1.0], [4.0]], tf.float64)

  def act(observation, noise):
    return gain * tf.sqrt(observation) + 0.0 * noise, tf.zeros_like(observation[..., 0])

  def step(observation, action, noise):
    after = observation - 2.5 + action  # -1 and 2.5, then 0.79
    return after, tf.sqrt(observation[..., 0]), after[..., 0] < 0.0

  noise = PolicyNoise(
    RolloutNoise(tf.zeros([2, 2, 1], tf.float64), tf.zeros([2])), tf.zeros([1, 2, 1], tf.float64)
  )

  def value(observation, action):
    return tf.sqrt(observation[..., 0]) * action[..., 0]

  with tf.GradientTape() as tape:
    parameters = {"discount": 0.9, "temperature": 0.0}
    got, path = _policy_loss(act, step, value, starts, noise, **parameters)
  np.testing.assert_array_equal(path.trajectory.not_done[-1], [0.0, 1.0])
  gradient = tape.gradient(got, gain)

  def by_hand(gain):
    s1 = 4.0 - 2.5 + gain * 2.0
    s2 = s1 - 2.5 + gain * np.sqrt(s1)
    return -0.5 * (1.0 + 2.0 + 0.9 * np.sqrt(s1) + 0.81 * gain * s2)

  np.testing.assert_allclose(got, by_hand(0.5), rtol=1e-12)
  np.testing.assert_allclose(
    gradient, (by_hand(0.5 + 1e-6) - by_hand(0.5 - 1e-6)) / 2e-6, rtol=1e-7
  )


def test_critic_and_temperature_losses():
  values = tf.constant([[1.0, 3.0], [0.0, 0.0]])
  loss = objectives.critic_loss(lambda s, a: values, None, None, tf.constant([1.0, 1.0]))
  assert loss.numpy() == pytest.approx((0 + 4) / 2 + (1 + 1) / 2)
  log_temperature = tf.Variable(0.5)
  with tf.GradientTape() as tape:
    # Entropy 3 where -1 is asked for: the temperature has to fall.
    loss = objectives.temperature_loss(log_temperature, tf.constant([-2.0, -4.0]), -1.0)
  assert tape.gradient(loss, log_temperature).numpy() == pytest.approx(4.0)
