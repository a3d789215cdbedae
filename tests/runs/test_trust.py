"""Somebody else's run or policy: no code of theirs runs."""

import json
import sys
import zipfile

import gin
import pytest

from maac_tf import MAAC
from maac_tf.checks import ConfigError
from maac_tf.runs import saved_config, sealed, trust
from maac_tf.runs.experiment import restore
from tests import commands
from tests.runs.conftest import it_ran, snapshot, write_into_config

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
  write_into_config(theirs, code)
  first = (theirs / "config.gin").read_text().split(code)[0].count("\n") + 1
  for read in (
    lambda: restore(str(theirs)),
    lambda: MAAC.load(theirs),
    lambda: MAAC(run_dir=theirs),
    lambda: saved_config.load_given([], ["train.iterations = 3"], str(theirs)),
  ):
    with pytest.raises(ConfigError) as error:
      read()
    message = str(error.value)
    assert "\n" not in message and named in message.replace('"', "'"), message
    assert "--trust (trust=True in Python)" in message
    line = int(message.split("config.gin', line ")[1].split(":")[0])
    assert first <= line <= first + code.count("\n")
  assert not it_ran() and "evil" not in sys.modules


@pytest.mark.parametrize(
  "code",
  ["x = (1", "x = '", "import", "\\", "x" * 9, "= 3", "(" * 5_000, "train.task = " + "[" * 5_000,
   "x = 'a'; import evil", "import evil;", "import evil, os", "ｉmport evil", "\\\nimport evil 3",
   "x = '''\ninclude 'evil.gin'\n", "x = __import__('evil')", "x = {1: 2, **evil}",
   "train.task: 'evil:make'", "train.task = f'{__import__(\"evil\")}'"],
)  # fmt: skip
def test_what_is_no_gin_text_is_refused_too(theirs, code):
  write_into_config(theirs, code)
  with pytest.raises(ConfigError) as error:
    restore(str(theirs))
  assert "\n" not in str(error.value)
  assert not it_ran() and "evil" not in sys.modules


def test_an_include_in_a_text_is_a_text(theirs):
  write_into_config(theirs, "x = '''\ninclude 'evil.gin'\n'''")
  with pytest.raises(ConfigError):
    restore(str(theirs))
  assert not it_ran()


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
  write_into_config(theirs, "import evil")
  assert restore(str(theirs), trusted=True).env_steps == 340
  assert it_ran()


def test_an_ordinary_config_needs_no_trust(original_run):
  text = (original_run / "config.gin").read_text()
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
  write_into_config(theirs, "import evil\ntrain.task = 'evil:make'")
  before = snapshot(theirs.parent)
  code, out, err = commands.run(module, "--run_dir=run", *COMMANDS[module], cwd=theirs.parent)
  assert (code, out) == (1, "") and err.startswith("Error: 'run/config.gin', line "), err
  assert err.count("\n") == 1 and "'import evil' would run code: " in err
  assert snapshot(theirs.parent) == before


def test_a_run_of_ones_own_module_goes_on_with_its_environment_or_trust(theirs):
  for name in ("config.gin", "operative_config.gin"):
    text = (theirs / name).read_text().rpartition("# CRC")[0]
    text = text.replace("train.task = 'pendulum'", "train.task = 'evil:make'")
    (theirs / name).write_text(sealed.seal(text))
  (theirs.parent / "mine.gin").write_text("include 'task.gin'\n")
  (theirs.parent / "task.gin").write_text("train.task = 'evil:make'\n")

  def run(module, *arguments):
    arguments = module, "--run_dir=run", *arguments
    return commands.run(*arguments, cwd=theirs.parent, prepare=commands.run_eagerly)

  code, _, err = run("evaluate", "--trust", "--env=Hopper-v5")
  assert code == 1 and err == "Error: 'run' is a run of 'evil:make', not of 'Hopper-v5'.\n"
  assert not it_ran()
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
  assert not it_ran()
  code, _, err = commands.run(*evaluate, "--env=pendulum", cwd=theirs.parent)
  assert code == 0 and "was trained for evil:make, not pendulum" in err
  assert not it_ran()
  code, _, err = commands.run(*evaluate, "--trust", cwd=theirs.parent)
  assert code == 0 and it_ran(), err
