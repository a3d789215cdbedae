"""The end of an episode as a probability: learned, weighed in returns, drawn in D_model."""

import dataclasses

import gin
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm import objectives
from maac_tf.algorithm.imagined_data import ImaginedData
from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.objectives import Path, imagine_path, path_return
from maac_tf.algorithm.rollout import RolloutNoise, Trajectory
from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import Transition
from maac_tf.models.ensemble import Dynamics
from maac_tf.models.fit import DynamicsFit
from maac_tf.tasks.registry import find_task
from tests.conftest import TINY
from tests.learners import eagerly

SEED = tf.constant([3, 4], tf.int64)
H, B = 4, 5


def _path(terminal):
  """Rewards, values and log-probabilities are random; only these and the ends matter."""
  rng = np.random.default_rng(0)
  rows = [[tf.constant(rng.normal(size=B)) for _ in range(H)] for _ in range(2)]
  not_done = [tf.ones(B, tf.float64)]
  for p in terminal:
    not_done.append(not_done[-1] * (1.0 - p))
  states = [tf.zeros([B, 1], tf.float64)] * (H + 1)
  trajectory = Trajectory(states, states[:-1], rows[0], rows[1], list(terminal), not_done)
  path = Path(trajectory, tf.zeros([1, B, 1], tf.float64), tf.constant(rng.normal(size=(1, B))))
  return path, tf.constant(rng.normal(size=(1, B)))


@pytest.mark.parametrize("kind", ["probability", "indicator"])
def test_a_return_weighs_what_comes_after_an_end_by_the_survival_probability(kind):
  """Against a sum over t, with c_t the product of the probabilities before."""
  p = np.random.default_rng(1).uniform(0, 1, (H, B))
  p = p if kind == "probability" else np.round(p)
  path, value = _path(tf.unstack(tf.constant(p)))
  got = path_return(path, lambda s, a: value, (0, 2, H), discount=0.9, temperature=0.3)
  want, c = np.zeros(B), np.ones(B)
  for t in range(H):
    bonus = 0.3 * path.trajectory.log_prob[t].numpy() if t in (0, 2) else 0.0
    want += 0.9**t * c * (path.trajectory.reward[t].numpy() - bonus)
    c = c * (1 - p[t])
  want += 0.9**H * c * (value - 0.3 * path.final_log_prob).numpy()[0]
  np.testing.assert_allclose(got, want, rtol=1e-12)


def test_what_is_beyond_a_certain_end_may_be_no_number():
  p = np.zeros((H, B))
  p[1, :2] = 1.0
  path, value = _path(tf.unstack(tf.constant(p)))
  value = tf.where(tf.range(B) < 2, tf.constant(np.nan, tf.float64), value)
  got = path_return(path, lambda s, a: value, (), discount=0.9, temperature=0.0).numpy()
  assert np.isfinite(got).all()


def test_the_policys_gradient_sees_an_end_coming():
  """By finite differences, through the probability of the end alone: reward 1 while alive."""

  def act(state, noise):
    del noise
    return gain * state, tf.zeros(state.shape[:-1], state.dtype)

  def step(state, action, noise):
    del noise
    after = state + 0.1 * action
    return after, tf.ones(state.shape[:-1], state.dtype), tf.sigmoid(3.0 * after[..., 0] - 1.0)

  start = tf.constant(np.random.default_rng(2).uniform(-1, 1, (7, 1)))
  noise = objectives.PolicyNoise(
    RolloutNoise(tf.zeros([H, 7, 1], tf.float64), tf.zeros([H, 1])), tf.zeros([1, 7, 1], tf.float64)
  )

  def loss():
    path = imagine_path(act, step, start, noise)
    value = lambda s, a: 2.0 + 0.0 * s[..., 0]  # noqa: E731
    return objectives.policy_loss(path, value, discount=0.9, temperature=0.0)

  gain = tf.Variable(0.7, dtype=tf.float64)
  with tf.GradientTape() as tape:
    found = loss()
  gradient = float(tape.gradient(found, gain))
  values = []
  for shift in (1e-6, -1e-6):
    gain.assign(0.7 + shift)
    values.append(float(loss()))
  assert abs(gradient) > 1e-2
  assert gradient == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


