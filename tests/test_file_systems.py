"""Disks that are full, read-only or unreadable, odd paths and streams: one line each, everywhere.

What a file system does is not played: a small one is mounted, where this machine lets us.
"""

import contextlib
import itertools
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

import gin
import numpy as np
import pytest

from maac_tf import MAAC, ConfigError, benchmark, files, load_policy
from maac_tf.algorithm.evaluator import Evaluator
from maac_tf.algorithm.learner import Maac
from maac_tf.analysis.timing import Row
from maac_tf.data.step_log import StepLog
from maac_tf.runs import checkpoints, film, pauses, plotting, runtimes, saved_model
from maac_tf.runs.experiment import train
from maac_tf.runs.metrics import Metrics
from tests import commands
from tests.conftest import BARE
from tests.learners import eagerly


class Disk:
  """A file system of its own."""

  def __init__(self, path, size="6m"):
    path.mkdir()
    self.path = path
    self._mount("-t", "tmpfs", "-o", f"size={size}", "none")

  def fill(self):
    with contextlib.suppress(OSError), open(self.path / "filling", "ab", buffering=0) as file:
      while True:
        file.write(bytes(4_096))

  def free(self):
    (self.path / "filling").unlink()

  def make_read_only(self):
    self._mount("-o", "remount,ro")

  def _mount(self, *arguments):
    done = subprocess.run(["mount", *arguments, str(self.path)], capture_output=True, text=True)
    if done.returncode:
      pytest.skip(f"No file system can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
  yield Disk(tmp_path / "disk")
  subprocess.run(["umount", "--lazy", str(tmp_path / "disk")], check=True)


@contextlib.contextmanager
def _without_learning():
  """A training is what it writes."""
  row = {"eval/return": -1.0, "eval/return_std": 0.0, "eval/length": 50.0}
  # Critics that learned nothing have no correlation with returns, which are not known soon enough.
  gin.parse_config([*BARE, "Maac.discount = 0.995"])
  with eagerly(), pytest.MonkeyPatch.context() as patch:
    patch.setattr(pauses, "SAVE_EVERY", math.inf)
    patch.setattr(Maac, "train", lambda *_: {"critic/loss": 1.0})
    patch.setattr(Evaluator, "evaluate", lambda self: row)
    patch.setattr(Evaluator, "evaluate_again", lambda self: np.array([-1.0]))
    yield
  gin.clear_config()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
  """A run of an iteration."""
  path = tmp_path_factory.mktemp("original") / "run"
  with _without_learning():
    assert train(str(path), iterations=1) is None
  return path


@pytest.fixture
def run(original, tmp_path):
  return shutil.copytree(original, tmp_path / "run")


def _one_line(result, *words):
  code, _, err = result
  assert code == 1, (code, err)
  assert err.startswith("Error: ") and err.count("\n") == 1, err
  for word in words:
    assert word in err, err
  return err


FULL = "No space left on device: make room there"
PLACES = {
  "a step": (StepLog, "append"),
  "a row": (Metrics, "log"),
  "events": (Metrics, "log_events"),
  "a policy": (saved_model, "save_policy"),
  "the curve": (plotting, "plot_run"),
  "a checkpoint": (checkpoints, "save"),
}


@pytest.mark.parametrize(("owner", "name"), PLACES.values(), ids=PLACES)
def test_a_training_whose_disk_is_full_says_so_and_goes_on(disk, monkeypatch, owner, name):
  """At any of its writes."""

  def save_policy(learner, path, *_):
    os.makedirs(path)
    (pathlib.Path(path) / "saved_model.pb").write_bytes(bytes(10_000))

  def plot_run(metrics, path):
    pathlib.Path(path).write_bytes(bytes(10_000))

  monkeypatch.setattr(saved_model, "save_policy", save_policy)
  monkeypatch.setattr(plotting, "plot_run", plot_run)
  write, run = getattr(owner, name), disk.path / "run"

  def full(*arguments, **named):
    disk.fill()
    return write(*arguments, **named)

  with _without_learning():
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ConfigError) as error:
      patch.setattr(owner, name, full)
      train(str(run), iterations=1)
    assert str(error.value).splitlines()[0].endswith(f"cannot be written: {FULL}.")
    (note,) = error.value.__notes__
    assert re.match(r"Saved are all \d+ real steps, in .*, and no checkpoint yet", note)
    disk.free()  # nothing but room was lacking
    assert train(str(run), iterations=1) is None
  steps = (run / "metrics.csv").read_text().splitlines()
  assert [line.split(",")[0] for line in steps] == ["env_steps", "340"]
  assert not [file for file in os.listdir(run) if file.startswith("damaged")]


