"""Steps of Adam, on one device or on several."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from maac_tf import replicas


class Adam(tf.Module):
  """Steps of Adam down a loss, for the same variables each time."""

  def __init__(self, variables: Sequence[keras.Variable | tf.Variable], learning_rate: float):
    super().__init__()
    self._variables, self._optimizer = variables, keras.optimizers.Adam(learning_rate)
    self._optimizer.build(variables)

  @property
  def optimizer(self) -> keras.optimizers.Adam:
    return self._optimizer

  @property
  def count(self) -> tf.Tensor:
    """Steps so far, []."""
    return self._optimizer.iterations

  def __call__(
    self, tape: tf.GradientTape, loss: tf.Tensor, unit: tf.Tensor | float = 1.0
  ) -> tf.Tensor:
    """A step; returns the norm of the gradient of loss / unit.

    Adam's steps are of the same size in any unit, but for losses near its epsilon.
    """
    gradient = replicas.average(tape.gradient(loss, self._variables, 1.0 / unit))
    self._optimizer.apply(replicas.summands(gradient), self._variables)
    return tf.linalg.global_norm(gradient)
