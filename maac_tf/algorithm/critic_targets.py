"""What the critics learn: returns of the policy's imagined rollouts, STEVE, or targets of your own.

Shapes: B batch, S, A sizes, H horizon, E ensemble members, M of them used, Q critics.
"""

from typing import Annotated, NamedTuple, Protocol

import tensorflow as tf

from maac_tf.algorithm.noise import permutations, policy_noise
from maac_tf.algorithm.objectives import Path, PolicyNoise, if_alive, imagine_path, path_return
from maac_tf.algorithm.rollout import RolloutNoise, rollout
from maac_tf.checks import Option, configurable, require
from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import Act, DrawNoise, Noise, Step, Transition, Value
from maac_tf.models.members import from_members, to_members
from maac_tf.models.model_env import ModelEnv
from maac_tf.networks.actor_critic import ActorCritic


class Learner(Protocol):
  """What targets may use of the learner, which is `learner.Maac`."""

  actor_critic: ActorCritic
  model_env: ModelEnv | None
  horizon: int  # H
  batch_size: int  # B
  env_buffer: ReplayBuffer  # D_env
  discount: float
  noise_arguments: tuple[int, DrawNoise]  # (A, draw_model_noise), the last ones of `policy_noise`

  @property
  def act(self) -> Act:
    """The policy."""

  @property
  def temperature(self) -> tf.Tensor:
    """β, []."""


class Regression(NamedTuple):
  """What the critics regress: Q(observation, action) on the targets."""

  observation: tf.Tensor  # [B, S]
  action: tf.Tensor  # [B, A]
  targets: tf.Tensor  # [B], without gradient
  metrics: dict[str, tf.Tensor]  # scalars, by their column in metrics.csv


class CriticTargets:
  """The target of the critics' regression in an update; a gin file says whose:

      Maac.critic_targets = @SteveTargets()

  For a target of your own, derive a class from this one in a file of your own, decorate it with
  `maac_tf.checks.configurable` and name it there (examples/own_critic_target.py).
  """

  def uses_models(self) -> bool:
    """Whether the target needs the ensemble; one that nothing needs is not built."""
    return False

  def check(self, learner: Learner) -> None:
    """Raises ValueError where these targets and the rest of the setting contradict each other."""

  def draw(self, learner: Learner, seed: tf.Tensor) -> Noise:
    """All that is random in the targets of one update, tensors: `noise` of the call."""
    return ()

  def __call__(
    self, learner: Learner, batch: Transition, path: Path, target_values: Value, noise: Noise
  ) -> Regression:
    """The targets of one update.

    Args:
      learner: see `Learner`.
      batch: B stored steps, of D_env and D_model.
      path: H steps of the policy from the batch's states, as its own objective imagined them.
      target_values: the target critics, (observation, action) -> [Q, ...], in their bounds.
      noise: what `draw` returned.
    """
    raise NotImplementedError


class RealSteps(NamedTuple):
  """What is random in the targets of n rows that begin with a real step."""

  indices: tf.Tensor  # which of D_env, [n]
  later: PolicyNoise  # of the model steps after it


class TargetNoise(NamedTuple):
  """What is random in `RolloutTargets`; () where nothing is."""

  one_step: PolicyNoise | tuple[()]
  real: RealSteps | tuple[()]


@configurable
class RolloutTargets(CriticTargets):
  """Returns of the policy's own rollout: model value expansion (Feinberg et al. 2018).

  The critics learn Q(s_0, a_0) from the return of the H steps that the policy's objective imagined:
  of the actions that the policy takes now, with the target critics' word discounted by γ^H, at no
  further cost. With H = 0, of one step more.

  What the models get wrong in the first step, the critics believe, too. So beside these rows there
  are others of D_env, whose first step of H is the real one: r_0, and where and whether it went on.
  """

  def __init__(
    self,
    real_share: Annotated[
      float, Option("rows that begin with a real step, beside the batch, for each of its", low=0)
    ] = 0.5,
  ):
    self.real_share = real_share

  def uses_models(self) -> bool:
    return True

  def draw(self, learner: Learner, seed: tf.Tensor) -> TargetNoise:
    one_step, indices, later = tf.unstack(tf.random.split(seed, 3))
    arguments, count = learner.noise_arguments, self._count(learner)
    real = RealSteps(
      learner.env_buffer.random_indices([count], indices),
      policy_noise(max(learner.horizon, 1) - 1, count, 1, *arguments, later),
    )
    first = policy_noise(1, learner.batch_size, 1, *arguments, one_step)
    return TargetNoise(() if learner.horizon else first, real if count else ())

  def _count(self, learner: Learner) -> int:
    """Of the rows that begin with a real step: the same number for each member."""
    assert learner.model_env, "there is one, as `uses_models` asks for it"
    size = learner.model_env.ensemble_size
    return round(self.real_share * learner.batch_size / size) * size

  def __call__(
    self,
    learner: Learner,
    batch: Transition,
    path: Path,
    target_values: Value,
    noise: TargetNoise,
  ) -> Regression:
    assert learner.model_env, "there is one, as `uses_models` asks for it"
    step = learner.model_env.random_member
    if noise.one_step:  # the policy's rollout is s_0 alone, with its action: one step more
      first = path.final_action[0], path.final_log_prob[0]
      start = path.trajectory.observation[0]
      path = imagine_path(learner.act, step, start, noise.one_step, first)

    def value(observation: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
      return tf.reduce_min(target_values(observation, action), 0)

    parameters = {"discount": learner.discount, "temperature": learner.temperature}
    targets = path_targets(path, value, **parameters)
    regression = path.trajectory.observation[0], path.trajectory.action[0], targets
    if noise.real:
      real = learner.env_buffer.gather(noise.real.indices)
      later = imagine_path(learner.act, step, real.next_observation, noise.real.later)
      targets = real_step_targets(real, later, value, **parameters)
      pairs = zip(regression, (real.observation, real.action, targets), strict=True)
      regression = tuple(tf.concat(pair, 0) for pair in pairs)
    return Regression(*regression, {})


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


def path_targets(
  path: Path, value: Value, *, discount: float, temperature: tf.Tensor | float
) -> tf.Tensor:
  """Critic targets for (s_0, a_0) of a path: the soft H-step return, [...], without gradient.

      r_0 + Σ_{1<=t<H} γ^t c_t (r_t - β log π_t) + γ^H c_H (Q' - β log π_H)

  `value` is of the target critics. H must be 1 or more.
  """
  entropy_steps = range(1, len(path.trajectory.reward) + 1)
  parameters = {"discount": discount, "temperature": temperature}
  return tf.stop_gradient(path_return(path, value, entropy_steps, **parameters))


def real_step_targets(
  real: Transition, path: Path, value: Value, *, discount: float, temperature: tf.Tensor | float
) -> tf.Tensor:
  """Critic targets for real steps (s_0, a_0), [n]; the path begins at the real s_1.

      r_0 + γ (1 - d_0) (the soft return of the path, its first entropy included)

  With a path of no steps they are the targets of SAC.
  """
  entropy_steps = range(len(path.trajectory.reward) + 1)
  later = path_return(path, value, entropy_steps, discount=discount, temperature=temperature)
  return tf.stop_gradient(real.reward + discount * if_alive(1.0 - real.terminal, later))


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
