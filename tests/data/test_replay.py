"""The ring of transitions."""

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import Transition


def _transitions(numbers):
  numbers = np.asarray(numbers, np.float32)
  return Transition(
    observation=tf.constant(np.stack([numbers, numbers], -1)),
    action=tf.constant(numbers[:, None]),
    reward=tf.constant(numbers),
    next_observation=tf.constant(np.stack([numbers + 1, numbers + 1], -1)),
    terminal=tf.constant(numbers % 2),
  )


def test_newest_overwrite_oldest():
  buffer = ReplayBuffer(5, 2, 1)
  buffer.add(_transitions([0, 1, 2]))
  assert buffer.size == 3
  buffer.add(_transitions([3, 4, 5, 6]))
  assert buffer.size == 5
  stored = buffer.gather(tf.range(5))
  np.testing.assert_array_equal(np.sort(stored.reward), [2, 3, 4, 5, 6])
  np.testing.assert_array_equal(stored.next_observation[:, 0], stored.reward + 1)
  np.testing.assert_array_equal(stored.terminal, stored.reward % 2)


def test_ages_count_what_is_newer():
  buffer = ReplayBuffer(5, 2, 1)
  for first in (0, 3, 6):  # wraps twice
    buffer.add(_transitions(range(first, first + 3)))
    rewards = buffer.gather(tf.range(buffer.size)).reward
    np.testing.assert_array_equal(buffer.ages(), first + 2 - rewards)


def test_samples_are_uniform_over_what_is_stored():
  buffer = ReplayBuffer(100, 2, 1)
  buffer.add(_transitions(range(10)))
  counts = np.bincount(buffer.random_indices([10_000], [1, 2]), minlength=10)
  assert len(counts) == 10
  assert np.all(np.abs(counts - 1_000) < 150)  # five standard deviations


def test_a_window_samples_the_newest_only():
  buffer = ReplayBuffer(6, 2, 1)
  buffer.add(_transitions(range(5)))
  buffer.add(_transitions(range(5, 9)))  # wraps
  buffer.window.assign(4)
  rewards = buffer.gather(buffer.random_indices([1_000], [1, 2])).reward
  assert set(rewards.numpy()) == {5, 6, 7, 8}


def test_too_many_at_once_are_refused():
  with pytest.raises(ValueError, match="3 transitions do not fit a buffer of capacity 2"):
    ReplayBuffer(2, 2, 1).add(_transitions([0, 1, 2]))
