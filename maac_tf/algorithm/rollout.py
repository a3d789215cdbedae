"""The one differentiable rollout.

Shapes: H model steps, S observation size, A action size; `...` stands for any leading dimensions.
"""

from typing import NamedTuple

import tensorflow as tf

from maac_tf.data.types import Act, Noise, Step


class RolloutNoise(NamedTuple):
  """All that is random in a rollout of H steps."""

  action: tf.Tensor  # [H, ..., A] standard normal
  model: Noise  # whatever `step` takes, each tensor [H, ...]


class Trajectory(NamedTuple):
  """H imagined steps, each field a list over time t = 0..H-1, or 0..H where said.

  c_t is `not_done[t]`, the probability that no step before t has terminated: of a termination
  function 1 until a step has terminated, and 0 from then on, where the state is s_0 again.
  """

  observation: list[tf.Tensor]  # 0..H, of [..., S]
  action: list[tf.Tensor]  # [..., A]
  log_prob: list[tf.Tensor]  # [...]
  reward: list[tf.Tensor]  # [...]
  terminal: list[tf.Tensor]  # [...], the probability that this step terminates
  not_done: list[tf.Tensor]  # 0..H, of [...]


def rollout(
  act: Act,
  step: Step | None,
  observation: tf.Tensor,
  noise: RolloutNoise,
  first: tuple[tf.Tensor, tf.Tensor] | None = None,
) -> Trajectory:
  """Unrolls policy and model from `observation` for as many steps as `noise` has.

  Gradients flow through everything; the caller decides where they stop.

  Args:
    act: (observation, noise) -> (action, log_prob).
    step: (observation, action, noise) -> (next_observation, reward, terminal), the last a
      probability, or bool; None will do for H = 0.
    observation: [..., S] start states s_0.
    noise: of H steps; H = 0 is allowed and returns the start states alone.
    first: (action, log_prob) at s_0, when the caller has drawn them already.
  """
  not_done = tf.ones(tf.shape(observation)[:-1], observation.dtype)
  trajectory = Trajectory([observation], [], [], [], [], [not_done])
  for t in range(noise.action.shape[0]):
    action, log_prob = first if first and t == 0 else act(observation, noise.action[t])
    model_noise = tf.nest.map_structure(lambda x, t=t: x[t], noise.model)
    assert step, "of H = 0 alone there is no step"
    observation, reward, terminal = step(observation, action, model_noise)
    terminal = tf.cast(terminal, not_done.dtype)
    not_done *= 1.0 - terminal
    # Nothing beyond an end counts, but a gradient of zero times one that is not finite is NaN.
    alive = not_done[..., tf.newaxis] > 0.0
    observation = tf.where(alive, observation, trajectory.observation[0])
    new = Trajectory(observation, action, log_prob, reward, terminal, not_done)
    for values, value in zip(trajectory, new, strict=True):
      values.append(value)
  return trajectory
