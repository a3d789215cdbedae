"""What environments may declare and return, and what is refused in one line."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from maac_tf.tasks.actions import ActionBox
from maac_tf.tasks.adapter import Environment

FLOAT_MAX = np.finfo(np.float32).max
BOX = spaces.Box(-10.0, 10.0, (2,), np.float32)


class Fake(gym.Env):
  """Returns what it is told to, and notes the actions."""

  def __init__(self, observations=BOX, actions=None, first=None, answer=None):
    self.observation_space = observations
    self.action_space = actions or spaces.Box(-1.0, 1.0, (1,), np.float32)
    self._first = observations.sample() if first is None else first
    self._answer = answer if answer is not None else (self._first, 0.0, False, False, {})
    self.actions = []

  def reset(self, *, seed=None, options=None):
    return self._first, {}

  def step(self, action):
    assert self.action_space.contains(action), (action, action.dtype, self.action_space)
    self.actions.append(action)
    return self._answer


def _step(observation=(1, 2), reward=0.0, terminated=False, truncated=False, **spaces):
  env = Environment(Fake(answer=(observation, reward, terminated, truncated, {}), **spaces))
  return env.step(np.zeros(env.action_size, np.float32))


@pytest.mark.parametrize(
  "observation",
  [
    np.float16([300, 2]),
    np.int16([300, 2]),
    np.uint8([200, 2]),
    [300.0, 2],
    np.float64([1e20, 2]),  # whose square is infinite in float32
    np.float32([1e30, 2]),
  ],
  ids=repr,
)
def test_any_kind_of_number_is_an_observation(observation):
  step = _step(observation)
  assert step.observation.dtype == np.float32
  np.testing.assert_allclose(step.observation, np.asarray(observation, np.float64), rtol=1e-6)


@pytest.mark.parametrize("one", [2.5, np.float32(2.5), np.array(2.5), np.array([2.5]), [[2.5]]])
@pytest.mark.parametrize("flag", [True, np.True_, np.array(True), np.array([1])], ids=repr)
def test_rewards_and_flags_may_be_arrays_of_one(one, flag):
  step = _step(reward=one, terminated=flag, truncated=flag)
  assert step.reward == 2.5 and step.terminal is True and step.truncated is True


def test_dictionaries_tuples_and_matrices_are_flattened():
  space = spaces.Dict(
    {
      "goal": spaces.Box(-1.0, 1.0, (2, 2), np.float64),
      "more": spaces.Tuple((spaces.Box(0, 9, (1,), np.int32), spaces.Discrete(3))),
    }
  )
  value = {"goal": np.array([[1.0, 2], [3, 4]]), "more": (np.int32([7]), 1)}
  env = Environment(Fake(space, first=value))
  assert env.observation_size == 8
  np.testing.assert_array_equal(env.reset(), np.float32([1, 2, 3, 4, 7, 0, 1, 0]))


@pytest.mark.parametrize(
  ("low", "high", "scale", "shift"),
  [
    ((-3.0, -1.0), (0.2, 5.0), (1.6, 3.0), (-1.4, 2.0)),
    ((-np.inf, -FLOAT_MAX), (np.inf, FLOAT_MAX), (1.0, 1.0), (0.0, 0.0)),
    ((0.5, 0.1), (0.5, 0.1), (0.0, 0.0), (0.5, 0.1)),
    ((0.5, -np.inf), (np.inf, 4.0), (1.0, 1.0), (1.5, 3.0)),
  ],
  ids=["asymmetric", "unbounded", "constant", "one_sided"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_actions_fill_the_box_and_never_leave_it(low, high, scale, shift, dtype):
  space = spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)
  box = ActionBox(space)
  np.testing.assert_allclose(box.scale, scale, rtol=1e-6)
  np.testing.assert_allclose(box.shift, shift, rtol=1e-6)
  actions = np.random.default_rng(0).uniform(-1, 1, (1_000, 2)).astype(np.float32)
  actions[:4] = [[-1, -1], [1, 1], [-1, 1], [1, -1]]
  for units in (box.units(actions).numpy(), box.units_in_numpy(actions)):
    assert units.dtype == np.float32 and np.isfinite(units).all()
    constant = np.array(low) == high
    assert np.all((units >= space.low) & (units <= space.high) | constant)
  fractions = box.fractions(box.units(actions)).numpy()
  np.testing.assert_allclose(fractions, np.where(constant, 0.0, actions), atol=1e-5)
  env = Environment(Fake(actions=space))  # which asserts that its space contains them
  for action in actions[:50]:
    env.step(3.0 * action)


@pytest.mark.parametrize("bounds", [(-3.0, 0.2), (-0.1, 0.7), (-2.3, 1.9)])
def test_a_saturated_action_is_inside_float32_bounds(bounds):
  space = spaces.Box(*bounds, (1,), np.float32)
  for value in np.float32([-1, 1]):
    assert space.contains(ActionBox(space).units_in_numpy(np.float32([value])))


def test_actions_of_any_shape():
  space = spaces.Box(-2.0, 2.0, (2, 3), np.float32)
  env = Environment(Fake(actions=space))
  assert env.action_size == 6
  env.step(np.float32([0.5, 0, 0, 0, 0, -1]))
  np.testing.assert_array_equal(env.env.actions[-1], [[1, 0, 0], [0, 0, -2]])


@pytest.mark.parametrize(
  ("keywords", "message"),
  [
    ({"observation": np.float32([1])}, r"shape \(2,\), as its space declares; it is float32 of"),
    ({"observation": np.float32([[1], [2]])}, r"it is float32 of shape \(2, 1\)"),
    ({"observation": None}, r"it is object of shape \(\): None"),
    ({"observation": ["a", "b"]}, "must be numbers of shape"),
    ({"reward": None}, "must return a number for reward, not None"),
    ({"reward": np.zeros(2)}, "must return a number for reward, not array"),
    ({"terminated": None}, "must return a number for terminated, not None"),
  ],
)
def test_what_is_not_as_declared_is_named(keywords, message):
  with pytest.raises(ValueError, match=message) as error:
    _step(**keywords)
  assert "\n" not in str(error.value) and "step() of Fake" in str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_named_when_they_come(bad):
  with pytest.raises(FloatingPointError, match="step.* of Fake returned .* reward"):
    _step(np.float32([1, bad]))
  with pytest.raises(FloatingPointError, match="step.* of Fake returned .* reward"):
    _step(reward=bad)
  with pytest.raises(FloatingPointError, match="reward -1e[+]30 after .* rewards 1e[+]12 at the"):
    _step(reward=-1e30)
  with pytest.raises(FloatingPointError, match="reset.* of Fake returned"):
    Environment(Fake(first=np.float32([bad, 1]))).reset()


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: Fake(actions=spaces.Discrete(3)), "actions must be a Box of real numbers"),
    (lambda: Fake(actions=spaces.Box(0, 3, (1,), np.int32)), "actions must be a Box of real"),
    (lambda: Fake(spaces.Box(0, 255, (8, 8, 3), np.uint8)), "hold an image"),
    (
      lambda: Fake(spaces.Dict({"camera": spaces.Box(0, 255, (8, 8), np.uint8)})),
      "hold an image",
    ),
    (lambda: Fake(spaces.Sequence(BOX), first=()), "no fixed number of numbers"),
    (lambda: gym.make_vec("Pendulum-v1", num_envs=2), "is a vector of environments"),
    (lambda: object(), "is no gymnasium.Env but a builtins.object"),
  ],
  ids=["discrete", "integer", "image", "image_in_dict", "sequence", "vector", "old_gym"],
)
def test_what_cannot_be_learned_in_is_refused(make, message):
  with pytest.raises(ValueError, match=message) as error:
    Environment(make())
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("terminated", [True, False])
@pytest.mark.parametrize("truncated", [True, False])
def test_an_end_at_a_time_limit_by_the_old_interface_is_a_truncation(terminated, truncated):
  for info, limit in (
    ({"TimeLimit.truncated": True}, True),
    ({"TimeLimit.truncated": np.array(True)}, True),
    ({"TimeLimit.truncated": False}, False),
    ({}, False),
    (None, False),
  ):
    env = Environment(Fake(answer=(np.float32([1, 2]), 0.0, terminated, truncated, info)))
    step = env.step(np.zeros(1, np.float32))
    want = (False, True) if limit else (terminated, truncated)
    assert (step.terminal, step.truncated) == want


def test_old_returns_are_refused():
  env = Environment(Fake(answer=(np.float32([1, 2]), 0.0, False, {})))
  with pytest.raises(ValueError, match="must return .observation, reward, terminated, truncated"):
    env.step(np.zeros(1, np.float32))
  fake = Fake()
  fake.reset = lambda **_: np.float32([1, 2])
  with pytest.raises(ValueError, match="must return .observation, info."):
    Environment(fake).reset()


def test_a_number_of_many_that_is_not_finite_is_named_on_one_line():
  many = spaces.Box(-np.inf, np.inf, (300,), np.float32)
  bad = np.where(np.arange(300) == 217, np.nan, np.arange(300.0)).astype(np.float32)
  env = Environment(
    Fake(many, first=np.zeros(300, np.float32), answer=(bad, 0.0, False, False, {}))
  )
  env.reset(0)
  with pytest.raises(FloatingPointError, match=r"\(nan at number 217 of 300\) and reward") as error:
    env.step(np.zeros(1, np.float32))
  assert "\n" not in str(error.value) and len(str(error.value)) < 300
