"""The policy as a SavedModel that needs none of this package to run."""

import tensorflow as tf

from maac_tf.agent import Maac


class _ExportedPolicy(tf.Module):
  """Observations in, actions out, both in the environment's units."""

  def __init__(self, agent: Maac):
    super().__init__()
    self._policy = agent.average_policy.act
    self._scale, self._shift = agent.action_scale, agent.action_shift
    # The variables themselves: loaders that restore by name fail on a Keras model tracked here.
    self._weights = [v.value for v in agent.average_policy.variables]
    self._action_size = agent.action_size
    spec = tf.TensorSpec([None, agent.observation_size], tf.float32, "observation")
    self.deterministic = tf.function(self._deterministic, input_signature=[spec])
    self.sample = tf.function(self._sample, input_signature=[spec])

  def _act(self, observation, noise):
    action, _ = self._policy(observation, noise)
    return {"action": action * self._scale + self._shift}

  def _deterministic(self, observation):
    return self._act(observation, tf.zeros([tf.shape(observation)[0], self._action_size]))

  def _sample(self, observation):
    return self._act(observation, tf.random.normal([tf.shape(observation)[0], self._action_size]))


def export_policy(agent: Maac, path: str):
  """Writes the SavedModel.

  Signatures, both from `observation` [B, S] to a dict with `action` [B, A]: `serving_default` is
  the deterministic policy, `sample` draws from it.
  """
  module = _ExportedPolicy(agent)
  tf.saved_model.save(
    module, path, signatures={"serving_default": module.deterministic, "sample": module.sample}
  )
