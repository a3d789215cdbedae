"""Episodes with a policy, without learning."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from maac_tf.checks import ConfigError
from maac_tf.data.types import TimeStep
from maac_tf.tasks.task import Task

# Environment steps; where no time limit is known of, an episode that is longer will not end.
LONGEST_EPISODE = 10_000


class Episodes(NamedTuple):
  """Results, one number an episode."""

  returns: np.ndarray  # [episodes], undiscounted
  lengths: np.ndarray  # [episodes], environment steps


def run_episodes(
  task: Task,
  act: Callable[[np.ndarray], np.ndarray],
  seeds: Sequence[int],
  record: Callable[[int, np.ndarray, np.ndarray, TimeStep], None] = lambda *_: None,
) -> Episodes:
  """Runs one episode from each start seed, side by side, so that the policy is called on a batch.

  Args:
    task: an environment of its own is made for each seed.
    act: observations [N, S] -> actions [N, A] in [-1, 1].
    seeds: of the environments' resets.
    record: called after each step with the episode's number, observation, action and outcome.

  Raises:
    ConfigError: for an episode that does not end.
  """
  environments = [task.make_environment() for _ in seeds]
  observations = np.stack([e.reset(s) for e, s in zip(environments, seeds, strict=True)])
  returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), int)
  running = np.ones(len(seeds), bool)
  while running.any():
    if lengths[running].max() >= LONGEST_EPISODE and not environments[0].time_limit:
      raise ConfigError(
        f"An episode of {task.name!r} was not over after {LONGEST_EPISODE:,} steps, and its "
        "environment has no time limit: give one, such as --episode_steps=1000."
      )
    actions = act(observations)
    for i in np.flatnonzero(running).tolist():
      step = environments[i].step(actions[i])
      record(i, observations[i].copy(), actions[i], step)
      observations[i] = step.observation
      returns[i] += step.reward
      lengths[i] += 1
      running[i] = not (step.terminal or step.truncated)
  for environment in environments:
    environment.close()
  return Episodes(returns, lengths)
