"""Policy and planner as SavedModels that need none of this package to run."""

import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.planner import Planner


def _spec(learner: Maac) -> tf.TensorSpec:
  return tf.TensorSpec([None, learner.observation_size], tf.float32, "observation")


class _Exported(tf.Module):
  """Says what it is: `task` and `metadata`, from nothing to a text of that name."""

  def __init__(self, learner: Maac, metadata: Mapping[str, Any]):
    super().__init__()
    task, text = learner.task.name, tf.Variable(json.dumps(metadata), trainable=False)
    self._text = text  # and so no part of the graph, which stays the same

    def says(name: str, value: Any) -> tf.types.experimental.Callable:
      return tf.function(lambda: {name: tf.identity(value)}, input_signature=[], autograph=False)

    self.about = {"task": says("task", tf.constant(task)), "metadata": says("metadata", text)}


class ExportedPolicy(_Exported):
  """Observations in, actions out, both in the environment's units.

  Attributes:
    deterministic, sample: from `observation` [B, S] to a dict with `action` [B, A].
  """

  def __init__(self, learner: Maac, metadata: Mapping[str, Any]):
    super().__init__(learner, metadata)
    values, act = learner.actor_critic.ema_policy.plain()
    weights = self._weights = [tf.Variable(x, trainable=False) for x in values]
    units, spec, action_size = learner.action_box.units, _spec(learner), learner.action_size

    def deterministic(observation: tf.Tensor) -> dict[str, tf.Tensor]:
      return {"action": units(act(weights, tf.ensure_shape(observation, spec.shape), None))}

    def sample(observation: tf.Tensor) -> dict[str, tf.Tensor]:
      observation = tf.ensure_shape(observation, spec.shape)
      noise = tf.random.normal([tf.shape(observation)[0], action_size])
      return {"action": units(act(weights, observation, noise))}

    self.deterministic = tf.function(deterministic, input_signature=[spec], autograph=False)
    self.sample = tf.function(sample, input_signature=[spec], autograph=False)


def save_policy(
  learner: Maac, path: str, metadata: Mapping[str, Any], before: str | None = None
) -> None:
  """Writes the SavedModel.

  TensorFlow keeps every graph that it saves: a policy that is saved over and over gives `before`,
  where this function saved that learner's. Then only weights and metadata are new.

  Signatures, two from `observation` [B, S] to a dict with `action` [B, A]: `serving_default` is
  the deterministic policy, `sample` draws from it; and two of nothing: `task` to the task's name,
  `metadata` to what `exports.metadata` says, as JSON.
  """
  module = ExportedPolicy(learner, metadata)
  if before:
    os.makedirs(path)
    shutil.copy(os.path.join(before, "saved_model.pb"), path)
    tf.train.Checkpoint(module).write(os.path.join(path, "variables", "variables"))
    return
  signatures = {"serving_default": module.deterministic, "sample": module.sample}
  tf.saved_model.save(module, path, signatures=signatures | module.about)


class _ExportedPlanner(_Exported):
  """The same of a planner; models and critics are inside."""

  def __init__(self, learner: Maac, planner: Planner, metadata: Mapping[str, Any]):
    super().__init__(learner, metadata)
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
  module = _ExportedPlanner(learner, planner, metadata)
  tf.saved_model.save(module, path, signatures={"serving_default": module.plan} | module.about)
