"""What is measured of a trained learner, against loops over real episodes."""

import csv
import dataclasses
import shutil

import gin
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm.real_returns import Episode, correlation, critic_errors, soft_returns
from maac_tf.analysis import diagnosis
from maac_tf.data.types import Transition
from maac_tf.runs.experiment import build_trainer
from maac_tf.tasks.registry import find_task
from tests import commands
from tests.conftest import TINY


def _measured(name, *bindings, episodes=4):
  gin.parse_config([*TINY, *bindings])
  learner = build_trainer(name).learner
  scale = learner.dynamics.target_normalizer.scale
  scale.assign(tf.fill(scale.shape, 0.3))
  return learner, diagnosis.collect_episodes(learner.task, learner, range(7, 7 + episodes))


def test_episodes_are_those_of_the_environment_under_the_sampled_policy():
  learner, episodes = _measured("hopper_v5")
  for seed, (transition, log_prob) in zip(range(7, 11), episodes, strict=True):
    environment = find_task("hopper_v5").make_environment()
    np.testing.assert_array_equal(transition.observation[0], environment.reset(seed))
    for t, action in enumerate(transition.action):
      step = environment.step(action)
      np.testing.assert_array_equal(transition.next_observation[t], step.observation)
      assert transition.reward[t] == pytest.approx(step.reward, rel=1e-6)
      assert transition.terminal[t] == step.terminal == (t == len(log_prob) - 1)
    density = learner.actor_critic.policy(transition.observation).log_prob(transition.action)
    np.testing.assert_allclose(log_prob, density, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", ["hopper_v5", "pendulum"])  # one terminates, one is cut off
def test_soft_returns_are_discounted_sums(name):
  learner, episodes = _measured(name, "Maac.discount = 0.9", "ActorCritic.bound_values = False")
  transition, log_prob = episodes[0]
  terminal, steps = name == "hopper_v5", len(log_prob)
  assert transition.terminal[-1] == terminal
  returns = soft_returns(learner, episodes[0], 0.5)
  for t in (0, 3, steps - 1):
    want = sum(
      0.9 ** (k - t) * (transition.reward[k] - 0.5 * log_prob[k] * (k > t)) for k in range(t, steps)
    )
    if not terminal:
      last = np.repeat(transition.next_observation[-1:], 4_000, 0)
      noise = np.random.default_rng(0).normal(size=(4_000, 1)).astype(np.float32)
      actions, log_probs = learner.act(last, noise)
      value = np.mean(np.mean(learner.actor_critic.critic(last, actions), 0) - 0.5 * log_probs)
      want += 0.9 ** (steps - t) * value
    assert returns[t] == pytest.approx(want, rel=1e-4, abs=0.0 if terminal else 0.2)


def _still(learner):
  """Models that predict no change, with a variance (of the normalised change) of 1."""
  for variable in learner.dynamics.trainable_variables:
    variable.assign(tf.zeros_like(variable))
  assert not np.any(learner.dynamics.log_var)


def test_open_loop_error_of_models_that_predict_no_change():
  learner, episodes = _measured("hopper_v5")
  _still(learner)
  stored = episodes[0].transition
  learner.env_buffer.add(Transition(*map(tf.constant, stored)))
  longest = max(len(e.log_prob) for e in episodes)
  error, counts = diagnosis.open_loop_error(learner, episodes, horizon=10**3, num_starts=10**6)
  assert len(error) == longest
  for h in (1, 4, longest):
    moved = [
      e.transition.next_observation[t + h - 1] - e.transition.observation[t]
      for e in episodes
      for t in range(len(e.log_prob) - h + 1)
    ]
    assert counts[h - 1] == len(moved)
    want = np.sqrt(np.mean(np.square(moved), 0)) / stored.observation.std(0)
    np.testing.assert_allclose(error[h - 1], want, rtol=1e-4)
  for few in (1, 2, 3):  # of states drawn at random none may have `longest` steps after it
    error, counts = diagnosis.open_loop_error(learner, episodes, num_starts=few)
    assert np.all(counts > 0) and np.all(np.isfinite(error))


@pytest.mark.parametrize("name", ["hopper_v5", "ant_v5"])
def test_one_step_error_of_models_that_predict_no_change(name):
  """Of the state, also where models predict in other coordinates, fewer than it has numbers."""
  learner, episodes = _measured(name, episodes=2)
  _still(learner)
  joined = [np.concatenate(x) for x in zip(*(e.transition for e in episodes), strict=True)]
  observation, _, reward, after, _ = joined
  coordinates, n = learner.dynamics.coordinates, learner.dynamics.outcome_size - 1
  predicted = coordinates.apply(observation, tf.zeros([len(reward), n]))  # a unit quaternion's
  error = np.concatenate([after - predicted, reward[:, np.newaxis]], -1)
  moved = np.concatenate([after - observation, reward[:, np.newaxis]], -1)
  want = np.sqrt(np.mean(error**2, 0)) / moved.std(0)
  np.testing.assert_allclose(diagnosis.one_step_error(learner, episodes), want, rtol=1e-4)
  constant = [e._replace(transition=e.transition._replace(reward=0 * e.log_prob)) for e in episodes]
  np.testing.assert_allclose(
    diagnosis.one_step_error(learner, constant), [*want[:-1], 0], rtol=1e-4
  )


def test_calibration_counts_what_lies_inside():
  learner, episodes = _measured("hopper_v5")
  _still(learner)
  probability, share = diagnosis.calibration(learner, episodes)
  i = np.argmin(np.abs(probability - 0.68))  # one standard deviation, 0.3
  joined = [np.concatenate(x) for x in zip(*(e.transition for e in episodes), strict=True)]
  observation, _, reward, after, _ = joined
  moved = np.concatenate([after - observation, reward[:, np.newaxis]], -1)
  np.testing.assert_allclose(share[i], np.mean(np.abs(moved) < 0.2984, 0), atol=0.01)
  assert np.all(np.diff(share, axis=0) >= 0)


def test_values_compare_what_is_believed_with_what_came():
  """All rewards are 1 a step in the world and in the models, and the critics start from 0."""
  settings = "Maac.discount = 0.95", "Maac.initial_temperature = 1e-6"
  learner, episodes = _measured("pendulum", *settings)
  learner.model_env._task = dataclasses.replace(
    learner.model_env._task,
    reward_fn=lambda observation, action, after: tf.ones(tf.shape(observation)[:-1]),
  )
  episodes = [
    Episode(e.transition._replace(reward=np.ones_like(e.log_prob)), e.log_prob) for e in episodes
  ]
  values = diagnosis.values(learner, episodes, horizon=5, num_states=10**6)
  assert np.all(values.q == 0)
  np.testing.assert_allclose(values.model, (1 - 0.95**5) / 0.05, rtol=1e-3)
  # Returns of at least 32 more steps: 0.95^31 > MAX_BOOTSTRAP_WEIGHT = 0.2 > 0.95^32.
  assert values.real.min() == pytest.approx((1 - 0.95**32) / 0.05, rel=1e-3)
  assert values.real.max() == pytest.approx((1 - 0.95**200) / 0.05, rel=1e-3)


def test_values_of_episodes_that_terminate():
  learner, episodes = _measured("hopper_v5")
  values = diagnosis.values(learner, episodes, horizon=2, num_states=10**6)
  want = [soft_returns(learner, e, float(learner.temperature)) for e in episodes]
  want = np.sort(np.concatenate(want))
  assert len(values.real) == len(want) // 4 * 4  # equal shares for four members
  assert np.isin(values.real, want).all() and np.isfinite(values.model).all()


def test_critic_errors_are_a_bias_and_a_correlation(monkeypatch):
  """Critics that know the returns, which without an entropy bonus are sums, but for an offset."""
  settings = "Maac.discount = 0.9", "Maac.initial_temperature = 1e-6"
  learner, episodes = _measured("hopper_v5", *settings)
  transitions = [e.transition for e in episodes]
  want = {}
  for observation, _, reward, _, _ in transitions:
    for t, row in enumerate(observation):
      want[row.tobytes()] = sum(0.9**k * r for k, r in enumerate(reward[t:]))

  def value(observation, action):
    if len(action.shape) > 2:  # after a time limit
      return tf.zeros(action.shape[:-1])
    return tf.constant([3.0 + want[row.tobytes()] for row in observation], tf.float32)

  monkeypatch.setattr(learner.actor_critic, "value", value)
  assert critic_errors(learner, transitions) == pytest.approx((3.0, 1.0), abs=1e-3)
  unknown = [t._replace(terminal=np.zeros_like(t.terminal)) for t in transitions]
  short = [tf.nest.map_structure(lambda x: x[:5], t) for t in unknown]
  assert critic_errors(learner, short) is None and critic_errors(learner, []) is None


def test_a_constant_has_no_correlation():
  rising, constant = np.arange(3.0), np.ones(3)
  assert correlation(rising, -2 * rising) == pytest.approx(-1)
  assert correlation(rising, constant) is None and correlation(constant, rising) is None


def test_ends_are_counted_in_the_world_and_in_the_models():
  """Models that predict no change end nothing; a termination function of its own ends all."""
  learner, episodes = _measured("hopper_v5", "make_task.learn_end = False")
  _still(learner)
  learner.dynamics.target_normalizer.scale.assign(
    1e-9 + tf.zeros_like(learner.dynamics.target_normalizer.scale)
  )
  lengths = [len(e.log_prob) for e in episodes]
  assert min(lengths) < 50 and all(e.transition.terminal[-1] for e in episodes)
  for horizon in (3, 10):
    real, imagined = diagnosis.ends(learner, episodes, horizon, num_states=10**6)
    assert real == pytest.approx(horizon * len(lengths) / sum(lengths), abs=3 / sum(lengths))
    assert imagined == 0
  assert diagnosis.end_probabilities(learner, episodes) == (0, 0)
  learner.model_env._task = dataclasses.replace(
    learner.model_env._task, termination_fn=lambda s, a, after: after[..., 0] < 100.0
  )
  assert diagnosis.ends(learner, episodes, 3)[1] == 1
  assert diagnosis.end_probabilities(learner, episodes) == (1, 1)
  cut = [
    e._replace(transition=e.transition._replace(terminal=0 * e.log_prob)) for e in episodes
  ]  # by a time limit: what follows the last steps is not known
  assert diagnosis.ends(learner, cut, 3)[0] == 0
  assert diagnosis.ends(learner, cut, max(lengths) + 1) is None


def test_command_reads_a_run_and_leaves_it_as_it_is(original_run, tmp_path):
  run = shutil.copytree(original_run, tmp_path / "run")
  before = {f: f.stat().st_mtime_ns for f in run.rglob("*")}
  arguments = "diagnose", "--episodes=2", "--run_dir"
  code, out, err = commands.run(*arguments, run, cwd=tmp_path)
  assert code == 0, err
  assert "2 episodes of the sampled policy after 380 steps: 200 to 200 steps" in out
  for text in (
    "Q: bias",
    "the models' own: bias",
    "One-step error",
    "Ends within 50 steps: from 0.0% of the states, in the models 0.0%",
    "50 steps: ",
    "90% interval",
  ):
    assert text in out
  assert {f for f in run.rglob("*")} - set(before) == {
    run / "diagnosis.png", run / "open_loop_error.csv",
  }  # fmt: skip
  assert (run / "diagnosis.png").read_bytes().startswith(b"\x89PNG")
  with open(run / "open_loop_error.csv", newline="") as file:
    rows = list(csv.reader(file))
  assert rows[0] == ["steps", "dimension_0", "dimension_1", "dimension_2"] and len(rows) == 51
  assert all(float(cell) > 0 for row in rows[1:] for cell in row)
  assert all(f.stat().st_mtime_ns == time for f, time in before.items() if f != run)
  code, _, err = commands.run(*arguments, tmp_path, cwd=tmp_path)
  assert code == 1 and "There is no run with a checkpoint in" in err
