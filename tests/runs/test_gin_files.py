"""Where gin files are found, in a checkout and in an installed package, and how they are read."""

import os
import subprocess
import sys

import gin
import pytest

import maac_tf
from maac_tf.checks import ConfigError
from maac_tf.runs import config
from maac_tf.runs.gin_files import find_gin_file, gin_root
from tests.commands import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  """The folder that a wheel's files go to, as setup.py fills it."""
  folder = tmp_path_factory.mktemp("site-packages")
  command = [sys.executable, "setup.py", "--quiet", "build_py", f"--build-lib={folder}"]
  subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
  return folder


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
  """The working folder, an empty one."""
  folder = tmp_path / "an empty folder"
  folder.mkdir()
  monkeypatch.chdir(folder)
  return folder


def _files(folder):
  return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*.gin")}


def test_an_installed_package_has_the_gin_files_inside(installed, elsewhere, monkeypatch):
  """All of them and nowhere else: site-packages/gin is another package."""
  assert os.listdir(installed) == ["maac_tf"]
  assert _files(installed / "maac_tf" / "gin") == _files(ROOT / "gin")
  policies = {p.relative_to(ROOT) for p in ROOT.glob("maac_tf/policies/**/*") if p.is_file()}
  assert policies and all((installed / policy).is_file() for policy in policies)
  monkeypatch.setattr(maac_tf, "__file__", str(installed / "maac_tf" / "__init__.py"))
  assert gin_root() == str(installed / "maac_tf")
  config.load(["gin/paper/hopper.gin", "gin/paper/sac.gin"])  # the first includes another
  assert gin.query_parameter("train.task") == "hopper"
  assert gin.query_parameter("ActorCritic.ema_decay") == 0.0  # of the included file
  assert gin.query_parameter("Maac.horizon") == 0


def test_a_checkout_has_them_from_every_folder(elsewhere):
  assert gin_root() == str(ROOT)
  assert find_gin_file("gin/pendulum.gin") == str(ROOT / "gin" / "pendulum.gin")
  config.load(["gin/pendulum.gin"])
  assert gin.query_parameter("train.task") == "pendulum"


def test_a_file_of_the_working_folder_wins(elsewhere):
  (elsewhere / "gin").mkdir()
  (elsewhere / "gin" / "pendulum.gin").write_text("train.task = 'hopper'")
  config.load(["gin/pendulum.gin"])
  assert gin.query_parameter("train.task") == "hopper"


def test_a_file_of_the_users_may_include_one_of_the_package(elsewhere):
  (elsewhere / "mine").mkdir()
  (elsewhere / "mine" / "own.gin").write_text("include 'gin/hopper.gin'\nMaac.horizon = 2")
  config.load(["mine/own.gin"])
  assert gin.query_parameter("train.task") == "hopper"


@pytest.mark.parametrize(
  ("path", "meant"),
  [
    ("gin/pendulm.gin", "'gin/pendulum.gin'"),
    ("pendulum.gin", "'gin/pendulum.gin'"),
    ("gin/paper/hoper.gin", "'gin/paper/hopper.gin'"),
    ("mine.gim", "'mine.gin'"),
  ],
)
def test_what_may_have_been_meant(elsewhere, path, meant):
  (elsewhere / "mine.gin").write_text("")
  with pytest.raises(ConfigError, match=f"^There is no gin file '{path}'. Did you mean {meant}?"):
    find_gin_file(path)


def test_only_paths_in_gin_are_looked_for_in_the_package(elsewhere):
  for path in ("setup.py", "gin/../setup.py", "examples/own_critic_target.gin"):
    assert (ROOT / path).exists()
    with pytest.raises(ConfigError, match="There is no gin file"):
      find_gin_file(path)


TEXT = "# γ\ntrain.task = 'hopper'\nMaac.horizon = 2\n"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_of_another_editor_is_read(elsewhere, line_end, encoding):
  """With a byte order mark, or the line ends of Windows."""
  (elsewhere / "mine.gin").write_bytes(TEXT.replace("\n", line_end).encode(encoding))
  config.load(["mine.gin"])
  assert gin.query_parameter("Maac.horizon") == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_a_file_of_another_encoding_is_refused(elsewhere, encoding):
  (elsewhere / "mine.gin").write_bytes(TEXT.replace("γ", "é").encode(encoding))
  with pytest.raises(ConfigError, match="^'mine.gin' is not UTF-8 text: save it as UTF-8"):
    config.load(["mine.gin"])
