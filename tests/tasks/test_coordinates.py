"""Coordinates against SciPy's rotations, finite differences and the simulator's own steps."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.transform import Rotation

from maac_tf.tasks.coordinates import PLAIN, clipped, sine_and_cosine, torso_frame
from maac_tf.tasks.registry import find_task

# What a user may give these tasks.
OF = {
  "half_cheetah_v5": sine_and_cosine(angle=1),
  "hopper": sine_and_cosine(angle=1),
  "hopper_v5": clipped(first=5, limit=10.0),
  "walker2d_v5": clipped(first=8, limit=10.0),
  "ant": torso_frame(orientation=1, velocity=13),
  "ant_v5": torso_frame(orientation=1, velocity=13),
}


def _steps(name, count):
  """(observation, next_observation) of random actions, over several episodes."""
  environment, rng = find_task(name).make_environment(), np.random.default_rng(0)
  rows, observation = [], environment.reset(0)
  for t in range(count):
    step = environment.step(rng.uniform(-1.0, 1.0, environment.action_size).astype(np.float32))
    rows.append((observation, step.observation))
    done = step.terminal or step.truncated
    observation = environment.reset(t) if done else step.observation
  return (tf.constant(np.array(column)) for column in zip(*rows, strict=True))


@pytest.mark.parametrize("name", OF)
def test_the_predicted_change_leads_to_the_next_state(name):
  observation, after = _steps(name, 1_500)
  coordinates = OF[name]
  got = coordinates.apply(observation, coordinates.change(observation, after))
  np.testing.assert_allclose(got, after, atol=1e-4, rtol=1e-5)


def test_imagined_velocities_are_clipped_as_those_shown():
  """Of both tasks: those are MuJoCo's velocities within 10, and nothing else is."""
  for name in ("hopper_v5", "walker2d_v5"):
    coordinates, env = OF[name], find_task(name).make_gym_env()
    observation, _ = env.reset(seed=0)
    robot = env.unwrapped
    robot.data.qpos[:], robot.data.qvel[:] = 50.0, np.linspace(-30.0, 30.0, robot.model.nv)
    after = tf.concat([robot.data.qpos[1:], robot.data.qvel], 0)
    start = tf.constant(observation)
    got = coordinates.apply(start, coordinates.change(start, after))
    np.testing.assert_allclose(got, robot._get_obs(), atol=1e-6)


def _rotation(observation):
  return Rotation.from_quat(observation[:, 1:5], scalar_first=True)


def test_the_frame_is_the_torsos():
  """Velocity, the vertical and the x axis as SciPy turns them; the turn as a rotation vector."""
  observation, after = _steps("ant_v5", 400)
  coordinates = OF["ant_v5"]
  features, change = (
    coordinates.features(observation).numpy(),
    coordinates.change(observation, after),
  )
  before, later = _rotation(observation.numpy()), _rotation(after.numpy())
  np.testing.assert_allclose(features[:, 0], observation[:, 0])
  np.testing.assert_allclose(features[:, 1:4], before.inv().apply([0, 0, 1]), atol=1e-5)
  np.testing.assert_allclose(features[:, 4:7], before.inv().apply([1, 0, 0]), atol=1e-5)
  np.testing.assert_allclose(features[:, 7:15], observation[:, 5:13])
  own = [r.inv().apply(x.numpy()[:, 13:16]) for r, x in ((before, observation), (later, after))]
  np.testing.assert_allclose(features[:, 15:18], own[0], atol=1e-4)
  np.testing.assert_allclose(features[:, 18:], observation[:, 16:])
  turn = (before.inv() * later).as_rotvec()
  angle = np.linalg.norm(turn, axis=1, keepdims=True)
  np.testing.assert_allclose(change[:, 1:4], turn * 2 * np.tan(angle / 2) / angle, atol=1e-4)
  np.testing.assert_allclose(change[:, 12:15], own[1] - own[0], atol=1e-4)


def test_which_way_the_torso_faces_changes_the_heading_alone():
  observation, after = _steps("ant_v5", 200)
  coordinates = OF["ant_v5"]
  angles = np.random.default_rng(1).uniform(-3, 3, len(observation))
  yaw = Rotation.from_rotvec(angles[:, np.newaxis] * [0, 0, 1])

  def turned(x, sign):  # the negative of a quaternion is the same rotation
    x = x.numpy().copy()
    x[:, 1:5] = sign * (yaw * _rotation(x)).as_quat(scalar_first=True)
    x[:, 13:16] = yaw.apply(x[:, 13:16])
    return tf.constant(x)

  change = coordinates.change(observation, after)
  for signs in ((1, 1), (-1, -1), (1, -1)):
    got = coordinates.change(turned(observation, signs[0]), turned(after, signs[1]))
    np.testing.assert_allclose(got, change, atol=1e-4)
  features = [coordinates.features(x).numpy() for x in (observation, turned(observation, -1))]
  heading = slice(4, 7)
  np.testing.assert_allclose(*(np.delete(x, heading, 1) for x in features), atol=1e-4)
  assert np.abs(features[0] - features[1])[:, heading].max() > 0.5


