"""Planning at test time (section 5.4): the cross-entropy method over the learned models."""

import math
from typing import Annotated

import numpy as np
import tensorflow as tf

from maac_tf.algorithm import objectives
from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.rollout import RolloutNoise, rollout
from maac_tf.checks import Option, configurable, require
from maac_tf.models.model_env import ModelEnv

# The best of the candidates, an eighth, are what the next Gaussian is fitted to.
ELITE_FRACTION = 1 / 8
# Gaussians that are fitted.
NUM_ITERATIONS = 2


@configurable
class Planner(tf.Module):
  """Improves the policy's next actions under models and Q-function, and takes the first of them.

  The search is over the noises of the policy's next H actions, and starts from the standard normal
  that the policy itself draws them from. In an imagined trajectory the policy acts with a
  candidate's noises: what it does depends on where the model leads. The action is that of the mean
  of the last elites; without iterations that mean is zero, the deterministic policy.

  Every member of the ensemble imagines a share of the candidates. The elites are the best of each
  share, so that no member decides alone, and a candidate takes one trajectory.

  Shapes: B observations, H model steps, E members, N candidates of each.
  """

  def __init__(
    self,
    learner: Maac,
    *,
    horizon: Annotated[
      int, Option("model steps of a plan; the critics value what comes after", low=1)
    ] = 8,
    num_candidates: Annotated[
      int, Option("sequences of noises in each of the planner's iterations", low=1)
    ] = 64,
    num_iterations: int = NUM_ITERATIONS,
  ):
    """Checks the sizes; the learner's networks are used as they are at each call.

    Args:
      learner: with models.
      num_iterations: of the search; 0 is the policy.

    Raises:
      ValueError: for a value that makes no sense.
    """
    super().__init__()
    if learner.dynamics is None:
      raise ValueError("Planning needs models, and this run has none.")
    self._ensemble_size = learner.dynamics.ensemble_size
    require(
      num_candidates % self._ensemble_size == 0,
      f"Planner.num_candidates ({num_candidates}) must be a multiple of Dynamics.ensemble_size "
      f"({self._ensemble_size}): each member predicts an equal share.",
    )
    self._learner, self.horizon = learner, horizon
    self._share = num_candidates // self._ensemble_size
    self._num_elites = math.ceil(ELITE_FRACTION * self._share)  # of each share
    self._num_iterations = num_iterations

  @property
  def _model_env(self) -> ModelEnv:
    assert self._learner.model_env, "there is one where there are models"
    return self._learner.model_env

  @tf.function(autograph=False)
  def plan(self, observation: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Actions [B, A] in [-1, 1] for observations [B, S]; `seed` [2] is of the search.

    All observations are searched with the same random numbers.
    """
    learner = self._learner
    mean = tf.zeros([tf.shape(observation)[0], self.horizon, learner.action_size])
    std = tf.ones_like(mean)
    for seeds in tf.unstack(tf.random.split(seed, self._num_iterations)):
      sampling, imagining = tf.unstack(tf.random.split(seeds))
      shape = [self._ensemble_size, 1, self._share, *mean.shape[1:]]
      noise = tf.random.stateless_normal(shape, sampling)
      noise = tf.concat([tf.zeros_like(noise[:, :, :1]), noise[:, :, 1:]], 2)  # the mean, too
      candidates = mean[:, tf.newaxis] + std[:, tf.newaxis] * noise
      returns = self.returns(observation, candidates, imagining)
      # Ranked last, and never an elite, whatever the models' numbers ran away to.
      returns = tf.where(tf.math.is_finite(returns), returns, -np.inf)
      best = tf.math.top_k(returns, self._num_elites)
      elites = tf.gather(candidates, best.indices, batch_dims=2)
      valid = tf.cast(best.values > -np.inf, mean.dtype)[..., tf.newaxis, tf.newaxis]
      count = tf.reduce_sum(valid, [0, 2])
      fitted = tf.math.divide_no_nan(tf.reduce_sum(valid * elites, [0, 2]), count)
      squares = valid * tf.square(elites - fitted[:, tf.newaxis])
      variance = tf.math.divide_no_nan(tf.reduce_sum(squares, [0, 2]), count)
      some = count > 0.0
      mean, std = tf.where(some, fitted, mean), tf.where(some, tf.sqrt(variance), std)
    action, _ = learner.actor_critic.ema_policy.act(observation, mean[:, 0])
    return action

  def returns(self, observation: tf.Tensor, candidates: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Predicted returns [E, B, N] of candidates [E, B, N, H, A] from observations [B, S].

    Discounted rewards until an imagined end or s_H, then Q of the policy's action there. All
    candidates of a member meet the same noise of the model (common random numbers): what ranks
    them is their actions alone.
    """
    learner, act = self._learner, self._learner.actor_critic.ema_policy.act
    starts = tf.repeat(observation[tf.newaxis], self._share, 1)
    starts = tf.repeat(starts, self._ensemble_size, 0)  # [E, B N, S]
    actions = tf.reshape(candidates, [self._ensemble_size, -1, *candidates.shape[3:]])
    action_size, draw_model_noise = learner.noise_arguments
    noise = RolloutNoise(
      action=tf.transpose(actions, [2, 0, 1, 3]),
      model=draw_model_noise([self.horizon, self._ensemble_size, 1], seed),
    )
    trajectory = rollout(act, self._model_env.own_member, starts, noise)
    final = act(trajectory.observation[-1], tf.zeros([1, 1, 1, action_size]))
    returns = objectives.path_return(
      objectives.Path(trajectory, *final),
      learner.actor_critic.value,
      entropy_steps=(),
      discount=learner.discount,
      temperature=0.0,
    )
    return tf.reshape(returns, tf.shape(candidates)[:3])
