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
  rewards, set Maac.bound_values = False.
  """

  def __init__(self, discount: float):
    super().__init__()
    self._discount = discount
    self.reward_quantiles = tf.Variable([0.0, 0.0], trainable=False)

  def start(self, reward):
    """Takes the quantiles of these rewards, if it has not seen any."""
    unseen = tf.reduce_all(self.reward_quantiles == 0.0)
    self.reward_quantiles.assign(tf.where(unseen, _quantiles(reward), self.reward_quantiles))

  def follow(self, reward):
    """Moves a little towards the quantiles of these rewards, any shape."""
    self.reward_quantiles.assign_add(RATE * (_quantiles(reward) - self.reward_quantiles))

  def bounds(self):
    """The least and the greatest value; 0 is one of those possible, as an episode may end."""
    low, high = tf.unstack(self.reward_quantiles)
    return tf.minimum(low, 0.0) / (1 - self._discount), tf.maximum(high, 0.0) / (1 - self._discount)

  def width(self):
    low, high = self.bounds()
    return high - low


def _quantiles(reward):
  return tfp.stats.percentile(reward, [1.0, 99.0])
