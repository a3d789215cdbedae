"""The fit on a system whose mean and noise are known."""

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import Transition
from maac_tf.models.ensemble import Dynamics
from maac_tf.models.fit import DynamicsFit
from maac_tf.tasks.symmetries import Symmetry

A = np.array([[0.9, 0.2], [-0.3, 0.8]])
B = np.array([[0.5], [2.0]])
NOISE = np.array([0.05, 0.4])
ODD = Symmetry(tf.negative, tf.negative)  # as this system is


def _data(count, seed):
  rng = np.random.default_rng(seed)
  observation, action = rng.normal(size=(count, 2)), rng.uniform(-1, 1, (count, 1))
  mean = observation @ A.T + action @ B.T
  after = mean + NOISE * rng.normal(size=(count, 2))
  columns = observation, action, np.zeros(count), after, np.zeros(count)
  return Transition(*(tf.constant(c, tf.float32) for c in columns)), mean


def _fit(count=3_000, network=None, **kwargs):
  dynamics = Dynamics(2, 1, ensemble_size=4, hidden_units=(32, 32), seed=1, **(network or {}))
  buffer = ReplayBuffer(count + 100, 2, 1)
  buffer.add(_data(count, 0)[0])
  return dynamics, buffer, DynamicsFit(dynamics, buffer, seed=3, **kwargs)


@pytest.mark.parametrize(
  ("weighting", "network"),
  [(0.0, {}), (0.5, {}), (0.0, {"constant_noise": True}), (0.0, {"layer_norm": True})],
)
def test_recovers_mean_and_noise_of_a_linear_system(weighting, network):
  dynamics, _, fit = _fit(network=network, variance_weighting=weighting)
  report = fit.fit(tf.constant([1, 2]))
  test, mean = _data(500, 9)
  gaussian = dynamics(
    tf.tile(test.observation[None], [4, 1, 1]), tf.tile(test.action[None], [4, 1, 1])
  )
  change = mean - test.observation
  error = np.sqrt(np.mean((gaussian.mean() - change) ** 2, axis=(0, 1)))
  assert np.all(error < 0.35 * NOISE), error
  std = gaussian.stddev().numpy().mean((0, 1))
  np.testing.assert_allclose(std, NOISE, rtol=0.15)
  # The best that any model can reach: the entropy of the noise, in units of the changes' spread.
  scale = dynamics.target_normalizer.scale.numpy()
  optimum = np.mean(0.5 * np.log(2 * np.pi * np.e) + np.log(NOISE / scale))
  assert report["validation_loss"].numpy() == pytest.approx(optimum, abs=0.1)


@pytest.mark.parametrize("weighting", [0.0, 0.5, 1.0])
def test_gradient_of_the_mean_is_weighted_by_the_variance(weighting):
  """In closed form, for the biases of the predicted means: error / variance^(1 - weighting)."""
  dynamics, buffer, fit = _fit(100, variance_weighting=weighting)
  rows = buffer.gather(tf.range(100))
  dynamics.set_normalizer(rows)
  batch = Transition(*(tf.stack([x] * 4) for x in rows))
  # Mean and log-variance of two outputs.
  (bias,) = [v for v in dynamics.trainable_variables if tuple(v.shape) == (4, 1, 4)]
  with tf.GradientTape() as tape:
    loss, _ = fit.loss(batch)
  gradient = tape.gradient(loss, bias)[:, 0, :2]
  gaussian = dynamics(batch.observation, batch.action)
  scale = dynamics.target_normalizer.scale.numpy()
  error = (gaussian.mean() - (batch.next_observation - batch.observation)).numpy() / scale
  variance = (gaussian.stddev().numpy() / scale) ** 2
  want = np.mean(error * variance ** (weighting - 1), axis=1) / 2
  np.testing.assert_allclose(gradient, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("average_decay", "constant_noise"), [(0, False), (0.9, False), (0, True)])
