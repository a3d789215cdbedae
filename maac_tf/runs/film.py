"""What an episode looks like: a window, a video, a sheet of pictures."""

import ctypes
import io
import itertools
import os
import shutil
import tempfile
from collections.abc import Sequence

import mujoco
import numpy as np
import tensorflow as tf
from gymnasium.envs.mujoco import MujocoEnv
from PIL import Image

from maac_tf import files
from maac_tf.checks import ConfigError
from maac_tf.runs import runtimes
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.episodes import Act, run_episodes
from maac_tf.tasks.task import Task

SHEET_COLUMNS, SHEET_ROWS = 4, 2
FRAMES_PER_SECOND = 25
GIF_FRAMES = 60
SMALL_WIDTH = 240  # of pictures in a sheet, or for TensorBoard


def make_drawn(task: Task, window: bool = False) -> Environment:
  """An environment of the task that draws itself, in a window or into arrays.

  MUJOCO_GL chooses how MuJoCo draws; unset, it is set to what there is.

  Raises:
    ConfigError: when it cannot.
  """
  display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
  if window and not display:
    raise ConfigError("There is no display for a window: leave out --render, or give --video.")
  try:
    environment = task.make_environment(render_mode="human" if window else "rgb_array")
    robot = environment.env.unwrapped
    if isinstance(robot, MujocoEnv):
      _prepare_opengl(display)
      # The default camera stays where it is, and the robot leaves the picture.
      track = mujoco.mj_name2id(robot.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
      robot.mujoco_renderer.camera_id = track
    environment.reset(0)
    drawn = window or isinstance(environment.env.render(), np.ndarray)
  except ConfigError:
    raise
  except Exception as error:  # whatever a simulator or its OpenGL raises
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    raise ConfigError(f"{task.name} cannot be drawn: {reason}") from error
  if not drawn:
    raise ConfigError(f"{task.name} cannot be drawn: its render() returns no array.")
  return environment


def _prepare_opengl(display: bool) -> None:
  """Without a display, MuJoCo is to draw by OSMesa or else by EGL, whichever there is.

  Mesa's fast software renderer needs its own LLVM, and crashes when it finds TensorFlow's: OSMesa
  can be told to look at its own first; for the others there is a slow renderer without LLVM.
  """
  wanted = os.environ.get("MUJOCO_GL")
  if wanted == "osmesa" or not (wanted or display):
    try:
      ctypes.CDLL("libOSMesa.so.8", mode=os.RTLD_NOW | os.RTLD_GLOBAL | os.RTLD_DEEPBIND)
      os.environ["MUJOCO_GL"] = "osmesa"
      return
    except OSError:
      pass
  if not (wanted or display):
    try:
      ctypes.CDLL("libEGL.so.1")
    except OSError as error:
      raise ConfigError(
        "There is no display, and neither libOSMesa nor libEGL to draw without one: install "
        "Debian's package libosmesa6."
      ) from error
    os.environ["MUJOCO_GL"] = "egl"
  os.environ.setdefault("GALLIUM_DRIVER", "softpipe")  # where no GPU draws


def frames(task: Task, act: Act, seed: int) -> tuple[list[np.ndarray], int]:
  """Frames [height, width, 3] uint8 of one episode, and how many are a second: about 25.

  Args:
    act: observations [N, S] -> actions [N, A] in [-1, 1].
    seed: of its start.

  Raises:
    ConfigError: when the task cannot be drawn.
  """
  environment, found, step = make_drawn(task), list[np.ndarray](), itertools.count()
  per_second = environment.env.metadata.get("render_fps") or FRAMES_PER_SECOND
  every = max(1, round(per_second / FRAMES_PER_SECOND))

  def draw(*_: object) -> None:
    if next(step) % every == 0:
      frame = environment.env.render()
      assert isinstance(frame, np.ndarray), "as make_drawn saw"
      found.append(frame)

  run_episodes(task, act, [seed], draw, environment)
  environment.close()
  return found, round(per_second / every)


def write_video(path: str, found: Sequence[np.ndarray], rate: int) -> None:
  """Writes a video; raises ConfigError when it cannot."""
  ffmpeg = runtimes.require("imageio_ffmpeg")
  height, width = found[0].shape[:2]
  with tempfile.TemporaryDirectory() as folder:
    made = os.path.join(folder, os.path.basename(path))  # which says the kind of video
    try:
      writer = ffmpeg.write_frames(made, (width, height), fps=rate, macro_block_size=2)
      writer.send(None)
      for frame in found:
        writer.send(np.ascontiguousarray(frame))
      writer.close()
    except OSError as error:
      reason = next((line for line in str(error).splitlines()[::-1] if line.strip()), repr(error))
      raise ConfigError(f"The video {path!r} cannot be made: {reason.strip()}") from error
    with files.using(path):  # not by ffmpeg, which says nothing where it cannot
      shutil.copyfile(made, path)


def write_sheet(path: str, found: Sequence[np.ndarray]) -> None:
  """Writes a picture of frames at equal intervals, in the order of reading."""
  images = _small(found, SHEET_COLUMNS * SHEET_ROWS)
  width, height = images[0].size
  sheet = Image.new("RGB", (SHEET_COLUMNS * width, SHEET_ROWS * height))
  for i, image in enumerate(images):
    sheet.paste(image, (i % SHEET_COLUMNS * width, i // SHEET_COLUMNS * height))
  try:
    with files.using(path):
      sheet.save(path)
  except ValueError as error:  # of the name's end
    raise ConfigError(f"The picture {path!r} cannot be written: {error}") from error


def write_to_tensorboard(run_dir: str, found: Sequence[np.ndarray], rate: int, step: int) -> None:
  """Adds a moving picture (GIF) to the images of a run, at an environment step."""
  data = io.BytesIO()
  first, *others = _small(found, min(GIF_FRAMES, len(found)))
  length = 1_000 * len(found) / rate / (1 + len(others))  # ms a picture: as fast as it was
  first.save(data, "gif", save_all=True, append_images=others, duration=length, loop=0)
  size = [str(x).encode() for x in first.size]
  metadata = tf.compat.v1.SummaryMetadata()
  metadata.plugin_data.plugin_name = "images"
  with files.using(run_dir):
    with tf.summary.create_file_writer(run_dir, filename_suffix=".film").as_default(step=step):
      tf.summary.write("policy", tf.constant([*size, data.getvalue()]), metadata=metadata)


def _small(found: Sequence[np.ndarray], count: int) -> list[Image.Image]:
  """So many of the frames, at equal intervals; one may come twice."""
  height, width = found[0].shape[:2]
  at = np.linspace(0, len(found) - 1, count).round().astype(int)
  size = SMALL_WIDTH, SMALL_WIDTH * height // width
  return [Image.fromarray(found[i]).resize(size) for i in at]
