"""D_model: what the policy does in the models, from states of D_env (Algorithm 1, line 7)."""

import tensorflow as tf

from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.noise import rollout_noise
from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import Transition


class ImaginedData(tf.Module):
  """Fills the buffer of a learner's imagined transitions."""

  def __init__(self, learner: Maac, capacity: int):
    """Gives the learner a D_model of `capacity` transitions."""
    super().__init__()
    self._learner = learner
    sizes = learner.observation_size, learner.action_size
    with learner.strategy.scope():
      buffer = ReplayBuffer(capacity, *sizes, option="Trainer.rollout_starts")
    self.buffer = learner.model_buffer = buffer

  @tf.function(autograph=False)
  def fill(self, num_starts: int, rollout_length: int, seed: tf.Tensor) -> tf.Tensor:
    """`rollout_length` steps from each of `num_starts` random states of D_env into D_model.

    A trajectory that terminates goes on from another state of D_env, so that shapes are static.

    Returns:
      The share of imagined steps that terminated.
    """
    seeds = tf.random.split(seed, rollout_length + 1)
    starts = self._learner.env_buffer.random_indices([rollout_length + 1, num_starts], seeds[0])

    model_env = self._learner.model_env
    assert model_env, "a learner that imagines has models"

    def step(
      state: tuple[tf.Tensor, tf.Tensor], elements: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
      (observation, terminated), (seed, fresh_starts) = state, elements
      noise = rollout_noise(1, num_starts, *self._learner.noise_arguments, seed)
      noise = tf.nest.map_structure(lambda x: x[0], noise)
      action, _ = self._learner.act(observation, noise.action)
      after = model_env.random_member(observation, action, noise.model)
      terminal = after.terminal
      if model_env.predicts_end:  # drawn: D_model holds what happened
        uniform = tf.random.stateless_uniform(terminal.shape, tf.random.fold_in(seed, 1))
        terminal = tf.cast(uniform < terminal, tf.float32)
      self.buffer.add(
        Transition(observation, action, after.reward, after.next_observation, terminal)
      )
      fresh = self._learner.env_buffer.gather(fresh_starts).observation
      observation = tf.where(terminal[:, tf.newaxis] > 0.0, fresh, after.next_observation)
      return observation, terminated + tf.reduce_mean(terminal)

    start = self._learner.env_buffer.gather(starts[0]).observation, tf.constant(0.0)
    _, terminated = tf.foldl(step, (seeds[1:], starts[1:]), start, parallel_iterations=1)
    return terminated / rollout_length
