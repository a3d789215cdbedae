"""Films of an environment whose pictures say which step they are of."""

import ctypes
import functools
import io
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from maac_tf.checks import ConfigError
from maac_tf.runs import film
from maac_tf.tasks.task import Task
from tests.commands import ROOT


class Counter(gym.Env):
  metadata = {"render_modes": ["rgb_array"], "render_fps": 50}
  observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
  action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

  def __init__(self, render_mode=None):
    self.render_mode = render_mode

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.steps = 0
    return np.zeros(1, np.float32), {}

  def step(self, action):
    self.steps += 1
    return np.zeros(1, np.float32), 0.0, self.steps == 32, False, {}

  def render(self):
    return np.full((48, 64, 3), 4 * self.steps, np.uint8) if self.render_mode else None


@pytest.fixture
def frames():
  found, rate = film.frames(Task("counter", Counter), lambda x: np.zeros([len(x), 1]), seed=0)
  assert rate == 25
  return found


def test_every_second_step_of_fifty_a_second_is_drawn(frames):
  assert [frame[0, 0, 0] for frame in frames] == [4 * step for step in range(1, 33, 2)]


def test_a_sheet_has_frames_at_equal_intervals_in_the_order_of_reading(frames, tmp_path):
  film.write_sheet(str(tmp_path / "sheet.png"), frames)
  sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
  assert sheet.shape == (2 * 180, 4 * 240, 3)
  middles = sheet[90::180, 120::240, 0].ravel().astype(int)
  want = [frames[i][0, 0, 0] for i in (0, 2, 4, 6, 9, 11, 13, 15)]
  np.testing.assert_allclose(middles, want, atol=1)
  with pytest.raises(ConfigError, match="cannot be written"):
    film.write_sheet(str(tmp_path / "sheet.nothing"), frames)


def test_a_video_has_all_frames(frames, tmp_path):
  ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra video is not installed")
  path = str(tmp_path / "film.mp4")
  film.write_video(path, frames, 25)
  count, seconds = ffmpeg.count_frames_and_secs(path)
  assert count == len(frames) == 16 and abs(seconds - 16 / 25) < 0.05


def test_tensorboard_gets_a_moving_picture(frames, tmp_path):
  film.write_to_tensorboard(str(tmp_path), frames, 25, step=340)
  (file,) = tmp_path.glob("events.out.tfevents.*")
  records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
  events = [tf.compat.v1.Event.FromString(record) for record in records]
  (event,) = [event for event in events if event.summary.value]
  width, height, picture = tf.make_ndarray(event.summary.value[0].tensor)
  assert event.step == 340 and (width, height) == (b"240", b"180")
  assert Image.open(io.BytesIO(picture)).n_frames == 16


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda: Counter(), "counter cannot be drawn: TypeError: .*render_mode"),
    (lambda render_mode: Counter(), r"counter cannot be drawn: its render\(\) returns no array"),
  ],
)
def test_what_cannot_be_drawn_is_said_in_a_line(make, message):
  with pytest.raises(ConfigError, match=message) as raised:
    film.make_drawn(Task("counter", make))
  assert "\n" not in str(raised.value)


def test_a_window_needs_a_display(monkeypatch):
  for name in ("DISPLAY", "WAYLAND_DISPLAY"):
    monkeypatch.delenv(name, raising=False)
  with pytest.raises(ConfigError, match="no display"):
    film.make_drawn(Task("counter", functools.partial(Counter)), window=True)


DRAW = """
import maac_tf, numpy as np
from maac_tf.runs import film
from maac_tf.tasks.registry import make_task
found, rate = film.frames(
  make_task("hopper", episode_steps=6), lambda x: np.zeros([len(x), 3]), seed=0
)
assert rate == 25 and len(found) == 2 and found[0].std() > 1.0 and np.any(found[0] != found[1])
"""


def test_mujoco_draws_without_a_display_beside_tensorflow():
  """In a process of its own: Mesa's LLVM and TensorFlow's may crash it."""
  try:
    ctypes.CDLL("libOSMesa.so.8")
  except OSError:
    pytest.skip("libOSMesa is not installed")
  command = [sys.executable, "-c", DRAW]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
  assert done.returncode == 0, done.stderr
