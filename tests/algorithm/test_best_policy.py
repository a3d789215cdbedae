"""The networks of the best evaluation."""

import numpy as np
import tensorflow as tf

from maac_tf.algorithm.best_policy import BestPolicy


def test_the_best_networks_are_kept_and_measured_again():
  variables = [tf.Variable([1.0, 2.0]), tf.Variable(3)]
  best, measured = BestPolicy(variables), []

  def again():
    measured.append(variables[0].numpy())
    return np.array([-7.0, -9.0])

  nothing = {"best/return": None, "best/return_std": None, "best/env_steps": None}
  best.keep(None, 40, again)  # where there was no evaluation
  assert not best.exists and not best.is_now and best.metrics() == nothing and not measured
  with best.in_use():  # then nothing changes
    np.testing.assert_array_equal(variables[0], [1.0, 2.0])

  best.keep(-5.0, 40, again)
  assert best.exists and best.is_now
  kept = {"best/return": -8.0, "best/return_std": 1.0, "best/env_steps": 40.0}
  assert best.metrics() == kept
  np.testing.assert_array_equal(measured, [[1.0, 2.0]])

  variables[0].assign([5.0, 5.0])
  variables[1].assign(4)
  best.keep(-6.0, 80, again)  # worse: what was best stays
  assert not best.is_now and best.metrics() == kept and len(measured) == 1
  with best.in_use():
    np.testing.assert_array_equal(variables[0], [1.0, 2.0])
    assert variables[1].numpy() == 3
  np.testing.assert_array_equal(variables[0], [5.0, 5.0])
  assert variables[1].numpy() == 4

  best.keep(-4.0, 120, again)
  assert best.is_now and best.metrics()["best/env_steps"] == 120
  variables[0].assign([0.0, 0.0])
  with best.in_use():
    np.testing.assert_array_equal(variables[0], [5.0, 5.0])
