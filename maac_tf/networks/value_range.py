"""The values that are possible at the rewards seen: what critics are scaled and clipped to."""

import tensorflow as tf
import tensorflow_probability as tfp

# How much of the way to the latest quantiles an update goes. The critics' scale moves with it, and
# every value with that: slower than the critics learn.
RATE = 1e-3


class ValueRange(tf.Module):
  """The 1 % and 99 % quantiles of the rewards, 0 included, summed over a discounted life.

  A bootstrapped critic can only be this wrong: its own estimates, however large, do not count. Nor
  does a reward that comes once in more than a hundred steps: for a task that has nothing but such
  rewards, set ActorCritic.bound_values = False.
  """

  def __init__(self, discount: float):
    super().__init__()
    self._discount = discount
    self.reward_quantiles = tf.Variable([0.0, 0.0], trainable=False)

  def start(self, reward: tf.Tensor) -> None:
    """Takes the quantiles of these rewards, if it has not seen any."""
    unseen = tf.reduce_all(self.reward_quantiles == 0.0)
    self.reward_quantiles.assign(tf.where(unseen, _quantiles(reward), self.reward_quantiles))

  def follow(self, reward: tf.Tensor) -> None:
    """Moves a little towards the quantiles of these rewards, any shape."""
    self.reward_quantiles.assign_add(RATE * (_quantiles(reward) - self.reward_quantiles))

  def bounds(self) -> tuple[tf.Tensor, tf.Tensor]:
    """The least and the greatest value; 0 is one of those possible, as an episode may end."""
    low, high = tf.unstack(self.reward_quantiles)
    return tf.minimum(low, 0.0) / (1 - self._discount), tf.maximum(high, 0.0) / (1 - self._discount)

  def width(self) -> tf.Tensor:
    """The greatest value less the least."""
    low, high = self.bounds()
    return high - low


def _quantiles(reward: tf.Tensor) -> tf.Tensor:
  return tfp.stats.percentile(reward, [1.0, 99.0])
