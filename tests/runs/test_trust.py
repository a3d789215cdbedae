"""Somebody else's run or policy: no code of theirs runs, and nothing outside of it is touched."""

import json
import math
import os
import pathlib
import pickle
import shutil
import sys
import zipfile
import zlib

import gin
import numpy as np
import pytest

from maac_tf import MAAC
from maac_tf.checks import ConfigError
from maac_tf.runs import pauses, run_directory, sealed, trust, version
from maac_tf.runs.experiment import restore, train
from tests import commands
from tests.conftest import BARE
from tests.learners import eagerly

EVIL = """
import pathlib
from maac_tf.tasks.registry import TASKS
pathlib.Path(__file__).with_name("it ran").touch()
make = TASKS["pendulum"]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run of an iteration on a task of the package."""
  path = tmp_path_factory.mktemp("original") / "run"
  gin.parse_config(BARE)
  with eagerly(), pytest.MonkeyPatch.context() as patch:
    patch.setattr(pauses, "SAVE_EVERY", math.inf)
    assert train(str(path), iterations=1) is None
  gin.clear_config()
  return path


@pytest.fixture
def theirs(run, tmp_path, monkeypatch):
  """A copy of it, in a working folder that has a hostile module."""
  shutil.copytree(run, tmp_path / "run")
  (tmp_path / "evil.py").write_text(EVIL)
  (tmp_path / "evil.gin").write_text("import evil\n")
  (tmp_path / "run" / "evil.gin").write_text("import evil\n")
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  yield tmp_path / "run"
  sys.modules.pop("evil", None)


def _ran():
  return os.path.exists("it ran")


def _write(run, code):
  """Puts code into the config, sealed as the run itself would."""
  text = (run / "config.gin").read_text().rpartition("# CRC")[0]
  (run / "config.gin").write_text(sealed.seal(f"{text}\n{code}\n"))


HOSTILE = {
  "import": ("import evil", "import evil"),
  "import of what is imported": ("import os", "import os"),
  "import in a folder": ("import a.evil as b", "import a.evil as b"),
  "from": ("from evil import make", "from evil import make"),
  "dynamic registration": (
    "from __gin__ import dynamic_registration\nimport os\ntrain.task = @os.getcwd()",
    "from __gin__ import dynamic_registration",
  ),
  "include": ("include 'evil.gin'", "include 'evil.gin'"),
  "include of anything": ('include   "/etc/passwd"', "include '/etc/passwd'"),
  "indented": ("  import evil", "import evil"),
  "continued": ("import \\\n  evil", "import evil"),
  "after a form feed": ("\fimport evil", "import evil"),
  "task": ("train.task = 'evil:make'", "train.task = 'evil:make'"),
  "task of this package": ("train.task = 'maac_tf.tasks.registry:make_task'", "train.task = 'maac"),
  "escaped": (r"train.task = 'evil\x3amake'", "train.task = 'evil:make'"),
  "in parts": ("train.task = 'evil' \\\n ':make'", "train.task = 'evil:make'"),
  "block": ("train:\n  seed = 1\n  task = 'evil:make'", "train.task = 'evil:make'"),
  "whole name": (
    "maac_tf.runs.experiment.train.task = 'evil:make'",
    "train.task = 'evil:make'",
  ),
  "scope": ("a/train.task = 'evil:make'", "train.task = 'evil:make'"),
  "macro": ("train.task = %x\nx = %y\ny = 'evil:make'", "train.task = %x"),
  "macro of a macro's name": (
    "train.task = %x\nx/gin.macro.value = 'evil:make'",
    "train.task = %x",
  ),
  "path": ("make_task.env_kwargs = {'xml_file': '/a.xml'}", "make_task.env_kwargs = {'xml_file'"),
  "path in a macro": ("x = ('/a',)\nmake_task.env_kwargs = {'a': [%x]}", "make_task.env_kwargs"),
  "another's function": ("Maac.critic_targets = @elsewhere()", "Maac.critic_targets = @elsewhere"),
  "scoped": ("Maac.critic_targets = (1, [@a/b.Maac])", "Maac.critic_targets = (1, [@a/b.Maac])"),
}


@gin.configurable
def elsewhere():
  """Of the program that reads the run."""
  raise AssertionError("it was called")


