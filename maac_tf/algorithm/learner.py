"""MAAC's variables, optimizers and compiled functions: fit, imagine, train."""

from typing import NamedTuple

import gin
import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from maac_tf.algorithm import agent_settings, objectives
from maac_tf.algorithm.critic_targets import SteveNoise, path_targets, steve_targets
from maac_tf.algorithm.noise import normals, permutations, policy_noise, rollout_noise, steve_noise
from maac_tf.algorithm.objectives import PolicyNoise
from maac_tf.algorithm.value_range import ValueRange
from maac_tf.checks import require, require_booleans, require_integers, require_numbers
from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import Transition
from maac_tf.models.ensemble import Dynamics
from maac_tf.models.fit import DynamicsFit
from maac_tf.models.model_env import ModelSteps
from maac_tf.networks.critic import Critic
from maac_tf.networks.policy import Policy
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.coordinates import PLAIN
from maac_tf.tasks.task import Task


class UpdateNoise(NamedTuple):
  """All that is random in one update."""

  env_indices: tf.Tensor  # which transitions of D_env
  model_indices: tf.Tensor  # and of D_model
  policy: PolicyNoise
  target: PolicyNoise | SteveNoise | tuple[()]  # what the targets imagine beyond the policy's path
  target_critics: tf.Tensor | tuple[()]  # which of the target critics; (): all


def _reset(optimizer):
  """Forgets the moments and the count of steps."""
  for variable in optimizer.variables:
    if variable is not optimizer.learning_rate:
      variable.assign(tf.zeros_like(variable))