def test_every_member_keeps_the_weights_of_its_best_epoch(average_decay, constant_noise):
  """The reported loss is that of the weights kept, also after a fit that only made it worse."""
  dynamics, buffer, fit = _fit(
    600,
    {"constant_noise": constant_noise},
    learning_rate=0.05,
    patience=3,
    max_epochs=30,
    average_decay=average_decay,
  )
  roles = np.stack([np.arange(700) % 10 == member for member in range(4)])  # 60 rows each
  fit._is_validation.assign(roles)
  fit.fit(tf.constant([1, 2]))
  before = fit.fit(tf.constant([3, 4]))["validation_loss"].numpy()
  after = fit.fit(tf.constant([5, 6]))["validation_loss"].numpy()
  assert after <= before + 1e-6
  rows = buffer.gather(tf.range(600))
  losses = []
  for member, validation in enumerate(fit._is_validation.numpy()[:, :600]):
    everything = Transition(*(tf.stack([x] * 4) for x in rows))
    loss = fit.negative_log_likelihood(everything)[0].numpy()[member, validation]
    losses.append(loss.mean())
  assert np.mean(losses) == pytest.approx(after, abs=1e-4)


def test_training_goes_on_from_the_epoch_whose_average_was_kept():
  dynamics, _, fit = _fit(600, learning_rate=0.05, patience=3, max_epochs=30, average_decay=0.9)
  variables, epochs, epoch = dynamics.trainable_variables, [], fit._epoch

  def now():
    return [[v.numpy() for v in weights] for weights in (variables, fit._swapped)]

  def note(*arguments):  # the trained weights are in the network then
    loss = epoch(*arguments)
    epochs.append(now())
    return loss

  fit._epoch = note
  fit.fit.python_function(tf.constant([1, 2]))
  averages, trained = now()
  kept = []
  for member in range(4):
    for number, (trained_then, averages_then) in enumerate(epochs):
      same = [
        all(np.array_equal(a[member], b[member]) for a, b in zip(*pair, strict=True))
        for pair in ((averages, averages_then), (trained, trained_then))
      ]
      assert same[0] == same[1]
      kept += [number] * same[0]
  assert len(kept) == 4 and min(kept) < len(epochs) - 1


@pytest.mark.parametrize("symmetries", [(), (ODD,)])
def test_an_xla_fit_is_the_plain_one(symmetries):
  settings = {"average_decay": 0.9, "max_epochs": 3, "symmetries": symmetries}
  fits = [_fit(600, jit_compile=jit, **settings) for jit in (False, True)]
  batch = Transition(*(tf.stack([x] * 4) for x in _data(64, 1)[0]))
  for dynamics, _, fit in fits:
    dynamics.set_normalizer(_data(600, 2)[0])
    fit._compiled_step(batch)
  for plain, xla in zip(*(d.trainable_variables + f._swapped for d, _, f in fits), strict=True):
    np.testing.assert_allclose(xla, plain, rtol=1e-4, atol=1e-6)
  plain, xla = (fit.fit(tf.constant([1, 2]))["validation_loss"].numpy() for *_, fit in fits)
  assert xla == pytest.approx(plain, abs=1e-3)


def test_the_network_is_the_average_of_the_weights_it_was_trained_to():
  """By a loop: what it is trained to goes on from step to step, as if there were no average."""
  plain, averaged = (_fit(600, average_decay=decay) for decay in (0.0, 0.8))
  want = [v.numpy() for v in averaged[0].trainable_variables]
  averaged[2]._swap()
  for step in range(1, 61):
    batch = Transition(*(tf.stack([x] * 4) for x in _data(64, step)[0]))
    plain[2].train_step(batch)
    averaged[2].train_step(batch)
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
  losses = []
  for decay in (0.0, 0.99):
    fit = _fit(1_000, learning_rate=0.02, batch_size=32, max_epochs=20, average_decay=decay)[2]
    losses.append(fit.fit(tf.constant([1, 2]))["validation_loss"].numpy())
  assert losses[1] < losses[0] - 0.01, losses


def test_nothing_validated_is_ever_trained_on():
  _, _, fit = _fit(500)
  roles = fit._is_validation[:, :500]
  assert not np.array_equal(roles[0], roles[1])
  order = tf.argsort(tf.cast(roles, tf.int32), -1, stable=True)
  num_train = 500 - tf.reduce_sum(tf.cast(roles, tf.int32), -1)
  for seed in range(3):
    bag = fit._bootstrap(order, num_train, [seed, 0])
    for member in range(4):
      assert not np.any(roles[member].numpy()[bag[member]])
      assert len(np.unique(bag[member])) < bag.shape[1]  # with replacement


