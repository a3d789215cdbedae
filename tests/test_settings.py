"""Every gin file: that it starts, is what it says, and shows what the code has."""

import re

import gin
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm import evaluator, learning
from maac_tf.algorithm.critic_targets import RolloutTargets
from maac_tf.algorithm.imagined_data import ImaginedData
from maac_tf.algorithm.steve import SteveTargets
from maac_tf.runs import config, unused
from maac_tf.runs.experiment import build_trainer, make_trainer
from tests.commands import ROOT
from tests.conftest import OPTIONS, TINY
from tests.learners import SEED, batch_and_path, eagerly, fill, targets

GIN = ROOT / "gin"
ALL = sorted(GIN.rglob("*.gin")) + sorted((ROOT / "examples").glob("*.gin"))
COMPLETE = [path for path in ALL if "train.task = " in path.read_text()]
HOPPER, PAPER_HOPPER = GIN / "hopper.gin", GIN / "paper" / "hopper.gin"


def _over(path):
  """A file that it may follow."""
  if path.parent.name == "paper" and path.stem != "maac":
    return PAPER_HOPPER
  return {
    "without": GIN / "gymnasium" / "hopper_v5.gin",
    "paper": GIN / "gymnasium" / "ant_v5.gin",
    "examples": GIN / "pendulum.gin",
  }.get(path.parent.name, HOPPER)


def _load(*paths, bindings=TINY):
  return config.load([str(path) for path in paths], bindings)


def _name(path):
  return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", ALL, ids=_name)
def test_every_gin_file_starts(path, monkeypatch):
  """An update of one, with rollouts of a step: what takes more steps takes the same again."""
  monkeypatch.setattr(evaluator, "BEST_EVALUATION_EPISODES", 1)
  files = [path] if path in COMPLETE else [_over(path), path]
  _load(*files)
  tiny = ["Trainer.updates_per_step = 0.025", "Trainer.rollout_frequency = 1"]
  tiny += ["Trainer.rollout_schedule = (1, 1, 0, 1)"]
  tiny += ["Trainer.eval_episodes = 1", "DynamicsFit.max_batches = 1"]
  if gin.query_parameter("train.task").endswith("v5"):  # others do not end early
    tiny += ["Trainer.eval_every = 40"]
  elif not {GIN / "pendulum.gin", GIN / "double_integrator.gin"} & {*files}:
    tiny += ["Trainer.eval_every = 80"]
  values = config.values()
  tiny += [f"Maac.horizon = {min(int(values['Maac.horizon']), 1)}"]
  tiny += [f"SteveTargets.horizon = {min(int(values['SteveTargets.horizon']), 1)}"]
  _load(*files, bindings=[*TINY, *tiny])
  with eagerly():
    row = make_trainer().run_iteration()
  assert row["env_steps"] == 340 and row["iteration"] == 1
  assert np.isfinite(row["critic/loss"])
  assert row["eval/return"] is None or np.isfinite(row["eval/return"])


def test_maac_gin_shows_every_option_with_its_default():
  _load(GIN / "maac.gin", bindings=())
  shown = gin.config_str(max_line_length=10_000)
  shown = dict(re.findall(r"(?m)^(\w+\.\w+) = (.*)$", shown))
  declared = {option.name: option.default for option in OPTIONS}
  for name in ("task", "seed", "environments"):  # of a run, not of the setting
    del declared[f"train.{name}"]
  assert len(declared) <= 51
  assert shown.keys() == declared.keys()
  assert shown.pop("Maac.critic_targets") == "@RolloutTargets()"
  assert declared.pop("Maac.critic_targets") is None  # which is the same:
  gin.clear_config()
  gin.parse_config(TINY)
  assert type(build_trainer("pendulum").learner.critic_targets) is RolloutTargets
  for name, default in declared.items():
    assert gin.config.parse_value(shown[name]) == default, name


def test_maac_gin_says_the_unit_of_every_number():
  text = (GIN / "maac.gin").read_text()
  for line in text.splitlines():
    number = re.match(r"(\w+\.\w+) = [\d(]", line)
    if number and number[1] not in ("train.iterations", "Maac.temperature_learning_rate"):
      assert "  # " in line, line


@pytest.mark.parametrize("path", [p for p in ALL if p != GIN / "maac.gin"], ids=_name)
def test_every_value_of_a_file_changes_something(path, capsys):
  """Over one of the files, at the least, that it may follow; and none is without effect."""
  names = set(re.findall(r"(?m)^\w+\.\w+(?= =)", path.read_text()))
  if path in COMPLETE:
    includes = re.findall(r"(?m)^include '(.*)'", path.read_text())
    before = [[path.parent / file for file in includes]]
  else:
    of_paper = _over(path) == PAPER_HOPPER
    before = [[p] for p in COMPLETE if ("paper" in p.parts) == of_paper]
  same = names
  for files in before:
    _load(*files, bindings=())
    without = config.values()
    _load(*files, path, bindings=()) if path not in COMPLETE else _load(path, bindings=())
    values = config.values()
    same = {name for name in same if values[name] == without.get(name)}
  # These are said with the class whose only option they are.
  assert same <= {"SteveTargets.horizon", "LambdaTargets.decay"}, same
  assert "no option's name" not in capsys.readouterr().err
  _load(*([] if path in COMPLETE else [_over(path)]), path)
  assert config.without_effect(names, unused.options(make_trainer())) == {}


