"""MAAC's variables, optimizers and compiled functions: act, fit, imagine, train."""

from typing import NamedTuple

import gin
import keras
import numpy as np
import tensorflow as tf

from maac_tf import imagine, objectives
from maac_tf.config import require, require_integers, require_numbers
from maac_tf.dynamics_fit import DynamicsFit
from maac_tf.envs import Environment, Task
from maac_tf.networks import Critic, Dynamics, Policy
from maac_tf.objectives import PolicyNoise, SteveNoise, Transition
from maac_tf.replay import ReplayBuffer


class UpdateNoise(NamedTuple):
  """All that is random in one update: with it given, the update is a deterministic function."""

  env_indices: tf.Tensor  # which transitions of D_env
  model_indices: tf.Tensor  # and of D_model
  policy: PolicyNoise
  steve: SteveNoise


def _permutations(shape, seed):
  """Random permutations of range(shape[-1]); unlike a shuffle, XLA has a kernel for these."""
  keys = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.int32)
  return tf.argsort(keys, axis=-1)


@gin.configurable(denylist=["task", "environment", "seed"])
class Maac(tf.Module):
  """Model-augmented actor-critic (section 4.3).

  H = 0, `critic_horizon` = 0 and `real_fraction` = 1 turn off, one by one, the model's three uses:
  policy gradient, critic targets, data. A model that nothing uses is not built.
  """

  def __init__(
    self,
    task: Task,
    environment: Environment,
    seed: int = 0,
    *,
    horizon: int = 4,
    critic_horizon: int = 2,
    num_trajectories: int = 1,
    num_final_actions: int = 5,
    models_per_target: int = 4,
    batch_size: int = 256,
    real_fraction: float = 0.1,
    discount: float = 0.99,
    polyak_decay: float = 0.995,
    policy_learning_rate: float = 3e-4,
    critic_learning_rate: float = 3e-4,
    temperature_learning_rate: float = 3e-4,
    initial_temperature: float = 0.1,
    target_entropy: float | None = None,
    env_capacity: int = 250_000,
    model_capacity: int = 400_000,
    jit_compile: bool = False,
  ):
    """Builds every variable.

    Args:
      task: whose reward and termination functions judge imagined steps.
      environment: for sizes and the scale of actions; it is not stepped.
      seed: of the initial weights.
      horizon: H, model steps in the policy objective; 0 is the model-free update.
      critic_horizon: h_max, the longest STEVE rollout; 0 is one-step TD.
      num_trajectories: K, trajectories from each start state.
      num_final_actions: n, action samples at s_H.
      models_per_target: M, the random subset of the ensemble in the STEVE targets.
      batch_size: B, transitions an update.
      real_fraction: the share of a batch from D_env; the rest is from D_model.
      discount: γ.
      polyak_decay: of the target critics, 1 - τ.
      initial_temperature: β before tuning.
      target_entropy: in nats; None is minus the action size.
      env_capacity, model_capacity: of D_env and D_model, in transitions; the oldest leave first.
      jit_compile: compile the update with XLA: a third faster on two CPU cores, needed on a TPU.

    Raises:
      ValueError: for a value, or a combination, that makes no sense.
    """
    super().__init__()
    require_integers("Maac", 0, horizon=horizon, critic_horizon=critic_horizon)
    require_integers(
      "Maac",
      1,
      num_trajectories=num_trajectories,
      num_final_actions=num_final_actions,
      models_per_target=models_per_target,
      batch_size=batch_size,
      env_capacity=env_capacity,
      model_capacity=model_capacity,
    )
    require_numbers("Maac", 0, 1, polyak_decay=polyak_decay)
    require_numbers("Maac", 1e-6, 1, real_fraction=real_fraction)
    require_numbers("Maac", 0, 0.99999, discount=discount)
    require_numbers("Maac", 1e-6, 1e6, initial_temperature=initial_temperature)
    require_numbers(
      "Maac",
      0,
      1,
      policy_learning_rate=policy_learning_rate,
      critic_learning_rate=critic_learning_rate,
      temperature_learning_rate=temperature_learning_rate,
    )
    if target_entropy is not None:
      require_numbers("Maac", -1e6, 1e6, target_entropy=target_entropy)
    sizes = environment.observation_size, environment.action_size
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(4) // 2]

    self._task = task
    self.action_scale, self.action_shift = environment.action_scale, environment.action_shift
    self.observation_size, self.action_size = sizes
    self.horizon, self.critic_horizon = horizon, critic_horizon
    self.num_trajectories, self.num_final_actions = num_trajectories, num_final_actions
    self.models_per_target, self.batch_size = models_per_target, batch_size
    self.num_real = max(1, round(batch_size * real_fraction))
    self.discount, self.polyak_decay = discount, polyak_decay
    self.target_entropy = -float(sizes[1]) if target_entropy is None else target_entropy

    self.policy = Policy(*sizes, seed=seeds[0])
    self.critic = Critic(*sizes, seed=seeds[1])
    self.target_critic = Critic(*sizes, seed=seeds[1])
    self.env_buffer = ReplayBuffer(env_capacity, *sizes)
    self.dynamics = self.dynamics_fit = self.model_buffer = None
    if self.uses_model:
      self.dynamics = Dynamics(*sizes, seed=seeds[2])
      self.dynamics_fit = DynamicsFit(self.dynamics, self.env_buffer, seeds[3])
    if self.imagines:
      self.model_buffer = ReplayBuffer(model_capacity, *sizes)
    self._check_combination()

    self._log_temperature = tf.Variable(np.log(initial_temperature), dtype=tf.float32)
    self._policy_optimizer = keras.optimizers.Adam(policy_learning_rate)
    self._critic_optimizer = keras.optimizers.Adam(critic_learning_rate)
    self._temperature_optimizer = keras.optimizers.Adam(temperature_learning_rate)
    self._policy_optimizer.build(self.policy.trainable_variables)
    self._critic_optimizer.build(self.critic.trainable_variables)
    self._temperature_optimizer.build([self._log_temperature])
    self.compiled_update = tf.function(self.update, jit_compile=jit_compile or None)

  def _check_combination(self):
    if self.critic_horizon:
      require(
        self.critic.num_critics >= 2,
        "STEVE weighs its targets by the disagreement of the critics and needs two of them: set "
        f"Critic.num_critics to 2 or more (it is {self.critic.num_critics}), or "
        "Maac.critic_horizon to 0.",
      )
      require(
        self.models_per_target <= self.dynamics.ensemble_size,
        f"Maac.models_per_target is {self.models_per_target}, but the ensemble has only "
        f"{self.dynamics.ensemble_size} members (Dynamics.ensemble_size).",
      )
    if self.uses_model:
      require(
        self.batch_size % self.dynamics.ensemble_size == 0,
        f"Maac.batch_size ({self.batch_size}) must be a multiple of Dynamics.ensemble_size "
        f"({self.dynamics.ensemble_size}): each member predicts an equal share of the batch.",
      )
    if self.imagines:
      require(
        self.model_buffer.capacity >= self.dynamics.ensemble_size,
        f"Maac.model_capacity ({self.model_buffer.capacity}) must be Dynamics.ensemble_size "
        f"({self.dynamics.ensemble_size}) or more.",
      )

  @property
  def imagines(self) -> bool:
    """Whether updates draw on D_model."""
    return self.num_real < self.batch_size

  @property
  def uses_model(self) -> bool:
    return self.imagines or self.horizon > 0 or self.critic_horizon > 0

  @tf.function
  def act(self, observation, noise):
    """Actions [B, A] in [-1, 1] for observations [B, S]; zero noise is the deterministic policy."""
    return self.policy.act(observation, noise)[0]

  def _judge(self, observation, action, next_observation):
    """Reward and termination of imagined steps, in the environment's units."""
    action = action * self.action_scale + self.action_shift
    arguments = observation, action, next_observation
    return self._task.reward_fn(*arguments), self._task.termination_fn(*arguments)

  def _step_random_member(self, observation, action, noise):
    """f_U: each of [N, ...] trajectories by a random member; noise: (normal, permutation)."""
    next_observation = imagine.random_member(
      self.dynamics.sample, self.dynamics.ensemble_size, observation, action, *noise
    )
    return next_observation, *self._judge(observation, action, next_observation)

  def _step_own_member(self, observation, action, noise):
    """f_m: [E, N, ...], each trajectory by the member it is dealt to."""
    next_observation = self.dynamics.sample(observation, action, noise)
    return next_observation, *self._judge(observation, action, next_observation)

  @tf.function
  def fill_model_buffer(self, num_starts: int, rollout_length: int, seed):
    """Algorithm 1, line 6: `rollout_length` steps from each of `num_starts` states into D_model.

    A trajectory that terminates goes on from another state of D_env, so that shapes are static.

    Returns:
      The share of imagined steps that terminated.
    """
    seeds = tf.unstack(tf.random.split(seed, rollout_length + 1))
    starts = self.env_buffer.random_indices([rollout_length + 1, num_starts], seeds[0])
    observation = self.env_buffer.gather(starts[0]).observation
    terminated = 0.0
    for t in range(rollout_length):
      noise = self._rollout_noise(1, num_starts, seeds[t + 1])
      trajectory = imagine.rollout(self.policy.act, self._step_random_member, observation, noise)
      terminal = trajectory.terminal[0]
      next_observation = trajectory.observation[1]
      self.model_buffer.add(
        Transition(
          observation,
          trajectory.action[0],
          trajectory.reward[0],
          next_observation,
          tf.cast(terminal, tf.float32),
        )
      )
      fresh = self.env_buffer.gather(starts[t + 1]).observation
      observation = tf.where(terminal[:, tf.newaxis], fresh, next_observation)
      terminated += tf.reduce_mean(tf.cast(terminal, tf.float32)) / rollout_length
    return terminated

  def _rollout_noise(self, horizon, num_trajectories, seed) -> imagine.RolloutNoise:
    """For rollouts through random members."""
    a, m, p = tf.unstack(tf.random.split(seed, 3))
    normal = tf.random.stateless_normal
    shape = [horizon, num_trajectories]
    return imagine.RolloutNoise(
      action=normal([*shape, self.action_size], a),
      model=(normal([*shape, self.observation_size], m), _permutations(shape, p)),
    )

  def draw(self, seed) -> UpdateNoise:
    """All the randomness of one update."""
    e, d, r, f, c1, ca, cm, cf, members = tf.unstack(tf.random.split(seed, 9))
    normal = tf.random.stateless_normal
    batch, num_model = self.batch_size, self.batch_size - self.num_real
    trajectories = batch * self.num_trajectories
    ensemble_size = self.dynamics.ensemble_size if self.dynamics else 1
    num_members = min(self.models_per_target, ensemble_size)
    dealt = [ensemble_size, batch // ensemble_size * num_members]
    return UpdateNoise(
      env_indices=self.env_buffer.random_indices([self.num_real], e),
      model_indices=(
        self.model_buffer.random_indices([num_model], d)
        if self.imagines
        else tf.zeros([0], tf.int64)
      ),
      policy=PolicyNoise(
        rollout=self._rollout_noise(self.horizon, trajectories, r),
        final_action=normal([self.num_final_actions, trajectories, self.action_size], f),
      ),
      steve=SteveNoise(
        first_action=normal([batch, self.action_size], c1),
        rollout=imagine.RolloutNoise(
          action=normal([self.critic_horizon, *dealt, self.action_size], ca),
          model=normal([self.critic_horizon, *dealt, self.observation_size], cm),
        ),
        final_action=normal([*dealt, self.action_size], cf),
        members=_permutations([ensemble_size], members)[:num_members],
      ),
    )

  def update(self, noise: UpdateNoise):
    """One pass of Algorithm 1, lines 8-11: policy, temperature, critics, target critics.

    Returns:
      Dict of scalar diagnostics.
    """
    batch = self.env_buffer.gather(noise.env_indices)  # line 8: D = D_env ∪ D_model
    if self.imagines:
      imagined = self.model_buffer.gather(noise.model_indices)
      batch = Transition(*(tf.concat(pair, 0) for pair in zip(batch, imagined, strict=True)))
    temperature = tf.exp(self._log_temperature)
    parameters = {"discount": self.discount, "temperature": temperature}

    # θ ← θ + β_π ∇J_π(θ). Only the policy is watched: no gradient reaches model or critics.
    variables = self.policy.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch([v.value for v in variables])
      policy_loss, log_prob, trajectory = objectives.policy_loss(
        self.policy.act,
        self._step_random_member,
        self.critic,
        batch.observation,
        noise.policy,
        **parameters,
      )
    policy_gradient = tape.gradient(policy_loss, variables)
    self._policy_optimizer.apply(policy_gradient, variables)

    with tf.GradientTape() as tape:
      temperature_loss = objectives.temperature_loss(
        self._log_temperature, log_prob, self.target_entropy
      )
    gradient = tape.gradient(temperature_loss, [self._log_temperature])
    self._temperature_optimizer.apply(gradient, [self._log_temperature])

    # ψ ← ψ - β_Q ∇J_Q(ψ)
    targets, weights = objectives.steve_targets(
      self.policy.act, self._step_own_member, self.target_critic, batch, noise.steve, **parameters
    )
    variables = self.critic.trainable_variables
    with tf.GradientTape() as tape:
      critic_loss = objectives.critic_loss(self.critic, batch, targets)
    critic_gradient = tape.gradient(critic_loss, variables)
    self._critic_optimizer.apply(critic_gradient, variables)
    for target, source in zip(self.target_critic.variables, self.critic.variables, strict=True):
      target.assign_add((1.0 - self.polyak_decay) * (source - target))

    diagnostics = {
      "policy/loss": policy_loss,
      "policy/entropy": -tf.reduce_mean(log_prob),
      "policy/gradient_norm": tf.linalg.global_norm(policy_gradient),
      "policy/temperature": temperature,
      "critic/loss": critic_loss,
      "critic/gradient_norm": tf.linalg.global_norm(critic_gradient),
      "critic/target": tf.reduce_mean(targets),
    }
    if self.critic_horizon:
      for h, weight in enumerate(tf.unstack(tf.reduce_mean(weights, -1))):
        diagnostics[f"critic/steve_weight_{h}"] = weight
    if self.horizon:
      diagnostics["policy/terminated"] = 1.0 - tf.reduce_mean(trajectory.not_done[-1])
    return diagnostics

  @tf.function
  def train(self, num_updates, seed):
    """`num_updates` updates in one call.

    Args:
      num_updates: scalar int tensor.
      seed: [2] int.

    Returns:
      The diagnostics of `update`, averaged.
    """
    totals = self.compiled_update(self.draw(tf.random.fold_in(seed, 0)))
    for i in tf.range(1, num_updates):
      diagnostics = self.compiled_update(self.draw(tf.random.fold_in(seed, i)))
      totals = tf.nest.map_structure(tf.add, totals, diagnostics)
    return tf.nest.map_structure(lambda x: x / tf.cast(num_updates, tf.float32), totals)
