"""The tasks, each an environment with the same reward and termination in TensorFlow.

`reward_fn(observation, action, next_observation)` returns the reward and
`termination_fn(observation, action, next_observation)` whether the episode truly ends there. Both
take [..., S], [..., A], [..., S] in the environment's units (action after clipping to the actuator
range) and return [...]; the reward is differentiable, as the H-step objective needs it.

HalfCheetah, Hopper, Walker2d and Ant are those of Wang et al. 2019, which the paper uses:
Gymnasium's physics, no termination, 1,000 steps, all of the velocities, unclipped. The tasks whose
names end in v5 are Gymnasium's own; their rewards are of the distance travelled, which no
observation holds, so that the models learn them.

Where a robot can turn over, the task has coordinates (`Maac.task_coordinates`): sine and cosine of
its pitch, or the frame of its torso. Gymnasium's hopper and walker fall before; their velocities
are shown clipped, and so imagined. Of a robot that is alike left and right, or all round, the task
has symmetries (`Maac.task_symmetries`).
"""

import dataclasses
import difflib
import importlib
from collections.abc import Callable

import gymnasium as gym
import mujoco
import numpy as np
import tensorflow as tf
from absl import logging

from maac_tf.coordinates import PLAIN, Coordinates, clipped, sine_and_cosine, torso_frame
from maac_tf.envs.double_integrator import DoubleIntegrator
from maac_tf.envs.environment import Environment
from maac_tf.envs.symmetries import Symmetry, ant_symmetries, walker_symmetries

TensorFn = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def never_terminates(observation, action, next_observation):
  """The termination function of a task that only a time limit ends: False, [...]."""
  del observation, action
  return tf.zeros(tf.shape(next_observation)[:-1], tf.bool)


@dataclasses.dataclass(frozen=True)
class Task:
  """A named environment and what the imagined rollouts must know of it."""

  name: str
  make_gym_env: Callable[[], gym.Env]
  reward_fn: TensorFn | None  # None: no function of these three; the models learn the reward
  termination_fn: TensorFn = never_terminates
  coordinates: Coordinates = PLAIN  # what networks see of a state, and models predict
  symmetries: tuple[Symmetry, ...] = ()  # what is true of a transition is true of its images, too

  def __post_init__(self):
    if not all(isinstance(symmetry, Symmetry) for symmetry in self.symmetries):
      raise ValueError(
        f"The symmetries of task {self.name!r} must be a tuple of `Symmetry`, such as "
        f"(Symmetry(observation, action),), not {self.symmetries!r}."
      )

  def make_environment(self) -> Environment:
    return Environment(self.make_gym_env())

  def check_functions(self, observation_size: int, action_size: int):
    """Raises ValueError where one of the functions does not return what it must.

    Of reward and termination of [..., S], [..., A] and [..., S] that is [...]; of a symmetry of
    [..., S] and of [..., A] the same.
    """
    shape = 2, observation_size + action_size + 1  # no other size equals it
    state, action = tf.zeros([*shape, observation_size]), tf.zeros([*shape, action_size])
    kinds = ("reward", self.reward_fn, tf.float32), ("termination", self.termination_fn, tf.bool)
    for kind, function, dtype in kinds:
      if function is None:
        continue
      # As training traces it: a Python `if` on a tensor, or a column that there is not, is refused.
      value = tf.function(function, autograph=False)(state, action, state)
      if not tf.is_tensor(value) or value.dtype != dtype or value.shape != shape:
        what = f"{value.dtype.name} {list(value.shape)}" if tf.is_tensor(value) else repr(value)
        raise ValueError(
          f"The {kind} function of task {self.name!r} must return {dtype.name} [...] of [..., S], "
          f"[..., A] and [..., S], such as {list(shape)} of {list(state.shape)}, "
          f"{list(action.shape)} and {list(state.shape)}; it returned {what}."
        )
    for i, symmetry in enumerate(self.symmetries):
      for kind, function, x in zip(symmetry._fields, symmetry, (state, action), strict=True):
        graph = tf.function(function, autograph=False).get_concrete_function(x)
        image = graph.structured_outputs
        if not tf.is_tensor(image) or image.shape != x.shape or image.dtype != x.dtype:
          what = f"{image.dtype.name} {list(image.shape)}" if tf.is_tensor(image) else repr(image)
          raise ValueError(
            f"The image of an {kind} by symmetry {i} of task {self.name!r} must be float32 and of "
            f"the same size, {list(x.shape)}; it is {what}."
          )

  def disagreements(self, observation, action, reward, next_observation, terminal) -> list[str]:
    """Where the functions say otherwise than the environment did, a sentence each.

    Args:
      observation, action, reward, next_observation, terminal: [N, S], [N, A], [N], [N, S], [N],
        real steps in the environment's units. Rewards within a hundredth of their standard
        deviation, or float32's rounding, are equal; numbers of a state x within 0.001 (1 + |x|).
    """
    observation, action, next_observation = arguments = [
      tf.cast(x, tf.float32) for x in (observation, action, next_observation)
    ]
    sentences, tolerance = [], 1e-5 * np.max(np.abs(reward)) + 0.01 * np.std(reward)
    if self.reward_fn is not None:
      errors = np.abs(np.asarray(self.reward_fn(*arguments)) - reward)
      if not np.all(errors <= tolerance):  # nor is one that is no number
        sentences.append(
          f"its reward function differs from the environment's reward by {np.mean(errors):.3g} on "
          f"average (from {np.mean(reward):.3g} ± {np.std(reward):.3g})"
        )
    change = self.coordinates.change(observation, next_observation)
    error = np.abs(self.coordinates.apply(observation, change) - next_observation)
    if not np.all(error <= 1e-3 * (1.0 + np.abs(next_observation))):
      sentences.append(
        "its coordinates do not lead back to the next observation: apply(observation, "
        f"change(observation, next_observation)) is off by up to {np.max(error):.3g}"
      )
    ends, terminal = np.asarray(self.termination_fn(*arguments)), np.asarray(terminal, bool)
    if np.any(ends != terminal):
      sentences.append(
        f"its termination function ends {np.sum(ends)} steps and the environment "
        f"{np.sum(terminal)}, {np.sum(ends & terminal)} of them the same"
      )
    for i, symmetry in enumerate(self.symmetries):
      see, act = symmetry
      images = see(observation), act(action), see(next_observation)
      for kind, function in (("reward", self.reward_fn), ("end", self.termination_fn)):
        if function is None:
          continue
        same = [np.asarray(function(*x), np.float32) for x in (images, arguments)]
        if not np.all(np.abs(same[0] - same[1]) <= tolerance * (kind == "reward")):
          sentences.append(f"the {kind} of images by its symmetry {i} is not that of the steps")
    return sentences


