"""Statistics over seeds and tasks, against numbers made by hand and by loops."""

import itertools

import numpy as np
import pytest

from maac_tf.runs import aggregates


def test_the_interquartile_mean_is_of_the_middle_half_of_all_runs():
  scores = [np.array([0.0, 9.0, 1.0]), np.array([2.0, -50.0, 3.0, 4.0, 5.0])]
  # Of -50, 0, 1, 2, 3, 4, 5, 9 a quarter is left out at each end.
  assert aggregates.interquartile_mean(scores).mean == pytest.approx((1 + 2 + 3 + 4) / 4)


def test_seeds_are_resampled_within_their_task():
  """Every draw has as many of each task as there are: tasks without spread have no interval."""
  flat = [np.full(4, 0.0), np.full(4, 1.0), np.full(4, 8.0)]
  # The middle six of twelve: 0, four times 1, 8.
  np.testing.assert_allclose(aggregates.interquartile_mean(flat), [2.0, 2.0, 2.0])
  # With one task that has a spread, all draws of it can be listed.
  spread = [np.array([0.0, 0.6]), np.array([1.0, 1.0])]
  mean, low, high = aggregates.interquartile_mean(spread)
  assert mean == pytest.approx((0.6 + 1.0) / 2)
  draws = [sorted([*pair, 1.0, 1.0])[1:3] for pair in itertools.product(spread[0], repeat=2)]
  expected = np.quantile(np.repeat(np.mean(draws, 1), 1_000), [0.025, 0.975])
  np.testing.assert_allclose([low, high], expected)


def test_a_single_seed_has_an_interval_of_the_other_tasks():
  mean, low, high = aggregates.interquartile_mean([np.array([0.5]), np.array([0.4, 0.6])])
  assert low < mean < high and mean == pytest.approx(0.5)


def _share_of_wins(values, others):
  """By a loop, a tie one half."""
  pairs = list(itertools.product(values, others))
  return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


def test_the_probability_of_improvement_is_the_mean_over_tasks_of_the_pairs_won():
  ours = [np.array([1.0, 2.0, 3.0]), np.array([5.0])]
  others = [np.array([2.0, 0.0]), np.array([4.0, 5.0, 6.0, 7.0])]
  # First task: 1 > 0; 2 = 2, 2 > 0; 3 > 2, 3 > 0: 4.5 of 6. Second: 5 > 4, 5 = 5: 1.5 of 4.
  mean = aggregates.probability_of_improvement(ours, others).mean
  assert mean == pytest.approx((4.5 / 6 + 1.5 / 4) / 2)


def test_the_interval_of_the_probability_is_that_of_resampled_seeds_of_both():
  rng = np.random.default_rng(7)
  ours, others = ([rng.normal(size=count) for count in counts] for counts in ((6, 5), (5, 7)))
  draws = []
  for _ in range(4_000):
    drawn = [[rng.choice(seeds, seeds.size) for seeds in method] for method in (ours, others)]
    draws.append(np.mean([_share_of_wins(a, b) for a, b in zip(*drawn, strict=True)]))
  bounds = aggregates.probability_of_improvement(ours, others)[1:]
  np.testing.assert_allclose(bounds, np.quantile(draws, [0.025, 0.975]), atol=0.03)


def test_a_method_and_itself_are_even_and_one_that_always_wins_is_certain():
  scores = [np.array([0.1, 0.5, 0.9]), np.array([0.3, 0.2, 0.4])]
  assert aggregates.probability_of_improvement(scores, scores).mean == pytest.approx(0.5)
  better = [s + 1.0 for s in scores]
  np.testing.assert_array_equal(aggregates.probability_of_improvement(better, scores), [1, 1, 1])


@pytest.mark.parametrize(
  ("scores", "steady"),
  [
    ([0.0, 0.5, 0.8, 1.2, 1.3], 1.0),  # it only rises
    ([0.05, 0.02, 0.5, 0.46, 0.44, 0.6], 2 / 3),  # 0.44 is less than 0.45
    ([0.5, 1.0, 0.2, 0.2, 0.95], 2 / 4),  # what falls and comes back has fallen
    ([1.0, 0.0, 0.0], 0.0),
  ],
)
def test_steadiness_is_the_share_that_keeps_nine_tenths_of_the_best_so_far(scores, steady):
  assert aggregates.steadiness(np.array(scores)) == pytest.approx(steady)


@pytest.mark.parametrize("scores", [[-1.0, 0.0, 0.09], [0.0, 0.5], []])
def test_a_run_that_has_learned_nothing_yet_has_no_steadiness(scores):
  assert np.isnan(aggregates.steadiness(np.array(scores)))
