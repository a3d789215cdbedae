"""The error of the MAAC gradient on the double integrator (sections 4.1 and 5.2).

The policy a = K s is linear, the reward quadratic and the dynamics linear, so that the gradient of
the expected discounted return with respect to K is known. Shapes: H horizon, B start states.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from maac_tf.algorithm import objectives
from maac_tf.algorithm.noise import normals, rollout_noise
from maac_tf.algorithm.rollout import RolloutNoise, rollout
from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import Noise, Step, Transition, Value
from maac_tf.models.ensemble import Dynamics
from maac_tf.models.fit import DynamicsFit
from maac_tf.models.members import random_member
from maac_tf.models.model_env import ModelStep
from maac_tf.networks.critic import Critic
from maac_tf.tasks.double_integrator import DT
from maac_tf.tasks.registry import find_task

GAIN = np.array([[-1.0, -1.0]])  # K
DISCOUNT = 0.99
EXPLORATION = 0.1  # standard deviation of the noise on the actions that are learned from
ENSEMBLE_SIZE = 4
A, B = np.array([[1.0, DT], [0.0, 1.0]]), np.array([[0.0], [DT]])  # s' = A s + B a
CLOSED_LOOP = A + B @ GAIN
START_MOMENTS = np.eye(2) / 3.0  # E[s_0 s_0'], uniform on [-1, 1]²


def value_matrix() -> np.ndarray:
  """P of the value -s'P s / 2 of the policy; the reward is -(s's + a'a) / 2."""
  value = np.zeros((2, 2))
  for _ in range(5_000):
    value = np.eye(2) + GAIN.T @ GAIN + DISCOUNT * CLOSED_LOOP.T @ value @ CLOSED_LOOP
  return value


def analytic_gradient() -> np.ndarray:
  """Of the expected return from uniform start states with respect to K: [1, 2]."""
  moments = np.zeros((2, 2))  # Σ γ^t E[s_t s_t']
  for _ in range(5_000):
    moments = START_MOMENTS + DISCOUNT * CLOSED_LOOP @ moments @ CLOSED_LOOP.T
  return -(GAIN + DISCOUNT * B.T @ value_matrix() @ CLOSED_LOOP) @ moments


def true_step(observation: tf.Tensor, action: tf.Tensor, noise: Noise) -> ModelStep:
  """The double integrator as the `step` of a rollout."""
  del noise
  after = tf.matmul(observation, A.T) + tf.matmul(action, B.T)
  return _model_step(observation, action, after)


