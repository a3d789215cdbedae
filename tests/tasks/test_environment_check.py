"""What is found in small environments, each with one thing that a training should know of."""

import re

import gymnasium as gym
import numpy as np
import pytest

from maac_tf.checks import ConfigError
from maac_tf.tasks import environment_check
from maac_tf.tasks.actions import ActionBox
from maac_tf.tasks.environment_check import Finding
from maac_tf.tasks.task import Task

FLOAT_MAX = np.finfo(np.float32).max


class Plant(gym.Env):
  """A mass on a line that is seen as a function of (position, velocity)."""

  def __init__(self, observe=np.copy, reward=lambda state: -abs(state[0]), over=None, shift=0.0):
    self._observe, self._reward, self._shift = observe, reward, shift
    self._over = over or (lambda steps, rng: (False, steps == 50))
    size = len(observe(np.zeros(2)))
    self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)
    self.action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)
    self.resets = self.closed = 0

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.resets, self.steps = self.resets + 1, 0
    self.state = self.np_random.uniform(-1, 1, 2) + self._shift
    return self._observe(self.state), {}

  def step(self, action):
    self.steps += 1
    self.state = self.state + 0.1 * np.array([self.state[1], action[0]])
    over = self._over(self.steps, self.np_random)
    return self._observe(self.state), self._reward(self.state), *over, {}

  def close(self):
    self.closed += 1


def findings(make, count=1_000):
  """All of a task's, as the command has them; it closes what it makes besides."""
  made = []
  task = Task("plant", lambda: made.append(make()) or made[-1])
  environment = task.make_environment()
  seen = environment_check.random_steps(environment, count)
  found = [
    *environment_check.of_episodes(seen, environment.time_limit),
    *environment_check.of_actions(environment.action_box),
    *environment_check.of_steps(task, environment.action_box, seen.steps),
    *environment_check.of_repetition(task, environment, seen),
  ]
  first = made[0].unwrapped
  assert not first.closed
  assert all(env.unwrapped.closed == 1 for env in made if env.unwrapped is not first)
  return found


def unusual(found):
  """All but the four that every environment has."""
  return [f for f in found if not f.text.startswith(USUAL)]


USUAL = "Episodes: ", "Observations: ", "Rewards: median", "The same seed and actions led to the"


def test_an_environment_without_faults_has_four_notes():
  found = findings(Plant)
  assert [f.level for f in found] == ["note"] * 4 and unusual(found) == []


def test_the_numbers_of_the_page_are_those_of_the_steps():
  environment = Task("plant", Plant).make_environment()
  seen = environment_check.random_steps(environment, 101, seed=3)
  assert seen.ends == [] and seen.limits == [50, 50] and environment.env.resets == 3
  steps, rng = seen.steps, np.random.default_rng(3)
  plant, returns, total = Plant(), [], 0.0
  observation, _ = plant.reset(seed=3)
  for i in range(101):
    action = np.float32(rng.uniform(-1, 1, 1))
    np.testing.assert_allclose(steps.observation[i], observation, rtol=1e-6)
    observation, reward, _, over, _ = plant.step(2.0 * action)  # in the environment's units
    np.testing.assert_allclose(steps.action[i], action)
    np.testing.assert_allclose(steps.next_observation[i], observation, rtol=1e-6)
    np.testing.assert_allclose(steps.reward[i], reward, rtol=1e-6)
    total += reward
    if over:
      returns.append(total)
      total, (observation, _) = 0.0, plant.reset(seed=3 + i + 1)
  np.testing.assert_allclose(seen.returns, returns)
  (episodes,) = environment_check.of_episodes(seen, None)
  assert f"50 to 50 steps long, return {np.mean(returns):.4g} on average" in episodes.text
  numbers, rewards = environment_check.of_steps(Task("", Plant), environment.action_box, steps)
  everything = np.concatenate([steps.observation, steps.next_observation])
  assert f"from {everything.min():.4g} to {everything.max():.4g}" in numbers.text
  middle = np.sort(steps.reward)[50]
  assert f"median {middle:.4g}" in rewards.text and f"least {min(steps.reward):.4g}" in rewards.text