PAPER = {
  "train.iterations": "50",
  "Trainer.random_steps": "5000",
  "Trainer.initial_updates": "0",
  "Trainer.steps_per_iteration": "1000",
  "Trainer.cut_off_episodes": "False",
  "Trainer.updates_per_step": "4",
  "Trainer.rollout_frequency": "1000",
  "Trainer.rollout_starts": "100000",
  "Trainer.rollout_schedule": "(1, 1, 0, 1)",
  "make_task.learn_reward": "False",
  "Maac.horizon": "4",
  "Maac.num_final_actions": "5",
  "Maac.discount": "0.99",
  "Maac.initial_temperature": "0.1",
  "Maac.critic_targets": "@SteveTargets()",
  "SteveTargets.horizon": "2",
  "Maac.batch_size": "256",
  "Maac.real_fraction": "0.1",
  "Maac.learning_rate": "0.0003",
  "Maac.temperature_learning_rate": "0.0003",
  "ActorCritic.hidden_units": "(256, 256)",
  "ActorCritic.normalize_observations": "False",
  "ActorCritic.bound_values": "False",
  "ActorCritic.polyak_decay": "0.995",
  "ActorCritic.ema_decay": "0.0",
  "Policy.activation": "'tanh'",
  "Critic.activation": "'relu'",
  "Critic.num_critics": "2",
  "Critic.layer_norm": "False",
  "Dynamics.ensemble_size": "8",
  "Dynamics.hidden_units": "(200, 200, 200, 200)",
  "Dynamics.layer_norm": "False",
  "Dynamics.constant_noise": "False",
  "DynamicsFit.max_batches": "None",
  "DynamicsFit.weight_decay": "0.0",
  "DynamicsFit.recent_fraction": "0.0",
}
PAPER_TASKS = {
  "half_cheetah": {"Policy.activation": "'relu'", "Maac.initial_temperature": "1.0"},
  "hopper": {
    "Trainer.updates_per_step": "2",
    "Trainer.rollout_frequency": "500",
    "Trainer.rollout_schedule": "(1, 15, 20, 100)",
    "Critic.activation": "'tanh'",
  },
  "walker2d": {"Maac.horizon": "2", "Critic.activation": "'tanh'"},
  "ant": {"train.iterations": "150", "Trainer.rollout_schedule": "(1, 25, 20, 100)"},
}


@pytest.mark.parametrize("task", PAPER_TASKS)
def test_paper_is_the_setting_of_the_paper(task, monkeypatch):
  """What the authors' runs and ours of them had, task by task."""
  capacities = []

  def small(learner, capacity):  # half a gigabyte, if it were not
    capacities.append(capacity)
    return ImaginedData(learner, 8)

  monkeypatch.setattr(learning, "ImaginedData", small)
  want = PAPER | PAPER_TASKS[task] | {"train.task": repr(task)}
  _load(GIN / "paper" / f"{task}.gin", bindings=())
  values = config.values()
  assert {name: values[name] for name in want} == want
  trainer = make_trainer()
  assert trainer.learning.rounds == 4
  assert capacities == [{"hopper": 10**6, "ant": 10**6}.get(task, 400_000)]
  assert trainer.learner.target_entropy == -trainer.learner.action_size
  assert trainer.learner.critic_targets.draw(trainer.learner, SEED).members.shape == [4]  # of 8


def test_the_default_is_what_maac_gin_says_of_a_task_too():
  """A task file of one line, and that file after maac.gin's values: the same setting."""
  _load(HOPPER, bindings=())
  alone = config.values()
  _load(HOPPER, GIN / "maac.gin", bindings=())
  both = config.values()
  assert alone.pop("Maac.critic_targets") == "None"
  assert both.pop("Maac.critic_targets") == "@RolloutTargets()"
  assert alone == both


