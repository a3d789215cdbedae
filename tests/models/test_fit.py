"""The fit on a system whose mean and noise are known."""

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.statistics import statistics_of
from maac_tf.data.types import Transition
from maac_tf.models import fit as fit_module
from maac_tf.models.ensemble import Dynamics
from maac_tf.models.fit import DynamicsFit
from maac_tf.models.likelihood import training_loss, validation_loss
from maac_tf.tasks.symmetries import Symmetry
from tests.learners import eagerly
from tests.models.linear_system import (
  DEFAULT_NETWORK,
  NOISE,
  data,
  for_each,
  make_fit,
  validation_roles,
)

ODD = Symmetry(tf.negative, tf.negative)  # as this system is


@pytest.mark.parametrize(
  ("network", "options"),
  [
    ({}, {}),
    (DEFAULT_NETWORK, {"max_batches": 600, "learning_rate": 3e-3, "recent_fraction": 0.5}),
  ],
  ids=["paper", "default"],
)
def test_recovers_mean_and_noise_of_a_linear_system(network, options):
  dynamics, _, fit = make_fit(network=network, **options)
  report = fit.fit(tf.constant([3, 4]))
  test, mean = data(500, 9)
  gaussian = dynamics(*for_each(test)[:2])
  change = mean - test.observation
  error = np.sqrt(np.mean((gaussian.mean() - change) ** 2, axis=(0, 1)))
  assert np.all(error < 0.4 * NOISE), error
  std = gaussian.stddev().numpy().mean((0, 1))
  np.testing.assert_allclose(std, NOISE, rtol=0.15)
  # The best that any model can reach: the entropy of the noise, in units of the changes' deviation.
  scale = dynamics.target_normalizer.scale.numpy()
  optimum = np.mean(0.5 * np.log(2 * np.pi * np.e) + np.log(NOISE / scale))
  assert report["validation_loss"].numpy() == pytest.approx(optimum, abs=0.1)


@pytest.mark.parametrize("constant_noise", [False, True])
def test_gradient_of_the_mean(constant_noise):
  """In closed form, for the biases: error / variance of the likelihood, error of least squares."""
  dynamics, buffer, _ = make_fit(100, {"constant_noise": constant_noise})
  rows = buffer.gather(tf.range(100))
  dynamics.set_normalizer(statistics_of(dynamics.columns(rows)))
  batch = for_each(rows)
  if constant_noise:
    dynamics.set_noise(batch)
  # Of the mean of two outputs, and their log-variance.
  bias = dynamics._mlp.layers[-1].bias.value
  with tf.GradientTape() as tape:
    loss, _ = training_loss(dynamics, batch)
  gradient = tape.gradient(loss, bias)[:, 0, :2]
  gaussian = dynamics(batch.observation, batch.action)
  scale = dynamics.target_normalizer.scale.numpy()
  error = (gaussian.mean() - (batch.next_observation - batch.observation)).numpy() / scale
  variance = 1.0 if constant_noise else (gaussian.stddev().numpy() / scale) ** 2
  want = np.mean(error / variance, axis=1) / 2
  np.testing.assert_allclose(gradient, want, rtol=1e-4, atol=1e-6)


def _validation_loss(fit, buffer, count):
  """The mean over members, of their weights as they are, by hand."""
  everything = for_each(buffer.gather(tf.range(count)))
  gaussian = fit._dynamics(everything.observation, everything.action)
  outcome = everything.next_observation - everything.observation
  losses = -(gaussian.log_prob(outcome) + sum(np.log(fit._dynamics.target_normalizer.scale))) / 2
  roles = validation_roles(fit, count)
  return np.mean([loss[role].mean() for loss, role in zip(losses.numpy(), roles, strict=True)])


@pytest.mark.parametrize("constant_noise", [False, True])
def test_every_member_keeps_the_weights_of_its_best_epoch(monkeypatch, constant_noise):
  """The reported loss is that of the weights kept, also after a fit that only made it worse."""
  monkeypatch.setattr(fit_module, "PATIENCE", 3)
  monkeypatch.setattr(fit_module, "MAX_EPOCHS", 30)
  _, buffer, fit = make_fit(600, {"constant_noise": constant_noise}, learning_rate=0.05)
  fit.fit(tf.constant([1, 2]))
  before = fit.fit(tf.constant([3, 4]))["validation_loss"].numpy()
  after = fit.fit(tf.constant([5, 6]))["validation_loss"].numpy()
  assert after <= before + 1e-6
  assert _validation_loss(fit, buffer, 600) == pytest.approx(after, abs=1e-4)