def _bag(fit, seed):
  """What a fit trains on, caught on its way."""
  bags, bootstrap = [], fit._bootstrap
  fit._bootstrap = lambda *arguments: bags.append(bootstrap(*arguments)) or bags[-1]
  fit.fit.python_function(seed)
  return bags[0].numpy()


def test_a_share_of_a_bootstrap_is_of_the_newest():
  """Also where the ring has been written round: the newest rows are then in its middle."""
  _, buffer, fit = _fit(2_000, max_epochs=1, recent_fraction=0.5, recent_transitions=200)
  buffer.add(_data(600, 1)[0])  # a capacity of 2,100: slots 0..499 are the newest 500
  bag = _bag(fit, [1, 2])
  for member, validation in enumerate(fit._is_validation.numpy()):
    assert not np.any(validation[bag[member]])
  is_new = (bag >= 300) & (bag < 500)
  assert is_new.mean() == pytest.approx(0.5 + 0.5 * 200 / 2_100, abs=0.03)
  assert len(np.unique(bag)) > 1_500  # the others are drawn evenly, from all
  assert np.mean(bag[~is_new] < 300) == pytest.approx(300 / 1_900, abs=0.04)


def test_the_errors_kept_are_those_of_the_newest_validation_rows():
  """Also where the ring has been written round; as often as there are, where they are few."""
  network = {"constant_noise": True, "empirical_errors": 30}
  dynamics, buffer, fit = _fit(600, network, max_epochs=1)
  buffer.add(_data(300, 1)[0])  # a capacity of 700: slots 0..199 are the newest
  fit.fit(tf.constant([1, 2]))
  slots = [*range(199, -1, -1), *range(699, 199, -1)]  # from the newest
  errors = np.reshape(dynamics.errors, [4, 30, 2])
  for member, validation in enumerate(fit._is_validation.numpy()):
    rows = buffer.gather(tf.constant([slot for slot in slots if validation[slot]][:30]))
    gaussian = dynamics(*(tf.stack([x] * 4) for x in (rows.observation, rows.action)))
    change = rows.next_observation - rows.observation
    want = ((change - gaussian.mean()) / gaussian.stddev())[member]
    np.testing.assert_allclose(errors[member], want, rtol=1e-4, atol=1e-4)
  few = _fit(100, network, max_epochs=1, validation_fraction=0.05)
  few[2].fit(tf.constant([1, 2]))
  kept = np.reshape(few[0].errors, [4, 30, 2])[0]
  count = np.sum(few[2]._is_validation[0, :100])
  np.testing.assert_array_equal(kept[count : 2 * count], kept[:count])


def test_without_patience_a_fit_ends_as_it_is_then():
  """The same fit as with patience, which keeps the best epoch; here a step makes it worse."""
  losses = []
  for patience in (7, None):
    _, _, fit = _fit(600, learning_rate=0.05, patience=patience, max_epochs=7, batch_size=32)
    fit.fit(tf.constant([1, 2]))
    report = fit.fit(tf.constant([3, 4]))
    assert report["epochs"] == 7
    losses.append(report["validation_loss"].numpy())
  assert losses[1] > losses[0] + 1e-3, losses


def test_members_have_a_validation_row_however_little_data_there_is():
  _, _, fit = _fit(20, validation_fraction=1e-6)
  np.testing.assert_array_equal(np.sum(fit._is_validation, -1), 1)
  assert np.isfinite(fit.fit(tf.constant([1, 2]))["validation_loss"])


def test_a_weighting_out_of_range_is_refused():
  with pytest.raises(ValueError, match="variance_weighting must be a number from 0 to 1, not 2"):
    _fit(100, variance_weighting=2)


@pytest.mark.parametrize("network", [{"constant_noise": True}, {"empirical_errors": 9}])
def test_noise_of_validation_errors_needs_some(network):
  with pytest.raises(ValueError, match="validation_fraction must be above 0"):
    _fit(100, network, validation_fraction=0)


def test_validation_fraction_must_leave_something():
  with pytest.raises(ValueError, match="validation_fraction must be a number from 0 to 0.9, not 1"):
    _fit(100, validation_fraction=1)


