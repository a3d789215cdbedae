"""The commands as a user runs them, each in a process of its own."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from tests import commands
from tests.commands import ROOT
from tests.conftest import TINY
from tests.learners import ROLLOUT

PENDULUM = f"--gin_file={ROOT / 'gin' / 'pendulum.gin'}"
PARAMS = [f"--gin_param={p}" for p in TINY]
SHORT = [*PARAMS, "--gin_param=Maac.horizon=1", "--gin_param=Critic.num_critics=2"]


def _rows(run):
  with open(run / "metrics.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  return [{k: v for k, v in row.items() if not k.startswith("seconds/")} for row in rows]


def _newest(run):
  return max((run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))


def _checkpoint(run):
  reader = tf.train.load_checkpoint(str(_newest(run) / "variables"))
  names = [n for n in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in n]
  with np.load(_newest(run) / "d_model.npz") as d_model:
    return {name: reader.get_tensor(name) for name in names} | dict(d_model)


def _wait_for(condition, process):
  deadline = time.monotonic() + 240
  while not condition():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.02)


def test_a_killed_run_resumes_bit_for_bit(tmp_path):
  """3 iterations in one go, or killed by -9 after the first and resumed: equal to the last bit."""
  three = "--gin_param=train.iterations=3", "--threads=1"
  small = [f"--gin_param={p}" for p in ROLLOUT]
  arguments = [PENDULUM, *PARAMS, *small, *three, "--seed=5"]
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  process = commands.start("train", *arguments, f"--run_dir={killed}", cwd=tmp_path)
  _wait_for(lambda: any((killed / "checkpoints").glob("[0-9]*")), process)
  process.kill()
  process.communicate()
  assert not (killed / "metrics.csv").exists() or len(_rows(killed)) < 3
  code, out, err = commands.run("train", f"--run_dir={killed}", *three, cwd=tmp_path)
  assert code == 0, err
  assert "Resuming" in out and "Finished" in out
  code, _, err = commands.run("train", *arguments, f"--run_dir={whole}", cwd=tmp_path)
  assert code == 0 and err == "", err
  assert _rows(whole) == _rows(killed) and len(_rows(whole)) == 3
  want, got = _checkpoint(whole), _checkpoint(killed)
  assert want.keys() == got.keys() and len(want) > 50
  for name, value in want.items():
    np.testing.assert_array_equal(got[name], value, err_msg=name)
  assert (whole / "steps.bin").read_bytes() == (killed / "steps.bin").read_bytes()


def test_a_signal_saves_and_says_how_to_resume(tmp_path):
  """Ctrl-C; that SIGTERM does the same is seen where the suite passes it on.

  In a shell that is set up for other work, and in a folder that needs quotes.
  """
  run, number = tmp_path / "it's a run", signal.SIGINT
  arguments = [PENDULUM, *SHORT, "--gin_param=train.iterations=100000", f"--run_dir={run}"]
  environment = {"KERAS_BACKEND": "jax", "PYTHONIOENCODING": "ascii"}
  process = commands.start("train", *arguments, cwd=tmp_path, environment=environment)
  _wait_for((run / "metrics.csv").exists, process)
  process.send_signal(number)
  out, err = process.communicate(timeout=120)
  assert process.returncode == 128 + number, err
  assert err.startswith("Warning: KERAS_BACKEND=jax has no effect: maac_tf runs on TensorFlow.\n")
  assert r" \xb1 " in out
  (command,) = re.findall("Resume with: (.*)", out)
  python, *module, argument = shlex.split(command)
  assert shutil.which(python) == sys.executable and module == ["-m", "maac_tf.train"]
  assert argument == f"--run_dir={run}"
  rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
  state = json.loads((_newest(run) / "state.json").read_text())
  assert state["env_steps"] in (int(rows[-1][0]), int(rows[-1][0]) + 40)
  assert (run / "policy" / "saved_model.pb").exists()


def test_locomotion_leaves_no_litter_and_the_policy_runs_without_this_package(tmp_path):
  arguments = [f"--gin_file={ROOT / 'gin' / 'half_cheetah.gin'}", *SHORT]
  arguments += ["--gin_param=train.iterations=1", "--run_dir=run", "--deterministic"]
  process = commands.start("train", *arguments, cwd=tmp_path)
  assert process.communicate()[1] == "" and process.returncode == 0
  assert os.listdir(tmp_path) == ["run"]
  code, out, err = commands.run("evaluate", "--policy=run/policy", "--episodes=2", cwd=tmp_path)
  assert code == 0 and err == "", err
  assert out.startswith("half_cheetah: return ") and "over 2 episodes" in out
  code, out, err = commands.run(
    "evaluate", "--policy=run/policy", "--env=walker2d", "--episodes=1", cwd=tmp_path
  )
  assert code == 0 and out.startswith("walker2d: return ")
  assert err == "Warning: 'run/policy' was trained for half_cheetah, not walker2d.\n"
  code, _, err = commands.run("evaluate", "--policy=run/policy", "--env=hopper", cwd=tmp_path)
  assert code == 1 and "observations of 17 numbers, but hopper has 11" in err
  limit = "--gin_param=make_task.episode_steps=30"
  code, out, _ = commands.run(
    "evaluate", "--policy=run/policy", "--episodes=1", limit, cwd=tmp_path
  )
  assert code == 0 and "length 30," in out
  other = "--gin_param=Maac.horizon=3"
  code, _, err = commands.run("evaluate", "--policy=run/policy", other, cwd=tmp_path)
  assert code == 1 and err == (
    "Error: Maac.horizon is not of make_task: a policy is as it was trained.\n"
  )


ON_SECOND_CPU = """
import tensorflow as tf
from absl import app
import maac_tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from maac_tf.tasks.task import Task
from maac_tf import train
from maac_tf.runs import experiment
trainers, Trainer = [], experiment.Trainer
experiment.Trainer = lambda *args: trainers.append(Trainer(*args)) or trainers[0]
try:
  app.run(train.main)
