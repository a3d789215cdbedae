"""The study of the gradient's error, against finite differences and the objective itself."""

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm import objectives
from maac_tf.analysis import gradient_study
from maac_tf.analysis.gradient_study import CLOSED_LOOP, DISCOUNT, GAIN, A, B
from tests import commands

_noise = gradient_study.float64_noise
TRUTH = gradient_study.true_step, gradient_study.true_q


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
  noise = _noise(4, 144, 0)
  paths = gradient_study.follow(learned.step, learned.q, states, noise)
  got = gradient_study.gradients(paths, weight)[horizon]
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


def test_with_true_dynamics_and_q_the_error_falls_to_nothing():
  states, weight = gradient_study.start_states()
  paths = gradient_study.follow(*TRUTH, states, _noise(100, 144, 0))
  got = gradient_study.gradients(paths, weight)
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


def test_bounds(learned):
  """The one from sensitivities holds; the lemma's is the proof's recursion, one H at a time."""
  states, weight = gradient_study.start_states()
  noise = _noise(12, 144, 0)
  true, model = (
    gradient_study.follow(*f, states, noise) for f in (TRUTH, (learned.step, learned.q))
  )
  error = np.linalg.norm(
    gradient_study.gradients(model, weight) - gradient_study.gradients(true, weight), axis=-1
  )
  measured = gradient_study.sensitivity_bound(true, model, weight)
  assert np.all(measured > error)
  np.testing.assert_allclose(gradient_study.sensitivity_bound(true, true, weight), 0, atol=1e-9)

  def most(f, *names):
    return lambda t: max(
      f(x) for paths in (true, model) for n in names for x in getattr(paths, n)[t]
    )

  spectral = lambda m: np.linalg.norm(m, 2)  # noqa: E731
  sensitivity, l_f = most(spectral, "sensitivity"), most(spectral, "jacobian")
  l_q, l_r = most(np.linalg.norm, "q_gradient"), most(np.linalg.norm, "x")
  for horizon in (1, 2, 7):
    e_f = max(
      spectral(a - b)
      for a, b in zip(
        model.jacobian[:horizon].reshape(-1, 2, 3),
        true.jacobian[:horizon].reshape(-1, 2, 3),
        strict=True,
      )
    )
    e_q = np.linalg.norm(model.q_gradient - true.q_gradient, axis=-1)[horizon].max()
    lip = max(map(l_f, range(horizon))) * (1 + np.sqrt(2))
    c = sensitivity(0)
    k = max([1.0, *((sensitivity(t) / c) ** (1 / t) for t in range(1, horizon + 1))])
    e, want = 0.0, 0.0
    for t in range(horizon):
      want += DISCOUNT**t * max(map(l_r, range(horizon))) * e
      e = e_f * c * k**t + lip * e
    want += DISCOUNT**horizon * (e_q * c * k**horizon + l_q(horizon) * e)
    assert gradient_study.lemma_bound(true, model)[horizon] == pytest.approx(want, rel=1e-9)


def test_command_writes_table_and_figure(tmp_path):
  arguments = "--seeds=1", "--horizon=3", "--transitions=50", "--out=study"
  code, out, err = commands.run("gradient_error", *arguments, cwd=tmp_path)
  assert code == 0, err
  lines = (tmp_path / "study" / "gradient_error.csv").read_text().splitlines()
  assert lines[0].startswith("seed,H,true_dynamics,learned,") and len(lines) == 1 + 4
  assert (tmp_path / "study" / "gradient_error.png").read_bytes().startswith(b"\x89PNG")
  assert "the error is least at H = " in out