def _log_mujoco_warning(message):
  # Gymnasium's half-cheetah and ant set this; it is not for their user to mend.
  if "settotalmass" not in message:
    logging.warning("MuJoCo: %s", message)


def _make_mujoco_env(gym_id, **kwargs):
  # Without a handler of its own, MuJoCo writes MUJOCO_LOG.TXT into the working directory.
  mujoco.set_mju_user_warning(_log_mujoco_warning)
  return gym.make(gym_id, **kwargs)


class _LocomotionEnv(gym.Wrapper):
  """Wang et al.'s observation and reward over Gymnasium's physics.

  Observation: (q[skipped:], v). Reward: v_x - 0.1 |a|², and -3 (z - height)² + 1 with a height.
  """

  def __init__(self, gym_id: str, skipped: int, z_index: int, height: float | None, **kwargs):
    super().__init__(_make_mujoco_env(gym_id, **kwargs))
    self._skipped, self._z_index, self._height = skipped, z_index, height
    size = self._observation().size
    self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)

  def _observation(self):
    data = self.unwrapped.data
    return np.concatenate([data.qpos[self._skipped :], data.qvel])

  def reset(self, **kwargs):
    _, info = self.env.reset(**kwargs)
    return self._observation(), info

  def step(self, action):
    _, _, terminated, truncated, info = self.env.step(action)
    data = self.unwrapped.data
    reward = data.qvel[0] - 0.1 * np.sum(np.square(action))
    if self._height is not None:
      reward += 1.0 - 3.0 * (data.qpos[self._z_index] - self._height) ** 2
    return self._observation(), reward, terminated, truncated, info


def _locomotion_task(
  name,
  gym_id,
  *,
  positions,
  skipped,
  z_index=None,
  height=None,
  coordinates=PLAIN,
  symmetries=(),
  **kwargs,
):
  """A task of Wang et al.; `positions` is the length of MuJoCo's q."""
  x_velocity = positions - skipped  # v follows q[skipped:] in the observation

  def reward_fn(observation, action, next_observation):
    del observation
    reward = next_observation[..., x_velocity] - 0.1 * tf.reduce_sum(tf.square(action), -1)
    if height is not None:
      z = next_observation[..., z_index - skipped]
      reward += 1.0 - 3.0 * tf.square(z - height)
    return reward

  def make_gym_env():
    return _LocomotionEnv(gym_id, skipped, z_index, height, **kwargs)

  return Task(name, make_gym_env, reward_fn, coordinates=coordinates, symmetries=symmetries)


def _gymnasium_task(
  name, gym_id, termination_fn=never_terminates, coordinates=PLAIN, symmetries=(), **kwargs
):
  """Gymnasium's own task, with its reward and termination."""
  return Task(
    name, lambda: _make_mujoco_env(gym_id, **kwargs), None, termination_fn, coordinates, symmetries
  )