def test_the_reward_is_one_more_output():
  """Mean and noise of a reward of known function; the change's columns stay first."""
  dynamics, buffer, _ = _fit(network={"predicts_reward": True})
  rows = buffer.gather(tf.range(3_000))
  noise = np.random.default_rng(1).normal(size=3_000)
  reward = 3.0 * rows.observation[:, 0] - rows.action[:, 0] + 7.0 + 0.2 * noise
  known = ReplayBuffer(3_100, 2, 1)
  known.add(rows._replace(reward=tf.cast(reward, tf.float32)))
  fit = DynamicsFit(dynamics, known, seed=3)
  fit.fit(tf.constant([1, 2]))
  test, mean = _data(500, 9)
  gaussian = dynamics(*(tf.stack([x] * 4) for x in (test.observation, test.action)))
  want = np.concatenate(
    [mean - test.observation, (3.0 * test.observation[:, :1] - test.action + 7.0).numpy()], axis=-1
  )
  error = np.sqrt(np.mean((gaussian.mean() - want) ** 2, axis=(0, 1)))
  noises = np.array([*NOISE, 0.2])
  assert np.all(error < 0.35 * noises), error
  np.testing.assert_allclose(gaussian.stddev().numpy().mean((0, 1)), noises, rtol=0.2)


def test_weight_decay_is_of_the_kernels_only():
  plain, decayed = (
    _fit(600, learning_rate=1e-2, weight_decay=decay, max_epochs=1)[0::2] for decay in (0.0, 10.0)
  )
  sizes = []
  for dynamics, fit in (plain, decayed):
    fit.train_step(Transition(*(tf.stack([x] * 4) for x in _data(256, 0)[0])))
    sizes.append([np.abs(v).mean() for v in dynamics.trainable_variables])
  for variable, without, with_decay in zip(plain[0].trainable_variables, *sizes, strict=True):
    if variable.shape[1] > 1:  # a step takes 10 times the learning rate of them
      assert with_decay == pytest.approx(0.9 * without, rel=0.05)
    else:
      assert with_decay == pytest.approx(without, rel=1e-5)


def test_a_fit_ends_after_max_batches():
  _, _, fit = _fit(2_900, max_batches=25)  # ten batches an epoch
  assert fit.fit(tf.constant([1, 2]))["epochs"] == 3


def test_each_symmetry_has_an_equal_share_of_a_batch():
  thrice = Symmetry(lambda x: 3.0 * x, lambda x: 3.0 * x)
  fit = _fit(100, symmetries=[ODD, thrice])[2]
  batch = Transition(*(tf.stack([x] * 4) for x in _data(32, 1)[0]))
  got = fit._with_images(batch)
  factors = np.repeat([1.0, -1.0, 3.0], [10, 11, 11])[:, np.newaxis]
  for field in ("observation", "action", "next_observation"):
    np.testing.assert_allclose(getattr(got, field), getattr(batch, field) * factors, rtol=1e-6)
  np.testing.assert_array_equal(got.reward, batch.reward)
  np.testing.assert_array_equal(got.terminal, batch.terminal)


def test_what_was_seen_on_one_side_is_known_on_the_other():
  errors = []
  for symmetries in ((), (ODD,)):
    dynamics, buffer, _ = _fit()
    rows, _ = _data(9_000, 0)
    right = tf.boolean_mask(tf.range(9_000), rows.observation[:, 0] > 0.5)[:2_000]
    seen = ReplayBuffer(2_000, 2, 1)
    seen.add(Transition(*(tf.gather(x, right) for x in rows)))
    fit = DynamicsFit(dynamics, seen, seed=3, symmetries=symmetries)
    fit.fit(tf.constant([1, 2]))
    test, mean = _data(2_000, 9)
    left = test.observation[:, 0] < -1.0
    test = Transition(*(tf.boolean_mask(x, left) for x in test))
    got = dynamics(*(tf.stack([x] * 4) for x in (test.observation, test.action))).mean()
    errors.append(np.sqrt(np.mean((got + test.observation - mean[left]) ** 2)))
  assert errors[1] < 0.5 * errors[0] and errors[1] < 0.1, errors


def test_a_batch_must_hold_an_image_by_each_symmetry():
  with pytest.raises(ValueError, match="batch_size .2. must be above the number"):
    _fit(100, symmetries=[ODD] * 2, batch_size=2)