def test_the_command_of_a_full_disk_is_one_line_and_what_it_names_goes_on(tmp_path, disk):
  def run(*arguments):
    return commands.run("train", *arguments, cwd=tmp_path, prepare=commands.run_eagerly)

  begin = [f"--gin_param={b}" for b in (*BARE, "train.iterations=1")]
  begin += [f"--run_dir={disk.path / 'run'}"]
  disk.fill()
  _one_line(run(*begin), "GiB of disk, and 0 GiB are free in", "give a --run_dir elsewhere")
  disk.free()
  with open(disk.path / "filling", "wb") as file:  # room for steps, not for a policy
    file.write(bytes(6_000_000))
  err = _one_line(run(*begin), FULL)
  assert "Saved are all 3" in err
  disk.free()
  (arguments,) = re.findall(r"Resume with: .* -m maac_tf.train (.*)\n", err)
  code, out, err = run(*arguments.split())
  assert code == 0 and "Finished" in out, err


OUTPUTS = {
  "a SavedModel": ("export", "--run_dir=run", "--out=DISK/policy"),
  "LiteRT": ("export", "--run_dir=run", "--format=litert", "--out=DISK/policy.tflite"),
  "ONNX": ("export", "--run_dir=run", "--format=onnx", "--out=DISK/policy.onnx"),
  "curves": ("plot", "run", "--out=DISK/curves"),
  "a report": ("suite", "--notrain", "--run_dir=DISK/suite"),
  "a diagnosis": ("diagnose", "--run_dir=DISK/run", "--episodes=1"),
}


@pytest.mark.parametrize("arguments", OUTPUTS.values(), ids=OUTPUTS)
def test_what_commands_write_to_a_full_disk(run, disk, tmp_path, arguments):
  shutil.copytree(run, disk.path / "run")
  (disk.path / "suite" / "pendulum" / "default-0").mkdir(parents=True)
  shutil.copy(run / "metrics.csv", disk.path / "suite" / "pendulum" / "default-0")
  before = {*os.listdir(disk.path)}
  disk.fill()
  arguments = [a.replace("DISK", str(disk.path)) for a in arguments]
  _one_line(commands.run(*arguments, cwd=tmp_path), f"'{disk.path}/", f"written: {FULL}")
  if "export" in arguments:  # what is not whole would be in the way
    assert {*os.listdir(disk.path)} - {"filling"} == before


def _frames():
  return [np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8) for i in range(20)]


FILES = {
  "a video": ("mp4", lambda path: film.write_video(path, _frames(), 25)),
  "a sheet": ("png", lambda path: film.write_sheet(path, _frames())),
  "the images of a run": (
    "",
    lambda path: film.write_to_tensorboard(os.path.dirname(path), _frames(), 25, 0),
  ),
  "a benchmark": ("csv", lambda path: benchmark._write(path, [Row("a", "b", 1.0, "ms")] * 9, {})),
}


@pytest.mark.parametrize(("kind", "write"), FILES.values(), ids=FILES)
def test_what_takes_long_is_written_or_says_so(disk, tmp_path, kind, write):
  paths = [disk.path / f"file.{kind}"]
  if kind:
    (tmp_path / "file").touch()
    paths += [tmp_path / "nowhere" / f"file.{kind}", tmp_path / "file" / f"file.{kind}"]
  disk.fill()
  for path in paths:
    with pytest.raises(ConfigError, match="cannot be written: (No|Not) ") as error:
      write(str(path))
    assert "\n" not in str(error.value)


READ_ONLY = {
  "a run that goes on": ("train", "--run_dir=DISK/run", "--gin_param=train.iterations=2"),
  "export": ("export", "--run_dir=DISK/run", "--format=litert"),
  "plot": ("plot", "DISK/run", "--out=DISK/curves"),
}


def test_a_disk_that_is_read_only_is_read(run, disk, tmp_path):
  shutil.copytree(run, disk.path / "run")
  disk.make_read_only()
  for name, arguments in READ_ONLY.items():
    arguments = [a.replace("DISK", str(disk.path)) for a in arguments]
    err = _one_line(commands.run(*arguments, cwd=tmp_path), "ead-only file system")
    assert "give another" in err, (name, err)
  code, out, err = commands.run("evaluate", f"--run_dir={disk.path}/run", "--episodes=1", cwd=".")
  assert code == 0 and out.startswith("policy: return "), err


UNREADABLE = {
  "the run": (".", "evaluate"),
  "its config": ("config.gin", "evaluate"),
  "its steps": ("steps.bin", "evaluate"),
  "a checkpoint": ("checkpoints/1/state.json", "diagnose"),
  "its curve": ("metrics.csv", "plot"),
}


