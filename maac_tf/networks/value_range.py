"""The values that are possible at the rewards seen: what critics are scaled and clipped to."""

import tensorflow as tf
import tensorflow_probability as tfp

# How much of the way to the latest quantiles an update goes. The critics' scale moves with it, and
# every value with that: slower than the critics learn.
RATE = 1e-3
# Beyond the 1 % and 99 % quantiles a reward comes once in so many steps.
RARE = 100


class ValueRange(tf.Module):
  """The 1 % and 99 % quantiles of the rewards, 0 included, summed over a discounted life.

  A bootstrapped critic can only be this wrong: its own estimates, however large, do not count. The
  least and the greatest real reward are added to that once in a hundred steps, as beyond these
  quantiles a reward is no more frequent: of a task that rewards nothing but the goal, the values
  are possible, too.
  """

  def __init__(self, discount: float):
    super().__init__()
    self._discount = discount
    self.reward_quantiles = tf.Variable([0.0, 0.0], trainable=False)
    self.reward_extremes = tf.Variable([0.0, 0.0], trainable=False)

  def see(self, low: float, high: float, rewards: tf.Tensor) -> None:
    """Takes the extremes of the real rewards; the first time the quantiles of some of them, too."""
    self.reward_extremes.assign([low, high])
    unseen = tf.reduce_all(self.reward_quantiles == 0.0)
    self.reward_quantiles.assign(tf.where(unseen, _quantiles(rewards), self.reward_quantiles))

  def follow(self, reward: tf.Tensor) -> None:
    """Moves a little towards the quantiles of these rewards, any shape."""
    self.reward_quantiles.assign_add(RATE * (_quantiles(reward) - self.reward_quantiles))

  def bounds(self) -> tuple[tf.Tensor, tf.Tensor]:
    """The least and the greatest value; 0 is one of those possible, as an episode may end."""
    usual = tf.minimum(self.reward_quantiles[0], 0.0), tf.maximum(self.reward_quantiles[1], 0.0)
    rare = (
      tf.minimum(self.reward_extremes[0] - usual[0], 0.0),
      tf.maximum(self.reward_extremes[1] - usual[1], 0.0),
    )
    low, high = (
      often / (1 - self._discount) + seldom / (1 - self._discount**RARE)
      for often, seldom in zip(usual, rare, strict=True)
    )
    return low, high

  def width(self) -> tf.Tensor:
    """The greatest value less the least."""
    low, high = self.bounds()
    return high - low


def _quantiles(reward: tf.Tensor) -> tf.Tensor:
  return tfp.stats.percentile(reward, [1.0, 99.0])
