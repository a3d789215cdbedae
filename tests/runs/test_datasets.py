"""Logged steps: what a run's environment saw is what is exported, and what is read again."""

import json
import os
import pickle

import gin
import gymnasium as gym
import numpy as np
import pytest

from maac_tf.algorithm.evaluator import Evaluator
from maac_tf.algorithm.learner import Maac
from maac_tf.checks import ConfigError
from maac_tf.data.step_log import StepLog
from maac_tf.data.types import Transition
from maac_tf.runs import datasets, plotting, saved_model
from maac_tf.runs.experiment import restore, train
from maac_tf.tasks.adapter import Environment
from tests import commands, simulators
from tests.commands import ROOT
from tests.conftest import BARE
from tests.learners import eagerly

LIMIT = 30  # steps of an episode


class Witness(gym.Wrapper):
  """A line with ends and a time limit, that writes down what it takes and returns."""

  seen = []

  def __init__(self):
    line = simulators.Line(end=0.55)
    line.action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)
    super().__init__(gym.wrappers.TimeLimit(line, LIMIT))

  def reset(self, **arguments):
    self._before, info = self.env.reset(**arguments)
    return self._before, info

  def step(self, action):
    after, reward, terminated, truncated, info = self.env.step(action)
    Witness.seen.append((self._before, action, reward, after, terminated, truncated))
    self._before = after
    return after, reward, terminated, truncated, info


TASK = "train.task = 'tests.runs.test_datasets:Witness'"


@pytest.fixture(scope="module", autouse=True)
def what_takes_long():
  """Is replaced."""
  row = {"eval/return": -1.0, "eval/return_std": 0.0, "eval/length": 30.0}
  with pytest.MonkeyPatch.context() as patch, eagerly():
    patch.setattr(Maac, "train", lambda *_: {"critic/loss": np.float32(0.0)})
    patch.setattr(Evaluator, "evaluate", lambda _: row)
    patch.setattr(Evaluator, "evaluate_again", lambda _: np.array([-1.0]))
    patch.setattr(saved_model, "save_policy", lambda _, path, *others: os.makedirs(path))
    patch.setattr(plotting, "plot_run", lambda _, path: open(path, "w").close())
    yield


@pytest.fixture(scope="module")
def run(what_takes_long, tmp_path_factory):
  """The folder of one of 340 steps, and what its environment saw, by column."""
  path = tmp_path_factory.mktemp("source") / "run"
  gin.parse_config([*BARE, TASK])
  Witness.seen = []
  assert train(str(path), iterations=1) is None
  gin.clear_config()
  columns = zip(datasets.COLUMNS, zip(*Witness.seen, strict=True), strict=True)
  return path, {name: np.asarray(values) for name, values in columns}


@pytest.fixture
def environment():
  return Environment(Witness())


@pytest.fixture
def minari(monkeypatch, tmp_path):
  module = pytest.importorskip("minari", reason="the extra minari is not installed")
  monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
  return module


def _same(got, want):
  np.testing.assert_array_equal(got.first, want.first)
  for a, b in zip(got.steps, want.steps, strict=True):
    np.testing.assert_array_equal(a, b)


def test_what_is_exported_is_what_the_environment_saw(run, environment, tmp_path):
  path, seen = run
  assert seen["terminations"].sum() > 1 and seen["truncations"].sum() > 1
  assert not (seen["terminations"][-1] or seen["truncations"][-1])  # its episode is under way
  own = datasets.read(str(path), environment)
  file = str(tmp_path / "steps.npz")
  datasets.write(own, environment, "npz", file)
  with np.load(file) as exported:
    assert set(exported) == set(datasets.COLUMNS)
    for name, want in seen.items():
      got = exported[name]
      np.testing.assert_array_equal(got[:-1], want.astype(got.dtype)[:-1], err_msg=name)
    assert exported["truncations"][-1]
  _same(datasets.read(file, environment), own)
  _same(datasets.read(str(path / "steps.bin"), environment), own)


def test_the_command_exports_the_steps(run, environment, tmp_path):
  arguments = ["export", f"--run_dir={run[0]}", "--trust"]
  file = str(tmp_path / "steps.npz")
  code, out, err = commands.run(*arguments, "--format=npz", f"--out={file}", cwd=ROOT)
  assert (code, out) == (0, f"Wrote {file}: 340 real steps.\n"), err
  _same(datasets.read(file, environment), datasets.read(str(run[0]), environment))
  code, _, err = commands.run(*arguments, "--format=minari", cwd=ROOT)
  assert (code, err) == (1, "Error: Give the dataset's name, such as --out=hopper/mine-v0.\n")


