"""The commands as a user runs them, each in a process of its own."""

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

from tests import commands
from tests.commands import ROOT
from tests.conftest import BARE, TINY
from tests.equal_runs import differences, newest_checkpoint, run_values
from tests.learners import SAC

PENDULUM = f"--gin_file={ROOT / 'gin' / 'pendulum.gin'}"


def _params(*bindings):
  return [f"--gin_param={binding}" for binding in bindings]


SHORT = _params(*(binding for binding in BARE if not binding.startswith("train.task")))


def _wait_for(condition, runs):
  deadline = time.monotonic() + 240
  while not condition():
    assert runs() and time.monotonic() < deadline
    time.sleep(0.02)


def test_a_killed_run_resumes_bit_for_bit(tmp_path):
  """Of 3 iterations, what a kill after the first leaves: equal to the last bit in the end."""
  three = "--gin_param=train.iterations=3", "--threads=1"
  small = _params(*TINY, "Maac.horizon = 1", "Critic.num_critics = 3")
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  arguments = PENDULUM, *small, *three, "--seed=5", f"--run_dir={whole}"
  with commands.under_way("train", *arguments, cwd=tmp_path) as (process, end):
    _wait_for(lambda: any((whole / "checkpoints").glob("[0-9]*")), process.is_alive)
    os.kill(process.pid, signal.SIGSTOP)
    state = Path(f"/proc/{process.pid}/stat")
    _wait_for(lambda: ") T " in state.read_text(), process.is_alive)
    shutil.copytree(whole, killed)
    os.kill(process.pid, signal.SIGCONT)
    code, _, err = end()
  assert code == 0 and err == "", err
  assert json.loads((newest_checkpoint(killed) / "state.json").read_text())["env_steps"] < 420
  code, out, err = commands.run("train", f"--run_dir={killed}", *three, cwd=tmp_path)
  assert code == 0, err
  assert "Resuming" in out and "Finished" in out
  want, got = run_values(whole), run_values(killed)
  assert len(want) > 50 and not differences(want, got)


def test_a_signal_saves_and_says_how_to_resume(tmp_path):
  """Ctrl-C; that SIGTERM does the same is seen where the suite passes it on.

  In a shell that is set up for other work, and in a folder that needs quotes.
  """
  run, number = tmp_path / "it's a run", signal.SIGINT
  arguments = [PENDULUM, *_params(*TINY, *SAC, "train.iterations=100000"), f"--run_dir={run}"]
  environment = {"KERAS_BACKEND": "jax", "PYTHONIOENCODING": "ascii"}
  process = commands.start("train", *arguments, cwd=tmp_path, environment=environment)
  _wait_for((run / "metrics.csv").exists, lambda: process.poll() is None)
  process.send_signal(number)
  out, err = process.communicate(timeout=120)
  assert process.returncode == 128 + number, err
  backend, *said = filter(None, err.splitlines())
  assert backend == "Warning: KERAS_BACKEND=jax has no effect: maac_tf runs on TensorFlow."
  (last,) = (line for line in said if " has no effect: " not in line)  # TensorFlow would say more
  assert "once more stops at once" in last
  assert r" \xb1 " in out
  (command,) = re.findall("Resume with: (.*)", out)
  python, *module, argument = shlex.split(command)
  assert shutil.which(python) == sys.executable and module == ["-m", "maac_tf.train"]
  assert argument == f"--run_dir={run}"
  rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
  state = json.loads((newest_checkpoint(run) / "state.json").read_text())
  assert state["env_steps"] in (int(rows[-1][0]), int(rows[-1][0]) + 40)
  assert (run / "policy" / "saved_model.pb").exists()


def test_locomotion_leaves_no_litter_and_the_policy_runs_without_this_package(tmp_path):
  arguments = [f"--gin_file={ROOT / 'gin' / 'half_cheetah.gin'}", *SHORT]
  arguments += ["--gin_param=train.iterations=1", "--run_dir=run", "--deterministic"]
  code, _, err = commands.run("train", *arguments, cwd=tmp_path, prepare=commands.run_eagerly)
  assert code == 0 and err == "", err
  assert os.listdir(tmp_path) == ["run"]

  def evaluate(*arguments):
    return commands.run("evaluate", "--policy=run/policy", *arguments, cwd=tmp_path)

  limit = "--gin_param=make_task.episode_steps=30"
  code, out, err = evaluate("--episodes=2", limit)
  assert code == 0 and err == "", err
  assert out.startswith("half_cheetah: return ") and "over 2 episodes" in out
  assert "length 30," in out
  code, out, err = evaluate("--env=walker2d", "--episodes=1", limit)
  assert code == 0 and out.startswith("walker2d: return ")
  assert err == "Warning: 'run/policy' was trained for half_cheetah, not walker2d.\n"
  code, _, err = evaluate("--env=hopper")
  assert code == 1 and "observations of 17 numbers, but hopper has 11" in err
  code, _, err = evaluate("--gin_param=Maac.horizon=3")
  assert code == 1 and err == (
    "Error: Maac.horizon is not of make_task: a policy is as it was trained.\n"
  )


def test_a_device_has_all_variables_and_the_policy_runs_without_it(tmp_path):
  arguments = [PENDULUM, *SHORT, *_params("train.iterations=1", "Maac.jit_compile=True")]
  arguments += ["--run_dir=run", "--device=CPU:1"]
  code, out, err = commands.run("train", *arguments, cwd=tmp_path, prepare=commands.on_second_cpu)
  assert code == 0, err
  ((variables, *devices),) = (line.split()[1:] for line in out.splitlines() if "Variables:" in line)
  assert int(variables) > 50 and devices == ["/job:localhost/replica:0/task:0/device:CPU:1"]
  code, out, err = commands.run("evaluate", "--policy=run/policy", "--episodes=1", cwd=tmp_path)
  assert code == 0 and err == "" and out.startswith("pendulum: return "), err


def test_standard_streams_that_are_closed(tmp_path):
  """What is printed goes nowhere, and no file gets a number that stands for a stream."""
  line = "import os, sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow')\n"
  line += "import maac_tf; print('\\xb1'); os.write(2, b'x'); raise SystemExit(os.open('f', 65))"
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
  eagerly = {"cwd": tmp_path, "prepare": commands.run_eagerly}
  code, _, err = commands.run("train", *arguments, **eagerly)
  assert code == 0 and err == "", err
  (run,) = (tmp_path / "runs" / "robots.swing").iterdir()
  assert run.name.startswith("0-")  # seed and time
  longer = ["train", f"--run_dir={run}", "--gin_param=train.iterations=2", "--env=robots:swing"]
  code, out, err = commands.run(*longer, **eagerly)
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
