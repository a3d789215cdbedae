"""The ring of transitions."""

import re

import numpy as np
import pytest
import tensorflow as tf

from maac_tf.data import room
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


@pytest.mark.parametrize("capacity", [10**30, 10**11])
def test_what_does_not_fit_the_memory_is_refused_before_it_is_taken(capacity):
  message = rf"^X asks for a buffer of {capacity:,} transitions, .* GiB of memory are free"
  with pytest.raises(ValueError, match=message) as error:
    ReplayBuffer(capacity, 2, 1, option="X")
  fits = int(re.search(r"[(]([0-9,]+) transitions fit", str(error.value))[1].replace(",", ""))
  assert fits * 4 * (2 + 1 + 1 + 2 + 1) == pytest.approx(room.free_memory(), rel=0.2)


def test_a_container_has_less_memory_than_its_machine(tmp_path, monkeypatch):
  whole = room.free_memory()
  monkeypatch.setattr(room, "_CONTAINER", tmp_path)
  for name, text in (("max", "1000000"), ("current", "700000"), ("stat", "x 1\ninactive_file 99")):
    (tmp_path / f"memory.{name}").write_text(text)
  assert room.free_memory() == 300_099
  (tmp_path / "memory.max").write_text("max")
  assert room.free_memory() == pytest.approx(whole, rel=0.2)


def test_too_many_at_once_are_refused():
  with pytest.raises(ValueError, match="3 transitions do not fit a buffer of capacity 2"):
    ReplayBuffer(2, 2, 1).add(_transitions([0, 1, 2]))