def _seen_as(*functions):
  return lambda: Plant(observe=lambda s: np.array([f(*s) for f in functions]))


def _x(x, _):
  return x


def _v(_, v):
  return v


def _five(*_):
  return 5.0


def _over(function):
  return lambda: Plant(over=function)


class Rare(Plant):
  """Rewards the last step of an episode."""

  def step(self, action):
    observation, _, *others = super().step(action)
    return observation, 7.0 * (self.steps == 300), *others


class Goal(Plant):
  """Shows a goal that is drawn at each reset."""

  def __init__(self):
    super().__init__(observe=lambda s: np.array([*s, getattr(self, "goal", 0.0)]))

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.goal = self.np_random.uniform()
    return self._observe(self.state), {}


FOUND = {
  "nothing changes": (_seen_as(_five, _five), "error", "None of the 2 numbers .* ever changed"),
  "constants": (_seen_as(_five, _x, _five, _five, _v), "note", "3 of 5 numbers .*: 0, 2 to 3"),
  "constant of rounding": (
    _seen_as(_x, _v, lambda x, _: 1e4 + 1e-4 * x),
    "note",
    "1 of 3 numbers never changed: 2",
  ),
  "copies in other units": (
    _seen_as(_x, _v, lambda x, _: -1e3 * x, _v),
    "note",
    r"2 of 4 others repeat .*: 2 to 3 \(the first repeats 0\)",
  ),
  "goal of the episode": (Goal, "note", "change at a reset alone, and never in an episode: 2"),
  "rounding noise": (
    _seen_as(_x, _v, lambda x, v: 1e-12 * x * v),
    "warning",
    "Numbers 2 change .* times less than number .*check units",
  ),
  "a large offset": (
    _seen_as(_x, lambda _, v: 1e5 + 0.3 * v),
    "warning",
    "Number 1 changes by 0.* around 1000.*Subtract a constant from numbers 1 in a wrapper",
  ),
  "one reward": (lambda: Plant(reward=lambda _: 2.5), "warning", "Every reward was 2.5: .* search"),
  "rare rewards": (
    lambda: Rare(over=lambda steps, _: (False, steps == 300)),
    "warning",
    "Rewards are rare: 3 of 1,000 were not 0. .* search",
  ),
  "no end": (_over(lambda *_: (False, False)), "warning", "No episode .*--episode_steps=1000"),
  "a limit as an end": (
    _over(lambda steps, _: (steps == 400, False)),
    "warning",
    r"Every episode ended \(terminated\) after 400 steps. .* return it as truncated",
  ),
}


@pytest.mark.parametrize(("make", "level", "text"), FOUND.values(), ids=FOUND)
def test_what_is_found_is_said_with_what_to_do(make, level, text):
  (found,) = unusual(findings(make))
  assert found.level == level and re.search(text, found.text), found


@pytest.mark.parametrize(
  "over",
  [
    lambda steps, rng: (bool(rng.random() < 0.02), False),
    lambda steps, _: (False, steps == 400),
    lambda steps, rng: (steps == 100, bool(rng.random() < 0.005)),
  ],
  ids=["chance", "limit", "both"],
)
def test_ends_that_are_no_limit_are_left_alone(over):
  assert unusual(findings(lambda: Plant(over=over))) == []


def test_a_time_limit_that_is_longer_than_the_random_steps_is_told():
  never = _over(lambda *_: (False, False))
  (found,) = unusual(findings(lambda: gym.wrappers.TimeLimit(never(), 5_000)))
  assert found == Finding(
    "note", "No episode was over in 1,000 random steps; the time limit is 5,000."
  )


