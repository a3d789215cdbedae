"""The object `MAAC`: as good as the command, and on its own in a process."""

import logging
import os
import shutil
import signal
import threading

import gin
import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from maac_tf import MAAC, ConfigError, load_policy
from maac_tf.algorithm import evaluator
from maac_tf.algorithm.learner import Maac
from maac_tf.runs import config, experiment, exports, saved_config, saved_model
from maac_tf.tasks import registry
from maac_tf.tasks.episodes import run_episodes
from tests import simulators
from tests.conftest import BARE
from tests.equal_runs import differences, run_values
from tests.learners import eagerly

# As what tests bind: no random steps count less.
SETTINGS = {
  name: value if value[0] == "@" else eval(value)
  for name, value in (binding.split(" = ") for binding in BARE)
  if name != "train.task"
} | {"Trainer.random_steps": 60, "Trainer.eval_episodes": 1}
OTHERS = {"Maac.discount": 0.9, "Critic.num_critics": 3}


_train = vars(Maac)["train"]


def _cheap(learner, count, seed):
  """In place of updates, which are traced for seconds: of settings, data and seed, too."""
  change = learner.discount * tf.reduce_mean(learner.env_buffer.newest(9).observation)
  for variable in learner.network_variables():
    if variable.dtype == tf.float32:
      variable.assign_add(0.1 * change * tf.random.stateless_normal(variable.shape, seed))
  return {"critic/loss": change}


@pytest.fixture(autouse=True, scope="module")
def cheap():
  with pytest.MonkeyPatch.context() as patch, eagerly():
    patch.setattr(evaluator, "BEST_EVALUATION_EPISODES", 1)
    patch.setattr(Maac, "train", _cheap)
    yield


def make(run_dir, settings=None, environment="tests.simulators:line", **arguments):
  return MAAC(environment, run_dir=run_dir, settings=SETTINGS | dict(settings or {}), **arguments)


def learn(agent, env_steps, callbacks=()):
  return agent.learn(env_steps, callbacks, progress=False)


@pytest.fixture
def no_exports(monkeypatch):
  """Where what is exported is not the point."""
  monkeypatch.setattr(
    saved_model, "save_policy", lambda _, path, *others: os.makedirs(path, exist_ok=True)
  )


@pytest.fixture(scope="module")
def original(cheap, tmp_path_factory):
  path = tmp_path_factory.mktemp("agent") / "run"
  learn(make(path, seed=3), 140)
  return path


@pytest.fixture
def run(original, tmp_path):
  """A run of two iterations."""
  return shutil.copytree(original, tmp_path / "run")


def assert_same(first, second):
  """Two runs, to the last bit."""
  want, got = run_values(first), run_values(second)
  assert len(want) > 50 and not differences(want, got)
  for file in ("config.gin", "operative_config.gin"):
    one, other = ((path / file).read_text().splitlines() for path in (first, second))
    assert sorted(one[:-1]) == sorted(other[:-1])  # the last line is a checksum


def test_two_agents_learn_as_each_does_alone(no_exports, tmp_path, monkeypatch):
  """With other settings, in turns, and beside what the process has bound in gin."""
  monkeypatch.setattr(Maac, "train", _train)
  original = tmp_path / "a"
  learn(make(original, seed=3), 140)
  gin.parse_config("Maac.horizon = 7\nmine = 3")
  bound = gin.config_str()
  monkeypatch.setattr(Maac, "train", _cheap)
  learn(make(tmp_path / "b", OTHERS, seed=5), 140)
  first, second = make(tmp_path / "first", seed=3), make(tmp_path / "second", OTHERS, seed=5)
  train = _train.__get__(first.trainer.learner, Maac)
  first.trainer.learner.train = lambda *arguments: train(*arguments)
  learn(first, 100)
  learn(second, 100)
  second.predict(np.zeros(1, np.float32))
  first.evaluate(1)
  learn(second, 140)
  learn(first, 140)
  assert_same(original, tmp_path / "first")
  assert_same(tmp_path / "b", tmp_path / "second")
  assert gin.config_str() == bound and not gin.config_is_locked()
  assert "Maac.discount" not in gin.operative_config_str()


def test_its_run_is_that_of_the_command_and_either_goes_on(no_exports, original, run, tmp_path):
  bindings = [config.binding(name, value) for name, value in SETTINGS.items()]
  bindings += ["train.task = 'tests.simulators:line'", "train.seed = 3", "train.iterations = 2"]
  config.load([], bindings)
  assert experiment.train(str(tmp_path / "command")) is None
  assert_same(original, tmp_path / "command")
  saved_config.load(str(run), ["train.iterations = 3"], trusted=True)
  assert experiment.train(str(run)) is None
  gin.clear_config()
  agent = MAAC.load(tmp_path / "command", trust=True)
  assert agent.env_steps == 140
  assert learn(agent, 180) is agent and agent.env_steps == 180
  assert_same(run, tmp_path / "command")
  assert learn(agent, 100).env_steps == 180  # in all: there is nothing to do


