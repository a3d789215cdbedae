"""The learner of MAAC: what lines 4 to 11 of Algorithm 1 change, in compiled functions.

Shapes: B batch, S observation size, A action size, H horizon.
"""

from typing import Annotated, NamedTuple

import numpy as np
import tensorflow as tf

import maac_tf.algorithm.steve  # noqa: F401  gin finds its class
from maac_tf import replicas
from maac_tf.algorithm import objectives, soundness
from maac_tf.algorithm.critic_targets import CriticTargets, RolloutTargets
from maac_tf.algorithm.noise import normals, permutations, policy_noise
from maac_tf.algorithm.objectives import Path, PolicyNoise
from maac_tf.algorithm.updates import in_turn
from maac_tf.checks import Option, configurable, require
from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.statistics import RunningStatistics
from maac_tf.data.types import Act, Noise, Transition
from maac_tf.models.ensemble import Dynamics
from maac_tf.models.fit import DynamicsFit
from maac_tf.models.model_env import ModelEnv
from maac_tf.networks.actor_critic import CRITICS_PER_TARGET, ActorCritic
from maac_tf.networks.adam import Adam
from maac_tf.networks.guard import Guard
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.task import Task

# The range of values begins with the quantiles of so many rewards, at the most.
FIRST_REWARDS = 10_000


class UpdateNoise(NamedTuple):
  """All that is random in one update."""

  env_indices: tf.Tensor  # which transitions of D_env
  model_indices: tf.Tensor  # and of D_model
  policy: PolicyNoise
  targets: Noise  # of the critics' targets
  critics: tf.Tensor | tuple[()]  # which of the target critics; (): all