def true_q(observation: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
  """Q of the policy, in closed form."""
  after = tf.matmul(observation, A.T) + tf.matmul(action, B.T)
  reward = _model_step(observation, action, after).reward
  return reward - DISCOUNT * 0.5 * tf.reduce_sum(after * tf.matmul(after, value_matrix()), -1)


def _model_step(observation: tf.Tensor, action: tf.Tensor, after: tf.Tensor) -> ModelStep:
  task = find_task("double_integrator")
  assert task.reward_fn, "the double integrator has one"
  arguments = observation, action, after
  return ModelStep(after, task.reward_fn(*arguments), task.termination_fn(*arguments))


def start_states() -> tuple[np.ndarray, np.ndarray]:
  """A grid [B, 2] and weights [B] for means over uniform start states (Gauss-Legendre)."""
  points, weights = np.polynomial.legendre.leggauss(12)
  grid = np.stack(np.meshgrid(points, points), -1).reshape(-1, 2)
  return grid, np.outer(weights, weights).ravel() / 4.0


class Learned(NamedTuple):
  """An ensemble and a critic in float64."""

  dynamics: Dynamics
  critic: Critic

  def step(self, observation: tf.Tensor, action: tf.Tensor, noise: Noise) -> ModelStep:
    """f_U as in training."""
    predict, members = self.dynamics.sample, self.dynamics.ensemble_size
    outcome = random_member(predict, members, observation, action, *noise)
    return _model_step(observation, action, self.dynamics.next_observation(observation, outcome))

  def q(self, observation: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    """The mean of the critics."""
    return tf.reduce_mean(self.critic(observation, action), 0)


def learn(seed: int, num_transitions: int, critic_updates: int = 2_000) -> Learned:
  """Models by maximum likelihood, and a critic of the policy by TD, from few real transitions.

  These are episodes of 50 steps of the policy, with normal noise on its actions.
  """
  rng = np.random.default_rng(seed)
  state = rng.uniform(-1.0, 1.0, (num_transitions // 50, 2))
  rows = []
  for _ in range(50):
    action = state @ GAIN.T + EXPLORATION * rng.normal(size=(len(state), 1))
    after = state @ A.T + action @ B.T
    reward = -0.5 * (np.sum(state**2, -1) + action[:, 0] ** 2)
    rows.append((state, action, reward, after, np.zeros(len(state))))
    state = after
  columns = (np.concatenate(column).astype(np.float32) for column in zip(*rows, strict=True))
  data = Transition(*map(tf.constant, columns))
  buffer = ReplayBuffer(len(data.reward), 2, 1)
  buffer.add(data)
  dynamics = _dynamics(seed)
  fit = DynamicsFit(
    dynamics, buffer, seed, max_batches=None, weight_decay=0.0, recent_fraction=0.0, batch_size=16
  )
  fit.fit(tf.constant([seed, 0]))
  critic = _temporal_differences(buffer, critic_updates, seed)
  exact, exact_critic = _dynamics(seed, "float64"), _critic(seed, "float64")
  for copy, network in ((exact, dynamics), (exact_critic, critic)):
    for variable, value in zip(copy.variables, network.variables, strict=True):
      variable.assign(tf.cast(value, tf.float64))
  return Learned(exact, exact_critic)


def _dynamics(seed: int, dtype: str = "float32") -> Dynamics:
  return Dynamics(
    2,
    1,
    ensemble_size=ENSEMBLE_SIZE,
    hidden_units=(32, 32),
    layer_norm=False,
    constant_noise=False,
    seed=seed,
    dtype=dtype,
  )


def _critic(seed: int, dtype: str = "float32") -> Critic:
  return Critic(
    2, 1, hidden_units=(32, 32), num_critics=2, layer_norm=False, seed=seed, dtype=dtype
  )


def _temporal_differences(buffer: ReplayBuffer, updates: int, seed: int) -> Critic:
  critic, target = _critic(seed), _critic(seed)
  optimizer = keras.optimizers.Adam(1e-3)
  optimizer.build(critic.trainable_variables)
  gain = tf.constant(GAIN, tf.float32)

  @tf.function(autograph=False)
  def update(seed: tf.Tensor) -> None:
    batch = buffer.gather(buffer.random_indices([256], seed))
    after = batch.next_observation
    value = tf.reduce_mean(target(after, tf.matmul(after, gain, transpose_b=True)), 0)
    with tf.GradientTape() as tape:
      targets = batch.reward + DISCOUNT * value
      loss = objectives.critic_loss(critic, batch.observation, batch.action, targets)
    optimizer.apply(tape.gradient(loss, critic.trainable_variables), critic.trainable_variables)
    for slow, fast in zip(target.trainable_variables, critic.trainable_variables, strict=True):
      slow.assign_add(0.02 * (fast - slow))

  for i in range(updates):
    update(tf.constant([seed, i]))
  return critic


class Paths(NamedTuple):
  """B trajectories x_t = (s_t, K s_t), t = 0..H, and their derivatives, in NumPy."""

  x: np.ndarray  # [H + 1, B, 3]
  sensitivity: np.ndarray  # ∇_K x_t, [H + 1, B, 3, 2]
  jacobian: np.ndarray  # of the model with respect to x_t, [H, B, 2, 3]
  q_gradient: np.ndarray  # ∇Q(x_t), [H + 1, B, 3]


def follow(step: Step, q: Value, observation: np.ndarray, noise: RolloutNoise) -> Paths:
  """The policy in a model, from start states [B, 2], for as many steps as `noise` has."""

  def act(state: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    del noise
    return tf.matmul(state, GAIN.T), tf.zeros(tf.shape(state)[:-1], state.dtype)

  trajectory = rollout(act, step, tf.constant(observation), noise)
  states = tf.stack(trajectory.observation)
  x = tf.concat([states, tf.matmul(states, GAIN.T)], -1)
  jacobian = []
  for t in range(len(trajectory.action)):
    now, model_noise = x[t], tf.nest.map_structure(lambda n, t=t: n[t], noise.model)
    with tf.GradientTape(persistent=True) as tape:
      tape.watch(now)
      after = step(now[:, :2], now[:, 2:], model_noise)[0]
      # Rows of a batch do not interact: the gradient of their sum is each row's.
      sums = [tf.reduce_sum(after[:, i]) for i in range(2)]
    jacobian.append(np.stack([tape.gradient(total, now) for total in sums], 1))
  with tf.GradientTape() as tape:
    tape.watch(x)
    value = q(x[..., :2], x[..., 2:])
  sensitivity = [_of_x(np.zeros((len(observation), 2, 2)), states[0])]
  for t, of_x in enumerate(jacobian):
    sensitivity.append(_of_x(of_x @ sensitivity[-1], states[t + 1]))
  return Paths(
    x.numpy(),
    np.stack(sensitivity),
    np.reshape(jacobian, (-1, len(observation), 2, 3)),
    tape.gradient(value, x).numpy(),
  )


def _of_x(of_state: np.ndarray, state: tf.Tensor) -> np.ndarray:
  """∇_K (s, K s) [B, 3, 2] from ∇_K s [B, 2, 2]."""
  return np.concatenate([of_state, state.numpy()[:, np.newaxis] + GAIN @ of_state], 1)


def gradients(paths: Paths, weight: np.ndarray) -> np.ndarray:
  """The MAAC gradient with respect to K for every H = 0, 1, ...: [H + 1, 2].

      Σ_{t<H} γ^t ∇r(x_t) ∇_K x_t + γ^H ∇Q(x_H) ∇_K x_H,  with ∇r(x) = -x

  Args:
    paths: in the model, with its Q-function.
    weight: of the start states in the mean, [B].
  """
  discounts = DISCOUNT ** np.arange(len(paths.x))
  of_reward, of_q = (
    np.einsum("t,tbi,tbij,b->tj", discounts, slope, paths.sensitivity, weight)
    for slope in (-paths.x, paths.q_gradient)
  )
  return _sum_before(of_reward) + of_q


class Study(NamedTuple):
  """For H = 0, 1, ..., each an array [H + 1]."""

  true_dynamics: np.ndarray  # relative L1 error to the gradient of the return; learned Q
  learned: np.ndarray  # the same with learned dynamics
  to_lemma_reference: np.ndarray  # L2 error to the same objective with true dynamics and Q
  lemma_bound: np.ndarray  # of it: Lemma 4.1, from the sums of its proof
  sensitivity_bound: np.ndarray  # of it: with what constants stand for measured along the path


def study(seed: int, horizon: int, num_transitions: int) -> Study:
  """Learns models and a critic, and measures the gradient's errors for H = 0..`horizon`."""
  observation, weight = start_states()
  learned = learn(seed, num_transitions)
  noise = float64_noise(horizon, len(observation), seed)
  true = follow(true_step, true_q, observation, noise)
  model = follow(learned.step, learned.q, observation, noise)
  half = follow(true_step, learned.q, observation, noise)
  full, with_learned = analytic_gradient(), gradients(model, weight)

  def relative(gradient: np.ndarray) -> np.ndarray:
    return np.sum(np.abs(gradient - full), -1) / np.sum(np.abs(full))

  return Study(
    relative(gradients(half, weight)),
    relative(with_learned),
    np.linalg.norm(with_learned - gradients(true, weight), axis=-1),
    lemma_bound(true, model),
    sensitivity_bound(true, model, weight),
  )


def float64_noise(horizon: int, num_trajectories: int, seed: int) -> RolloutNoise:
  """For `Learned.step`: members and normals of a rollout."""
  noise = rollout_noise(horizon, num_trajectories, 1, normals(2), tf.constant([seed, 1]))
  return tf.nest.map_structure(
    lambda x: tf.cast(x, tf.float64) if x.dtype.is_floating else x, noise
  )


def _norm(vectors: np.ndarray) -> np.ndarray:
  return np.linalg.norm(vectors, axis=-1)


def _matrix_norm(matrices: np.ndarray) -> np.ndarray:
  return np.linalg.norm(matrices, 2, axis=(-2, -1))


def lemma_bound(true: Paths, model: Paths) -> np.ndarray:
  """Lemma 4.1, [H + 1], on the L2 distance to the gradient with true dynamics and Q.

      Σ_{t<H} γ^t L_r e_t + γ^H (ε_Q C K^H + L_Q e_H),  e_t = ε_f Σ_{k<t} L^{t-1-k} C K^k

  with |∇_K x_t| <= C K^t and L = L_f (1 + L_π). These are the recursions of the proof; its printed
  sums are looser, and its closed form lacks L_r. All constants are the largest over both sets of
  trajectories up to H. Like the lemma it passes over that gradients are taken at different states
  and that |∇x - ∇x̂| is larger than |∇s - ∇ŝ|.
  """
  discounts = DISCOUNT ** np.arange(len(true.x))
  model_error = _matrix_norm(model.jacobian - true.jacobian).max(1)
  q_error = _norm(model.q_gradient - true.q_gradient).max(1)

  def largest(norm: Callable[[np.ndarray], np.ndarray], name: str) -> np.ndarray:
    return np.maximum(*(norm(getattr(paths, name)).max(1) for paths in (true, model)))

  sensitivity, l_f = largest(_matrix_norm, "sensitivity"), largest(_matrix_norm, "jacobian")
  l_q, l_r = largest(_norm, "q_gradient"), largest(_norm, "x")
  bound = [q_error[0] * sensitivity[0]]
  for horizon in range(1, len(true.x)):
    time = np.arange(horizon + 1)
    lipschitz = l_f[:horizon].max() * (1.0 + np.linalg.norm(GAIN, 2))
    growth = (sensitivity[1 : horizon + 1] / sensitivity[0]) ** (1.0 / time[1:])
    path = sensitivity[0] * max(1.0, growth.max()) ** time
    e = model_error[:horizon].max() * _convolve(lipschitz**time, path)
    of_rewards = l_r[:horizon].max() * discounts[:horizon] @ e[:-1]
    of_q = q_error[horizon] * path[-1] + l_q[horizon] * e[-1]
    bound.append(of_rewards + discounts[horizon] * of_q)
  return np.array(bound)


def sensitivity_bound(true: Paths, model: Paths, weight: np.ndarray) -> np.ndarray:
  """What constants stand for in the lemma, measured for each start state: [H + 1].

  Powers of the true closed loop in place of L^t, measured |∇_K x̂_t|, model errors and slopes, and
  the terms that the lemma passes over.
  """
  horizon, batch = model.jacobian.shape[:2]
  time = np.arange(horizon + 1)
  discounts = (DISCOUNT**time)[:, np.newaxis]
  sensitivity = _matrix_norm(model.sensitivity)
  drift = _norm(model.x[..., :2] - true.x[..., :2])
  loop = np.array([np.linalg.norm(np.linalg.matrix_power(CLOSED_LOOP, t), 2) for t in time])
  # ∇ŝ' - ∇s' = (∇f̂ - ∇f) ∇x̂ + (A + B K)(∇ŝ - ∇s) + B (ŝ - s)': that of ∇_K a, at other states.
  error = np.zeros_like(drift)
  error[:-1] = _matrix_norm(model.jacobian - true.jacobian) * sensitivity[:-1]
  error += np.linalg.norm(B, 2) * drift
  of_state = np.stack([_convolve(loop, error[:, i]) for i in range(batch)], 1)
  e = np.sqrt(1.0 + np.linalg.norm(GAIN, 2) ** 2) * of_state + drift
  of_rewards = _norm(true.x) * e + _norm(model.x - true.x) * sensitivity
  q_error = _norm(model.q_gradient - true.q_gradient)
  of_q = q_error * sensitivity + _norm(true.q_gradient) * e
  return (_sum_before(discounts * of_rewards) + discounts * of_q) @ weight


def _convolve(powers: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Σ_{k<t} powers[t - 1 - k] values[k] for every t."""
  return np.concatenate([[0.0], np.convolve(powers, values)[: len(values) - 1]])


def _sum_before(values: np.ndarray) -> np.ndarray:
  """Σ_{k<t} values[k] for every t."""
  return np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, 0)[:-1]])