@pytest.mark.parametrize("coordinates", [torso_frame(1, 13), sine_and_cosine(2)])
def test_gradients_are_those_of_finite_differences(coordinates):
  rng = np.random.default_rng(0)
  observation = tf.constant(rng.normal(size=[4, 27]))
  change = 0.1 * coordinates.change(observation, tf.constant(rng.normal(size=[4, 27])))
  weights = [tf.constant(rng.normal(size=[4, n])) for n in (27, 40)]

  def value(observation, change):
    features = coordinates.features(observation)
    after = coordinates.apply(observation, change)
    return sum(
      tf.reduce_sum(w[:, : x.shape[-1]] * x)
      for w, x in zip(weights, (after, features), strict=True)
    )

  with tf.GradientTape() as tape:
    tape.watch([observation, change])
    total = value(observation, change)
  gradients = tape.gradient(total, [observation, change])
  directions = [tf.constant(rng.normal(size=x.shape)) for x in (observation, change)]
  step = 1e-6
  ahead, behind = (
    value(observation + sign * step * directions[0], change + sign * step * directions[1])
    for sign in (1, -1)
  )
  slope = sum(tf.reduce_sum(g * d) for g, d in zip(gradients, directions, strict=True))
  np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("name", OF)
def test_features_of_numpy_arrays_are_numpys(name):
  """What the policy acts on, one state at a time."""
  observation, _ = _steps(name, 50)
  features = OF[name].features
  array = observation.numpy().copy()
  array.setflags(write=False)  # D_env holds it, too
  want, got = features(observation), features(array)
  assert isinstance(got, np.ndarray) and got.dtype == np.float32
  np.testing.assert_allclose(got, want, atol=1e-6, rtol=1e-5)
  np.testing.assert_allclose(features(observation[7].numpy()), got[7], atol=1e-6, rtol=1e-5)


def test_a_torsos_frame_is_the_same_under_xla():
  """Features, changes, steps and their gradients, as a compiled update has them."""
  coordinates = OF["ant_v5"]
  observation, after = _steps("ant_v5", 30)

  def numbers(observation, after):
    with tf.GradientTape() as tape:
      tape.watch(observation)
      change = coordinates.change(observation, after)
      found = coordinates.features(observation), change, coordinates.apply(observation, change)
      total = sum(map(tf.reduce_sum, found))
    return *found, tape.gradient(total, observation)

  want, got = (
    numbers(observation, after),
    tf.function(numbers, jit_compile=True)(observation, after),
  )
  for a, b in zip(got, want, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_after_a_whole_turn_the_networks_see_the_same():
  features = sine_and_cosine(1).features
  state = tf.constant([[0.5, 2.0, -1.0]], tf.float64)
  np.testing.assert_allclose(features(state), [[0.5, np.sin(2.0), np.cos(2.0), -1.0]])
  np.testing.assert_allclose(features(state + [[0.0, 2 * np.pi, 0.0]]), features(state))


def test_sizes_are_those_of_what_the_functions_return():
  assert PLAIN.sizes(11) == (11, 11)
  assert sine_and_cosine(0).sizes(17) == (18, 17)
  assert torso_frame(1, 13).sizes(27) == (29, 26)


@pytest.mark.parametrize(
  ("coordinates", "message"),
  [
    (
      PLAIN._replace(apply=lambda x, change: change[..., :2]),
      r"returned \[2, 4, 3\].* \[2, 4, 2\]",
    ),
    (PLAIN._replace(features=lambda x: x[0]), r"returned \[4, 3\], \[2, 4, 3\]"),
    (PLAIN._replace(change=lambda x, after: x[..., 7]), "slice index 7"),
    (sine_and_cosine(3), "observations have 3 numbers, and the first is 0"),
    (sine_and_cosine(-1), "observations have 3 numbers, and the first is 0"),
  ],
)
def test_coordinates_that_lead_elsewhere_are_refused(coordinates, message):
  with pytest.raises(ValueError, match=message):
    coordinates.sizes(3)


@pytest.mark.parametrize(
  ("features", "message"),
  [
    (lambda x: x - np.ones(3), r"they are float64 \[3\]"),
    (lambda x: tf.linalg.matmul(x, tf.eye(3)), r"NumPy array \[3\], of one state"),
    (lambda x: np.negative(x, out=x) if isinstance(x, np.ndarray) else -x, "read-only"),
    (lambda x: x[..., :2] if isinstance(x, np.ndarray) else x, r"float32 \[2\]"),
  ],
)
def test_features_that_the_acting_policy_cannot_use_are_refused(features, message):
  with pytest.raises(ValueError, match=message):
    PLAIN._replace(features=features).sizes(3)


def test_a_state_of_zeros_has_a_frame():
  """No rotation, but what a benchmark or a first call of an exported policy gives."""
  coordinates = torso_frame(1, 13)
  for zeros in (np.zeros([1, 27], np.float32), tf.zeros([1, 27])):
    assert np.isfinite(coordinates.features(zeros)).all()


def test_a_torso_without_its_quaternion_is_refused():
  with pytest.raises(ValueError, match="come before the velocity"):
    torso_frame(13, 1)
  with pytest.raises(ValueError):
    torso_frame(1, 13).sizes(11)