@pytest.mark.parametrize(("code", "named"), HOSTILE.values(), ids=HOSTILE)
def test_a_config_that_names_code_is_refused_and_runs_none(theirs, code, named):
  _write(theirs, code)
  first = (theirs / "config.gin").read_text().split(code)[0].count("\n") + 1
  for read in (
    lambda: restore(str(theirs)),
    lambda: MAAC.load(theirs),
    lambda: MAAC(run_dir=theirs),
    lambda: run_directory.load([], ["train.iterations = 3"], str(theirs)),
  ):
    with pytest.raises(ConfigError) as error:
      read()
    message = str(error.value)
    assert "\n" not in message and named in message.replace('"', "'"), message
    assert "--trust (trust=True in Python)" in message
    line = int(message.split("config.gin', line ")[1].split(":")[0])
    assert first <= line <= first + code.count("\n")
  assert not _ran() and "evil" not in sys.modules


@pytest.mark.parametrize(
  "code",
  ["x = (1", "x = '", "import", "\\", "x" * 9, "= 3", "(" * 5_000, "train.task = " + "[" * 5_000,
   "x = 'a'; import evil", "import evil;", "import evil, os", "ｉmport evil", "\\\nimport evil 3",
   "x = '''\ninclude 'evil.gin'\n", "x = __import__('evil')", "x = {1: 2, **evil}",
   "train.task: 'evil:make'", "train.task = f'{__import__(\"evil\")}'"],
)  # fmt: skip
def test_what_is_no_gin_text_is_refused_too(theirs, code):
  _write(theirs, code)
  with pytest.raises(ConfigError) as error:
    restore(str(theirs))
  assert "\n" not in str(error.value)
  assert not _ran() and "evil" not in sys.modules


def test_an_include_in_a_text_is_a_text(theirs):
  _write(theirs, "x = '''\ninclude 'evil.gin'\n'''")
  with pytest.raises(ConfigError):
    restore(str(theirs))
  assert not _ran()


def test_own_lines_and_trust_run_it(theirs):
  gin_file = "import evil\nMaac.seed = 3\n"
  given = ["import evil", gin_file, "train.task = 'evil:make'", "include 'evil.gin'"]
  text = "import evil\ntrain.task = 'evil:make'\n"
  trust.check_config("a", text, given)
  for own in (given[:2], given[2:], ["train.task = 'evil:other'", "import evil"]):
    with pytest.raises(ConfigError, match="would run code"):
      trust.check_config("a", text, own)
  with pytest.raises(ConfigError, match="include"):  # another file, seen from another folder
    trust.check_config("a", "include 'evil.gin'", given)
  _write(theirs, "import evil")
  assert restore(str(theirs), trusted=True).env_steps == 340
  assert _ran()


def test_an_ordinary_config_needs_no_trust(run):
  text = (run / "config.gin").read_text()
  assert not trust.names_code(text)
  for more in (
    "train.task = 'Hopper-v5'",
    "Maac.critic_targets = @SteveTargets()",
    "make_task.env_kwargs = {'forward_reward_weight': 2.0, 'terminate': (True, None)}",
    "x = 'a:b'",  # of no environment
  ):
    assert not trust.names_code(text + more), more


COMMANDS = {
  "train": ["--gin_param=train.iterations=2"],
  "evaluate": ["--episodes=1"],
  "export": ["--format=litert"],
  "diagnose": ["--episodes=1"],
}


@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_that_reads_a_run_refuses_it_in_one_line(theirs, module):
  """And reads it with the same --env, the same gin file, or --trust."""
  _write(theirs, "import evil\ntrain.task = 'evil:make'")
  before = _snapshot(theirs.parent)
  code, out, err = commands.run(module, "--run_dir=run", *COMMANDS[module], cwd=theirs.parent)
  assert (code, out) == (1, "") and err.startswith("Error: 'run/config.gin', line "), err
  assert err.count("\n") == 1 and "'import evil' would run code: " in err
  assert _snapshot(theirs.parent) == before


def _snapshot(folder):
  return {f: f.lstat().st_mtime_ns for f in folder.rglob("*") if "pycache" not in str(f)}


def test_a_run_of_ones_own_module_goes_on_with_its_environment_or_trust(theirs):
  for name in ("config.gin", "operative_config.gin"):
    text = (theirs / name).read_text().rpartition("# CRC")[0]
    text = text.replace("train.task = 'pendulum'", "train.task = 'evil:make'")
    (theirs / name).write_text(sealed.seal(text))
  (theirs.parent / "mine.gin").write_text("include 'task.gin'\n")
  (theirs.parent / "task.gin").write_text("train.task = 'evil:make'\n")

  def run(module, *arguments):
    return commands.run(module, "--run_dir=run", *arguments, cwd=theirs.parent)

  code, _, err = run("evaluate", "--trust", "--env=Hopper-v5")
  assert code == 1 and err == "Error: 'run' is a run of 'evil:make', not of 'Hopper-v5'.\n"
  assert not _ran()
  for own in ("--env=evil:make", "--gin_file=mine.gin", "--trust"):
    code, _, err = run("evaluate", "--episodes=1", own)
    assert (code, err) == (0, ""), err
  longer = "--gin_param=train.iterations=2"
  code, _, err = run("train", "--env=Pendulum-v1", longer)
  assert code == 1 and "'train.task = 'evil:make''" in err.replace('"', "'")
  code, out, err = run("train", "--env=evil:make", longer)
  assert code == 0 and "Resuming run" in out, err


