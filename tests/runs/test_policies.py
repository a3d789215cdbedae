"""The pre-trained policies."""

import gymnasium as gym
import numpy as np
import pytest

from maac_tf import load_policy
from maac_tf.algorithm.evaluator import BEST_EVALUATION_SEED
from maac_tf.checks import ConfigError
from maac_tf.runs import runtimes
from maac_tf.tasks.registry import TASKS
from tests import commands


def _files():
  return [path for path in commands.ROOT.joinpath("maac_tf/policies").rglob("*") if path.is_file()]


def test_they_are_small_and_named_after_their_tasks():
  names = {*runtimes.policies()}
  assert {"hopper_v5", "half_cheetah_v5", "walker2d_v5", "pendulum"} <= names <= {*TASKS}
  assert sum(path.stat().st_size for path in _files()) < 3e6


@pytest.mark.parametrize("name", runtimes.policies())
def test_each_acts_inside_the_box_of_its_task(name, tmp_path, monkeypatch):
  """On observations of its own steps, the first of which are in the units of its environment."""
  monkeypatch.chdir(tmp_path)
  about, env = runtimes.load(name).metadata, TASKS[name].make_gym_env()
  assert about["task"] == name and about["episodes"] == 20
  policy, box = load_policy(name), env.action_space
  assert isinstance(box, gym.spaces.Box)
  observation, _ = env.reset(seed=BEST_EVALUATION_SEED)
  total, ended, actions = 0.0, False, []
  while not ended and len(actions) < 200:
    action, _ = policy.predict(observation, deterministic=True)
    assert box.contains(action)
    observation, reward, terminated, truncated, _ = env.step(action)
    total, ended = total + reward, terminated or truncated
    actions.append(action)
  assert np.std(actions, 0).min() > 0.01  # it answers to what it sees
  assert len(actions) == 200 and not terminated
  if name == "pendulum":
    assert total > about["return"] - 2.0 * about["return_std"]


def test_evaluate_takes_a_name_and_says_what_the_file_states(tmp_path):
  code, out, err = commands.run("evaluate", "--policy=pendulum", "--episodes=1", cwd=tmp_path)
  assert code == 0 and err == "", err
  about = runtimes.load("pendulum").metadata
  first, second = out.splitlines()
  assert first.startswith("pendulum: return ")
  assert second.startswith(f"Its file states: return {about['return']:.5g} ± ")
  code, out, err = commands.run("evaluate", "--policy=hoper_v5", cwd=tmp_path)
  known = ", ".join(runtimes.policies())
  assert code == 1 and err == (
    f"Error: There is no SavedModel in 'hoper_v5'. The pre-trained policies are {known}. "
    "Did you mean 'hopper_v5'?\n"
  )


def test_a_folder_of_the_same_name_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "pendulum").mkdir()
  assert "serving_default" in runtimes.saved_model("pendulum").signatures
  (tmp_path / "pendulum" / "saved_model.pb").touch()
  with pytest.raises(ConfigError, match="'pendulum' cannot be loaded"):
    runtimes.saved_model("pendulum")
