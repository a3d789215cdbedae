"""A task of one's own: balance a pole on a cart.

python -m maac_tf.train --gin_file=gin/pendulum.gin --env=examples.own_task:balance
"""

import gymnasium as gym
import tensorflow as tf

from maac_tf.tasks import Symmetry, Task


def has_fallen(observation, action, next_observation):
  """The termination function: the pole, number 1 of an observation, leans too far."""
  del observation, action
  return tf.abs(next_observation[..., 1]) > 0.2


balance = Task(
  name="balance",
  make_gym_env=lambda **kwargs: gym.make("InvertedPendulum-v5", **kwargs),
  reward_fn=None,  # the models learn the reward
  termination_fn=has_fallen,
  symmetries=(Symmetry(observation=tf.negative, action=tf.negative),),  # left is like right
)