@pytest.mark.parametrize(
  ("name", "over", "uses_model", "imagines", "horizon"),
  [
    ("paper/sac.gin", PAPER_HOPPER, False, False, 0),
    ("paper/mbpo.gin", PAPER_HOPPER, True, True, 0),
    ("paper/steve.gin", PAPER_HOPPER, True, False, 3),
    ("baselines/model_free.gin", HOPPER, False, False, 0),
    ("baselines/imagined_data.gin", HOPPER, True, True, 0),
    ("baselines/steve_targets.gin", HOPPER, True, False, 2),
  ],
)
def test_baselines_build_what_they_use(name, over, uses_model, imagines, horizon):
  _load(over, GIN / name)
  learner = make_trainer().learner
  assert learner.horizon == 0 and learner.num_final_actions == 1
  assert type(learner.critic_targets) is SteveTargets
  assert learner.critic_targets.horizon == horizon
  assert (learner.dynamics is not None) == (learner.dynamics_fit is not None) == uses_model
  assert (learner.model_buffer is not None) == imagines


def _paper(*bindings):
  """The paper's hopper in small, with one binding more."""
  _load(PAPER_HOPPER, bindings=[*TINY, *bindings])
  learner = fill(make_trainer().learner)
  return learner, learner.draw(SEED)


def test_the_papers_ablation_of_the_horizon():
  """Maac.horizon = 0: the policy ascends the critics at states that are stored, as in SAC."""
  learner, noise = _paper("Maac.horizon = 0")
  batch, path = batch_and_path(learner, noise)

  def imagined(*arguments):
    raise AssertionError("the policy's objective imagines a step")

  parts = learner.actor_critic
  action, log_prob = parts.policy.act(batch.observation, noise.policy.final_action)
  states = tf.repeat(batch.observation[tf.newaxis], 5, 0)
  value = parts.critic(states, action).numpy().min(0)
  want = np.mean(0.1 * log_prob.numpy() - value)
  np.testing.assert_array_equal(path.final_action, action)
  learner.model_env.random_member = imagined
  assert learner.update(noise)["policy/loss"].numpy() == pytest.approx(want, rel=1e-4)


def test_the_papers_ablation_of_steve():
  """SteveTargets.horizon = 0: one-step targets of stored transitions, as in SAC."""
  learner, noise = _paper("SteveTargets.horizon = 0")
  regression, batch, path = targets(learner, noise)
  assert len(path.trajectory.reward) == 4 and len(path.final_action) == 5  # as it was
  parts = learner.actor_critic
  action, log_prob = parts.policy.act(batch.next_observation, noise.targets.action[0])
  value = parts.target_critic(batch.next_observation, action).numpy().min(0)
  alive = 1.0 - batch.terminal.numpy()
  want = batch.reward + 0.99 * alive * (value - 0.1 * log_prob.numpy())
  np.testing.assert_allclose(regression.targets, want, rtol=1e-5, atol=1e-5)
  assert list(regression.metrics) == ["critic/steve_weight_0"]


@pytest.mark.parametrize("final_actions", [1, 5])
def test_the_papers_ablation_of_the_samples(final_actions):
  """Maac.num_final_actions = 1: of one trajectory and one action at its end (the paper: 5)."""
  learner, noise = _paper(*["Maac.num_final_actions = 1"] * (final_actions == 1))
  batch, path = batch_and_path(learner, noise)
  steps, parts = path.trajectory, learner.actor_critic
  assert len(steps.reward) == 4 and path.final_action.shape == (final_actions, 32, 3)
  total, alive = np.zeros(32), np.ones(32)
  for t in range(4):
    total += 0.99**t * alive * steps.reward[t].numpy()
    alive *= 1.0 - steps.terminal[t].numpy()
  values = [parts.critic(steps.observation[4], a).numpy().min(0) for a in path.final_action]
  total += 0.99**4 * alive * np.mean(values, 0) - 0.1 * steps.log_prob[0].numpy()
  loss = learner.update(noise)["policy/loss"].numpy()
  assert loss == pytest.approx(-total.mean(), rel=1e-4)


def test_what_has_no_effect_is_found():
  def found(names, *bindings, task="pendulum"):
    gin.clear_config()
    gin.parse_config([*TINY, *bindings])
    return config.without_effect(names, unused.options(build_trainer(task)))

  names = {"SteveTargets.horizon", "Maac.horizon", "train.seed", "make_task.learn_reward"}
  assert found(names | {"a_macro"}) == {
    "SteveTargets.horizon": "the critics' targets are RolloutTargets (Maac.critic_targets)",
    "a_macro": "no file that was given uses it",
  }
  sac = (
    "Maac.critic_targets = @SteveTargets()",
    "SteveTargets.horizon = 0",
    "Maac.horizon = 0",
    "Maac.real_fraction = 1.0",
  )
  names = {"Dynamics.ensemble_size", "Trainer.rollout_starts", "Maac.batch_size"}
  assert found({*names, "SteveTargets.horizon"}, *sac).keys() == names - {"Maac.batch_size"}
  names = {"make_task.learn_reward", "make_task.learn_end"}
  assert found(names, *sac, task="ant_v5") == dict.fromkeys(names, "nothing uses the model")
  reason = "the task has no reward function: the reward is learned"
  assert found(names, task="ant_v5") == {"make_task.learn_reward": reason}