def test_minari_has_the_episodes_that_the_environment_saw(run, environment, minari):
  path, seen = run
  own = datasets.read(str(path), environment)
  datasets.write(own, environment, "minari", "line/test-v0")
  ends = np.flatnonzero(seen["terminations"] | seen["truncations"]) + 1
  begin, episodes = 0, list(minari.load_dataset("line/test-v0"))
  for episode, end in zip(episodes, [*ends, len(own.first)], strict=True):
    np.testing.assert_array_equal(episode.observations[0], seen["observations"][begin])
    np.testing.assert_array_equal(episode.observations[1:], seen["next_observations"][begin:end])
    np.testing.assert_array_equal(episode.actions, seen["actions"][begin:end])
    np.testing.assert_array_equal(episode.rewards, seen["rewards"][begin:end].astype(np.float32))
    assert episode.terminations[-1] == seen["terminations"][end - 1]
    begin = end
  _same(datasets.read("minari:line/test-v0", environment), own)
  with pytest.raises(ConfigError, match=r"'line/test-v0'.* already exists"):
    datasets.write(own, environment, "minari", "line/test-v0")
  with pytest.raises(ConfigError, match="a version, as hopper/mine-v0, not 'line/test'"):
    datasets.write(own, environment, "minari", "line/test")


class Parts(gym.Env):
  """Observations of parts, and actions in boxes that are not round."""

  observation_space = gym.spaces.Dict(
    {
      "mode": gym.spaces.Discrete(3),
      "arm": gym.spaces.Box(-1.0, 1.0, (2, 2), np.float64),
      "pair": gym.spaces.Tuple([gym.spaces.Box(0, 9, (1,), np.int32), gym.spaces.Discrete(2)]),
    }
  )
  action_space = gym.spaces.Box(np.array([[-0.3, 1.7]]), np.array([[0.7, 9.1]]), dtype=np.float64)


def test_observations_of_parts_come_back_from_minari(minari):
  environment, rng = Environment(Parts()), np.random.default_rng(0)
  environment.env.observation_space.seed(0)
  space = environment.env.observation_space
  rows = [gym.spaces.flatten(space, space.sample()).astype(np.float32) for _ in range(9)]
  action = rng.uniform(-1.0, 1.0, (8, 2)).astype(np.float32)
  steps = Transition(
    np.stack(rows[:-1]), action, np.float32(rng.normal(size=8)), np.stack(rows[1:]), np.eye(8)[3]
  )
  own = datasets.Dataset("", steps, np.arange(8) % 4 == 0)
  datasets.write(own, environment, "minari", "parts-v0")
  first = minari.load_dataset("parts-v0")[0]
  assert [len(part) for part in (first.observations["mode"], first.actions)] == [5, 4]
  got = datasets.read("minari:parts-v0", environment)
  np.testing.assert_allclose(got.steps.action, action, atol=1e-6)
  _same(got._replace(steps=got.steps._replace(action=action)), own)
  with pytest.raises(ConfigError, match=r"'minari:parts-v0' has actions of Box"):
    datasets.read("minari:parts-v0", Environment(simulators.line()))
  with pytest.raises(ConfigError, match="`minari download nothing-v0`"):
    datasets.read("minari:nothing-v0", environment)


def _broken(change):
  """Columns of three steps, but for this."""
  columns = {
    "observations": np.zeros((3, 1)),
    "actions": np.zeros((3, 1)),
    "rewards": np.zeros(3),
    "next_observations": np.zeros((3, 1)),
    "terminations": np.zeros(3, bool),
    "truncations": np.zeros(3, bool),
  }
  for name, value in change.items():
    columns[name] = value
  return {name: value for name, value in columns.items() if value is not None}


NAN, FAR = np.array([0.0, np.nan, 0.0]), np.array([[0.0], [0.0], [2.1]])
EMPTY = {name: values[:0] for name, values in _broken({}).items()}


