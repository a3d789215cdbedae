"""Planning at test time (section 5.4): the cross-entropy method over the learned models."""

import math
from typing import Annotated

import numpy as np
import tensorflow as tf

from maac_tf.algorithm import objectives
from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.noise import rollout_noise
from maac_tf.algorithm.rollout import RolloutNoise, replay, rollout
from maac_tf.checks import Option, configurable, require
from maac_tf.models.model_env import ModelEnv

# The best of the candidates, an eighth, are what the next Gaussian is fitted to.
ELITE_FRACTION = 1 / 8
# Gaussians that are fitted.
NUM_ITERATIONS = 3


@configurable
class Planner(tf.Module):
  """Improves the policy's next actions under models and Q-function, and takes the first of them.

  The search starts from the policy's own distribution over sequences of H actions and returns the
  mean of its last elites; without iterations that mean is the deterministic policy.

  Shapes: B observations, H model steps, N candidates, P model samples of each.
  """

  def __init__(
    self,
    learner: Maac,
    *,
    horizon: Annotated[
      int, Option("model steps of a plan; the critics value what comes after", low=1)
    ] = 8,
    num_candidates: Annotated[
      int, Option("sequences of actions in each of the planner's iterations", low=1)
    ] = 128,
    num_iterations: int = NUM_ITERATIONS,
    num_samples: int | None = None,
  ):
    """Checks the sizes; the learner's networks are used as they are at each call.

    Args:
      learner: with models.
      num_iterations: of the search; 0 is the policy.
      num_samples: P, trajectories that a candidate's return is averaged over, each step by a random
        member. All candidates of an iteration meet the same P members and noises at each step
        (common random numbers): what ranks them is their actions alone. None: E, the number of
        members.

    Raises:
      ValueError: for a value that makes no sense.
    """
    super().__init__()
    if learner.dynamics is None:
      raise ValueError("Planning needs models, and this run has none.")
    ensemble_size = learner.dynamics.ensemble_size
    num_samples = ensemble_size if num_samples is None else num_samples
    for name, value in [("num_candidates", num_candidates), ("num_samples", num_samples)]:
      require(
        value % ensemble_size == 0,
        f"Planner.{name} ({value}) must be a multiple of Dynamics.ensemble_size "
        f"({ensemble_size}): each member predicts an equal share.",
      )
    self._learner, self.horizon = learner, horizon
    self._num_candidates = num_candidates
    self._num_elites = math.ceil(ELITE_FRACTION * num_candidates)
    self._num_iterations, self._num_samples = num_iterations, num_samples

  @property
  def _model_env(self) -> ModelEnv:
    assert self._learner.model_env, "there is one where there are models"
    return self._learner.model_env

  @tf.function(autograph=False)
  def plan(self, observation: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Actions [B, A] in [-1, 1] for observations [B, S]; `seed` [2] is of the search."""
    seeds = tf.unstack(tf.random.split(seed, 1 + 2 * self._num_iterations))
    mean, std = self._policy_sequences(observation, seeds[0])
    for sampling, imagining in zip(seeds[1::2], seeds[2::2], strict=True):
      shape = [tf.shape(observation)[0], self._num_candidates, *mean.shape[1:]]
      noise = tf.random.stateless_normal(shape, sampling)
      noise = tf.concat([tf.zeros_like(noise[:, :1]), noise[:, 1:]], 1)  # the mean is one of them
      candidates = tf.clip_by_value(mean[:, tf.newaxis] + std[:, tf.newaxis] * noise, -1.0, 1.0)
      returns = self.returns(observation, candidates, imagining)
      # Ranked last, and never an elite, whatever the models' numbers ran away to.
      returns = tf.where(tf.math.is_finite(returns), returns, -np.inf)
      best = tf.math.top_k(returns, self._num_elites)
      elites = tf.gather(candidates, best.indices, batch_dims=1)
      some = (best.values > -np.inf)[..., tf.newaxis, tf.newaxis]
      fitted = _mean_and_std(elites, some)
      some = tf.reduce_any(some, 1)
      mean, std = (tf.where(some, *pair) for pair in zip(fitted, (mean, std), strict=True))
    return mean[:, 0]

  def _policy_sequences(
    self, observation: tf.Tensor, seed: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and standard deviation [B, H, A] of the actions in imagined trajectories of the policy.

    The first mean is the action without noise.
    """
    learner = self._learner
    starts = tf.repeat(observation, self._num_candidates, 0)
    noise = rollout_noise(self.horizon, tf.shape(starts)[0], *learner.noise_arguments, seed)
    act = learner.actor_critic.ema_policy.act
    trajectory = rollout(act, self._model_env.random_member, starts, noise)
    shape = [-1, self._num_candidates, self.horizon, learner.action_size]
    actions = tf.reshape(tf.stack(trajectory.action, 1), shape)
    mean, std = _mean_and_std(actions, tf.math.is_finite(actions))
    first, _ = act(observation, tf.zeros([learner.action_size]))
    return tf.concat([first[:, tf.newaxis], mean[:, 1:]], 1), std

  def returns(self, observation: tf.Tensor, candidates: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Predicted returns [B, N] of candidates [B, N, H, A] from observations [B, S].

    Discounted rewards until an imagined end or s_H, then Q of the policy's action there.
    """
    learner, num_candidates = self._learner, self._num_candidates
    num_samples = tf.shape(observation)[0] * self._num_samples  # of all observations
    starts = tf.repeat(observation, self._num_samples * num_candidates, 0)  # in order of [B, P, N]
    noise = rollout_noise(self.horizon, num_samples, *learner.noise_arguments, seed)
    model_noise, permutation = noise.model
    model_noise = tf.repeat(model_noise, num_candidates, 1)
    permutation = permutation[..., tf.newaxis] * num_candidates + tf.range(num_candidates)
    permutation = tf.reshape(permutation, [self.horizon, -1])
    actions = tf.repeat(candidates[:, tf.newaxis], self._num_samples, 1)
    actions = tf.reshape(actions, [-1, self.horizon, learner.action_size])
    trajectory = rollout(
      replay,
      self._model_env.random_member,
      starts,
      RolloutNoise(tf.transpose(actions, [1, 0, 2]), (model_noise, permutation)),
    )
    final = learner.actor_critic.ema_policy.act(
      trajectory.observation[-1], tf.zeros([1, 1, learner.action_size])
    )
    returns = objectives.path_return(
      objectives.Path(trajectory, *final),
      learner.actor_critic.value,
      entropy_steps=(),
      discount=learner.discount,
      temperature=0.0,
    )
    return tf.reduce_mean(tf.reshape(returns, [-1, self._num_samples, num_candidates]), 1)


def _mean_and_std(x: tf.Tensor, valid: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Over axis 1 of x [B, N, ...], of what is `valid` alone, which has its shape or ones in it."""
  valid = tf.broadcast_to(valid, tf.shape(x))
  count = tf.reduce_sum(tf.cast(valid, x.dtype), 1)
  mean = tf.math.divide_no_nan(tf.reduce_sum(tf.where(valid, x, 0.0), 1), count)
  squares = tf.where(valid, tf.square(x - mean[:, tf.newaxis]), 0.0)
  return mean, tf.sqrt(tf.math.divide_no_nan(tf.reduce_sum(squares, 1), count))
