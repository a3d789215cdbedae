"""What members are trained on, and what they are validated on."""

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.models import bootstrap
from tests.models.linear_system import data, make_fit, validation_roles


def test_nothing_validated_is_ever_trained_on_and_all_else_is(monkeypatch):
  """Also where the ring has been written round, and where its last group is cut short."""
  monkeypatch.setattr(bootstrap, "RECENT_TRANSITIONS", 300)
  for added, recent_fraction in ((0, 0.0), (650, 0.0), (650, 1.0)):
    _, buffer, fit = make_fit(503, recent_fraction=recent_fraction)
    for seed in range(added // 50):
      buffer.add(data(50, seed)[0])
    size = int(buffer.size)
    roles, ages = validation_roles(fit, size), (int(buffer.added) - 1 - np.arange(size)) % size
    assert not np.array_equal(roles[0], roles[1])
    drawn = [fit.bootstrap.draw([seed, 0]).numpy() for seed in range(30)]
    for member, bag in enumerate(np.concatenate(drawn, 1)):
      newest = ages <= np.sort(ages[~roles[member]])[int((~roles[member]).sum() * 300 / size)]
      trained = ~roles[member] & (newest if recent_fraction else True)
      seen = np.bincount(bag, minlength=size)
      assert not np.any(seen[~trained]) and len(np.unique(drawn[0][member])) < drawn[0].shape[1]
      assert np.sum(seen[trained] == 0) <= 2
      assert seen[trained].std() < 1.5 * np.sqrt(seen[trained].mean())


def test_all_is_validated_but_a_group_cut_short_and_no_more_than_so_many_rows(monkeypatch):
  _, buffer, fit = make_fit(503)
  rows = buffer.gather(tf.range(503)).observation.numpy()
  for most in (4_096, 7):
    monkeypatch.setattr(bootstrap, "MAX_VALIDATION_ROWS", most)
    got = fit.bootstrap.validation().observation.numpy()
    for member, role in enumerate(validation_roles(fit, 500)):
      want = rows[np.flatnonzero(role)]
      want = want if most > 50 else want[[i * 50 // 7 for i in range(7)]]
      np.testing.assert_array_equal(got[member], want)


def _bag(fit, seed):
  """What a fit trains on."""
  return fit.bootstrap.draw(seed).numpy()


def test_a_share_of_a_bootstrap_is_of_the_newest(monkeypatch):
  """Also where the ring has been written round: the newest rows are then in its middle."""
  monkeypatch.setattr(bootstrap, "RECENT_TRANSITIONS", 200)
  _, buffer, fit = make_fit(2_000, max_batches=None, recent_fraction=0.5)
  buffer.add(data(600, 1)[0])  # a capacity of 2,100: slots 0..499 are the newest 500
  bag = _bag(fit, [1, 2])
  is_new = (bag >= 300) & (bag < 500)
  assert is_new.mean() == pytest.approx(0.5 + 0.5 * 200 / 2_100, abs=0.03)
  assert len(np.unique(bag)) > 1_500  # the others are drawn evenly, from all
  assert np.mean(bag[~is_new] < 300) == pytest.approx(300 / 1_900, abs=0.04)


def test_a_fit_takes_no_more_batches_of_more_data():
  for count, batches in ((2_900, 10), (3_200, 11), (6_000, 12)):
    _, _, fit = make_fit(count, max_batches=12)
    assert _bag(fit, [1, 2]).shape == (4, batches * 256)