def test_a_policys_file_that_names_code_is_refused(theirs):
  """In each format; a SavedModel's is a text, as that of the others."""
  about = json.dumps({"task": "evil:make"})
  code, _, err = commands.run("export", "--run_dir=run", "--format=litert", cwd=theirs.parent)
  assert code == 0, err
  with zipfile.ZipFile(theirs / "policy.tflite", "a") as archive:
    archive.writestr("metadata.json", about)  # the last one counts
  evaluate = "evaluate", "--policy=run/policy.tflite", "--episodes=1"
  code, out, err = commands.run(*evaluate, cwd=theirs.parent)
  assert (
    code == 1
    and out == ""
    and err.startswith("Error: 'run/policy.tflite' is of 'evil:make', which would run code: ")
  )
  assert not _ran()
  code, _, err = commands.run(*evaluate, "--env=pendulum", cwd=theirs.parent)
  assert code == 0 and "was trained for evil:make, not pendulum" in err
  assert not _ran()
  code, _, err = commands.run(*evaluate, "--trust", cwd=theirs.parent)
  assert code == 0 and _ran(), err


def _link_to_file(place, target):
  place.unlink(missing_ok=True)
  place.symlink_to(target / "precious")


def _link_to_folder(place, target):
  shutil.rmtree(place, ignore_errors=True)
  place.symlink_to(target)


LINKS = {
  "metrics.csv": _link_to_file,
  "config.gin": _link_to_file,
  "steps.bin": _link_to_file,
  "version.json": _link_to_file,
  "curve.png": _link_to_file,
  ".curve.png": _link_to_file,
  ".metrics.csv": _link_to_file,
  ".events": _link_to_file,
  ".lock": _link_to_file,
  "unused_steps.bin": _link_to_file,
  "diagnosis.png": _link_to_file,
  "events.out.tfevents.1.film": _link_to_file,
  "checkpoints/1/state.json": _link_to_file,
  "checkpoints": _link_to_folder,
  "checkpoints/1": _link_to_folder,
  "checkpoints/.new": _link_to_folder,
  "policy": _link_to_folder,
  ".policy": _link_to_folder,
  ".old-policy": _link_to_folder,
  "policy_last/variables": _link_to_folder,
  "policy_saved_model": lambda place, target: place.symlink_to(target / "new"),
  "pipe": lambda place, _: os.mkfifo(place),
}


@pytest.mark.parametrize(("name", "make"), LINKS.items(), ids=LINKS)
def test_a_link_in_a_run_is_refused(theirs, tmp_path, name, make):
  target = tmp_path / "target"
  target.mkdir()
  (target / "precious").write_text("a year of work")
  make(theirs / name, target)
  before = _snapshot(tmp_path)
  gin.parse_config(BARE)
  for use in (
    lambda: train(str(theirs), iterations=2),
    lambda: restore(str(theirs)),
    lambda: MAAC.load(theirs),
    lambda: MAAC(run_dir=theirs, gin_files="gin/pendulum.gin"),
  ):
    with pytest.raises(ConfigError, match=f"{name}' is (a link|no plain file)"):
      use()
  assert _snapshot(tmp_path) == before


def test_the_run_itself_may_be_a_link(theirs, tmp_path):
  (tmp_path / "link").symlink_to(theirs)
  assert restore(str(tmp_path / "link")).env_steps == 340


def _states(run, change):
  """Changes the newest checkpoint, with the checksums that it should then have."""
  folder = run / "checkpoints" / "1"
  state = json.loads((folder / "state.json").read_text())
  sums = json.loads((folder / "checksums.json").read_text())
  change(state, sums)
  text = json.dumps(state)
  (folder / "state.json").write_text(text)
  (folder / "checksums.json").write_text(
    json.dumps(sums | {"state.json": zlib.crc32(text.encode())})
  )


