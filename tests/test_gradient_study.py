"""The study of the gradient's error, against finite differences and the objective itself."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from maac_tf import gradient_study, objectives
from maac_tf.gradient_study import CLOSED_LOOP, DISCOUNT, GAIN, A, B
from maac_tf.imagine import RolloutNoise
from maac_tf.noise import rollout_noise


def _noise(horizon, seed=0):
  noise = rollout_noise(horizon, 144, 1, 2, tf.constant([seed, 1]))
  cast = tf.nest.map_structure(lambda x: tf.cast(x, tf.float64), noise.model[0])
  return RolloutNoise(tf.cast(noise.action, tf.float64), (cast, noise.model[1]))


@pytest.fixture(scope="module")
def learned():
  return gradient_study.learn(0, num_transitions=100, critic_updates=50)


def test_analytic_gradient_is_that_of_simulated_returns():
  states, weight = gradient_study.start_states()

  def expected_return(gain):
    state, total = states, 0.0
    for t in range(3_000):
      action = state @ gain.T
      reward = -0.5 * (np.sum(state**2, -1) + np.sum(action**2, -1))
      total += DISCOUNT**t * weight @ reward
      state = state @ A.T + action @ B.T
    return total

  steps = 1e-5 * np.eye(2)[:, np.newaxis]
  want = [(expected_return(GAIN + s) - expected_return(GAIN - s)) / 2e-5 for s in steps]
  np.testing.assert_allclose(gradient_study.analytic_gradient()[0], want, rtol=1e-6)


def test_true_q_is_the_discounted_sum():
  state, action = np.array([[0.3, -0.8]]), np.array([[0.6]])
  want, s, a = 0.0, state, action
  for t in range(3_000):
    want -= DISCOUNT**t * 0.5 * (np.sum(s**2) + np.sum(a**2))
    s = s @ A.T + a @ B.T
    a = s @ GAIN.T
  got = gradient_study.true_q(tf.constant(state), tf.constant(action))
  np.testing.assert_allclose(got, [want], rtol=1e-9)


@pytest.mark.parametrize("horizon", [0, 1, 4])
def test_gradients_of_all_horizons_are_those_of_the_policy_loss(learned, horizon):
  states, weight = gradient_study.start_states()
  noise = _noise(4)
  got = gradient_study.gradients(learned.step, learned.q, 4, states, weight, noise)[horizon]
  gain = tf.Variable(GAIN)

  def act(state, noise):
    action = tf.matmul(state, gain, transpose_b=True) + 0.0 * noise
    return action, tf.zeros(tf.shape(action)[:-1], tf.float64)

  noise = tf.nest.map_structure(lambda x: x[:horizon], noise)
  with tf.GradientTape() as tape:
    path = objectives.imagine_path(
      act,
      learned.step,
      tf.constant(states),
      objectives.PolicyNoise(noise, tf.zeros([1, 144, 1], tf.float64)),
    )
    parameters = {"discount": DISCOUNT, "temperature": 0.0}
    returns = objectives.path_return(path, learned.q, (), **parameters)
    total = tf.tensordot(tf.constant(weight), returns, 1)
  np.testing.assert_allclose(got, tape.gradient(total, gain)[0], rtol=1e-9, atol=1e-12)
  loss = objectives.policy_loss(path, learned.q, soft_returns=False, **parameters)
  np.testing.assert_allclose(-loss, np.mean(returns), rtol=1e-12)


def test_with_true_dynamics_and_q_the_error_falls_to_nothing():
  states, weight = gradient_study.start_states()
  truth = gradient_study.true_step, gradient_study.true_q
  got = gradient_study.gradients(*truth, 100, states, weight, _noise(100))
  full = gradient_study.analytic_gradient()[0]
  error = np.abs(got - full).sum(-1) / np.abs(full).sum()
  assert np.all(np.diff(error) < 0)
  # In closed form: what is missing after H steps.
  moments, partial = np.eye(2) / 3, np.zeros((1, 2))
  slope = -(GAIN + DISCOUNT * B.T @ gradient_study.value_matrix() @ CLOSED_LOOP)
  for t in range(101):
    partial += DISCOUNT**t * slope @ moments
    moments = CLOSED_LOOP @ moments @ CLOSED_LOOP.T
    assert error[t] == pytest.approx(np.abs(partial - full).sum() / np.abs(full).sum(), abs=1e-9)


def test_the_bound_from_sensitivities_holds_and_is_zero_without_error(learned):
  states, weight = gradient_study.start_states()
  rollouts = 12, states, weight, _noise(12)
  truth = gradient_study.true_step, gradient_study.true_q
  reference = gradient_study.gradients(*truth, *rollouts)
  got = gradient_study.gradients(learned.step, learned.q, *rollouts)
  error = np.linalg.norm(got - reference, axis=-1)
  lemma, measured = gradient_study.bounds(learned, *rollouts)
  assert np.all(measured > error) and np.all(lemma > 0)

  class Truth:
    step, q = staticmethod(truth[0]), staticmethod(truth[1])

  for bound in gradient_study.bounds(Truth, *rollouts):
    np.testing.assert_allclose(bound, 0.0, atol=1e-9)


def test_command_writes_table_and_figure(tmp_path):
  command = [sys.executable, "-m", "maac_tf.gradient_error", "--seeds=2", "--horizon=3"]
  command += ["--transitions=50", "--out=study"]
  done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=600)
  assert done.returncode == 0, done.stderr
  lines = (tmp_path / "study" / "gradient_error.csv").read_text().splitlines()
  assert lines[0].startswith("seed,H,true_dynamics,learned,") and len(lines) == 1 + 2 * 4
  assert (tmp_path / "study" / "gradient_error.png").read_bytes().startswith(b"\x89PNG")
  assert "the error is least at H = " in done.stdout
