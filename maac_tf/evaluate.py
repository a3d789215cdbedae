"""Runs an exported policy: `python -m maac_tf.evaluate --policy=runs/R/policy --task=hopper`."""

import os
import sys

import tensorflow as tf
from absl import app, flags, logging

from maac_tf import envs, evaluation

_POLICY = flags.DEFINE_string("policy", None, "The SavedModel folder.", required=True)
_TASK = flags.DEFINE_string("task", None, "The task's name, e.g. hopper.", required=True)
_EPISODES = flags.DEFINE_integer("episodes", 20, "How many episodes.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Start seed of the first episode.", lower_bound=0)
_SAMPLE = flags.DEFINE_bool("sample", False, "Draw actions instead of the deterministic policy.")


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  try:
    task = envs.make_task(_TASK.value)
    if not os.path.isfile(os.path.join(_POLICY.value, "saved_model.pb")):
      raise ValueError(f"There is no SavedModel in {_POLICY.value!r}.")
    signature = "sample" if _SAMPLE.value else "serving_default"
    act = _load(_POLICY.value, signature, task)
  except (ValueError, KeyError, OSError, tf.errors.OpError) as error:
    print(f"Error: {error}", file=sys.stderr)
    return 1
  seeds = range(_SEED.value, _SEED.value + _EPISODES.value)
  returns, lengths = evaluation.run_episodes(task, act, seeds)
  print(
    f"{task.name}: return {returns.mean():.1f} ± {returns.std():.1f} "
    f"(min {returns.min():.1f}, max {returns.max():.1f}), "
    f"length {lengths.mean():.0f}, over {len(returns)} episodes"
  )
  return 0


def _load(path, signature, task):
  """The policy as a function to actions in [-1, 1], which is what `Environment` takes."""
  loaded = tf.saved_model.load(path)
  policy = loaded.signatures[signature]
  environment = task.make_environment()
  expected = policy.structured_input_signature[1]["observation"].shape[1]
  size = environment.observation_size
  if expected != size:
    raise ValueError(
      f"The policy takes observations of {expected} numbers, but {task.name} has {size}."
    )

  def act(observation):
    action = policy(observation=tf.constant(observation))["action"].numpy()
    return (action - environment.action_shift) / environment.action_scale

  act.loaded = loaded  # its variables live as long as it does
  return act


if __name__ == "__main__":
  app.run(main)
