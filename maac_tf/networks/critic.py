"""The critics Q."""

from collections.abc import Sequence

import gin
import keras
import tensorflow as tf
import tensorflow_probability as tfp

from maac_tf.checks import require_booleans, require_integers, require_tuples
from maac_tf.networks.layers import EnsembleDense, mlp, normalizer
from maac_tf.tasks.coordinates import PLAIN, Coordinates

tfd = tfp.distributions


@gin.configurable(denylist=["observation_size", "action_size", "coordinates", "seed", "dtype"])
class Critic(keras.Model):
  """Q independent estimates of the soft action value, in one batched network."""

  def __init__(
    self,
    observation_size: int,
    action_size: int,
    num_critics: int = 2,
    hidden_units: Sequence[int] = (256, 256),
    activation: str = "relu",
    layer_norm: bool = False,
    zero_last_layer: bool = False,
    coordinates: Coordinates = PLAIN,
    seed: int = 0,
    dtype: str = "float32",
  ):
    """Makes the weights.

    Args:
      num_critics: Q, each of other random weights: their mean errs less than one does, and their
        minimum seldom too high.
      layer_norm: normalise what the inner layers take (no learned scale). It bounds how steep the
        critics can be, and so what a policy gains from actions that no data supports.
      zero_last_layer: start from values of zero, not from a random function that the first policies
        would climb. Not for STEVE, which needs the critics to disagree.
      coordinates: the critics see their features of an observation, normalised.
    """
    require_integers("Critic", 1, num_critics=num_critics)
    require_tuples("Critic", 1, hidden_units=hidden_units)
    require_booleans("Critic", layer_norm=layer_norm, zero_last_layer=zero_last_layer)
    super().__init__(dtype=dtype)
    self.num_critics, self.zero_last_layer = num_critics, zero_last_layer
    self.coordinates = coordinates
    num_features, _ = coordinates.sizes(observation_size)
    sizes = (num_features + action_size, *hidden_units, 1)
    self._mlp = mlp(num_critics, sizes, activation, seed, dtype, layer_norm, zero_last_layer)
    self.normalizer = normalizer(num_features, dtype)
    self.scale = self.add_weight(shape=(), initializer="ones", trainable=False)  # of the output
    self.built = True

  def call(self, observation, action, which=None):
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
