"""The command that looks at an environment, as a user runs it."""

import pytest

from tests import commands
from tests.commands import ROOT
from tests.conftest import BARE

PARAMS = [f"--gin_param={p}" for p in BARE if not p.startswith("train.task")]

CARTS = """
import gymnasium as gym, numpy as np

class Cart(gym.Env):
  observation_space = gym.spaces.Box(-1.0, 1.0, (2,))
  action_space = gym.spaces.Box(-1.0, 1.0, (1,))
  first, opened = np.zeros(2, np.float32), 0

  def __init__(self):
    Cart.opened += 1
    print("opened", Cart.opened)

  def close(self):
    Cart.opened -= 1
    print("closed", Cart.opened)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.state = self.first.copy()
    return self.state, {}

  def step(self, action):
    self.state = self.state + 0.1 * np.float32([self.state[1], action[0]])
    return self.state, -float(abs(self.state[0])), bool(abs(self.state[0]) > 0.1), False, {}

class Nan(Cart):
  first = np.float32([0, np.nan])

class Short(Cart):
  first = np.zeros(1, np.float32)

class Still(Cart):
  def step(self, action):
    return self.first, 0.0, False, False, {}

class Broken(Cart):
  def step(self, action):
    assert action > 5, "the motor\\nis off"

class Busy(Cart):
  def __init__(self):
    raise gym.error.DependencyNotInstalled("pip install the-robot")

def wrong(o, a, n):
  return a

from maac_tf.tasks.task import Task
column = Task("column", Cart, wrong)
"""


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "carts.py").write_text(CARTS)
  return tmp_path


def test_a_page_of_an_environment_and_what_a_training_costs(folder):
  arguments = "check", "--env=carts:Cart", *PARAMS
  code, out, err = commands.run(*arguments, cwd=folder, prepare=commands.run_eagerly)
  assert code == 0 and err == "", err
  lines = out.splitlines()
  assert "carts:Cart: observations of 2 numbers, actions of 1. The reward is learned" in out
  assert "1,000 random steps" in out and "Episodes: " in out and "Rewards: median" in out
  (training,) = [line for line in lines if line.startswith("A training of 8,300 steps will take")]
  assert "GiB of memory" in training and "The policy acts after" in out
  assert lines[0] == "opened 1" and lines[-1] == "closed 0"


@pytest.mark.parametrize(
  "arguments", [["--env=hopper_v5"], [f"--gin_file={ROOT}/gin/gymnasium/hopper_v5.gin"]]
)
def test_a_task_of_the_package(folder, arguments):
  code, out, err = commands.run("check", *arguments, "--nocost", "--steps=100", cwd=folder)
  assert code == 0 and err == "", err
  assert out.startswith("hopper_v5: observations of 11 numbers, actions of 3.")
  assert "The reward is learned, the end of an episode learned" in out


REFUSED = {
  "carts:Nan": "reset() of Nan returned [ 0. nan]: numbers must be finite",
  "carts:Short": "reset() of Short: the observation must be numbers of shape (2,)",
  "carts:Broken": "'carts:Broken' failed: AssertionError: the motor is off (",
  "carts:Busy": "DependencyNotInstalled: pip install the-robot (",
  "carts:column": "The reward function of task 'carts:column' must return float32",
  "CartPole-v1": "actions must be a Box of real numbers",
  "Reecher-v5": "Did you mean 'Reacher-v5'",
}


def test_what_cannot_be_trained_is_one_line(folder):
  for name, text in REFUSED.items():
    code, out, err = commands.run("check", f"--env={name}", cwd=folder)
    assert code == 1 and len(err.splitlines()) == 1 and err.startswith("Error: "), (name, err)
    assert text in err, (name, err)
    assert {line.split()[0] for line in out.splitlines()} <= {"opened", "closed"}, out
    assert out.count("opened") == out.count("closed"), out
  code, out, err = commands.run("check", "--env=carts:Still", cwd=folder)
  assert code == 1 and err == ""
  assert "Error: None of the 2 numbers of the observation ever changed" in out
  assert "A training of" not in out


def test_a_training_that_cannot_work_stops_after_the_random_steps(folder):
  arguments = ["--env=carts:Still", "--episode_steps=50", *PARAMS, "--run_dir=run"]
  code, _, err = commands.run("train", *arguments, cwd=folder)
  assert code == 1 and err.splitlines()[-1].startswith("Error: Task 'carts:Still': None of the 2")
