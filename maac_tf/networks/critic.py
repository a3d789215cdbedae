"""The critics Q.

Shapes: Q critics, S observation size, A action size; `...` stands for any leading dimensions.
"""

from collections.abc import Sequence
from typing import Annotated

import keras
import tensorflow as tf

from maac_tf.checks import Option, configurable
from maac_tf.networks.layers import NUMPY_ACTIVATIONS, EnsembleDense, mlp, normalizer
from maac_tf.tasks.coordinates import PLAIN, Coordinates


@configurable
class Critic(keras.Model):
  """Q independent estimates of the soft action value, in one batched network."""

  def __init__(
    self,
    observation_size: int,
    action_size: int,
    hidden_units: Sequence[int] = (128, 128, 128),
    num_critics: Annotated[
      int,
      Option(
        "Q, each of other random weights: their mean errs less than one does, and their minimum is "
        "seldom too high. The targets take the minimum of two at random; with more than two the "
        "policy ascends the mean of all (Chen et al. 2021), else the minimum",
        low=1,
      ),
    ] = 5,
    activation: Annotated[
      str, Option("of the critics' hidden layers", choices=tuple(NUMPY_ACTIVATIONS))
    ] = "silu",
    layer_norm: Annotated[
      bool,
      Option(
        "normalise what the critics' inner layers take (no learned scale). It bounds how steep the "
        "critics can be, and so what a policy gains from actions that no data supports"
      ),
    ] = True,
    zero_last_layer: bool = False,
    coordinates: Coordinates = PLAIN,
    seed: int = 0,
    dtype: str = "float32",
  ):
    """Makes the weights.

    Args:
      zero_last_layer: start from values of zero, not from a random function that the first policies
        would climb.
      coordinates: the critics see their features of an observation, normalised.
    """
    super().__init__(dtype=dtype)
    self.num_critics = num_critics
    self.coordinates = coordinates
    num_features, _ = coordinates.sizes(observation_size)
    sizes = (num_features + action_size, *hidden_units, 1)
    self._mlp = mlp(num_critics, sizes, activation, seed, dtype, layer_norm, zero_last_layer)
    self.normalizer = normalizer(num_features, dtype, bounded=True)
    self.scale = self.add_weight(shape=(), initializer="ones", trainable=False)  # of the output
    self.built = True

  def call(
    self, observation: tf.Tensor, action: tf.Tensor, which: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Values [Q, ...] of observations [..., S] and actions [..., A] in [-1, 1].

    With `which`, [n] int, the values [n, ...] of these critics; the others are not computed.
    """
    x = tf.concat([self.normalizer(self.coordinates.features(observation)), action], -1)
    num_critics = self.num_critics if which is None else which.shape[0]
    output_shape = tf.concat([[num_critics], tf.shape(x)[:-1]], 0)
    x = tf.repeat(tf.reshape(x, [1, -1, x.shape[-1]]), num_critics, 0)
    for layer in self._mlp.layers:
      x = layer(x, which) if isinstance(layer, EnsembleDense) else layer(x)
    return self.scale * tf.reshape(x, output_shape)