@pytest.mark.parametrize(
  "change, message",
  [
    ({"rewards": None, "truncations": None}, "has no rewards, truncations: it needs observations,"),
    ({"actions": np.zeros((3, 2))}, r"actions must be numbers of shape \(3, 1\), not float64 of"),
    ({"rewards": np.zeros(4)}, r"observations must be numbers of shape \(4, 1\)"),
    ({"rewards": NAN}, "rewards has nan in row 1"),
    ({"rewards": 1e39 * np.ones(3)}, r"rewards has 1e\+39 in row 0"),
    ({"actions": FAR}, r"number 0 of the action in row 2 is 2.1, outside of \[-2, 2\]"),
    ({"terminations": np.array([0, 1, 2])}, "terminations must be True or False, or 1 or 0"),
    ({"rewards": np.array(["a"] * 3)}, "rewards must be numbers"),
    ({"rewards": np.array([None] * 3)}, "not an NPZ file of plain arrays, without pickled"),
    (EMPTY, "has no steps"),
  ],
)
def test_what_cannot_be_learned_from_is_refused_in_a_line(change, message, environment, tmp_path):
  path = str(tmp_path / "steps.npz")
  np.savez(path, **_broken(change))
  with pytest.raises(ConfigError, match=message) as error:
    datasets.read(path, environment)
  assert "\n" not in str(error.value) and path in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps({"rewards": [1.0]})])
def test_a_file_of_something_else_is_refused(content, environment, tmp_path):
  (tmp_path / "steps.npz").write_bytes(content)
  with pytest.raises(ConfigError, match="not an NPZ file of plain arrays"):
    datasets.read(str(tmp_path / "steps.npz"), environment)


def test_a_run_of_other_sizes_or_none_is_refused(run, environment, tmp_path):
  with pytest.raises(ConfigError, match="does not begin as a log of steps with"):
    datasets.read(str(run[0]), Environment(Parts()))
  with pytest.raises(ConfigError, match="has no steps"):
    datasets.read(str(tmp_path), environment)
  with pytest.raises(ConfigError, match="There is no 'nothing.npz'"):
    datasets.read("nothing.npz", environment)


def test_steps_count_as_random_ones_and_are_the_run_s_own(run, tmp_path):
  """Of 340, 60 are missing; the run goes on without the dataset, and another may begin with it."""
  bindings = [*BARE, TASK, "Trainer.random_steps = 400"]
  source, path = str(run[0]), tmp_path / "run"
  small = ["Maac.env_capacity = 310", "Trainer.random_steps = 310"]
  gin.parse_config([*bindings, *small])
  with pytest.raises(ConfigError, match="must hold the 340 steps"):
    train(str(path), dataset=source, iterations=1)
  gin.clear_config()
  gin.parse_config(bindings)
  with pytest.raises(ConfigError, match=r"needs Trainer.random_steps \(400\) .* 60 are missing"):
    train(str(path), dataset=source, offline=True, iterations=1)
  assert not path.exists()
  assert train(str(path), dataset=source, iterations=1) is None
  assert train(str(path), iterations=2) is None
  with pytest.raises(ConfigError, match="did not begin with 'other.npz': leave that out"):
    train(str(path), dataset="other.npz", iterations=2)
  assert json.loads((path / "version.json").read_text())["dataset"] == {
    "source": source,
    "steps": 340,
  }
  gin.clear_config()
  trainer = restore(str(path), trusted=True)
  assert trainer.env_steps == 60 + 2 * 40 and trainer.learner.env_buffer.added == 340 + 140
  before = (run[0] / "steps.bin").read_bytes()
  assert (path / "steps.bin").read_bytes()[: len(before)] == before
  assert StepLog(str(path / "steps.bin"), 1, 1).rows == 480


def test_a_start_that_was_cut_short_asks_for_its_dataset(run, tmp_path, monkeypatch):
  gin.parse_config([*BARE, TASK])
  path, append = tmp_path / "run", StepLog.append

  def killed(log, step, first):
    append(log, step, first)
    if log.rows == 100:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(StepLog, "append", killed)
    train(str(path), dataset=str(run[0]), iterations=1)
  with pytest.raises(ConfigError, match=r"began with the dataset '.*run': give that, or another"):
    train(str(path), iterations=1)
  assert train(str(path), dataset=str(run[0]), iterations=1) is None
  assert StepLog(str(path / "steps.bin"), 1, 1).rows == 340 + 40
