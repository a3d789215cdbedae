"""Episodes with a policy, without learning."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from maac_tf.checks import ConfigError
from maac_tf.data.types import TimeStep
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.task import Task

# Environment steps; where no time limit is known of, an episode that is longer will not end.
LONGEST_EPISODE = 10_000


Act = Callable[[np.ndarray], np.ndarray]
# Called after each step with the episode's number, observation, action and outcome.
Record = Callable[[int, np.ndarray, np.ndarray, TimeStep], None]


def unrecorded(*_: object) -> None:
  """A `Record` of nothing."""


class Episodes(NamedTuple):
  """Results, one number an episode."""

  returns: np.ndarray  # [episodes], undiscounted
  lengths: np.ndarray  # [episodes], environment steps


def run_episodes(
  task: Task,
  act: Act,
  seeds: Sequence[int],
  record: Record = unrecorded,
  environment: Environment | None = None,
) -> Episodes:
  """Runs one episode from each start seed, side by side, so that the policy is called on a batch.

  Args:
    task: an environment of its own is made for each seed.
    act: observations [N, S] -> actions [N, A] in [-1, 1].
    seeds: of the environments' resets.
    record: called after each step with the episode's number, observation, action and outcome.
    environment: the one to use instead, for one episode after the other; it stays open.

  Raises:
    ConfigError: for an episode that does not end.
  """
  if environment:
    parts = [
      _side_by_side(task.name, [environment], act, [seed], record, first=i)
      for i, seed in enumerate(seeds)
    ]
    return Episodes(*map(np.concatenate, zip(*parts, strict=True)))
  environments = [task.make_environment() for _ in seeds]
  episodes = _side_by_side(task.name, environments, act, seeds, record)
  for made in environments:
    made.close()
  return episodes


def another_environment(task: Task, environment: Environment) -> Environment | str:
  """A second environment of the task beside the first, or in words why there can be none."""
  try:
    other = task.make_environment()
  except Exception as error:  # whatever a simulator raises that is open already
    reason = f"to make another fails: {type(error).__name__}: {error}"
    return " ".join(reason.split())
  if other.env.unwrapped is environment.env.unwrapped:
    return "its function returns the same object at each call"
  return other


def the_only_one(task: Task, environment: Environment) -> Environment | None:
  """`environment` where no other of the task can be open beside it, said in a line; else None."""
  other = another_environment(task, environment)
  if isinstance(other, Environment):
    other.close()
    return None
  logging.warning(
    "Only one environment of %r can be open (%s). Evaluations use it, too, one episode after the "
    "other.",
    task.name,
    other,
  )
  return environment


def _side_by_side(
  name: str,
  environments: Sequence[Environment],
  act: Act,
  seeds: Sequence[int],
  record: Record,
  first: int = 0,
) -> Episodes:
  """One episode in each environment; `first` is the number of the first one."""
  observations = np.stack([e.reset(s) for e, s in zip(environments, seeds, strict=True)])
  returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), int)
  running = np.ones(len(seeds), bool)
  while running.any():
    if lengths[running].max() >= LONGEST_EPISODE and not environments[0].time_limit:
      raise ConfigError(
        f"An episode of {name!r} was not over after {LONGEST_EPISODE:,} steps, and its "
        "environment has no time limit: give one, such as --episode_steps=1000 "
        "(make_task.episode_steps)."
      )
    actions = act(observations)
    for i in np.flatnonzero(running).tolist():
      step = environments[i].step(actions[i])
      record(first + i, observations[i].copy(), actions[i], step)
      observations[i] = step.observation
      returns[i] += step.reward
      lengths[i] += 1
      running[i] = not (step.terminal or step.truncated)
  return Episodes(returns, lengths)
