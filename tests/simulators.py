"""A small environment, and ways in which simulators are unusual."""

import itertools

import gymnasium as gym
import numpy as np

STEPS = 50  # of an episode


class Line(gym.Env):
  """A point on a line, pushed by the action; the reward is minus its distance from 0.

  Episodes end (terminate) where |x| > `end`. A step after an end is refused.
  """

  observation_space = gym.spaces.Box(-5.0, 5.0, (1,), np.float32)
  action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

  def __init__(self, end=np.inf):
    self._end, self._over = end, True
    self.resets, self.steps = 0, 0

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.resets, self._over, self._x = self.resets + 1, False, self.np_random.uniform(-0.5, 0.5)
    return np.float32([self._x]), {}

  def step(self, action):
    assert not self._over, "step() after the end of an episode"
    self.steps += 1
    self._x = np.clip(self._x + 0.05 * float(action[0]) + self._noise(), -5, 5)
    self._over = bool(abs(self._x) > self._end)
    return np.float32([self._x]), self._reward(), self._over, False, {}

  def close(self):
    self._over = True

  def _noise(self):
    return 0.0

  def _reward(self):
    return -abs(self._x)


def line():
  return gym.wrappers.TimeLimit(Line(), STEPS)


def leaves_the_line():
  """Ends after some steps, or is cut off."""
  return gym.wrappers.TimeLimit(Line(end=0.6), STEPS)


class Unseeded(Line):
  """Noise that no seed sets, as of a real robot, from the step `first` of all on."""

  def __init__(self, first=0, end=np.inf):
    super().__init__(end)
    self._first, self._random = first, np.random.default_rng(0)

  def _noise(self):
    return self._random.normal(0, 0.1) if self.steps > self._first else 0.0


_one = []


def same_object():
  """The same simulator at each call, each time in a wrapper of its own."""
  if not _one:
    _one.append(Line())
  return gym.wrappers.TimeLimit(_one[0], STEPS)


class _Exclusive(Line):
  open = False

  def __init__(self):
    if _Exclusive.open:
      raise ConnectionError("the port\nis in use")
    super().__init__()
    _Exclusive.open = True

  def close(self):
    super().close()
    _Exclusive.open = False


def exclusive():
  """Refuses to be opened a second time."""
  return gym.wrappers.TimeLimit(_Exclusive(), STEPS)


def forget():
  """No simulator is open, as in a new process."""
  _Exclusive.open = False
  _one.clear()


class Robot(Unseeded):
  """Writes down the steps that it takes, of all objects; raises in place of some."""

  taken, raises_at = [], set()

  def step(self, action):
    if len(Robot.taken) + 1 in Robot.raises_at:
      Robot.raises_at.clear()
      raise ConnectionError("the arm does not answer")
    before = np.float32([self._x])
    after, reward, *others = super().step(action)
    Robot.taken.append(np.concatenate([before, action, np.float32([reward]), after]))
    return after, reward, *others


def robot():
  return gym.wrappers.TimeLimit(Robot(), STEPS)


class EndsAfter(Line):
  """Terminates after each of these numbers of steps, the last one over and over."""

  def __init__(self, lengths):
    super().__init__()
    self._lengths = itertools.chain(lengths, itertools.repeat(lengths[-1]))

  def reset(self, *, seed=None, options=None):
    self._left = next(self._lengths)
    return super().reset(seed=seed)

  def step(self, action):
    observation, reward, _, truncated, info = super().step(action)
    self._left -= 1
    return observation, reward, self._left == 0, truncated, info
