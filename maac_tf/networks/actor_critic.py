"""The actor and the critics, with all that follows them: averages, normalisers, range of values.

Shapes: Q critics, S observation size, A action size; `...` stands for any leading dimensions.
"""

from collections.abc import Sequence
from typing import Annotated

import tensorflow as tf

from maac_tf import replicas
from maac_tf.checks import Option, configurable
from maac_tf.data.statistics import Statistics
from maac_tf.data.types import Transition, Value
from maac_tf.networks.critic import Critic
from maac_tf.networks.layers import normalizer
from maac_tf.networks.policy import Policy
from maac_tf.networks.value_range import ValueRange
from maac_tf.tasks.coordinates import Coordinates

# The targets take the minimum of so many target critics, drawn at each update (Chen et al. 2021):
# the more of them, the lower the targets.
CRITICS_PER_TARGET = 2


@configurable
class ActorCritic(tf.Module):
  """Policy, EMA policy, critics and target critics.

  Attributes:
    policy: collects data.
    ema_policy: an exponential moving average (EMA) of the policy's weights over updates; it is
      evaluated and exported.
    critic, target_critic: Q networks in one, and their Polyak averages.
    value_range: bounds of the values, or None.
    largest_reward: of D_env, without its sign.
  """

  def __init__(
    self,
    observation_size: int,
    action_size: int,
    coordinates: Coordinates,
    discount: float,
    seeds: Sequence[int] = (0, 0),
    *,
    hidden_units: Annotated[
      Sequence[int], Option("units of each hidden layer of policy and critics", low=1)
    ] = (128, 128, 128),
    normalize_observations: Annotated[
      bool,
      Option(
        "what policy and critics see is normalised over D_env: some velocities are ten times as "
        "large as any angle"
      ),
    ] = True,
    normalize_rewards: Annotated[
      bool,
      Option(
        "in temperature and losses, 1 is a standard deviation of D_env's rewards: they "
        "mean the same at any scale of these. Returns and values stay in the task's units"
      ),
    ] = True,
    bound_values: Annotated[
      bool,
      Option(
        "scale the critics' outputs to the values that are possible at the rewards seen, so that "
        "weights of the usual size can say them, start them from zero, and clip the target critics "
        "to these values, so that an overestimate cannot feed on itself. Not with STEVE"
      ),
    ] = True,
    polyak_decay: Annotated[
      float,
      Option(
        "of the target critics, 1 - τ. An error of the values of states that lead to each other "
        "dies out by γ^H every 1 / τ updates",
        low=0,
        high=0.99999,
      ),
    ] = 0.98,
    ema_decay: Annotated[
      float,
      Option(
        "of the EMA policy, over updates. From one update to the next, a policy that hops may be "
        "one that falls, and back; their average hops. After n updates it is (1 + n) / (10 + n) at "
        "the most. 0: the policy itself",
        low=0,
        high=0.99999,
      ),
    ] = 0.9995,
  ):
    """Makes the networks.

    Args:
      coordinates: what all of them see of an observation.
      discount: γ, for the bounds of the values.
      seeds: of the policy's weights, and of the critics'.
    """
    super().__init__()
    sizes, policy_seed, critic_seed = (observation_size, action_size, hidden_units), *seeds
    self.policy, self.ema_policy = (
      Policy(*sizes, coordinates=coordinates, seed=policy_seed) for _ in range(2)
    )
    self.critic, self.target_critic = (
      Critic(*sizes, coordinates=coordinates, seed=critic_seed, zero_last_layer=bound_values)
      for _ in range(2)
    )
    self.value_range = ValueRange(discount) if bound_values else None
    self.normalize_observations, self.normalize_rewards = normalize_observations, normalize_rewards
    self._reward_normalizer = normalizer(1, "float32")
    self.largest_reward = tf.Variable(0.0, trainable=False)
    self.polyak_decay, self.ema_decay = polyak_decay, ema_decay

  @property
  def networks(self) -> tuple[tf.Module, ...]:
    return self.policy, self.ema_policy, self.critic, self.target_critic

  @property
  def reward_scale(self) -> tf.Tensor:
    """The unit of temperature and losses: the standard deviation of the rewards, or 1; []."""
    return self._reward_normalizer.scale[0]

  @property
  def draws_critics(self) -> bool:
    """Whether the targets are of a random subset of the target critics."""
    return self.critic.num_critics > CRITICS_PER_TARGET

  def value(self, observation: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    """Q(s, a) [...] as the policy's objective has it.

    Of more critics than the targets use it is their mean, which is smoother than a minimum, the
    gradient of which is of one critic; of two the minimum, which guards against overestimates.
    """
    reduce = tf.reduce_mean if self.draws_critics else tf.reduce_min
    return reduce(self.critic(observation, action), 0)

  def target_values(self, which: tf.Tensor | tuple[()]) -> Value:
    """The target critics: (observation, action) -> [n, ...].

    Args:
      which: [n] int of them, or () for all.
    """

    def values(observation: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
      found = self.target_critic(observation, action, which if self.draws_critics else None)
      return tf.clip_by_value(found, *self.value_range.bounds()) if self.value_range else found

    return values

  def columns(self, transition: Transition) -> tf.Tensor:
    """What `fit_normalizers` takes the statistics of: features and reward of [N, ...] steps."""
    features = self.policy.coordinates.features(transition.observation)
    return tf.concat([features, transition.reward[:, tf.newaxis]], -1)

  def fit_normalizers(self, seen: Statistics, rewards: tf.Tensor) -> None:
    """Takes the statistics of D_env, and some of its rewards, of which there may be fewer."""
    observation, reward = seen.part(-1), seen.part(-1, None)
    if self.normalize_observations:
      for network in self.networks:
        network.normalizer.fit(observation)
    if self.normalize_rewards:
      self._reward_normalizer.fit(reward)
    self.largest_reward.assign(reward.largest[0])
    if self.value_range:
      self.value_range.see(reward.low[0], reward.high[0], rewards)
    self._scale_critics()

  def follow_rewards(self, reward: tf.Tensor) -> dict[str, tf.Tensor]:
    """Moves the range of values, and with it the critics' scale, towards these soft rewards.

    Returns:
      Metrics, scalars.
    """
    if not self.value_range:
      return {}
    self.value_range.follow(replicas.together(reward))
    self._scale_critics()
    low, high = tf.unstack(self.value_range.reward_quantiles)
    return {"critic/reward_low": low, "critic/reward_high": high}

  def _scale_critics(self) -> None:
    scale = self.value_range.width() if self.value_range else self.reward_scale
    for critic in (self.critic, self.target_critic):
      critic.scale.assign(scale)

  def update_averages(self, updates: tf.Tensor) -> None:
    """After so many updates, [] int: target critics and EMA policy go a step.

    The decay of the policy's grows to `ema_decay`, as that of `tf.train.ExponentialMovingAverage`:
    the average never looks back on much more than a ninth of the updates.
    """
    pairs = self.target_critic.trainable_variables, self.critic.trainable_variables
    for target, source in zip(*pairs, strict=True):
      target.assign_add((1.0 - self.polyak_decay) * (source - target))
    count = tf.cast(updates, tf.float32)
    decay = tf.minimum((1.0 + count) / (10.0 + count), self.ema_decay)
    pairs = self.ema_policy.trainable_variables, self.policy.trainable_variables
    for average, source in zip(*pairs, strict=True):
      average.assign(decay * average + (1.0 - decay) * source)
