"""STEVE: targets of several lengths, weighed by how far models and critics agree (section 4.3).

Shapes: B batch, A action size, E ensemble members, M of them used, N = B / E, Q critics.
"""

from typing import Annotated, NamedTuple

import tensorflow as tf

from maac_tf.algorithm.critic_targets import CriticTargets, Learner, Regression
from maac_tf.algorithm.noise import permutations
from maac_tf.algorithm.objectives import Path, if_alive
from maac_tf.algorithm.rollout import RolloutNoise, rollout
from maac_tf.checks import Option, configurable, require
from maac_tf.data.types import Act, DrawNoise, Noise, Step, Transition, Value
from maac_tf.models.members import from_members, to_members


class SteveNoise(NamedTuple):
  """What is random in the STEVE targets of one batch of B transitions."""

  action: tf.Tensor  # [h_max + 1, B, A], for the stored s_1 and each state imagined after it
  model: tf.Tensor  # of h_max steps, [h_max, E, M B / E, ...]
  members: tf.Tensor  # [M] int, see `to_members`


@configurable
class SteveTargets(CriticTargets):
  """STEVE on stored steps (Buckman et al. 2018), inside a random half of the ensemble."""

  def __init__(
    self,
    horizon: Annotated[
      int, Option("h_max, the longest imagined rollout in the targets; 0 is one-step TD", low=0)
    ] = 2,
  ):
    self.horizon = horizon

  def uses_models(self) -> bool:
    return self.horizon > 0

  def check(self, learner: Learner) -> None:
    if not self.horizon:
      return
    hint = "or SteveTargets.horizon to 0"
    require(
      not learner.actor_critic.value_range,
      "STEVE weighs its targets by the disagreement of the critics, and critics that start from "
      "zero and are clipped to the same value agree: set ActorCritic.bound_values = False, "
      f"{hint}.",
    )
    require(
      learner.actor_critic.critic.num_critics >= 2,
      "STEVE weighs its targets by the disagreement of the critics and needs two of them: set "
      f"Critic.num_critics to 2 or more, {hint}.",
    )

  def draw(self, learner: Learner, seed: tf.Tensor) -> SteveNoise:
    ensemble_size = learner.model_env.ensemble_size if learner.model_env else 1
    num_members = max(ensemble_size // 2, 1)
    sizes = learner.batch_size, num_members, ensemble_size, *learner.noise_arguments
    return steve_noise(self.horizon, *sizes, seed)

  def __call__(
    self, learner: Learner, batch: Transition, path: Path, target_values: Value, noise: Noise
  ) -> Regression:
    targets, weights = steve_targets(
      learner.act,
      learner.model_env.own_member if learner.model_env else None,
      target_values,
      batch,
      noise,
      discount=learner.discount,
      temperature=learner.temperature,
    )
    means = enumerate(tf.unstack(tf.reduce_mean(weights, -1)))
    metrics = {f"critic/steve_weight_{h}": weight for h, weight in means}
    return Regression(batch.observation, batch.action, targets, metrics)


def steve_noise(
  horizon: int,
  batch_size: int,
  num_members: int,
  ensemble_size: int,
  action_size: int,
  draw_model_noise: DrawNoise,
  seed: tf.Tensor,
) -> SteveNoise:
  """For `steve_targets`; `num_members` of the ensemble for each row of the batch."""
  action, model, members = tf.unstack(tf.random.split(seed, 3))
  dealt = [ensemble_size, batch_size // ensemble_size * num_members]
  return SteveNoise(
    action=tf.random.stateless_normal([horizon + 1, batch_size, action_size], action),
    model=draw_model_noise([horizon, *dealt], model),
    members=permutations([ensemble_size], members)[:num_members],
  )


def steve_targets(
  act: Act,
  step: Step | None,
  q_value: Value,
  transition: Transition,
  noise: SteveNoise,
  *,
  discount: float,
  temperature: tf.Tensor | float,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Critic targets that trust the model where it agrees with itself (Buckman et al. 2018).

  For each rollout length h = 0..h_max, member m and critic q the candidate

      T = r_0 + Σ_{i=1..h} γ^i c_i (r_i - β log π_i)
          + γ^{h+1} c_{h+1} (Q_q(s_{h+1}, a_{h+1}) - β log π_{h+1})

  is rolled inside m from the stored s_1 (section 4.3). Per h, the mean is over m of the minimum
  over q; its weight is 1 / (variance over m *and* q + 1e-8), normalised over h. The critics'
  disagreement must be in that variance: at h = 0 it is all there is. The policy's noise must not:
  all members take the same noise for the actions of a row. With h_max = 0 this is the TD target of
  SAC.

  Args:
    act, step: as in `rollout`; `step` gets [E, N, ...], the leading index being the member. None
      will do for h_max = 0.
    q_value: the *target* critics, (observation, action) -> [Q, ...].
    transition: B stored steps.
    noise: h_max and M are its shapes.

  Returns:
    (targets [B], weights [h_max + 1, B]), without gradient.
  """
  num_members = noise.members.shape[0]
  horizon = noise.action.shape[0] - 1
  first_action, first_log_prob = act(transition.next_observation, noise.action[0])

  def soft_value(observation: tf.Tensor, action: tf.Tensor, log_prob: tf.Tensor) -> tf.Tensor:
    return q_value(observation, action) - temperature * log_prob  # [Q, ...]

  not_done_1 = 1.0 - transition.terminal
  value_1 = soft_value(transition.next_observation, first_action, first_log_prob)
  td = transition.reward + discount * if_alive(not_done_1, value_1)  # [Q, B]
  candidates = [tf.repeat(td[:, tf.newaxis], num_members, 1)]  # of [Q, M, B]

  if horizon:
    ensemble_size = noise.model.shape[1]

    def deal(x: tf.Tensor) -> tf.Tensor:
      return to_members(x, noise.members, ensemble_size)

    *dealt, last = [deal(x) for x in tf.unstack(noise.action)]
    trajectory = rollout(
      act,
      step,
      deal(transition.next_observation),
      RolloutNoise(tf.stack(dealt), noise.model),
      first=(deal(first_action), deal(first_log_prob)),
    )
    final_action, final_log_prob = act(trajectory.observation[-1], last)
    actions = [*trajectory.action, final_action]
    log_probs = [*trajectory.log_prob, final_log_prob]
    later = (tf.stack(x[1:]) for x in (trajectory.observation, actions, log_probs))
    values = soft_value(*later)  # [Q, h_max, E, N]
    partial, not_done_1 = deal(transition.reward), deal(not_done_1)
    for h in range(1, horizon + 1):
      c = [not_done_1 * not_done for not_done in trajectory.not_done[h - 1 : h + 1]]
      soft_reward = trajectory.reward[h - 1] - temperature * log_probs[h - 1]
      partial += discount**h * if_alive(c[0], soft_reward)
      candidate = partial + discount ** (h + 1) * if_alive(c[1], values[:, h - 1])
      candidates.append(from_members(candidate, noise.members, ensemble_size))

  candidates = tf.stack(candidates)  # [h_max + 1, Q, M, B]
  mean = tf.reduce_mean(tf.reduce_min(candidates, 1), 1)
  weight = 1.0 / (_variance(candidates) + 1e-8)
  weight /= tf.reduce_sum(weight, 0)
  return tf.stop_gradient(tf.reduce_sum(weight * mean, 0)), tf.stop_gradient(weight)


def _variance(candidates: tf.Tensor) -> tf.Tensor:
  """Over critics and members, [h, Q, M, B] -> [h, B], by the law of total variance.

  Both parts are without bias in themselves: over all M Q numbers alike, h = 0, which members do not
  vary, would seem better known than it is. (What members and critics vary only together counts
  1 + 1 / Q times.)
  """

  def unbiased(x: tf.Tensor, axis: int) -> tf.Tensor:
    count = x.shape[axis]
    return tf.math.reduce_variance(x, axis) * count / max(count - 1, 1)

  of_critics = tf.reduce_mean(unbiased(candidates, 1), 1)
  return of_critics + unbiased(tf.reduce_mean(candidates, 1), 1)
