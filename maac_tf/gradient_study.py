"""The error of the MAAC gradient on the double integrator (sections 4.1 and 5.2).

The policy a = K s is linear, the reward quadratic and the dynamics linear, so that the gradient of
the expected discounted return with respect to K is known. Shapes: H horizon, B start states.
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from maac_tf import imagine, objectives
from maac_tf.dynamics_fit import DynamicsFit
from maac_tf.envs import make_task
from maac_tf.envs.double_integrator import DT
from maac_tf.networks import Critic, Dynamics
from maac_tf.noise import rollout_noise
from maac_tf.replay import ReplayBuffer

GAIN = np.array([[-1.0, -1.0]])  # K
DISCOUNT = 0.99
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


def true_step(observation, action, noise):
  """The double integrator as the `step` of a rollout."""
  del noise
  after = tf.matmul(observation, A.T) + tf.matmul(action, B.T)
  return _judge(observation, action, after)


def true_q(observation, action):
  """Q of the policy, in closed form."""
  after = tf.matmul(observation, A.T) + tf.matmul(action, B.T)
  reward = make_task("double_integrator").reward_fn(observation, action, after)
  return reward - DISCOUNT * 0.5 * tf.reduce_sum(after * tf.matmul(after, value_matrix()), -1)


def _judge(observation, action, after):
  task = make_task("double_integrator")
  arguments = observation, action, after
  return after, task.reward_fn(*arguments), task.termination_fn(*arguments)


def start_states() -> tuple[np.ndarray, np.ndarray]:
  """A grid [B, 2] and weights [B] for means over uniform start states (Gauss-Legendre)."""
  points, weights = np.polynomial.legendre.leggauss(12)
  grid = np.stack(np.meshgrid(points, points), -1).reshape(-1, 2)
  return grid, np.outer(weights, weights).ravel() / 4.0


class Learned(NamedTuple):
  """An ensemble and a critic in float64."""

  dynamics: Dynamics
  critic: Critic

  def step(self, observation, action, noise):
    """f_U as in training."""
    predict, members = self.dynamics.sample, self.dynamics.ensemble_size
    after = imagine.random_member(predict, members, observation, action, *noise)
    return _judge(observation, action, after)

  def q(self, observation, action):
    return tf.reduce_mean(self.critic(observation, action), 0)


def learn(
  seed: int,
  num_transitions: int = 100,
  exploration: float = 0.1,
  ensemble_size: int = 4,
  hidden_units=(32, 32),
  critic_updates: int = 2_000,
) -> Learned:
  """Models by maximum likelihood, and a critic of the policy by TD, from few real transitions."""
  rng = np.random.default_rng(seed)
  state = rng.uniform(-1.0, 1.0, (num_transitions // 50, 2))
  rows = []
  for _ in range(50):
    action = state @ GAIN.T + exploration * rng.normal(size=(len(state), 1))
    after = state @ A.T + action @ B.T
    reward = -0.5 * (np.sum(state**2, -1) + action[:, 0] ** 2)
    rows.append((state, action, reward, after, np.zeros(len(state))))
    state = after
  data = (np.concatenate(column).astype(np.float32) for column in zip(*rows, strict=True))
  data = objectives.Transition(*map(tf.constant, data))
  buffer = ReplayBuffer(len(data.reward), 2, 1)
  buffer.add(data)
  networks = {"hidden_units": hidden_units, "activation": "silu", "seed": seed}
  dynamics = Dynamics(2, 1, ensemble_size=ensemble_size, **networks)
  fit = DynamicsFit(dynamics, buffer, seed, batch_size=64)
  fit.fit(tf.constant([seed, 0]))
  critic = _temporal_differences(buffer, critic_updates, networks, seed)
  exact = Dynamics(2, 1, ensemble_size=ensemble_size, dtype="float64", **networks)
  exact_critic = Critic(2, 1, dtype="float64", **networks)
  for copy, network in ((exact, dynamics), (exact_critic, critic)):
    for variable, value in zip(copy.variables, network.variables, strict=True):
      variable.assign(tf.cast(value, tf.float64))
  return Learned(exact, exact_critic)


def _temporal_differences(buffer, updates, networks, seed):
  critic, target = Critic(2, 1, **networks), Critic(2, 1, **networks)
  optimizer = keras.optimizers.Adam(1e-3)
  optimizer.build(critic.trainable_variables)
  gain = tf.constant(GAIN, tf.float32)

  @tf.function
  def update(seed):
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


def gradients(step, q, horizon: int, observation, weight, noise) -> np.ndarray:
  """The MAAC gradient with respect to K for every H = 0..`horizon`: [H + 1, 2].

  One rollout serves all horizons: forward-mode derivatives of each of its returns.

  Args:
    step, q: model and Q-function, which K does not change.
    observation, weight: start states [B, 2] and their weights in the mean [B].
    noise: RolloutNoise of `horizon` steps.
  """
  columns = []
  for direction in np.eye(2):
    gain = tf.constant(GAIN)
    with tf.autodiff.ForwardAccumulator(gain, tf.constant(direction[np.newaxis])) as forward:

      def act(state, noise, gain=gain):
        del noise
        action = tf.matmul(state, gain, transpose_b=True)
        return action, tf.zeros(tf.shape(state)[:-1], state.dtype)

      path = imagine.rollout(act, step, tf.constant(observation), noise)
      rewards, returns = tf.zeros_like(weight), []
      for h in range(horizon + 1):
        state = path.observation[h]
        returns.append(rewards + DISCOUNT**h * q(state, act(state, None)[0]))
        if h < horizon:  # nothing terminates
          rewards += DISCOUNT**h * path.reward[h]
    columns.append([tf.tensordot(forward.jvp(x), weight, 1).numpy() for x in returns])
  return np.array(columns).T


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
  noise = rollout_noise(horizon, len(observation), 1, 2, tf.constant([seed, 1]))
  noise = tf.nest.map_structure(
    lambda x: tf.cast(x, tf.float64) if x.dtype.is_floating else x, noise
  )
  full = analytic_gradient()
  rollouts = horizon, observation, weight, noise
  reference = gradients(true_step, true_q, *rollouts)
  with_learned = gradients(learned.step, learned.q, *rollouts)

  def relative(gradient):
    return np.sum(np.abs(gradient - full), -1) / np.sum(np.abs(full))

  return Study(
    relative(gradients(true_step, learned.q, *rollouts)),
    relative(with_learned),
    np.linalg.norm(with_learned - reference, axis=-1),
    *bounds(learned, *rollouts),
  )


class _Paths(NamedTuple):
  """What the bounds need of B trajectories, x = (s, a), t = 0..H."""

  x: np.ndarray  # [H + 1, B, 3]
  sensitivity: np.ndarray  # ∇_K x, [H + 1, B, 3, 2]
  jacobian: np.ndarray  # of the model with respect to x, [H + 1, B, 2, 3]; of the last step unused
  q_gradient: np.ndarray  # ∇Q(x), [H + 1, B, 3]


def _paths(step, q, horizon, observation, noise):
  state, sensitivity = tf.constant(observation), np.zeros((len(observation), 2, 2))
  columns = [[], [], [], []]
  for t in range(horizon + 1):
    action = tf.matmul(state, GAIN.T)
    # ∇_K a = s + K ∇_K s
    of_action = state.numpy()[:, np.newaxis] + GAIN @ sensitivity
    of_x = np.concatenate([sensitivity, of_action], 1)
    x = tf.concat([state, action], -1)
    with tf.GradientTape(persistent=True) as tape:
      tape.watch(x)
      value = q(x[:, :2], x[:, 2:])
      if t < horizon:
        now = tf.nest.map_structure(lambda n, t=t: n[t], noise.model)
        state = step(x[:, :2], x[:, 2:], now)[0]
    jacobian = np.zeros((len(observation), 2, 3))
    if t < horizon:
      # Rows of a batch do not interact: the sum's gradient is each row's.
      jacobian = np.stack([_row_gradients(tape, state, x, i) for i in range(2)], 1)
    for column, item in zip(
      columns, (x.numpy(), of_x, jacobian, tape.gradient(value, x).numpy()), strict=True
    ):
      column.append(item)
    sensitivity = jacobian @ of_x
  return _Paths(*map(np.stack, columns))


def _row_gradients(tape, state, x, i):
  direction = tf.one_hot(tf.fill(state.shape[:1], i), 2, dtype=state.dtype)
  return tape.gradient(state, x, output_gradients=direction).numpy()


def bounds(learned: Learned, horizon, observation, weight, noise):
  """Two bounds [H + 1] on the L2 distance to the gradient with true dynamics and Q.

  Both are γ^H (ε_Q |∇_K x̂_H| + L_Q e_H) + Σ_{t<H} γ^t L_r e_t, with e_t a bound on
  |∇_K x̂_t - ∇_K x_t|. The first is Lemma 4.1 with the sums of its proof: constants, the largest
  over what the two sets of trajectories visit; |∇_K x̂_t| <= C K^t; and
  e_t = ε_f Σ_{k<t} L^{t-1-k} C K^k with L = L_f (1 + L_π). The second has, for each start state,
  the measured numbers in their place, powers of the true closed loop for those of L, and the
  terms that the lemma leaves out, of gradients taken at other points: |ŝ_t - s_t| in the
  policy's, |∇r(x̂_t) - ∇r(x_t)| in the reward's.
  """
  true = _paths(true_step, true_q, horizon, observation, noise)
  model = _paths(learned.step, learned.q, horizon, observation, noise)

  def norm(vectors):
    return np.linalg.norm(vectors, axis=-1)

  def matrix_norm(matrices):
    return np.linalg.norm(matrices, 2, axis=(-2, -1))

  time = np.arange(horizon + 1)
  discounts = DISCOUNT**time
  model_error = matrix_norm(model.jacobian - true.jacobian)[:-1]  # [H, B]
  q_error = norm(model.q_gradient - true.q_gradient)  # [H + 1, B]
  sensitivity = matrix_norm(model.sensitivity)
  # ∇r(x) = -x.
  reward_slope = norm(true.x)

  l_f = max(matrix_norm(true.jacobian).max(), matrix_norm(model.jacobian).max())
  l_pi = np.linalg.norm(GAIN, 2)
  lipschitz = l_f * (1.0 + l_pi)
  largest = sensitivity.max(1)
  scale = max(1.0, largest[0])
  growth = max(1.0, np.max((largest[1:] / scale) ** (1.0 / time[1:])))
  path = scale * growth**time
  e = model_error.max() * _convolve(lipschitz**time, path)
  lemma = discounts * (q_error.max(1) * path + norm(model.q_gradient).max() * e)
  l_r = max(reward_slope.max(), norm(model.x).max())
  lemma += _sum_before(discounts * l_r * e)

  loop = np.array([np.linalg.norm(np.linalg.matrix_power(CLOSED_LOOP, t), 2) for t in time])
  drift = norm(model.x[..., :2] - true.x[..., :2])
  inner = np.concatenate([model_error * sensitivity[:-1], np.zeros((1, len(observation)))])
  # s' = f(s, K s): its sensitivity's error has the error of f, and that of ∇_K a at other states.
  inner += np.linalg.norm(B, 2) * drift
  e = np.stack([_convolve(loop, inner[:, i]) for i in range(len(observation))], 1)
  e = np.sqrt(1.0 + l_pi**2) * e + drift
  of_rewards = reward_slope * e + norm(model.x - true.x) * sensitivity
  measured = discounts[:, np.newaxis] * (q_error * sensitivity + norm(true.q_gradient) * e)
  measured += _sum_before(discounts[:, np.newaxis] * of_rewards)
  return lemma, measured @ weight


def _convolve(powers, values):
  """Σ_{k<t} powers[t - 1 - k] values[k] for every t."""
  return np.concatenate([[0.0], np.convolve(powers, values)[: len(values) - 1]])


def _sum_before(values):
  """Σ_{k<t} values[k] for every t."""
  return np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, 0)[:-1]])