def test_a_fit_of_a_budget_ends_with_the_average_as_it_is_then():
  """Though in these epochs it becomes worse."""
  _, buffer, fit = make_fit(600, learning_rate=0.1, max_batches=60, batch_size=32)
  losses = [fit.fit(tf.constant([i, 2]))["validation_loss"].numpy() for i in range(4)]
  assert max(np.diff(losses)) > 1e-3, losses
  assert _validation_loss(fit, buffer, 600) == pytest.approx(losses[-1], abs=1e-4)
  fit._swap()
  assert abs(_validation_loss(fit, buffer, 600) - losses[-1]) > 1e-3


@pytest.mark.parametrize(
  ("network", "max_batches"), [({}, None), ({"constant_noise": True}, 12)], ids=["paper", "default"]
)
def test_where_its_calls_end_changes_no_bit_of_a_fit(monkeypatch, tmp_path, network, max_batches):
  """One call; or many, of which each but the first is by an object that has read a checkpoint."""
  monkeypatch.setattr(fit_module, "MAX_EPOCHS", 3)
  whole, cut, other = (make_fit(1_200, network, max_batches=max_batches) for _ in range(3))
  report = whole[2].fit(tf.constant([1, 2]))
  cut[2].begin(tf.constant([1, 2]))
  calls = 0
  while cut[2].is_under_way:
    cut[2]._train(tf.constant(3))  # of 4 batches an epoch
    parts = [{"dynamics": m[0], "fit": m[2]} for m in (cut, other)]
    path = tf.train.Checkpoint(**parts[0]).write(str(tmp_path / "fit"))
    tf.train.Checkpoint(**parts[1]).read(path).assert_consumed()
    cut, other, calls = other, cut, calls + 1
  assert calls == 4
  for name, value in cut[2].report().items():
    np.testing.assert_array_equal(value, report[name], err_msg=name)
  for a, b in zip(cut[0].variables, whole[0].variables, strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_fit_ends_after_max_batches():
  _, _, fit = make_fit(2_900, max_batches=25)  # ten batches an epoch
  with eagerly():
    assert fit.fit(tf.constant([1, 2]))["epochs"] == 3 and fit.steps == 30


def test_an_xla_fit_is_the_plain_one():
  options = {"max_batches": 6, "symmetries": (ODD,)}
  fits = [make_fit(600, DEFAULT_NETWORK, jit_compile=jit, **options) for jit in (False, True)]
  batch = for_each(data(64, 1)[0])
  for dynamics, _, fit in fits:
    dynamics.set_normalizer(statistics_of(dynamics.columns(data(600, 2)[0])))
    fit._compiled_step(batch)
  for plain, xla in zip(*(d.trainable_variables + f._swapped for d, _, f in fits), strict=True):
    np.testing.assert_allclose(xla, plain, rtol=1e-4, atol=1e-6)
  plain, xla = (fit.fit(tf.constant([1, 2]))["validation_loss"].numpy() for *_, fit in fits)
  assert xla == pytest.approx(plain, abs=1e-3)


def test_the_network_is_the_average_of_the_weights_it_was_trained_to(monkeypatch):
  """By a loop: what it is trained to goes on from step to step, as if there were no average."""
  monkeypatch.setattr(fit_module, "AVERAGE_DECAY", 0.8)
  plain, averaged = (make_fit(600, max_batches=batches) for batches in (None, 1))
  want = [v.numpy() for v in averaged[0].trainable_variables]
  averaged[2]._swap()
  for step in range(1, 61):
    batch = for_each(data(64, step)[0])
    plain[2]._compiled_step(batch)
    averaged[2]._compiled_step(batch)
    decay = min(0.8, step / (step + 9))
    trained = [v.numpy() for v in plain[0].trainable_variables]
    want = [decay * a + (1 - decay) * t for a, t in zip(want, trained, strict=True)]
  averaged[2]._swap()
  for got, wanted, other, t in zip(
    averaged[0].trainable_variables, want, averaged[2]._swapped, trained, strict=True
  ):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(other, t, rtol=1e-4, atol=1e-6)


def test_the_average_is_better_than_the_last_weights_where_steps_are_noisy():
  _, _, fit = make_fit(1_000, learning_rate=0.02, batch_size=32, max_batches=600)
  fit.fit(tf.constant([1, 2]))
  test, losses = for_each(data(500, 9)[0]), []
  for _ in range(2):
    losses.append(np.mean(validation_loss(fit._dynamics, test)))
    fit._swap()
  assert losses[0] < losses[1] - 0.01, losses


def test_members_have_a_validation_row_however_little_data_there_is():
  _, _, fit = make_fit(20, max_batches=3)
  with eagerly():
    assert np.isfinite(fit.fit(tf.constant([1, 2]))["validation_loss"])


def test_the_reward_is_one_more_output():
  """Mean and noise of a reward of known function; the change's columns stay first."""
  dynamics, buffer, _ = make_fit(network={"predicts_reward": True})
  rows = buffer.gather(tf.range(3_000))
  noise = np.random.default_rng(1).normal(size=3_000)
  reward = 3.0 * rows.observation[:, 0] - rows.action[:, 0] + 7.0 + 0.2 * noise
  known = ReplayBuffer(3_100, 2, 1)
  known.add(rows._replace(reward=tf.cast(reward, tf.float32)))
  fit = DynamicsFit(dynamics, known, 3, max_batches=600, learning_rate=3e-3, weight_decay=0.0)
  fit.fit(tf.constant([1, 2]))
  test, mean = data(500, 9)
  gaussian = dynamics(*for_each(test)[:2])
  want = np.concatenate(
    [mean - test.observation, (3.0 * test.observation[:, :1] - test.action + 7.0).numpy()], axis=-1
  )
  error = np.sqrt(np.mean((gaussian.mean() - want) ** 2, axis=(0, 1)))
  noises = np.array([*NOISE, 0.2])
  assert np.all(error < 0.35 * noises), error
  np.testing.assert_allclose(gaussian.stddev().numpy().mean((0, 1)), noises, rtol=0.2)


def test_weight_decay_is_of_the_kernels_only():
  plain, decayed = (
    make_fit(600, learning_rate=1e-2, weight_decay=decay, max_batches=1)[0::2]
    for decay in (0.0, 10.0)
  )
  sizes = []
  for dynamics, fit in (plain, decayed):
    fit.train_step(for_each(data(256, 0)[0]))
    sizes.append([np.abs(v).mean() for v in dynamics.trainable_variables])
  for variable, without, with_decay in zip(plain[0].trainable_variables, *sizes, strict=True):
    if variable.shape[1] > 1:  # a step takes 10 times the learning rate of them
      assert with_decay == pytest.approx(0.9 * without, rel=0.05)
    else:
      assert with_decay == pytest.approx(without, rel=1e-5)


def test_each_symmetry_has_an_equal_share_of_a_batch():
  thrice = Symmetry(lambda x: 3.0 * x, lambda x: 3.0 * x)
  fit = make_fit(100, max_batches=1, symmetries=[ODD, thrice])[2]
  batch = for_each(data(32, 1)[0])
  got = fit_module.with_images(batch, fit.symmetries)
  factors = np.repeat([1.0, -1.0, 3.0], [10, 11, 11])[:, np.newaxis]
  for field in ("observation", "action", "next_observation"):
    np.testing.assert_allclose(getattr(got, field), getattr(batch, field) * factors, rtol=1e-6)
  np.testing.assert_array_equal(got.reward, batch.reward)
  np.testing.assert_array_equal(got.terminal, batch.terminal)


def test_what_was_seen_on_one_side_is_known_on_the_other():
  errors = []
  for symmetries in ((), (ODD,)):
    dynamics, buffer, _ = make_fit()
    rows, _ = data(9_000, 0)
    right = tf.boolean_mask(tf.range(9_000), rows.observation[:, 0] > 0.5)[:2_000]
    seen = ReplayBuffer(2_000, 2, 1)
    seen.add(Transition(*(tf.gather(x, right) for x in rows)))
    fit = DynamicsFit(dynamics, seen, 3, symmetries=symmetries, max_batches=600, learning_rate=3e-3)
    fit.fit(tf.constant([1, 2]))
    test, mean = data(2_000, 9)
    left = test.observation[:, 0] < -1.0
    test = Transition(*(tf.boolean_mask(x, left) for x in test))
    got = dynamics(*for_each(test)[:2]).mean()
    errors.append(np.sqrt(np.mean((got + test.observation - mean[left]) ** 2)))
  assert errors[1] < 0.5 * errors[0] and errors[1] < 0.1, errors


def test_a_batch_must_hold_an_image_by_each_symmetry():
  with pytest.raises(
    ValueError, match="A batch of 2 transitions is too small for the 2 symmetries"
  ):
    make_fit(100, symmetries=[ODD] * 2, batch_size=2)


def _relative_error(constants=0, linear=0):
  """Of four outputs that are no linear functions, beside others; after 400 batches."""
  rng = np.random.default_rng(0)
  mixing = rng.normal(size=(5, 4))

  def rows(count):
    state, action = rng.normal(size=(count, 4)), rng.uniform(-1, 1, (count, 1))
    after = state + np.sin(2.0 * np.concatenate([state, action], 1) @ mixing)
    more, zeros = rng.normal(size=(count, linear)), np.full((count, constants), 0.1)
    state, after = np.hstack([state, more, zeros]), np.hstack([after, 0.9 * more, zeros])
    return [tf.constant(x, tf.float32) for x in (state, action, 0 * action[:, 0], after)]

  size = 4 + constants + linear
  dynamics = Dynamics(size, 1, ensemble_size=2, hidden_units=(64, 64), seed=1)
  buffer = ReplayBuffer(2_000, size, 1)
  train, test = rows(2_000), rows(500)
  buffer.add(Transition(*train, train[2]))
  DynamicsFit(dynamics, buffer, seed=3, max_batches=400, recent_fraction=0.0).fit(
    tf.constant([1, 2])
  )
  predicted = dynamics(tf.stack([test[0]] * 2), tf.stack([test[1]] * 2)).mean()
  change = (test[3] - test[0]).numpy()
  error = np.mean(np.square(predicted - change), (0, 1))
  assert not np.any(np.abs(predicted[..., 4 + linear :]) > 1e-6)
  return np.sqrt(np.mean(error[:4] / np.var(change[:, :4], 0)))


def test_what_never_changes_or_is_linear_does_not_spoil_what_else_is_learned():
  alone = _relative_error()
  assert _relative_error(constants=20) < 1.1 * alone
  assert _relative_error(linear=4) < 1.6 * alone  # they are inputs, too


def test_an_output_that_starts_to_move_is_learned_from_the_next_fit_on():
  dynamics, buffer, fit = make_fit(500, DEFAULT_NETWORK, max_batches=300, learning_rate=3e-3)
  rows = buffer.gather(tf.range(500))
  still = tf.ones([500, 1])
  buffer.add(
    rows._replace(
      observation=tf.concat([rows.observation[:, :1], still], 1),
      next_observation=tf.concat([rows.next_observation[:, :1], still], 1),
    )
  )
  fit.fit(tf.constant([1, 2]))
  assert dynamics.moves.numpy().tolist() == [1, 1]  # a hundred rows before have moved it
  buffer.add(buffer.newest(100))  # they leave
  fit.fit(tf.constant([1, 2]))
  assert dynamics.moves.numpy().tolist() == [1, 0]
  prediction = dynamics(*for_each(rows)[:2])
  assert not np.any(prediction.mean()[..., 1]) and not np.any(prediction.stddev()[..., 1])
  buffer.add(rows)
  fit.fit(tf.constant([3, 4]))
  error = dynamics(*for_each(rows)[:2]).mean() - (rows.next_observation - rows.observation)
  assert np.std(error[..., 1]) < 0.5 * np.std(rows.next_observation[:, 1] - rows.observation[:, 1])