@configurable
class Maac(tf.Module):
  """Model-augmented actor-critic (section 4.3).

  H = 0, `SteveTargets.horizon` = 0 and `real_fraction` = 1 turn off, one by one, the model's three
  uses: policy gradient, critic targets, data. A model that nothing uses is not built.

  Attributes:
    actor_critic: policy and critics.
    dynamics, dynamics_fit, model_env: the ensemble, its fit, and what is imagined in it; or None.
    critic_targets: what the critics learn.
    strategy: its replicas have their share of each batch.
    guard: sees numbers that go wrong in an update.
    env_buffer, model_buffer: D_env, and D_model or None (`imagined_data.ImaginedData`).
  """

  def __init__(
    self,
    task: Task,
    environment: Environment,
    seed: int = 0,
    *,
    horizon: Annotated[
      int, Option("H, model steps in the policy's objective; 0 is the model-free update", low=0)
    ] = 5,
    num_final_actions: Annotated[
      int, Option("n, samples of the action at s_H in the policy's objective", low=1)
    ] = 1,
    critic_targets: Annotated[
      CriticTargets | None,
      Option("what the critics learn: @RolloutTargets(), as None, @SteveTargets() or your own"),
    ] = None,
    discount: Annotated[float, Option("γ, a step", low=0, high=0.99999)] = 0.99,
    initial_temperature: Annotated[
      float,
      Option("β at first, for a nat of entropy; tuned to -A nats of it", low=1e-6, high=1e6),
    ] = 0.1,
    batch_size: Annotated[int, Option("B, transitions an update", low=1)] = 256,
    real_fraction: Annotated[
      float, Option("the share of a batch from D_env; the rest is from D_model", low=0, high=1)
    ] = 0.0,
    env_capacity: Annotated[
      int, Option("of D_env, in transitions; the oldest leave first", low=1)
    ] = 250_000,
    learning_rate: Annotated[float, Option("of policy and critics, by Adam", low=0, high=1)] = 3e-4,
    temperature_learning_rate: Annotated[
      float, Option("of the temperature, by Adam", low=0, high=1)
    ] = 3e-4,
    jit_compile: Annotated[
      bool, Option("compile updates and fitting steps with XLA; needed on a TPU")
    ] = True,
  ):
    """Builds every variable but D_model, which is given to `model_buffer` if it `imagines`.

    Args:
      task: its reward and termination functions, coordinates and symmetries are used.
      environment: for sizes and the scale of actions; it is not stepped.
      seed: of the initial weights.

    Raises:
      ValueError: for a value, or a combination, that makes no sense.
    """
    super().__init__()
    sizes = environment.observation_size, environment.action_size
    self.task, (self.observation_size, self.action_size) = task, sizes
    self.action_box = environment.action_box
    self.horizon, self.num_final_actions = horizon, num_final_actions
    self.critic_targets = critic_targets or RolloutTargets()
    self.discount = discount
    self.strategy, self.target_entropy = tf.distribute.get_strategy(), -float(self.action_size)
    self.batch_size = batch_size // replicas.count()  # of each
    self.num_real = round(self.batch_size * real_fraction)
    jit_compile = self.jit_compile = jit_compile and replicas.count() == 1  # XLA cannot reduce

    *seeds, model_seed, fit_seed = (int(s) for s in _seeds(seed))
    self.actor_critic = ActorCritic(*sizes, task.coordinates, discount, seeds)
    self.env_buffer = ReplayBuffer(env_capacity, *sizes)
    self._statistics = RunningStatistics(self.env_buffer, self.actor_critic.columns)
    self.dynamics: Dynamics | None = None
    self.dynamics_fit: DynamicsFit | None = None
    self.model_env: ModelEnv | None = None
    self.model_buffer: ReplayBuffer | None = None
    if self.uses_model:
      learned = task.reward_fn is None, task.termination_fn is None
      self.dynamics = Dynamics(*sizes, *learned, task.coordinates, seed=model_seed)
      scaled = [s.scaled(self.action_box) for s in task.symmetries]
      self.dynamics_fit = DynamicsFit(self.dynamics, self.env_buffer, fit_seed, jit_compile, scaled)
      self.model_env = ModelEnv(self.dynamics, task, environment)
    draw_model_noise = self.model_env.draw_noise if self.model_env else normals(0)
    self.noise_arguments = self.action_size, draw_model_noise  # the last ones of `rollout_noise`
    _check_combination(self, batch_size)

    self._log_temperature = tf.Variable(np.log(initial_temperature), dtype=tf.float32)
    self._policy_step = Adam(self.actor_critic.policy.trainable_variables, learning_rate)
    self._critic_step = Adam(self.actor_critic.critic.trainable_variables, learning_rate)
    self._temperature_step = Adam([self._log_temperature], temperature_learning_rate)
    self.guard = Guard()
    self.compiled_updates = tf.function(
      self.updates, autograph=False, jit_compile=jit_compile or None
    )

  def network_variables(self) -> list[tf.Variable]:
    """Of policy, critics and models, normalisers included."""
    networks = filter(None, (*self.actor_critic.networks, self.dynamics))
    return [v.value for network in networks for v in network.variables]

  def updated_variables(self) -> list[tf.Variable]:
    """What an update changes."""
    steps = self._policy_step, self._critic_step, self._temperature_step
    of_keras = *self.actor_critic.networks, *(step.optimizer for step in steps)
    own = *self.actor_critic.variables, self._log_temperature
    return [*(v.value for part in of_keras for v in part.variables), *own]

  @property
  def act(self) -> Act:
    """The policy that collects data: (observation, noise) -> (action, log_prob)."""
    return self.actor_critic.policy.act

  @property
  def temperature(self) -> tf.Tensor:
    """β, the weight of the entropy bonus, in the reward's units."""
    return tf.exp(self._log_temperature) * self.actor_critic.reward_scale

  @property
  def imagines(self) -> bool:
    """Whether updates draw on D_model."""
    return self.num_real < self.batch_size

  @property
  def uses_model(self) -> bool:
    return self.imagines or self.horizon > 0 or self.critic_targets.uses_models()

  def begin_iteration(self) -> None:
    """Normalisers take the statistics of D_env as it is now."""
    newest = self.env_buffer.newest(tf.minimum(self.env_buffer.size, FIRST_REWARDS))
    self.actor_critic.fit_normalizers(self._statistics.now(), newest.reward)

  def draw(self, seed: tf.Tensor) -> UpdateNoise:
    """All the randomness of one update; with R replicas, R > 1, a row for each: [R, ...]."""
    if (count := self.strategy.num_replicas_in_sync) == 1:
      return self._draw_share(seed)
    first, *others = [self._draw_share(s) for s in tf.unstack(tf.random.split(seed, count))]
    others = [noise._replace(critics=first.critics) for noise in others]  # one choice an update
    return tf.nest.map_structure(lambda *x: tf.stack(x), first, *others)

  def _draw_share(self, seed: tf.Tensor) -> UpdateNoise:
    env, model, policy, targets, critics = tf.unstack(tf.random.split(seed, 5))
    sizes = self.batch_size, self.num_final_actions, *self.noise_arguments
    model_indices = tf.zeros([0], tf.int64)
    if self.imagines:
      assert self.model_buffer, "`imagined_data.ImaginedData` gives it"
      model_indices = self.model_buffer.random_indices([self.batch_size - self.num_real], model)
    return UpdateNoise(
      env_indices=self.env_buffer.random_indices([self.num_real], env),
      model_indices=model_indices,
      policy=policy_noise(self.horizon, *sizes, policy),
      targets=self.critic_targets.draw(self, targets),
      critics=_draw_critics(self.actor_critic, critics),
    )

  def update(self, noise: UpdateNoise) -> dict[str, tf.Tensor]:
    """One pass of Algorithm 1, lines 8-11: policy, critics, their averages; and the temperature.

    Returns:
      Metrics, scalars.
    """
    batch = self.env_buffer.gather(noise.env_indices)  # line 8: D = D_env ∪ D_model
    if self.imagines:
      assert self.model_buffer, "`imagined_data.ImaginedData` gives it"
      imagined = self.model_buffer.gather(noise.model_indices)
      batch = Transition(*(tf.concat(pair, 0) for pair in zip(batch, imagined, strict=True)))
    path, metrics = self._update_policy(batch, noise.policy)
    log_prob = path.trajectory.log_prob[0] if self.horizon else path.final_log_prob
    entropy = {"policy/entropy": -tf.reduce_mean(log_prob)}
    metrics |= entropy | self._update_critics(batch, path, noise)
    self.actor_critic.update_averages(self._policy_step.count)
    self._update_temperature(log_prob)
    return metrics

  def _update_policy(
    self, batch: Transition, noise: PolicyNoise
  ) -> tuple[Path, dict[str, tf.Tensor]]:
    """θ ← θ + β_π ∇J_π(θ). Only the policy is watched: no gradient reaches model or critics."""
    metrics = {"policy/temperature": self.temperature}
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch([v.value for v in self.actor_critic.policy.trainable_variables])
      step = self.model_env.random_member if self.model_env else None
      path = objectives.imagine_path(self.act, step, batch.observation, noise)
      loss = metrics["policy/loss"] = objectives.policy_loss(
        path, self.actor_critic.value, discount=self.discount, temperature=self.temperature
      )
    metrics["policy/gradient_norm"] = self._policy_step(tape, loss, self.actor_critic.reward_scale)
    if self.horizon:
      metrics["policy/terminated"] = 1.0 - tf.reduce_mean(path.trajectory.not_done[-1])
    return path, metrics

  def _update_critics(
    self, batch: Transition, path: Path, noise: UpdateNoise
  ) -> dict[str, tf.Tensor]:
    """ψ ← ψ - β_Q ∇J_Q(ψ), towards targets within the range of values that the rewards allow."""
    parts = self.actor_critic
    seen = parts.follow_rewards(objectives.soft_rewards(batch, path, self.temperature))
    target_values = parts.target_values(noise.critics)
    *regression, metrics = self.critic_targets(self, batch, path, target_values, noise.targets)
    with tf.GradientTape() as tape:
      loss = metrics["critic/loss"] = objectives.critic_loss(parts.critic, *regression)
    metrics["critic/target"] = tf.reduce_mean(regression[-1])
    metrics["critic/gradient_norm"] = self._critic_step(tape, loss, parts.reward_scale**2)
    return metrics | seen

  def _update_temperature(self, log_prob: tf.Tensor) -> None:
    """Last: policy and critics have the temperature of before."""
    with tf.GradientTape() as tape:
      loss = objectives.temperature_loss(self._log_temperature, log_prob, self.target_entropy)
    self._temperature_step(tape, loss)

  def updates(self, noise: UpdateNoise) -> dict[str, tf.Tensor]:
    """One update for each row of `noise`; returns the metrics of `update`, averaged."""
    update = replicas.on_each(self.strategy, lambda x: self.update(replicas.row(x)))
    limits = soundness.limits(self)
    metrics = in_turn(update, noise)
    self.guard.look(soundness.numbers(metrics, limits))
    return {name: tf.reduce_mean(values) for name, values in metrics.items()}

  @tf.function(autograph=False)
  def train(self, num_updates: int, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """`num_updates` updates in one call, traced and compiled once for each number.

    The noise of all is drawn before, in plain TensorFlow: faster than in XLA where models are used,
    and XLA draws other numbers from the same seed.

    Args:
      num_updates: 1 or more, a Python int.
      seed: [2] int.

    Returns:
      The metrics of `update`, averaged.
    """
    require(num_updates >= 1, f"train() makes 1 update or more, not {num_updates!r}.")
    spec = tf.nest.map_structure(tf.TensorSpec.from_tensor, self.draw(seed))
    seeds = tf.random.split(seed, num_updates)
    draw = tf.autograph.experimental.do_not_convert(self.draw)  # which would take a second
    return self.compiled_updates(tf.map_fn(draw, seeds, fn_output_signature=spec))


def _draw_critics(actor_critic: ActorCritic, seed: tf.Tensor) -> tf.Tensor | tuple[()]:
  """Which target critics an update uses, [n] int; (): all."""
  if not actor_critic.draws_critics:
    return ()
  return permutations([actor_critic.critic.num_critics], seed)[:CRITICS_PER_TARGET]


def _seeds(seed: int) -> np.ndarray:
  """Of the policy, the critics, the ensemble and the roles of its data."""
  return np.random.SeedSequence(seed).generate_state(4) // 2


def _check_combination(learner: Maac, batch_size: int) -> None:
  replicas.require_shares("Maac.batch_size", batch_size)
  if learner.dynamics:
    ensemble_size = learner.dynamics.ensemble_size
    on_each = f" on each of {count} devices" if (count := replicas.count()) > 1 else ""
    require(
      learner.batch_size % ensemble_size == 0,
      f"Maac.batch_size ({batch_size}) must be a multiple of Dynamics.ensemble_size "
      f"({ensemble_size}){on_each}: each member predicts an equal share of the batch.",
    )
  learner.critic_targets.check(learner)
