"""Policy and planner as SavedModels that need none of this package to run."""

import json
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.planner import Planner


def _spec(learner: Maac) -> tf.TensorSpec:
  return tf.TensorSpec([None, learner.observation_size], tf.float32, "observation")


def _about(learner: Maac, metadata: Mapping[str, Any]) -> dict[str, tf.types.experimental.Callable]:
  """Signatures of nothing that say what it is."""

  def says(name: str, text: str) -> tf.types.experimental.Callable:
    return tf.function(lambda: {name: tf.constant(text)}, input_signature=[], autograph=False)

  said = {"task": learner.task.name, "metadata": json.dumps(metadata)}
  return {name: says(name, text) for name, text in said.items()}


class ExportedPolicy(tf.Module):
  """Observations in, actions out, both in the environment's units; its weights are constants.

  Attributes:
    deterministic, sample: from `observation` [B, S] to a dict with `action` [B, A].
  """

  def __init__(self, learner: Maac):
    super().__init__()
    policy, units = learner.actor_critic.ema_policy.frozen(), learner.action_box.units
    spec, action_size = _spec(learner), learner.action_size

    def deterministic(observation: tf.Tensor) -> dict[str, tf.Tensor]:
      return {"action": units(policy(tf.ensure_shape(observation, spec.shape), None))}

    def sample(observation: tf.Tensor) -> dict[str, tf.Tensor]:
      observation = tf.ensure_shape(observation, spec.shape)
      noise = tf.random.normal([tf.shape(observation)[0], action_size])
      return {"action": units(policy(observation, noise))}

    self.deterministic = tf.function(deterministic, input_signature=[spec], autograph=False)
    self.sample = tf.function(sample, input_signature=[spec], autograph=False)


def save_policy(learner: Maac, path: str, metadata: Mapping[str, Any]) -> None:
  """Writes the SavedModel.

  Signatures, two from `observation` [B, S] to a dict with `action` [B, A]: `serving_default` is
  the deterministic policy, `sample` draws from it; and two of nothing: `task` to the task's name,
  `metadata` to what `exports.metadata` says, as JSON.
  """
  module = ExportedPolicy(learner)
  signatures = {"serving_default": module.deterministic, "sample": module.sample}
  tf.saved_model.save(module, path, signatures=signatures | _about(learner, metadata))


class _ExportedPlanner(tf.Module):
  """The same of a planner; models and critics are inside."""

  def __init__(self, learner: Maac, planner: Planner):
    super().__init__()
    assert learner.dynamics, "a planner has models"
    networks = learner.actor_critic.ema_policy, learner.dynamics, learner.actor_critic.critic
    # The variables themselves: loaders that restore by name fail on a Keras model tracked here.
    self._weights = [v.value for network in networks for v in network.variables]
    spec, units = _spec(learner), learner.action_box.units

    def plan(observation: tf.Tensor) -> dict[str, tf.Tensor]:
      seed = tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
      return {"action": units(planner.plan(tf.ensure_shape(observation, spec.shape), seed))}

    # Of a method, a tf.function holds its object weakly; as an attribute, it would be saved whole.
    self.plan = tf.function(plan, input_signature=[spec], autograph=False)


def save_planner(learner: Maac, planner: Planner, path: str, metadata: Mapping[str, Any]) -> None:
  """Writes a SavedModel that plans: `serving_default`, from `observation` [B, S] to `action`.

  And `task` and `metadata`, as a policy's.
  """
  module = _ExportedPlanner(learner, planner)
  signatures = {"serving_default": module.plan} | _about(learner, metadata)
  tf.saved_model.save(module, path, signatures=signatures)