def _fitted(probability, count=4_000):
  rng = np.random.default_rng(0)
  state, action = rng.normal(size=(count, 2)), rng.uniform(-1, 1, (count, 1))
  ends = rng.uniform(size=count) < probability(state, action)
  after = 0.9 * state + 0.1 * action + 0.1 * rng.normal(size=state.shape)
  columns = state, action, np.zeros(count), after, ends
  dynamics = Dynamics(2, 1, predicts_end=True, ensemble_size=4, hidden_units=(32, 32), seed=1)
  buffer = ReplayBuffer(count, 2, 1)
  buffer.add(Transition(*(tf.constant(c, tf.float32) for c in columns)))
  fit = DynamicsFit(dynamics, buffer, seed=3, max_batches=600, recent_fraction=0.0)
  report = fit.fit(tf.constant([1, 2]))
  rows = [tf.tile(tf.constant(x, tf.float32)[None], [4, 1, 1]) for x in (state, action)]
  outcome = dynamics.sample(*rows, tf.zeros([4, count, 2]))
  assert outcome.shape == (4, count, 3) and np.isfinite(report["validation_loss"])
  return outcome[..., -1].numpy(), dynamics


def test_the_probability_of_an_end_is_learned():
  """Of a process whose probability is known, from what happened alone."""
  rng = np.random.default_rng(0)
  state = rng.normal(size=(4_000, 2))

  def probability(s, a):
    return 1 / (1 + np.exp(-(4 * s[:, 0] - 4)))

  learned, dynamics = _fitted(probability)
  error = np.abs(learned - probability(state, None))
  assert error.mean() < 0.03, error.mean()
  assert dynamics.outcome_size == 2  # the noise is of the change alone


def test_what_never_ends_is_expected_never_to_end():
  learned, _ = _fitted(lambda s, a: np.zeros(len(s)))
  assert learned.max() == 0.0


@pytest.mark.parametrize("max_batches", [1, None])
def test_members_begin_at_the_observed_rate(max_batches):
  """After a fit of next to nothing; in the weights that training goes on from, too."""
  rng = np.random.default_rng(0)
  state, action = rng.normal(size=(300, 2)), rng.uniform(-1, 1, (300, 1))
  dynamics = Dynamics(2, 1, predicts_end=True, ensemble_size=2, hidden_units=(8,), seed=1)
  buffer = ReplayBuffer(600, 2, 1)
  options = {"max_batches": max_batches, "recent_fraction": 0.0, "learning_rate": 1e-5}
  fit = DynamicsFit(dynamics, buffer, seed=3, **options)
  rows = tf.tile(tf.constant(state[None], tf.float32), [2, 1, 1]), tf.zeros([2, 300, 1])
  for ends, rate in ((np.zeros(300), 0.0), (np.arange(300) < 12, 12 / 600)):
    columns = state, action, np.zeros(300), state, ends
    buffer.add(Transition(*(tf.constant(c, tf.float32) for c in columns)))
    fit.fit(tf.constant([1, 2]))
    for _ in range(2):
      probability = dynamics.sample(*rows, tf.zeros([2, 300, 2]))[..., -1]
      np.testing.assert_allclose(probability, rate, atol=2e-3)
      fit._swap()


def test_ends_are_drawn_in_d_model_and_the_learner_trains():
  gin.parse_config(TINY)
  task = dataclasses.replace(find_task("pendulum"), termination_fn=None)
  learner = Maac(task, task.make_environment(), seed=0)
  assert learner.model_env.predicts_end
  rng = np.random.default_rng(0)
  columns = [rng.normal(size=(200, n)) for n in (3, 1, 3)]
  rewards, ends = rng.normal(size=200), rng.uniform(size=200) < 0.3
  learner.env_buffer.add(
    Transition(*(tf.constant(c, tf.float32) for c in (*columns[:2], rewards, columns[2], ends)))
  )
  learner.begin_iteration()
  learner.dynamics.see_ends(float(ends.sum()), 200)
  imagined = ImaginedData(learner, 1_200)
  share = float(imagined.fill(400, 3, SEED))
  stored = learner.model_buffer.newest(1_200).terminal.numpy()
  assert set(stored) == {0.0, 1.0}
  assert share == pytest.approx(stored.mean(), abs=1e-6) and 0.2 < share < 0.4
  with eagerly():
    assert np.isfinite(learner.train(1, SEED)["critic/loss"])