def test_callbacks_get_the_metrics_and_may_end_it(no_exports, run):
  agent, seen = MAAC.load(run, simulators.line), []
  learn(agent, 10_000, [seen.append, lambda row: row["env_steps"] < 220])
  assert [row["env_steps"] for row in seen] == [180, 220]
  metrics = agent.metrics
  np.testing.assert_array_equal(metrics["env_steps"], [100, 140, 180, 220])
  np.testing.assert_array_equal(metrics["eval/return"][2:], [r["eval/return"] for r in seen])
  assert seen[0]["collect/return"] is None or np.isfinite(metrics["collect/return"][2])
  assert MAAC.load(run, simulators.line).env_steps == 220


def test_what_interrupts_it_loses_no_iteration_that_was_saved(no_exports, run, tmp_path):
  """Ctrl-C, which is asked for twice; an error in mid-iteration: it then learns the same."""
  other = shutil.copytree(run, tmp_path / "other")
  learn(MAAC.load(run, simulators.line), 220)
  agent = MAAC.load(other, "tests.simulators:line")
  with pytest.raises(KeyboardInterrupt, match="learn.. goes on"):
    learn(agent, 220, lambda row: signal.raise_signal(signal.SIGINT))
  assert agent.env_steps == 180 and len(agent.metrics["env_steps"]) == 3
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  trainer = agent.trainer
  train = trainer.learner.train

  def stopped(*arguments):
    train(*arguments)
    raise KeyboardInterrupt

  trainer.learner.train = stopped
  with pytest.raises(KeyboardInterrupt):
    learn(agent, 220)
  assert agent.trainer is not trainer and agent.env_steps == 180
  learn(agent, 220)
  assert_same(run, other)


def test_it_learns_in_a_thread_where_no_signal_can_be_handled(no_exports, run):
  agent = MAAC.load(run, simulators.line)
  thread = threading.Thread(target=learn, args=(agent, 180))
  thread.start()
  thread.join()
  assert agent.env_steps == 180


def test_its_policies_are_those_of_its_run(run):
  agent, observations = (
    MAAC.load(run, simulators.line),
    np.random.default_rng(0).normal(size=(5, 1)),
  )
  for policy, folder in ((agent, "policy"), (agent.best, "policy"), (agent.last, "policy_last")):
    saved = load_policy(run / folder)
    for x in (observations[0], observations):
      got, state = policy.predict(x, state=None, episode_start=None, deterministic=True)
      assert got.shape == x.shape and got.dtype == np.float32 and state is None
      np.testing.assert_allclose(got, saved.predict(x, deterministic=True)[0], atol=1e-5)
  for policy in (agent, load_policy(run / "policy")):
    drawn = [policy.predict(observations)[0] for _ in range(2)]
    assert not np.array_equal(*drawn) and np.all(np.abs(drawn) <= 1.0)
  episodes = agent.evaluate(episodes=3, seed=7)
  task = registry.find_task("tests.simulators:line")
  saved = load_policy(run / "policy")
  act = lambda x: saved.predict(x, deterministic=True)[0]  # noqa: E731
  np.testing.assert_allclose(
    episodes.returns, run_episodes(task, act, [7, 8, 9]).returns, rtol=1e-4
  )
  before = make(None)  # it learns
  assert np.isfinite(before.predict([0.3], deterministic=True)[0]).all()
  assert before.run_dir is None and before.metrics == {} and before.env_steps == 0


class Tree(gym.Env):
  """Observations and actions that are no vectors."""

  observation_space = gym.spaces.Dict(
    {"b": gym.spaces.Box(-9, 9, (2, 2), np.float64), "a": gym.spaces.Discrete(3)}
  )
  action_space = gym.spaces.Box(-np.array([[2.0], [3.0]]), 1.0, (2, 1), np.float64)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return self.observation_space.sample(), {}

  def step(self, action):
    return self.observation_space.sample(), 0.0, False, False, {}


def test_it_takes_what_an_environment_returns_and_gives_what_it_takes(tmp_path):
  agent = make(None, environment=Tree)
  agent.export(tmp_path / "policy")
  environments = gym.vector.SyncVectorEnv([Tree] * 3)
  batch, _ = environments.reset(seed=0)
  for policy in (agent, load_policy(tmp_path / "policy", Tree())):
    actions = policy.predict(batch, deterministic=True)[0]
    assert actions.shape == (3, 2, 1) and actions.dtype == np.float64
    for i in range(3):
      one = {name: part[i] for name, part in batch.items()}
      action = policy.predict(one, deterministic=True)[0]
      assert Tree.action_space.contains(action)
      np.testing.assert_allclose(action, actions[i], atol=1e-5)
  with pytest.raises(ValueError, match="it must be a dictionary with 'a'"):
    agent.predict({"b": batch["b"][0]})
  with pytest.raises(ConfigError, match="observations of 7 numbers, and the environment has 1"):
    load_policy(tmp_path / "policy", simulators.line())


