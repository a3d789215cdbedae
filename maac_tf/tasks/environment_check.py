"""What an environment does in some random steps, and what a training should know of it.

Shapes: N steps, S observation size, A action size.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from maac_tf.checks import ConfigError
from maac_tf.data.types import ROUNDING, Transition
from maac_tf.tasks.actions import ActionBox
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.episodes import another_environment
from maac_tf.tasks.task import Task

COPY = 1e-10  # less than 1: of a correlation, beyond which a number repeats another
RARE = 0.01  # rewards: the share of them that is
FEW_DIGITS = 1e-5  # of its largest number: with a smaller standard deviation, float32 has no room
NOISE = 1e-8  # of the largest standard deviation: a smaller one is of other units, or of rounding


class Finding(NamedTuple):
  """Something that was seen.

  Attributes:
    level: "note", "warning" or "error"; with an error, training cannot work.
    text: a sentence or two; for a warning or an error, with what to do.
  """

  level: str
  text: str


def warn(task: Task, found: Sequence[Finding]) -> None:
  """Logs the warnings.

  Raises:
    ConfigError: for the first error.
  """
  for level, text in found:
    if level == "error":
      raise ConfigError(f"Task {task.name!r}: {text}")
    if level == "warning":
      logging.warning("Task %r: %s", task.name, text)


class Seen(NamedTuple):
  """Random steps of an environment."""

  steps: Transition  # [N, ...] in NumPy, actions in [-1, 1]
  ends: list[int]  # lengths of the episodes that terminated
  limits: list[int]  # and of those that were truncated
  returns: list[float]  # of both
  seconds: float  # in the environment


def random_steps(environment: Environment, count: int, seed: int = 0) -> Seen:
  """Takes `count` uniformly random actions; the same for the same seed, if the environment is."""
  rng = np.random.default_rng(seed)
  rows, ends, limits, returns, seconds = [], list[int](), list[int](), [], 0.0
  observation, length, total = environment.reset(seed), 0, 0.0
  for i in range(count):
    action = rng.uniform(-1.0, 1.0, environment.action_size).astype(np.float32)
    start = time.perf_counter()
    step = environment.step(action)
    seconds += time.perf_counter() - start
    rows.append((observation, action, step.reward, step.observation, step.terminal))
    observation, length, total = step.observation, length + 1, total + step.reward
    if step.terminal or step.truncated:
      (ends if step.terminal else limits).append(length)
      returns.append(total)
      observation, length, total = environment.reset(seed + i + 1), 0, 0.0
  columns = (np.asarray(column, np.float32) for column in zip(*rows, strict=True))
  return Seen(Transition(*columns), ends, limits, returns, seconds)


def of_steps(task: Task, box: ActionBox, steps: Transition) -> list[Finding]:
  """What random steps of a task show, [N, ...] with actions in [-1, 1]."""
  steps = Transition(*map(np.asarray, steps))
  in_units = steps._replace(action=box.units(steps.action))
  disagreements = [
    Finding("warning", f"Over the random steps {sentence}. Correct the task.")
    for sentence in task.disagreements(*in_units)
  ]
  return _of_numbers(steps) + _of_rewards(steps.reward) + disagreements


def _of_numbers(steps: Transition) -> list[Finding]:
  numbers = np.concatenate([steps.observation, steps.next_observation]).astype(np.float64)
  size = numbers.shape[1]
  largest, std = np.abs(numbers).max(0), numbers.std(0)
  is_constant = std <= ROUNDING * largest
  if is_constant.all():
    text = f"None of the {size} numbers of the observation ever changed: there is nothing to learn."
    return [Finding("error", text + " Have the environment return what its actions change.")]
  constant, moving = np.flatnonzero(is_constant), np.flatnonzero(~is_constant)
  numbers, largest, std = numbers[:, moving], largest[moving], std[moving]
  text = (
    f"Observations: numbers from {numbers.min():.4g} to {numbers.max():.4g}, of standard "
    f"deviations from {std.min():.3g} to {std.max():.3g}."
  )
  found = [Finding("note", text)]
  if constant.size:
    text = f"{constant.size} of {size} numbers never changed: {_some(constant)}. A wrapper that "
    found.append(Finding("note", text + "leaves them out saves a little time."))
  fixed = np.flatnonzero((steps.next_observation == steps.observation).all(0) & ~is_constant)
  if fixed.size:
    text = f"Numbers that change at a reset alone, and never in an episode: {_some(fixed)}."
    found.append(Finding("note", text))
  found += _of_copies((numbers - numbers.mean(0)) / std, moving)
  noise = std < NOISE * std.max()
  if noise.any():
    text = f"Numbers {_some(moving[noise])} change {std.max() / std.min():.0e} times less than "
    text += f"number {moving[std.argmax()]}. If that is rounding, leave them out; else check units."
    found.append(Finding("warning", text))
  offset = std < FEW_DIGITS * largest
  if offset.any():
    worst = (std / largest).argmin()
    text = f"Number {moving[worst]} changes by {std[worst]:.3g} around "
    text += f"{numbers[:, worst].mean():.6g}: float32 loses most of that. Subtract a constant from "
    found.append(Finding("warning", text + f"numbers {_some(moving[offset])} in a wrapper."))
  return found


def _of_copies(normal: np.ndarray, names: np.ndarray) -> list[Finding]:
  """Of numbers [N, n] of mean 0 and variance 1: which of `names` [n] say what others say."""
  correlation = np.abs(normal.T @ normal) / len(normal)
  copy, of = np.nonzero(np.tril(correlation, -1) > 1.0 - COPY)
  pairs = dict(zip(names[copy].tolist(), names[of].tolist(), strict=True))
  if not pairs:
    return []
  text = (
    f"{len(pairs)} of {len(names)} others repeat numbers before them, in these or other units: "
  )
  text += (
    f"{_some(np.array(list(pairs)))} (the first repeats {min(pairs.items())[1]}). A wrapper that "
  )
  return [Finding("note", text + "leaves them out saves a little time.")]


def _of_rewards(reward: np.ndarray) -> list[Finding]:
  low, middle, high = np.quantile(reward, [0.01, 0.5, 0.99])
  text = f"Rewards: median {middle:.4g}, 1 % and 99 % quantiles {low:.4g} and {high:.4g}, "
  found = [Finding("note", text + f"least {reward.min():.4g}, greatest {reward.max():.4g}.")]
  search = "Learning may need a long search: a reward that says how near the goal is shortens it."
  others = int(np.sum(reward != middle))
  if not others:
    text = f"Every reward was {reward[0]:.4g}: random actions do not show what is wanted. "
    found.append(Finding("warning", text + search))
  elif others < RARE * len(reward):
    text = f"Rewards are rare: {others} of {len(reward):,} were not {middle:.4g}. "
    found.append(Finding("warning", text + search))
  return found


def of_actions(box: ActionBox) -> list[Finding]:
  """Which numbers of an action are special."""
  found, constant = [], np.flatnonzero(box.scale == 0.0)
  unbounded = np.flatnonzero(np.isinf(box.low) | np.isinf(box.high))
  if constant.size == box.size:
    text = "Every action has one value alone, low = high: there is nothing to choose."
    found.append(Finding("error", text + " Give the action space the range of each actuator."))
  elif constant.size:
    text = f"Numbers of the action with one value alone, low = high: {_some(constant)}. The policy "
    found.append(Finding("note", text + "leaves them so."))
  if unbounded.size:
    first, last = box.shift - box.scale, box.shift + box.scale
    text = (
      f"Numbers of the action without bounds, or with one: {_some(unbounded)}. The policy uses "
    )
    text += (
      f"from {first[unbounded[0]]:.4g} to {last[unbounded[0]]:.4g}. If the actuator has another "
    )
    text += "range, give it as the bounds of the action space."
    found.append(Finding("warning", text))
  return found


def of_episodes(seen: Seen, time_limit: int | None) -> list[Finding]:
  """How the episodes of random steps were over."""
  lengths, count = seen.ends + seen.limits, len(seen.steps.reward)
  if not lengths and time_limit:
    text = f"No episode was over in {count:,} random steps; the time limit is {time_limit:,}."
    return [Finding("note", text)]
  if not lengths:
    text = f"No episode was over in {count:,} random steps, and no time limit is known. If nothing "
    text += "ends an episode, give one: --episode_steps=1000 (make_task.episode_steps)."
    return [Finding("warning", text)]
  text = f"Episodes: {len(seen.ends)} ended, {len(seen.limits)} were cut off by a time limit; "
  text += f"{min(lengths)} to {max(lengths)} steps long, return {np.mean(seen.returns):.4g} on "
  found = [Finding("note", text + "average.")]
  if len(lengths) > 1 and not seen.limits and len(set(lengths)) == 1:
    text = f"Every episode ended (terminated) after {lengths[0]} steps. If that is a time limit, "
    text += "return it as truncated, or leave it out and give --episode_steps: what comes after an "
    found.append(Finding("warning", text + "end counts as nothing."))
  return found


def of_repetition(task: Task, environment: Environment, seen: Seen, seed: int = 0) -> list[Finding]:
  """Whether the same seed and actions lead to the same, and so whether runs can be repeated.

  Args:
    task: of which another environment is made, if that can be.
    environment: the one that was stepped; it stays open.
    seen: its `random_steps` of that seed, which were the first steps in it.
    seed: of these.
  """
  count, found = len(seen.steps.reward), list[Finding]()
  other = another_environment(task, environment)
  if isinstance(other, str):
    text = f"Only one environment can be open ({other}). Evaluations use that of the training."
    found.append(Finding("warning", text))
    if not _same(seen, random_steps(environment, count, seed)):
      text = "The same seed and actions led elsewhere when they were repeated"
      found.append(Finding("warning", f"{text}: {_UNREPEATABLE}"))
    return found
  try:
    again = random_steps(other, count, seed)
    if not _same(seen, again):
      first = np.array_equal(seen.steps.observation[0], again.steps.observation[0])
      when = "after the same actions" if first else "at once, after reset(seed)"
      text = f"Two environments with the same seed differ {when}: {_UNREPEATABLE}"
      return [Finding("warning", text)]
    if not _same(seen, random_steps(other, -(-count // 4), seed)):
      text = "After other episodes, the same seed and actions led elsewhere: something survives "
      text += "reset(). A run that resumes starts a new episode. Have reset() set all of the state."
      return [Finding("warning", text)]
  finally:
    other.close()
  return [
    Finding("note", "The same seed and actions led to the same, in another environment, too.")
  ]


def of_resets(task: Task, environment: Environment, seed: int = 0) -> list[Finding]:
  """The same without a step, where another environment can be made. Resets both."""
  other = another_environment(task, environment)
  if isinstance(other, str):  # what it means for a training is said where it is evaluated
    return []
  try:
    if np.array_equal(environment.reset(seed), other.reset(seed)):
      return []
  finally:
    other.close()
  text = f"Two environments with the same seed differ at once, after reset(seed): {_UNREPEATABLE}"
  return [Finding("warning", text)]


_UNREPEATABLE = (
  "runs cannot be repeated, and one that resumes starts a new episode. In a simulator, draw what "
  "is random from self.np_random, which reset(seed) seeds."
)


def _same(seen: Seen, again: Seen) -> bool:
  """Whether the steps of `again`, of which there may be fewer, are those of `seen`."""
  count = len(again.steps.reward)
  return all(np.array_equal(x[:count], y) for x, y in zip(seen.steps, again.steps, strict=True))


def _some(indices: np.ndarray, most: int = 8) -> str:
  """Such as "2, 5 to 9"."""
  runs = np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1)
  texts = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
  return ", ".join(texts[:most] + ["..."] * (len(texts) > most))