except SystemExit as done:
  devices = {v.device for v in trainers[0].variables}
  print(done.code or 0, len(trainers[0].variables), *devices)
"""


def test_a_device_has_all_variables_and_the_policy_runs_without_it(tmp_path):
  """A second logical CPU, in the place of a GPU or TPU."""
  arguments = [
    PENDULUM,
    *SHORT,
    "--gin_param=train.iterations=1",
    "--gin_param=Maac.jit_compile=True",
  ]
  done = subprocess.run(
    [sys.executable, "-c", ON_SECOND_CPU, *arguments, "--run_dir=run", "--device=CPU:1"],
    cwd=tmp_path,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  code, variables, *devices = done.stdout.splitlines()[-1].split()
  assert code == "0" and int(variables) > 50, done.stderr
  assert devices == ["/job:localhost/replica:0/task:0/device:CPU:1"]
  code, out, err = commands.run("evaluate", "--policy=run/policy", "--episodes=1", cwd=tmp_path)
  assert code == 0 and err == "" and out.startswith("pendulum: return "), err


def test_standard_streams_that_are_closed(tmp_path):
  """What is printed goes nowhere, and no file gets a number that stands for a stream."""
  line = "import os, maac_tf; print('\\xb1'); os.write(2, b'x'); raise SystemExit(os.open('f', 65))"
  command = f"{shlex.quote(sys.executable)} -c {shlex.quote(line)} <&- >&- 2>&-"
  environment = os.environ | {"PYTHONPATH": str(ROOT)}
  done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment)
  assert done.returncode > 2  # the file's number


def test_a_path_may_begin_with_the_home_folder(tmp_path):
  code, _, err = commands.run("evaluate", "--policy=~/no such policy", cwd=tmp_path)
  wanted = f"Error: There is no SavedModel in '{Path.home()}/no such policy'. "
  assert code == 1 and err.startswith(wanted)
  paths = r'DEFINE_(?:multi_)?string\(\s*"(dataset|gin_file|out|policy|root|run_dir|variant)"'
  for source in (ROOT / "maac_tf").rglob("*.py"):
    assert re.findall(paths, source.read_text()) == [], source


MISTAKES = {
  "misspelt binding": ([PENDULUM, "--gin_param=Maac.horizn=3"], "Did you mean Maac.horizon?"),
  "misspelt configurable": ([PENDULUM, "--gin_param=Mac.horizon=3"], "Mac"),
  "unknown task": (["--gin_param=train.task='hoper'"], "Did you mean 'hopper'"),
  "no such module": (["--gin_param=train.task='robots:swing'"], "There is no module 'robots'"),
  "no such task in it": (["--gin_param=train.task='tests.commands:x'"], "The tasks are: none"),
  "missing file": ([PENDULUM.replace("pendulum", "pendulm")], "pendulum.gin'"),
  "negative horizon": ([PENDULUM, "--gin_param=Maac.horizon=-1"], "Maac.horizon must be"),
  "unquoted text": ([PENDULUM, "--gin_param=train.task=hopper"], "a text in quotes, not hopper"),
  "quoted switch": ([PENDULUM, "--gin_param=Maac.jit_compile='false'"], "must be True or False"),
  "open bracket": ([PENDULUM, "--gin_param=Dynamics.hidden_units=(64, 64"], "open bracket"),
  "no iteration": ([PENDULUM, "--gin_param=train.iterations=0"], "train.iterations must be"),
  "of a part not built": ([PENDULUM, "--gin_param=Planner.horizon=-1"], "Planner.horizon must be"),
  "removed option": ([PENDULUM, "--gin_param=Maac.soft_returns=True"], "CHANGELOG.md has"),
  "wrong type": ([PENDULUM, "--gin_param=Dynamics.hidden_units=64"], "must be a tuple of integers"),
  "dead binding": ([PENDULUM, "--gin_param=Trainer.seed=3"], "seed"),
  "a part": ([PENDULUM, "--gin_param=DynamicsFit.batch_size=3"], "batch_size"),
  "task file last": ([PENDULUM, PENDULUM], "sets the task: give it first"),
  "no task": ([], "or a task file"),
  "no run": (["--run_dir=runs/frist"], "There is no run in 'runs/frist'"),
  "no such device": ([PENDULUM, "--device=GPU:7"], "TensorFlow sees CPU:0"),
  "no TPU": ([PENDULUM, "--device=TPU:0"], "TensorFlow cannot connect to a TPU"),
  "no dataset": ([PENDULUM, "--dataset=no.npz"], "There is no 'no.npz'"),
  "nothing to learn from": ([PENDULUM, "--offline"], "give a --dataset that has them"),
  "misspelt flag": (["--gin_fil=gin/hopper.gin"], "gin_fil"),
}


def test_every_mistake_is_one_clear_line_and_creates_nothing(tmp_path):
  for name, (arguments, expected) in MISTAKES.items():
    code, out, err = commands.run("train", *arguments, cwd=tmp_path)
    assert code not in (0, None), name
    assert expected in err and "Traceback" not in err, (name, err)
    if name != "misspelt flag":  # absl's own words
      assert len(err.splitlines()) == 1 and err.startswith("Error: "), (name, err)
    assert out == "", name
  assert os.listdir(tmp_path) == []


OWN_TASK = """
from maac_tf.tasks.task import Task
import gymnasium as gym
swing = Task("swing", lambda: gym.make("Pendulum-v1"), None)
"""


def test_a_task_of_the_users_own_module(tmp_path):
  """Trained, made longer, run from its SavedModel."""
  (tmp_path / "robots.py").write_text(OWN_TASK)
  arguments = [PENDULUM, *SHORT, "--gin_param=train.iterations=1"]
  arguments += ["--gin_param=train.task='robots:swing'"]
  code, _, err = commands.run("train", *arguments, cwd=tmp_path)
  assert code == 0 and err == "", err
  (run,) = (tmp_path / "runs" / "robots.swing").iterdir()
  assert run.name.startswith("0-")  # seed and time
  longer = ["train", f"--run_dir={run}", "--gin_param=train.iterations=2", "--env=robots:swing"]
  code, out, err = commands.run(*longer, cwd=tmp_path)
  assert code == 0 and "Resuming" in out and err == "", err
  evaluate = "evaluate", f"--policy={run}/policy", "--episodes=1", "--env=robots:swing"
  code, out, err = commands.run(*evaluate, cwd=tmp_path)
  assert code == 0 and out.startswith("robots:swing: return ") and err == "", err
  code, _, err = commands.run(*longer, cwd=ROOT)
  assert code == 1 and "There is no module 'robots' in the current folder" in err


def test_set_up_leaves_a_folder_alone_that_it_did_not_make(tmp_path):
  (tmp_path / "thesis.txt").write_text("a year of work")
  environment = os.environ | {"MAAC_VENV": str(tmp_path), "PYTHON": sys.executable}
  script = ROOT / "launch" / "setup.sh"
  done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True)
  assert done.returncode == 1 and "no environment that this script made" in done.stderr
  assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
