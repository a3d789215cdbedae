"""Options that have no effect, as others are."""

import sys
from collections.abc import Collection

from maac_tf.algorithm.critic_targets import CriticTargets
from maac_tf.algorithm.trainer import Trainer
from maac_tf.runs import config
from maac_tf.tasks.registry import find_task
from maac_tf.tasks.task import Task


def warn(trainer: Trainer, overridden: Collection[str], task: Task | None = None) -> None:
  """Says which of the overridden parameters have no effect, a line each; see `options`."""
  for name, reason in config.without_effect(overridden, options(trainer, task)).items():
    print(f"Warning: {name} has no effect: {reason}.", file=sys.stderr)


def options(trainer: Trainer, task: Task | None = None) -> dict[str, str]:
  """Options, or all of an owner, that the others leave without effect, each with the reason.

  Args:
    task: with all that it knows; None: what the name of the trainer's finds.
  """
  learner, unused = trainer.learner, {}
  task = task or find_task(learner.task.name)
  if task.reward_fn is None:
    unused["make_task.learn_reward"] = "the task has no reward function: the reward is learned"
  if task.termination_fn is None:
    unused["make_task.learn_end"] = "the task has no termination function: the end is learned"
  used = type(learner.critic_targets)
  for other in CriticTargets.__subclasses__():
    if other is not used:
      unused[other.__name__] = f"the critics' targets are {used.__name__} (Maac.critic_targets)"
  if learner.strategy.num_replicas_in_sync > 1:
    unused["Maac.jit_compile"] = "what several devices do together is not compiled with XLA"
  if not learner.imagines:
    reason = "all data are real (Maac.real_fraction = 1)"
    unused |= dict.fromkeys(("Trainer.rollout_starts", "Trainer.rollout_schedule"), reason)
  if not learner.uses_model:
    names = "Dynamics", "DynamicsFit", "make_task.learn_reward", "make_task.learn_end"
    unused |= dict.fromkeys(names, "nothing uses the model")
  return unused
