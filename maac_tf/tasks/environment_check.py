"""What an environment does in some random steps, and what a training should know of it.

Shapes: N steps, S observation size, A action size.
"""

import time
from typing import NamedTuple

import numpy as np

from maac_tf.data.types import Transition
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.task import Task

CONSTANT = 1e-6  # of its largest number: a standard deviation below is rounding


class Finding(NamedTuple):
  """Something that was seen.

  Attributes:
    level: "note", "warning" or "error"; with an error, training cannot work.
    text: a sentence, for a warning or an error with what to do.
  """

  level: str
  text: str


class Seen(NamedTuple):
  """Random steps of an environment."""

  steps: Transition  # [N, ...] in NumPy, actions in [-1, 1]
  ends: int  # episodes that terminated
  limits: int  # and that were truncated
  lengths: list[int]  # of these
  returns: list[float]
  seconds: float  # in the environment


def random_steps(environment: Environment, count: int, seed: int = 0) -> Seen:
  """Takes `count` uniformly random actions; the same for the same seed, if the environment is."""
  rng = np.random.default_rng(seed)
  rows, ends, limits, lengths, returns, seconds = [], 0, 0, [], [], 0.0
  observation, length, total = environment.reset(seed), 0, 0.0
  for i in range(count):
    action = rng.uniform(-1.0, 1.0, environment.action_size).astype(np.float32)
    start = time.perf_counter()
    step = environment.step(action)
    seconds += time.perf_counter() - start
    rows.append((observation, action, step.reward, step.observation, step.terminal))
    observation, length, total = step.observation, length + 1, total + step.reward
    if step.terminal or step.truncated:
      ends, limits = ends + step.terminal, limits + (not step.terminal)
      lengths.append(length)
      returns.append(total)
      observation, length, total = environment.reset(seed + i + 1), 0, 0.0
  columns = (np.asarray(column, np.float32) for column in zip(*rows, strict=True))
  return Seen(Transition(*columns), ends, limits, lengths, returns, seconds)


def findings(task: Task, seen: Seen, again: Seen | None = None) -> list[Finding]:
  """What random steps of a task show.

  Args:
    seen: of one environment of the task.
    again: of another one from the same seed; None: not tried.
  """
  steps, found = seen.steps, []
  found += _of_episodes(seen)
  found += _of_numbers(steps)
  found += _of_rewards(steps.reward)
  if again is not None:
    found += _of_repetition(seen, again)
  return found


def _of_episodes(seen: Seen) -> list[Finding]:
  count = len(seen.steps.reward)
  if not seen.lengths:
    text = (
      f"No episode was over in {count:,} random steps. If nothing ends one, give a time limit: "
    )
    return [Finding("warning", text + "--episode_steps=1000.")]
  lengths = f"{min(seen.lengths)} to {max(seen.lengths)} steps"
  text = (
    f"Episodes: {seen.ends} ended, {seen.limits} were cut off by a time limit; {lengths} long, "
  )
  found = [Finding("note", text + f"return {np.mean(seen.returns):.4g} on average.")]
  if seen.ends and len(set(seen.lengths)) == 1 and not seen.limits and len(seen.lengths) > 2:
    found.append(
      Finding(
        "warning",
        f"Every episode ended (terminated) after {seen.lengths[0]} steps. If that is a time limit, "
        "return it as truncated: an end makes everything after it worth nothing.",
      )
    )
  return found


def _of_numbers(steps: Transition) -> list[Finding]:
  observations, found = steps.observation.astype(np.float64), []
  low, high, std = observations.min(0), observations.max(0), observations.std(0)
  size = observations.shape[1]
  largest = np.maximum(np.abs(low), np.abs(high))
  constant = np.flatnonzero(std <= CONSTANT * largest)
  if constant.size == size:
    return [
      Finding("error", "No number of the observation ever changed: there is nothing to learn.")
    ]
  if constant.size:
    found.append(
      Finding("note", f"{constant.size} of {size} numbers never changed: {_some(constant)}.")
    )
  moving = np.setdiff1d(np.arange(size), constant)
  columns = np.round(observations[:, moving] / std[moving], 5)
  _, first = np.unique(columns, axis=1, return_index=True)
  copies = np.delete(moving, first)
  if copies.size:
    found.append(Finding("note", f"{copies.size} numbers repeat others: {_some(copies)}."))
  scales = std[moving].max() / std[moving].min()
  text = f"Standard deviations of the numbers: {std[moving].min():.3g} to {std[moving].max():.3g}."
  found.append(Finding("note", text))
  if scales > 1e8:
    found.append(
      Finding("warning", f"Their scales differ by a factor of {scales:.0e}: check the units.")
    )
  offset = largest[moving] / std[moving]
  if offset.max() > 1e5:
    worst = moving[offset.argmax()]
    found.append(
      Finding(
        "warning",
        f"Number {worst} changes by {std[worst]:.3g} around {observations[:, worst].mean():.6g}: "
        "float32 loses most of that. Subtract a constant in a wrapper.",
      )
    )
  return found


def _of_rewards(reward: np.ndarray) -> list[Finding]:
  low, middle, high = np.quantile(reward, [0.01, 0.5, 0.99])
  text = f"Rewards: median {middle:.4g}, 1 % and 99 % quantiles {low:.4g} and {high:.4g}, "
  found = [Finding("note", text + f"least {reward.min():.4g}, greatest {reward.max():.4g}.")]
  if reward.min() == reward.max():
    text = f"Every reward was {reward[0]:.4g}: random actions do not show what is wanted."
    found.append(Finding("warning", text + " Expect a long search, or shape the reward."))
  elif np.mean(reward != middle) < 0.01:
    text = (
      "Fewer than one reward in a hundred differs from the others: values are bounded by their "
    )
    found.append(
      Finding("warning", text + "1 % and 99 % quantiles; set ActorCritic.bound_values = False.")
    )
  return found


def _of_repetition(seen: Seen, again: Seen) -> list[Finding]:
  names = "observation", "next_observation", "reward", "terminal"
  same = all(np.array_equal(getattr(seen.steps, n), getattr(again.steps, n)) for n in names)
  if same:
    return [Finding("note", "Two environments with the same seed and actions did the same.")]
  first = np.array_equal(seen.steps.observation[0], again.steps.observation[0])
  what = "after the same actions" if first else "already after reset(seed)"
  return [
    Finding(
      "warning",
      f"Two environments with the same seed differ {what}: runs cannot be repeated, and a resumed "
      "run starts a new episode.",
    )
  ]


def same_object(task: Task) -> bool:
  """Whether the task's function returns the same environment at every call."""
  first, second = task.make_environment(), task.make_environment()
  same = first.env is second.env or first.env.unwrapped is second.env.unwrapped
  if not same:
    second.close()
  first.close()
  return same


def _some(indices: np.ndarray, most: int = 8) -> str:
  text = ", ".join(map(str, indices[:most]))
  return text + (" ..." if len(indices) > most else "")
