"""What the critics learn: returns of the policy's imagined rollouts, or targets of your own.

Shapes: B batch, S, A sizes, H horizon, Q critics. STEVE is in `steve.py`.
"""

from typing import Annotated, NamedTuple, Protocol

import tensorflow as tf

from maac_tf.algorithm.noise import policy_noise
from maac_tf.algorithm.objectives import Path, PolicyNoise, if_alive, imagine_path, path_return
from maac_tf.checks import Option, configurable
from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import Act, DrawNoise, Noise, Transition, Value
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
      float, Option("targets that begin with a real step, for each row of a batch", low=0)
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