def test_what_cannot_be_read(run, tmp_path):
  for name, (path, module) in UNREADABLE.items():
    (run / path).chmod(0)
    argument = "run" if module == "plot" else "--run_dir=run"
    code, out, err = commands.run(module, argument, cwd=tmp_path, prepare=commands.obey_permissions)
    (run / path).chmod(0o755)
    if code == 0:
      pytest.skip("Permissions do not hold for this user.")
    assert code == 1 and err.startswith("Error: ") and err.count("\n") == 1, (name, err)
    assert "Permission denied" in out + err or name == "the run", (name, err)
  assert not [file for file in os.listdir(run) if file.startswith("damaged")]


REMOTE = {
  "train": ("train", "--gin_file=gin/pendulum.gin", "--run_dir=gs://bucket/run"),
  "a gin file": ("train", "--gin_file=gs://bucket/own.gin"),
  "evaluate": ("evaluate", "--policy=gs://bucket/policy"),
  "export": ("export", "--run_dir=run", "--out=s3://bucket/policy"),
  "plot": ("plot", "MAAC=gs://bucket/runs"),
  "suite": ("suite", "--run_dir=hdfs://host/runs"),
  "gradient_error": ("gradient_error", "--out=http://host/path"),
}


def test_a_path_of_another_machine_is_refused(run, tmp_path):
  for arguments in REMOTE.values():
    _one_line(commands.run(*arguments, cwd=tmp_path), "://", "is not of this machine")
  assert os.listdir(tmp_path) == ["run"]
  for use in (
    lambda: MAAC("pendulum", run_dir="gs://bucket/run"),
    lambda: MAAC.load("gs://bucket/run"),
    lambda: load_policy("gs://bucket/policy"),
  ):
    with pytest.raises(ConfigError, match="is not of this machine: give a local path"):
      use()


@pytest.mark.parametrize("prefix", ["file://", "file://localhost", "FILE://", "~"])
def test_a_path_of_this_machine_in_other_words(run, monkeypatch, prefix):
  monkeypatch.setenv("HOME", "/")
  path = f"{prefix}{run}"
  assert files.local(path) == str(run)
  assert load_policy(f"{path}/policy").predict(np.zeros(3))[0].shape == (1,)


def test_a_file_in_the_place_of_a_folder(run, tmp_path):
  (tmp_path / "file").touch()
  for arguments in (
    ("train", *[f"--gin_param={b}" for b in BARE], "--run_dir=file/run"),
    ("export", "--run_dir=run", "--out=file/policy"),
    ("plot", "run", "--out=file/curves"),
    ("gradient_error", "--out=file/study"),
  ):
    _one_line(commands.run(*arguments, cwd=tmp_path))
  assert (tmp_path / "file").read_bytes() == b""


def _half(data):
  return data[: len(data) // 2]


DAMAGES = {"empty": lambda _: b"", "binary": lambda _: b"\x80\x04\x95", "half": _half}


def test_half_a_policy(run, tmp_path):
  agent = MAAC.load(run)
  agent.export(tmp_path / "policy.tflite")
  agent.export(tmp_path / "policy.onnx")
  parts = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
  for path, file in (
    *(("run/policy", f"run/policy/{part}") for part in parts),
    ("policy.tflite", "policy.tflite"),
    ("policy.onnx", "policy.onnx"),
  ):
    whole = (tmp_path / file).read_bytes()
    for (name, damage), load in itertools.product(DAMAGES.items(), (runtimes.load, load_policy)):
      (tmp_path / file).write_bytes(damage(whole))
      with pytest.raises(ConfigError, match=r"cannot be loaded \(|There is no|none of") as error:
        load(str(tmp_path / path))
      assert "\n" not in str(error.value), (file, name)
    (tmp_path / file).write_bytes(whole)
    assert load_policy(tmp_path / path).predict(np.zeros(3), deterministic=True)[0].shape == (1,)


@pytest.mark.parametrize("prepare", [commands.full_stdout, commands.gone_reader])
def test_a_stream_that_takes_nothing_ends_no_command(run, tmp_path, prepare):
  for arguments in (
    ("plot", "run"),
    ("suite", "--notrain", "--run_dir=."),
    ("plot", "--help"),
  ):
    code, _, err = commands.run(*arguments, cwd=tmp_path, prepare=prepare)
    assert code in (0, 1) and err == "", (arguments, err)
    assert code == int("--help" in arguments)
  assert (tmp_path / "curves.png").stat().st_size > 1_000


def test_closed_streams_of_another_command(run, tmp_path):
  command = f"{sys.executable} -m maac_tf.plot run --out=closed <&- >&- 2>&-"
  environment = os.environ | {"PYTHONPATH": str(commands.ROOT)}
  done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True)
  assert done.returncode == 0 and done.stderr == b"", done.stderr
  assert (tmp_path / "closed.png").stat().st_size > 1_000