STATES = {
  "a file above": lambda state, sums: sums.update({"../../../precious": 0}),
  "a file in a folder": lambda state, sums: sums.update({"a/b": 0}),
  "a whole path": lambda state, sums: sums.update({"/etc/passwd": 0}),
  "the folder": lambda state, sums: sums.update({"": 0}),
  "the folder above": lambda state, sums: sums.update({"..": 0}),
  "no texts": lambda state, sums: state.update(texts={}),
  "other texts": lambda state, sums: state.update(texts=[1, 2]),
  "a text that is none": lambda state, sums: state["texts"].update({"metrics.csv": 3}),
  "no number of steps": lambda state, sums: state.update(env_steps="340"),
  "steps below zero": lambda state, sums: state.update(env_steps=-1),
}


@pytest.mark.parametrize("change", STATES.values(), ids=STATES)
def test_a_state_that_names_other_files_is_damaged(theirs, change):
  _states(theirs, change)
  with pytest.raises(ConfigError, match="No checkpoint in .* is whole") as error:
    restore(str(theirs))
  assert "\n" not in str(error.value)


class _Evil:
  def __reduce__(self):
    return open, ("it ran", "w")


def _pickled(columns):
  np.savez("new.npz", **(columns | {"reward": np.array([_Evil()], dtype=object)}))


@pytest.mark.parametrize(
  "write",
  [_pickled, lambda columns: np.savez("new.npz", reward=columns["reward"]),
   lambda columns: pathlib.Path("new.npz").write_bytes(pickle.dumps(_Evil())),
   lambda columns: pathlib.Path("new.npz").write_bytes(b"PK\3\4 no archive")],
  ids=["a pickle", "a column alone", "a pickle alone", "no archive"],
)  # fmt: skip
def test_numbers_that_are_a_program_are_refused(theirs, write):
  folder = theirs / "checkpoints" / "1"
  with np.load(folder / "d_model.npz") as columns:
    write(dict(columns))
  shutil.move("new.npz", folder / "d_model.npz")
  pathlib.Path("it ran").unlink(missing_ok=True)  # to write it is no proof
  checksum = zlib.crc32((folder / "d_model.npz").read_bytes())
  _states(theirs, lambda state, sums: sums.update({"d_model.npz": checksum}))
  with pytest.raises(ConfigError, match="is of other networks than"):
    restore(str(theirs))
  assert not _ran()


@pytest.mark.parametrize(
  "text", ["env_steps\n", "env_steps,x\n1,2\n", "env_steps,seconds/total\nmany,1\n"]
)
def test_rows_that_are_none_are_one_line(theirs, text):
  _states(theirs, lambda state, sums: state["texts"].update({"metrics.csv": text}))
  (theirs / "version.json").write_text('{"maac_tf": "\\u001b[2J", "resumed_by": 5}')
  gin.parse_config(BARE)
  if "," not in text:  # no row is as good as none yet
    assert train(str(theirs), iterations=1) is None
    assert version.describe(str(theirs)).startswith("maac_tf of an unknown version, commit ")
    return
  with pytest.raises(ConfigError, match="The rows that a checkpoint has of .* are none"):
    train(str(theirs), iterations=1)


def test_the_copy_of_a_config_is_no_better_than_the_config(theirs):
  text = sealed.seal("import evil\n")
  _states(theirs, lambda state, sums: state["texts"].update({"config.gin": text}))
  (theirs / "config.gin").write_text("damaged")
  with pytest.raises(ConfigError, match="'import evil' would run code"):
    restore(str(theirs))
  assert not _ran()


def test_what_only_reads_curves_runs_nothing_and_writes_through_no_link(theirs, tmp_path):
  _write(theirs, "import evil")
  runs = tmp_path / "runs" / "pendulum"
  runs.mkdir(parents=True)
  theirs.rename(runs / "theirs-0")
  code, _, err = commands.run("plot", "runs", cwd=tmp_path)
  assert (code, err) == (0, ""), err
  report = "suite", "--notrain", "--run_dir=runs"
  (tmp_path / "precious").write_text("a year of work")
  (tmp_path / "runs" / "suite.csv").symlink_to(tmp_path / "precious")
  code, _, err = commands.run(*report, cwd=tmp_path)
  assert code == 1 and err.startswith("Error: 'runs/suite.csv' is a link"), err
  (tmp_path / "runs" / "suite.csv").unlink()
  code, _, err = commands.run(*report, cwd=tmp_path)
  assert (code, err) == (0, ""), err
  assert (tmp_path / "precious").read_text() == "a year of work" and not _ran()
