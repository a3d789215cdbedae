"""Policy and planner as SavedModels that need none of this package to run."""

import os
import shutil

import tensorflow as tf

from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.planner import Planner


class _Exported(tf.Module):
  """Says what task it was trained for."""

  def __init__(self, learner: Maac):
    super().__init__()
    name = learner.task.name
    self.task = tf.function(
      lambda: {"task": tf.constant(name)}, input_signature=[], autograph=False
    )


class _ExportedPolicy(_Exported):
  """Observations in, actions out, both in the environment's units."""

  def __init__(self, learner: Maac):
    super().__init__(learner)
    self._policy = learner.actor_critic.ema_policy.act
    self._action_box = learner.action_box
    # The variables themselves: loaders that restore by name fail on a Keras model tracked here.
    self._weights = [v.value for v in learner.actor_critic.ema_policy.variables]
    self._action_size = learner.action_size
    spec = tf.TensorSpec([None, learner.observation_size], tf.float32, "observation")
    self.deterministic = tf.function(self._deterministic, input_signature=[spec], autograph=False)
    self.sample = tf.function(self._sample, input_signature=[spec], autograph=False)

  def _act(self, observation: tf.Tensor, noise: tf.Tensor) -> dict[str, tf.Tensor]:
    action, _ = self._policy(observation, noise)
    return {"action": self._action_box.units(action)}

  def _deterministic(self, observation: tf.Tensor) -> dict[str, tf.Tensor]:
    return self._act(observation, tf.zeros([tf.shape(observation)[0], self._action_size]))

  def _sample(self, observation: tf.Tensor) -> dict[str, tf.Tensor]:
    return self._act(observation, tf.random.normal([tf.shape(observation)[0], self._action_size]))


def save_policy(learner: Maac, path: str, before: str | None = None) -> None:
  """Writes the SavedModel.

  TensorFlow keeps every graph that it saves: a policy that is saved over and over gives `before`,
  where this function saved that learner's. Then only the weights are new.

  Signatures, two from `observation` [B, S] to a dict with `action` [B, A]: `serving_default` is
  the deterministic policy, `sample` draws from it; and `task`, of nothing, to the task's name.
  """
  module = _ExportedPolicy(learner)
  if before:
    os.makedirs(path)
    shutil.copy(os.path.join(before, "saved_model.pb"), path)
    tf.train.Checkpoint(module).write(os.path.join(path, "variables", "variables"))
    return
  signatures = {"serving_default": module.deterministic, "sample": module.sample}
  tf.saved_model.save(module, path, signatures=signatures | {"task": module.task})


class _ExportedPlanner(_Exported):
  """The same of a planner; models and critics are inside."""

  def __init__(self, learner: Maac, planner: Planner):
    super().__init__(learner)
    # A method of a tf.function holds its object weakly; as an attribute, it would be saved whole.
    self._planner = lambda observation, seed: planner.plan(observation, seed)
    self._action_box = learner.action_box
    assert learner.dynamics, "a planner has models"
    networks = learner.actor_critic.ema_policy, learner.dynamics, learner.actor_critic.critic
    self._weights = [v.value for network in networks for v in network.variables]
    spec = tf.TensorSpec([None, learner.observation_size], tf.float32, "observation")
    self.plan = tf.function(self._plan, input_signature=[spec], autograph=False)

  def _plan(self, observation: tf.Tensor) -> dict[str, tf.Tensor]:
    seed = tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
    return {"action": self._action_box.units(self._planner(observation, seed))}


def save_planner(learner: Maac, planner: Planner, path: str) -> None:
  """Writes a SavedModel that plans: `serving_default`, from `observation` [B, S] to `action`.

  And `task`, as a policy's.
  """
  module = _ExportedPlanner(learner, planner)
  signatures = {"serving_default": module.plan, "task": module.task}
  tf.saved_model.save(module, path, signatures=signatures)