def _hopper_terminates(observation, action, next_observation):
  """Gymnasium's: fallen (z <= 0.7 or |angle| >= 0.2), or any number beyond 100 but z."""
  del observation, action
  z, angle, rest = next_observation[..., 0], next_observation[..., 1], next_observation[..., 1:]
  healthy = (z > 0.7) & (tf.abs(angle) < 0.2) & tf.reduce_all(tf.abs(rest) < 100.0, -1)
  return ~healthy


def _walker2d_terminates(observation, action, next_observation):
  """Gymnasium's: z outside (0.8, 2) or |angle| >= 1."""
  del observation, action
  z, angle = next_observation[..., 0], next_observation[..., 1]
  return ~((z > 0.8) & (z < 2.0) & (tf.abs(angle) < 1.0))


def _ant_terminates(observation, action, next_observation):
  """Gymnasium's: z outside [0.2, 1]."""
  del observation, action
  z = next_observation[..., 0]
  return ~((z >= 0.2) & (z <= 1.0))


def _pendulum_reward(observation, action, next_observation):
  """Gymnasium's: the cost of the angle, speed and torque before the step."""
  del next_observation
  cos, sin, speed = tf.unstack(observation, axis=-1)
  angle = tf.atan2(sin, cos)
  return -(tf.square(angle) + 0.1 * tf.square(speed) + 0.001 * tf.square(action[..., 0]))


def _double_integrator_reward(observation, action, next_observation):
  del next_observation
  return -0.5 * (tf.reduce_sum(tf.square(observation), -1) + tf.square(action[..., 0]))


def _make_double_integrator():
  return gym.wrappers.TimeLimit(DoubleIntegrator(), max_episode_steps=200)


_PITCH_COORDINATES = sine_and_cosine(angle=1)
_ANT_COORDINATES = torso_frame(orientation=1, velocity=13)

TASKS = {
  task.name: task
  for task in (
    _locomotion_task(
      "half_cheetah", "HalfCheetah-v5", positions=9, skipped=1, coordinates=_PITCH_COORDINATES
    ),
    _locomotion_task(
      "hopper",
      "Hopper-v5",
      positions=6,
      skipped=1,
      z_index=1,
      height=1.3,
      coordinates=_PITCH_COORDINATES,
      terminate_when_unhealthy=False,
    ),
    _locomotion_task(
      "walker2d",
      "Walker2d-v5",
      positions=9,
      skipped=1,
      z_index=1,
      height=1.3,
      coordinates=_PITCH_COORDINATES,
      terminate_when_unhealthy=False,
      xml_file="walker2d.xml",  # the v5 file has other foot friction than the authors'
    ),
    _locomotion_task(
      "ant",
      "Ant-v5",
      positions=15,
      skipped=2,
      z_index=2,
      height=0.57,
      coordinates=_ANT_COORDINATES,
      symmetries=ant_symmetries(),
      terminate_when_unhealthy=False,
    ),
    _gymnasium_task("half_cheetah_v5", "HalfCheetah-v5", coordinates=_PITCH_COORDINATES),
    _gymnasium_task("hopper_v5", "Hopper-v5", _hopper_terminates, clipped(first=5, limit=10.0)),
    _gymnasium_task(
      "walker2d_v5",
      "Walker2d-v5",
      _walker2d_terminates,
      clipped(first=8, limit=10.0),
      walker_symmetries(),
    ),
    _gymnasium_task(
      "ant_v5",
      "Ant-v5",
      _ant_terminates,
      _ANT_COORDINATES,
      ant_symmetries(),
      include_cfrc_ext_in_observation=False,
    ),
    Task("pendulum", lambda: gym.make("Pendulum-v1"), _pendulum_reward),
    Task("double_integrator", _make_double_integrator, _double_integrator_reward),
  )
}


def make_task(name: str) -> Task:
  """The task of that name, or of MODULE:NAME, a `Task` called NAME in a module of the user's.

  Raises:
    ValueError: if there is no such module or task, naming the nearest.
  """
  module = str(name).rpartition(":")[0]
  tasks = _tasks_of(module) if module else TASKS
  if name not in tasks:
    nearest = difflib.get_close_matches(str(name), tasks, n=1, cutoff=0)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(
      f"There is no task {name!r}.{hint} The tasks are: {', '.join(tasks) or 'none'}."
    )
  return tasks[name]


def _tasks_of(module):
  """The tasks in a module, by MODULE:NAME, which is what a run and its policy remember."""
  try:
    found = vars(importlib.import_module(module))
  except ModuleNotFoundError as error:
    if not f"{module}.".startswith(f"{error.name}."):  # a module that this one needs
      raise
    raise ValueError(
      f"There is no module {module!r} in the current folder or among the installed packages, for a "
      "task MODULE:NAME."
    ) from error
  except Exception as error:
    raise ImportError(f"The module {module!r} of the task fails.") from error
  found = {f"{module}:{name}": value for name, value in found.items() if isinstance(value, Task)}
  return {name: dataclasses.replace(task, name=name) for name, task in found.items()}