@pytest.mark.parametrize(
  ("low", "high", "level", "text"),
  [
    ((-1, 0.5), (1, 0.5), "note", "one value alone, low = high: 1. The policy leaves"),
    ((0.5, 0.5), (0.5, 0.5), "error", "one value alone, low = high: there is nothing to choose"),
    ((-1, -np.inf), (1, 4), "warning", "or with one: 1. The policy uses from 2 to 4."),
    ((-FLOAT_MAX,) * 2, (FLOAT_MAX,) * 2, "warning", "or with one: 0 to 1. .* from -1 to 1"),
  ],
)
def test_special_actions(low, high, level, text):
  space = gym.spaces.Box(np.float32(low), np.float32(high))
  (found,) = environment_check.of_actions(ActionBox(space))
  assert found.level == level and re.search(text, found.text), found


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_functions_are_compared_in_the_environments_units(factor):
  """Of a reward that is the force, in [-2, 2]."""

  class Force(Plant):
    def step(self, action):
      observation, _, *others = super().step(action)
      return observation, float(action[0]), *others

  task = Task("t", Force, lambda s, a, n: factor * a[..., 0])
  environment = task.make_environment()
  steps = environment_check.random_steps(environment, 200).steps
  found = environment_check.of_steps(task, environment.action_box, steps)
  wrong = [f.text for f in found if f.level == "warning"]
  assert len(wrong) == (factor != 1.0)
  assert all("its reward function differs from" in text for text in wrong)


class Unseeded(Plant):
  def reset(self, *, seed=None, options=None):
    return super().reset()


class Noisy(Plant):
  def step(self, action):
    return super().step(action + np.random.normal())


class Worn(Plant):
  """Each episode in it weakens its motor."""

  def step(self, action):
    return super().step(action * 0.9**self.resets)


class One(Plant):
  """Of which one can be open."""

  is_open = 0

  def __init__(self):
    super().__init__()
    if One.is_open:
      raise ConnectionError("the robot\nis busy")
    One.is_open += 1


class OneNoisy(Noisy, One):
  pass


def _same(env):
  return lambda: gym.wrappers.TimeLimit(env, 50)


REPEATED = {
  "no seed": (Unseeded, ["differ at once, after reset"]),
  "noise": (Noisy, ["differ after the same actions"]),
  "something survives": (Worn, ["something survives reset"]),
  "same object": (_same(Plant()), ["the same object at each call"]),
  "same object, noise": (
    _same(Noisy()),
    ["the same object", "led elsewhere when they were repeated"],
  ),
  "one at a time": (One, [r"to make another fails: ConnectionError: the robot is busy\)"]),
  "one at a time, noise": (OneNoisy, ["another fails", "led elsewhere when they were repeated"]),
}


@pytest.mark.parametrize(("make", "texts"), REPEATED.values(), ids=REPEATED)
def test_what_cannot_be_repeated_is_warned_of(make, texts):
  One.is_open = 0
  found = unusual(findings(make))
  assert [f.level for f in found] == ["warning"] * len(texts)
  assert all(re.search(text, f.text) for f, text in zip(found, texts, strict=True)), found


@pytest.mark.parametrize(
  ("make", "differ"), [(Plant, False), (Unseeded, True), (_same(Unseeded()), False), (One, False)]
)
def test_resets_that_differ_are_found_without_a_step(make, differ):
  One.is_open = 0
  task = Task("plant", make)
  environment = task.make_environment()
  found = environment_check.of_resets(task, environment)
  assert ["differ at once, after reset" in f.text for f in found] == [True] * differ
  plant = environment.env.unwrapped
  assert plant.resets == (make in (Plant, Unseeded)) and not plant.closed


def test_warnings_are_logged_and_an_error_stops(monkeypatch):
  logged, task = [], Task("plant", Plant)
  monkeypatch.setattr(
    environment_check.logging, "warning", lambda text, *a: logged.append(text % a)
  )
  environment_check.warn(
    task, [Finding("note", "a"), Finding("warning", "b"), Finding("note", "c")]
  )
  assert logged == ["Task 'plant': b"]
  with pytest.raises(ConfigError, match="^Task 'plant': d$"):
    environment_check.warn(task, [Finding("note", "a"), Finding("error", "d")])