def test_a_run_of_an_object_without_a_name_asks_for_it_again(no_exports, tmp_path):
  path = tmp_path / "run"
  learn(make(path, environment=lambda: simulators.line(), seed=3), 100)
  with pytest.raises(ConfigError, match=r"was an object .* MAAC.load\(RUN_DIR, ENVIRONMENT\)"):
    MAAC.load(path)

  def made_again():
    return simulators.line()

  assert learn(MAAC.load(path, made_again), 140).env_steps == 140
  with pytest.raises(ConfigError, match="a run of another config"):
    MAAC.load(path, "Pendulum-v1")


def test_a_planner_has_settings_of_its_own(no_exports, run, tmp_path, monkeypatch):
  agent, planners = MAAC.load(run, trust=True, settings={"Planner.horizon": 3}), []
  monkeypatch.setattr(exports, "save_planner", lambda _, planner, *others: planners.append(planner))
  agent.export(tmp_path / "p", planner="cem")
  agent.export(tmp_path / "q", planner="cem", settings={"Planner.horizon": 4})
  assert [planner.horizon for planner in planners] == [3, 4]
  learn(agent, 180)  # the planner is no part of it
  assert "Planner.horizon = 3" in (run / "config.gin").read_text()


def test_without_a_folder_it_chooses_one_that_is_new(no_exports, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(experiment.time, "strftime", lambda *_: "now")
  for folder in ("0-now", "0-now-2"):
    agent = learn(make(None), 100)
    assert agent.run_dir == os.path.join("runs", "tests.simulators.line", folder)
  figure = agent.plot("curve.png")
  assert len(figure.axes) == 2 and os.path.getsize("curve.png") > 1_000


def test_nothing_is_printed_that_was_not_asked_for(tmp_path, capfd):
  """As in a notebook, where TensorFlow's logger says more."""
  logger = tf.get_logger()
  before = logger.level
  logger.setLevel(logging.INFO)
  try:
    agent = learn(make(tmp_path / "run"), 100)
    agent.export(tmp_path / "policy")
    assert logger.level == logging.INFO
  finally:
    logger.setLevel(before)
  assert capfd.readouterr() == ("", "")
  agent.learn(140)
  assert "140 steps  return" in capfd.readouterr().out
  make(None, {"SteveTargets.horizon": 1})
  assert "Warning: SteveTargets.horizon has no effect" in capfd.readouterr().err


def test_it_learns_from_logged_steps_offline_then_online(original, no_exports, tmp_path, capfd):
  """And the same script goes on where it is, which is at its end."""
  for axis in ("iterations, without environment steps", "environment steps"):
    agent = make(tmp_path / "run", dataset=original)
    agent.learn(offline_updates=3, progress=False)  # of an update an iteration
    assert agent.plot().axes[1].get_xlabel() == axis
    learn(agent, 50)
    assert agent.env_steps == 80 and agent.trainer.learner.env_buffer.added == 140 + 80
    assert agent.metrics["env_steps"].tolist() == [0, 0, 0, 40, 80]
  agent.learn(offline_updates=4)
  assert " 6 iterations  return" in capfd.readouterr().out
  assert agent.metrics["env_steps"].tolist() == [0, 0, 0, 40, 80, 80]
  assert learn(agent, 90).env_steps == 120


MISTAKES = {
  "Did you mean 'Pendulum-v1'": lambda run: MAAC("Pendulm-v1"),
  "No environment: give one": lambda run: MAAC(),
  "an id, a Task or a function that makes one": lambda run: MAAC(simulators.line()),
  "'horizon' is no option's name": lambda run: MAAC("pendulum", settings={"horizon": 3}),
  "Did you mean Maac.horizon": lambda run: MAAC("pendulum", settings={"Maac.horizn": 3}),
  "Maac.horizon must be an integer": lambda run: MAAC("pendulum", settings={"Maac.horizon": "3"}),
  "train.seed must be an integer": lambda run: MAAC("pendulum", seed=-1),
  "There is no gin file": lambda run: MAAC("pendulum", gin_files="gin/hoper.gin"),
  "would run code: if it is yours": lambda run: MAAC.load(run),
  "There is no run in": lambda run: MAAC.load(run / "checkpoints"),
  "There is no curve": lambda run: make(None).plot(),
  "more than Trainer.random_steps": lambda run: make(None).learn(60),
  "There is no 'no.npz'": lambda run: make(None, dataset="no.npz"),
  "did not begin with 'no.npz'": lambda run: make(run, seed=3, dataset="no.npz"),
  "of which 60 are missing": lambda run: make(None).learn(offline_updates=1),
  "updates must be 1 or more": lambda run: make(None).learn(offline_updates=0),
  "exists: give another path": lambda run: make(None).export(run),
  "planner must be 'cem'": lambda run: make(None).export(run / "new", planner="mppi"),
  "is a run: its policy is": lambda run: load_policy(run),
  "Did you mean 'hopper_v5'": lambda run: load_policy("hoper_v5"),
  "must be one of Gymnasium": lambda run: load_policy("pendulum", "Pendulum-v1"),
  "env_steps must be an integer, not 70.5": lambda run: make(None).learn(70.5),
}


def test_every_mistake_is_one_line(original):
  for expected, mistake in MISTAKES.items():
    with pytest.raises(ValueError, match=expected) as error:
      mistake(original)
    assert isinstance(error.value, ConfigError) and "\n" not in str(error.value)