@gin.configurable(denylist=["task", "environment", "seed"])
class Maac(tf.Module):
  """Model-augmented actor-critic (section 4.3).

  H = 0, `critic_horizon` = 0 (without `shared_rollout`) and `real_fraction` = 1 turn off, one by
  one, the model's three uses: policy gradient, critic targets, data. A model that nothing uses is
  not built.
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
    soft_returns: bool = False,
    soft_values: bool = True,
    policy_value: str = "min",
    shared_rollout: bool = False,
    models_per_target: int = 4,
    critics_per_target: int | None = None,
    bound_values: bool = False,
    normalize_observations: bool = False,
    learn_reward: bool = False,
    task_coordinates: bool = False,
    task_symmetries: bool = False,
    batch_size: int = 256,
    real_fraction: float = 0.1,
    discount: float = 0.99,
    polyak_decay: float = 0.995,
    policy_decay: float = 0.0,
    policy_learning_rate: float = 3e-4,
    critic_learning_rate: float = 3e-4,
    temperature_learning_rate: float = 3e-4,
    kl_penalty: float = 0.0,
    initial_temperature: float = 0.1,
    target_entropy: float | None = None,
    reset_optimizers: bool = False,
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
      soft_returns: every imagined step carries its entropy bonus, not the start state alone, so
        that the policy ascends what the (soft) critics estimate.
      soft_values: the critics' targets carry the entropy bonus of every later step, as in SAC; else
        Q is the return alone, as in section 3.1. Towards a negative `target_entropy` the bonus is a
        cost: of being alive, where an episode can end.
      policy_value: "min" or "mean" of the critics at s_H. The minimum guards against
        overestimates, but its gradient is of one critic; the mean of several is smoother.
      shared_rollout: the critics learn from the policy's own rollouts, Q(s_0, a_0) from the return
        of H steps: of the actions that the policy takes now, with the target critics' word
        discounted by γ^H, at no further cost. Without it, from stored steps and STEVE.
      models_per_target: M, the random subset of the ensemble in the STEVE targets.
      critics_per_target: how many target critics, drawn at each update, the minimum in the targets
        is taken over (Chen et al. 2021): the more of them, the lower the targets, while all learn
        and can be averaged. None is all.
      bound_values: scale the critics' outputs to the values that are possible at the rewards seen,
        so that weights of the usual size can say them, and clip the target critics to these, so
        that an overestimate cannot feed on itself.
      normalize_observations: what policy and critics see is normalised over D_env: some velocities
        are ten times as large as any angle.
      learn_reward: the models predict the reward too, in place of the task's function; always so
        where the task has none.
      task_coordinates: policy, critics and models see, and models predict, in the coordinates of
        the task, where it has some (an ant's: in the frame of its torso), not in the plain numbers
        of an observation. After a whole turn a robot is what it was before; velocities that are
        shown clipped are imagined so.
      task_symmetries: the models learn the images of transitions, too, by the symmetries of the
        task, where it has some (a walker's: left and right).
      batch_size: B, transitions an update.
      real_fraction: the share of a batch from D_env; the rest is from D_model. With long imagined
        rollouts (`Trainer.rollout_schedule`) and 0 updates start where the policy goes *now*, and
        the objective is of its own states; D_env holds those of all the policies before.
      discount: γ.
      polyak_decay: of the target critics, 1 - τ. An error of the values of states that lead to each
        other dies out by γ^H every 1 / τ updates.
      policy_decay: of the average policy, over updates, that is evaluated and exported. From one
        update to the next, a policy that hops may be one that falls, and back; their average hops.
        After n updates it is (1 + n) / (10 + n) at the most, so that the average never looks back
        on much more than a ninth of them, to policies that knew nothing. 0 is the policy itself,
        which always is the one that collects data. `kl_penalty` is of the divergence from it.
      kl_penalty: what each nat of KL divergence from the average policy, at the start states, costs
        the policy's objective, in units of return. Adam's steps do not shrink with the gradient:
        they move a policy back and forth, and the data, the imagined states and the critics'
        targets with it. This holds it (a trust region around an average: Hilton et al. 2021);
        too high a price slows learning.
      initial_temperature: β before tuning.
      target_entropy: in nats; None is minus the action size.
      reset_optimizers: forget the moments of policy's and critics' optimizers at every iteration,
        as the models, and with them the gradients, have changed.
      env_capacity, model_capacity: of D_env and D_model, in transitions; the oldest leave first.
      jit_compile: compile updates and the models' training steps with XLA: faster on two CPU cores,
        hardly on one (BUILD.md); needed on a TPU.

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
    require_booleans(
      "Maac",
      soft_returns=soft_returns,
      soft_values=soft_values,
      shared_rollout=shared_rollout,
      bound_values=bound_values,
      normalize_observations=normalize_observations,
      learn_reward=learn_reward,
      task_coordinates=task_coordinates,
      task_symmetries=task_symmetries,
      reset_optimizers=reset_optimizers,
      jit_compile=jit_compile,
    )
    require_numbers("Maac", 0, 1, real_fraction=real_fraction)
    require(
      policy_value in ("min", "mean"),
      f"Maac.policy_value must be 'min' or 'mean', not {policy_value!r}.",
    )
    decays = {"polyak_decay": polyak_decay, "policy_decay": policy_decay}
    require_numbers("Maac", 0, 0.99999, discount=discount, **decays)
    require_numbers("Maac", 0, 1e6, kl_penalty=kl_penalty)
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

    self.task = task
    self.action_scale, self.action_shift = environment.action_scale, environment.action_shift
    self.observation_size, self.action_size = sizes
    self.horizon, self.critic_horizon = horizon, critic_horizon
    self.num_trajectories, self.num_final_actions = num_trajectories, num_final_actions
    self.models_per_target, self.batch_size = models_per_target, batch_size
    self.num_real = round(batch_size * real_fraction)
    self.soft_returns, self.soft_values = soft_returns, soft_values
    self.shared_rollout, self.kl_penalty = shared_rollout, kl_penalty
    self.normalize_observations = normalize_observations
    self._reduce_critics = {"min": tf.reduce_min, "mean": tf.reduce_mean}[policy_value]
    self.reset_optimizers = reset_optimizers
    self.discount, self.polyak_decay, self.policy_decay = discount, polyak_decay, policy_decay
    self.target_entropy = -float(sizes[1]) if target_entropy is None else target_entropy

    coordinates = task.coordinates if task_coordinates else PLAIN
    symmetries = task.symmetries if task_symmetries else ()
    self.policy = Policy(*sizes, coordinates=coordinates, seed=seeds[0])
    self.average_policy = Policy(*sizes, coordinates=coordinates, seed=seeds[0])
    self.critic = Critic(*sizes, coordinates=coordinates, seed=seeds[1])
    self.target_critic = Critic(*sizes, coordinates=coordinates, seed=seeds[1])
    self.env_buffer = ReplayBuffer(env_capacity, *sizes)
    self.dynamics = self.dynamics_fit = self.model_buffer = None
    self.value_range = ValueRange(discount) if bound_values else None
    if critics_per_target is None:
      critics_per_target = self.critic.num_critics
    require_integers("Maac", 1, critics_per_target=critics_per_target)
    self.critics_per_target = critics_per_target
    if self.uses_model:
      learn_reward = learn_reward or task.reward_fn is None
      self.dynamics = Dynamics(*sizes, learn_reward, coordinates, seed=seeds[2])
      self.dynamics_fit = DynamicsFit(
        self.dynamics,
        self.env_buffer,
        seeds[3],
        jit_compile,
        symmetries=[s.scaled(self.action_scale, self.action_shift) for s in symmetries],
      )
    self.steps = ModelSteps(self.dynamics, task, environment)
    if self.imagines:
      self.model_buffer = ReplayBuffer(model_capacity, *sizes)
    agent_settings.check_combination(self)
    # Of `rollout_noise`: the size of an action, and how the models' noise is drawn.
    self.noise_arguments = sizes[1], self.dynamics.draw_noise if self.dynamics else normals(0)

    self._log_temperature = tf.Variable(np.log(initial_temperature), dtype=tf.float32)
    self._policy_optimizer = keras.optimizers.Adam(policy_learning_rate)
    self._critic_optimizer = keras.optimizers.Adam(critic_learning_rate)
    self._temperature_optimizer = keras.optimizers.Adam(temperature_learning_rate)
    self._policy_optimizer.build(self.policy.trainable_variables)
    self._critic_optimizer.build(self.critic.trainable_variables)
    self._temperature_optimizer.build([self._log_temperature])
    self.compiled_updates = tf.function(
      self.updates, autograph=False, jit_compile=jit_compile or None
    )

  def network_variables(self) -> list[tf.Variable]:
    """Of policy, critics and models, normalisers included."""
    networks = (
      self.policy, self.average_policy, self.critic, self.target_critic, self.dynamics,
    )  # fmt: skip
    return [v.value for network in networks if network for v in network.variables]

  def value(self, observation, action):
    """Q(s, a) [...] as the policy's objective has it: `policy_value` of the critics."""
    return self._reduce_critics(self.critic(observation, action), 0)

  @property
  def temperature(self) -> tf.Tensor:
    """β, the weight of the entropy bonus."""
    return tf.exp(self._log_temperature)

  @property
  def value_temperature(self) -> tf.Tensor | float:
    """β in what the critics estimate: 0 where that is the return alone."""
    return self.temperature if self.soft_values else 0.0

  @property
  def imagines(self) -> bool:
    """Whether updates draw on D_model."""
    return self.num_real < self.batch_size

  @property
  def draws_critics(self) -> bool:
    """Whether the targets are of a random subset of the target critics."""
    return self.critics_per_target < self.critic.num_critics

  @property
  def uses_steve(self) -> bool:
    return self.critic_horizon > 0 and not self.shared_rollout

  @property
  def uses_model(self) -> bool:
    return self.imagines or self.horizon > 0 or self.uses_steve or self.shared_rollout

  @tf.function(autograph=False)
  def begin_iteration(self):
    """Normalisers take the statistics of D_env as it is now; optimizers start afresh."""
    size = tf.cast(self.env_buffer.size, tf.int32)
    everything = self.env_buffer.gather(tf.range(size))
    if self.normalize_observations:
      for network in (self.policy, self.average_policy, self.critic, self.target_critic):
        network.normalizer.fit(network.coordinates.features(everything.observation))
    if self.reset_optimizers:
      _reset(self._policy_optimizer)
      _reset(self._critic_optimizer)
    if self.value_range:
      self.value_range.start(everything.reward)
      self._scale_critics()

  def _scale_critics(self):
    for critic in (self.critic, self.target_critic):
      critic.scale.assign(self.value_range.width())

  @tf.function(autograph=False)
  def fill_model_buffer(self, num_starts: int, rollout_length: int, seed):
    """Algorithm 1, line 6: `rollout_length` steps from each of `num_starts` states into D_model.

    A trajectory that terminates goes on from another state of D_env, so that shapes are static.

    Returns:
      The share of imagined steps that terminated.
    """
    seeds = tf.random.split(seed, rollout_length + 1)
    starts = self.env_buffer.random_indices([rollout_length + 1, num_starts], seeds[0])

    def step(state, elements):
      (observation, terminated), (seed, fresh_starts) = state, elements
      noise = rollout_noise(1, num_starts, *self.noise_arguments, seed)
      noise = tf.nest.map_structure(lambda x: x[0], noise)
      action, _ = self.policy.act(observation, noise.action)
      next_observation, reward, terminal = self.steps.random_member(
        observation, action, noise.model
      )
      self.model_buffer.add(
        Transition(observation, action, reward, next_observation, tf.cast(terminal, tf.float32))
      )
      fresh = self.env_buffer.gather(fresh_starts).observation
      observation = tf.where(terminal[:, tf.newaxis], fresh, next_observation)
      return observation, terminated + tf.reduce_mean(tf.cast(terminal, tf.float32))

    start = self.env_buffer.gather(starts[0]).observation, tf.constant(0.0)
    _, terminated = tf.foldl(step, (seeds[1:], starts[1:]), start, parallel_iterations=1)
    return terminated / rollout_length

  def draw(self, seed) -> UpdateNoise:
    """All the randomness of one update."""
    e, d, p, t, c = tf.unstack(tf.random.split(seed, 5))
    num_model = self.batch_size - self.num_real
    trajectories = self.batch_size * self.num_trajectories
    policy_sizes = trajectories, self.num_final_actions, *self.noise_arguments
    if self.shared_rollout:  # with H = 0, one step beyond the policy's rollout
      target = () if self.horizon else policy_noise(1, *policy_sizes, t)
    else:
      ensemble_size = self.dynamics.ensemble_size if self.dynamics else 1
      num_members = min(self.models_per_target, ensemble_size)
      sizes = self.batch_size, num_members, ensemble_size, *self.noise_arguments
      target = steve_noise(self.critic_horizon, *sizes, t)
    return UpdateNoise(
      env_indices=self.env_buffer.random_indices([self.num_real], e),
      model_indices=(
        self.model_buffer.random_indices([num_model], d)
        if self.imagines
        else tf.zeros([0], tf.int64)
      ),
      policy=policy_noise(self.horizon, *policy_sizes, p),
      target=target,
      target_critics=(
        permutations([self.critic.num_critics], c)[: self.critics_per_target]
        if self.draws_critics
        else ()
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
    temperature, value_temperature = self.temperature, self.value_temperature

    # θ ← θ + β_π ∇J_π(θ). Only the policy is watched: no gradient reaches model or critics.
    variables = self.policy.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch([v.value for v in variables])
      starts = tf.tile(batch.observation, [self.num_trajectories, 1])
      path = objectives.imagine_path(
        self.policy.act, self.steps.random_member, starts, noise.policy
      )
      policy_loss = objectives.policy_loss(
        path,
        self.value,
        soft_returns=self.soft_returns,
        discount=self.discount,
        temperature=temperature,
      )
      loss = policy_loss  # which is what is logged: what the policy loses without the price
      if self.kl_penalty:
        kl = tf.reduce_mean(self._divergence(batch.observation))
        loss += self.kl_penalty * kl
    policy_gradient = tape.gradient(loss, variables)
    self._policy_optimizer.apply(policy_gradient, variables)

    log_prob = path.trajectory.log_prob[0] if self.horizon else path.final_log_prob
    with tf.GradientTape() as tape:
      temperature_loss = objectives.temperature_loss(
        self._log_temperature, log_prob, self.target_entropy
      )
    gradient = tape.gradient(temperature_loss, [self._log_temperature])
    self._temperature_optimizer.apply(gradient, [self._log_temperature])

    # ψ ← ψ - β_Q ∇J_Q(ψ)
    if self.value_range:
      self._follow_rewards(path, batch, value_temperature)
    parameters = {"discount": self.discount, "temperature": value_temperature}
    observation, action, targets, diagnostics = self._targets(path, batch, noise, **parameters)
    variables = self.critic.trainable_variables
    with tf.GradientTape() as tape:
      critic_loss = objectives.critic_loss(self.critic, observation, action, targets)
    critic_gradient = tape.gradient(critic_loss, variables)
    self._critic_optimizer.apply(critic_gradient, variables)
    for target, source in zip(self.target_critic.trainable_variables, variables, strict=True):
      target.assign_add((1.0 - self.polyak_decay) * (source - target))
    self._average_the_policy()

    diagnostics |= {
      "policy/loss": policy_loss,
      "policy/entropy": -tf.reduce_mean(log_prob),
      "policy/gradient_norm": tf.linalg.global_norm(policy_gradient),
      "policy/temperature": temperature,
      "critic/loss": critic_loss,
      "critic/gradient_norm": tf.linalg.global_norm(critic_gradient),
      "critic/target": tf.reduce_mean(targets),
    }
    if self.value_range:
      low, high = tf.unstack(self.value_range.reward_quantiles)
      diagnostics |= {"critic/reward_low": low, "critic/reward_high": high}
    if self.kl_penalty:
      diagnostics["policy/kl"] = kl
    if self.horizon:
      diagnostics["policy/terminated"] = 1.0 - tf.reduce_mean(path.trajectory.not_done[-1])
    return diagnostics

  def _average_the_policy(self):
    """With a decay that grows to `policy_decay`, as that of `tf.train.ExponentialMovingAverage`."""
    updates = tf.cast(self._temperature_optimizer.iterations, tf.float32)  # which is never reset
    decay = tf.minimum((1.0 + updates) / (10.0 + updates), self.policy_decay)
    for average, variable in zip(
      self.average_policy.trainable_variables, self.policy.trainable_variables, strict=True
    ):
      average.assign(decay * average + (1.0 - decay) * variable)

  def _divergence(self, observation):
    """KL(π, average π) at [B, S], [B]: of the Gaussians, as both are squashed alike."""
    policies = self.policy, self.average_policy
    now, average = (policy(observation).distribution for policy in policies)
    return tfp.distributions.kl_divergence(now, average)

  def _targets(self, path, batch, noise, **parameters):
    """What the critics learn: (observation, action, targets, diagnostics)."""

    def target_values(observation, action):
      which = noise.target_critics if self.draws_critics else None
      values = self.target_critic(observation, action, which)
      if self.value_range:
        values = tf.clip_by_value(values, *self.value_range.bounds())
      return values

    act = self.policy.act
    if not self.shared_rollout:
      targets, weights = steve_targets(
        act, self.steps.own_member, target_values, batch, noise.target, **parameters
      )
      weights = tf.unstack(tf.reduce_mean(weights, -1))
      diagnostics = {f"critic/steve_weight_{h}": weight for h, weight in enumerate(weights)}
      return batch.observation, batch.action, targets, diagnostics
    trajectory = path.trajectory
    if not self.horizon:  # the policy's rollout is s_0 alone, with its action: one step more
      first = path.final_action[0], path.final_log_prob[0]
      path = objectives.imagine_path(
        act, self.steps.random_member, trajectory.observation[0], noise.target, first
      )
      trajectory = path.trajectory
    targets = path_targets(
      path, lambda *arguments: tf.reduce_min(target_values(*arguments), 0), **parameters
    )
    return trajectory.observation[0], trajectory.action[0], targets, {}

  def _follow_rewards(self, path, batch, temperature):
    """Moves the value range, and with it the critics' scale, towards this update's rewards."""
    trajectory = path.trajectory
    if self.horizon:  # the first step alone: none is beyond a termination
      reward = trajectory.reward[0] - temperature * trajectory.log_prob[0]
    else:
      reward = batch.reward - temperature * tf.reduce_mean(path.final_log_prob)
    self.value_range.follow(reward)
    self._scale_critics()

  def updates(self, noise: UpdateNoise):
    """One update after the other, each with its row of `noise`, whose tensors are [n, ...].

    Returns:
      The diagnostics of `update`, averaged.
    """
    names = []
    # A loop whose results have no known size is compiled twice by XLA: room for all diagnostics.
    row = tf.TensorSpec([12 + self.critic_horizon])

    def update(noise):
      diagnostics = self.update(noise)
      names[:] = diagnostics
      values = tf.stack(list(diagnostics.values()))
      return tf.pad(values, [[0, row.shape[0] - len(names)]])

    # Not in parallel: only the variables that they change put the updates in order.
    rows = tf.map_fn(update, noise, fn_output_signature=row, parallel_iterations=1)
    means = tf.unstack(tf.reduce_mean(rows, 0))[: len(names)]
    return dict(zip(names, means, strict=True))

  @tf.function(autograph=False)
  def train(self, num_updates: int, seed):
    """`num_updates` updates in one call, traced and compiled once for each number.

    The noise of all is drawn before, in plain TensorFlow: faster than in XLA where models are used,
    and XLA draws other numbers from the same seed.

    Args:
      num_updates: 1 or more, a Python int.
      seed: [2] int.

    Returns:
      The diagnostics of `update`, averaged.
    """
    require_integers("train", 1, num_updates=num_updates)
    spec = tf.nest.map_structure(tf.TensorSpec.from_tensor, self.draw(seed))
    seeds = tf.random.split(seed, num_updates)
    return self.compiled_updates(tf.map_fn(self.draw, seeds, fn_output_signature=spec))
