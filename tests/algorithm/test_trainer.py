"""Algorithm 1, its data and its schedule; every shipped gin file."""

import re

import gin
import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
from maac_tf.algorithm.agent_settings import unused_parameters

from maac_tf.algorithm import trainer as trainer_module
from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.trainer import Trainer
from maac_tf.runs import config
from maac_tf.tasks.registry import make_task
from maac_tf.tasks.task import Task
from tests.commands import ROOT
from tests.conftest import TINY

GIN = ROOT / "gin"
TASK_FILES = sorted(p for p in GIN.glob("*.gin") if p.stem not in ("maac", "paper"))
GYMNASIUM = sorted((GIN / "gymnasium").glob("*.gin"))
ABLATIONS = sorted((GIN / "ablations").glob("*.gin"))
BASELINES = sorted((GIN / "baselines").glob("*.gin"))
HOPPER, PAPER = GIN / "hopper.gin", GIN / "paper.gin"
COMBINATIONS = (
  [[t] for t in TASK_FILES + GYMNASIUM]
  + [[t, PAPER] for t in TASK_FILES]
  + [[HOPPER, PAPER, a] for a in ABLATIONS + BASELINES]
  + [[GIN / "gymnasium" / "hopper_v5.gin", b] for b in BASELINES]
  + [[HOPPER, GIN / "ablations" / "h0.gin"]]
  + [[HOPPER, GIN / "without" / f"{f}.gin"] for f in ("shared_rollout", "path_starts")]
)


@pytest.mark.parametrize("files", COMBINATIONS, ids=lambda files: "-".join(f.stem for f in files))
def test_every_shipped_gin_file_runs(files, monkeypatch):
  monkeypatch.setattr(trainer_module, "BEST_EVALUATION_EPISODES", 1)
  config.load([str(f) for f in files], TINY)
  trainer = Trainer(make_task(gin.query_parameter("train.task")))
  row = trainer.run_iteration()
  assert row["env_steps"] == 340 and row["iteration"] == 1
  assert np.isfinite(row["critic/loss"]) and np.isfinite(row["eval/return"])


@pytest.mark.parametrize(
  ("name", "setting", "value"),
  [
    ("h0", "horizon", 0),
    ("no_steve", "critic_horizon", 0),
    ("single_sample", "num_final_actions", 1),
  ],
)
def test_ablations_change_what_they_name(name, setting, value):
  config.load([str(HOPPER), str(PAPER), str(GIN / "ablations" / f"{name}.gin")], TINY)
  assert getattr(Trainer(make_task("hopper")).agent, setting) == value


@pytest.mark.parametrize("over", [[], [PAPER]], ids=["shipped", "paper"])
@pytest.mark.parametrize(
  ("name", "uses_model", "imagines", "uses_steve"),
  [("sac", False, False, False), ("mbpo", True, True, False), ("steve", True, False, True)],
)
def test_baselines_build_what_they_use(name, uses_model, imagines, uses_steve, over):
  files = [HOPPER, *over, GIN / "baselines" / f"{name}.gin"]
  overridden = config.load([str(f) for f in files], TINY) - {t.split(" =")[0] for t in TINY}
  agent = Trainer(make_task("hopper")).agent
  assert agent.horizon == 0 and agent.uses_steve == uses_steve
  assert (agent.dynamics is not None) == (agent.dynamics_fit is not None) == uses_model
  assert (agent.model_buffer is not None) == imagines
  assert config.without_effect(overridden, unused_parameters(agent)) == {}


@pytest.mark.parametrize(
  "file", sorted((GIN / "without").glob("*.gin")), ids=lambda file: file.stem
)
def test_variants_change_what_was_shipped(file):
  """Every value differs from the shipped one and has an effect."""
  own = "kl_penalty", "task_coordinates", "task_symmetries"
  task = "ant_v5" if file.stem in own else "hopper_v5"
  shipped = str(GIN / "gymnasium" / f"{task}.gin")
  names = re.findall(r"(?m)^\S+(?= =)", file.read_text())
  config.load([shipped])
  shipped_config = gin.config_str()
  gin.clear_config()
  config.load([shipped, str(file)], [line for line in TINY if ".hidden_units" in line])
  for name in names:
    assert f"\n{name} = " in shipped_config or name == "Maac.critic_horizon"  # 2 if not bound
    assert f"\n{name} = {gin.query_parameter(name)!r}\n" not in shipped_config
  agent = Trainer(make_task(task)).agent
  assert names and config.without_effect(names, unused_parameters(agent)) == {}


PAPER_SETTING = {
  "Trainer.initial_updates": "0",
  "Trainer.random_steps": "5000",
  "Trainer.episode_steps": "None",
  "Trainer.steps_per_iteration": "1000",
  "Trainer.rounds": "4",
  "Trainer.rollout_starts": "100000",
  "Maac.num_trajectories": "1",
  "Maac.num_final_actions": "5",
  "Maac.soft_returns": "False",
  "Maac.soft_values": "True",
  "Maac.policy_value": "'min'",
  "Maac.discount": "0.99",
  "Maac.shared_rollout": "False",
  "Maac.critic_horizon": "2",
  "Maac.models_per_target": "4",
  "Maac.critics_per_target": "None",
  "Maac.bound_values": "False",
  "Maac.task_coordinates": "False",
  "Maac.task_symmetries": "False",
  "Maac.polyak_decay": "0.995",
  "Maac.policy_decay": "0.0",
  "Maac.kl_penalty": "0.0",
  "Maac.batch_size": "256",
  "Maac.real_fraction": "0.1",
  "Maac.normalize_observations": "False",
  "Maac.learn_reward": "False",
  "Maac.reset_optimizers": "False",
  "Critic.num_critics": "2",
  "Critic.hidden_units": "(256, 256)",
  "Critic.layer_norm": "False",
  "Critic.zero_last_layer": "False",
  "Policy.hidden_units": "(256, 256)",
  "Dynamics.ensemble_size": "8",
  "Dynamics.hidden_units": "(200, 200, 200, 200)",
  "Dynamics.activation": "'swish'",
  "Dynamics.layer_norm": "False",
  "Dynamics.constant_noise": "False",
  "Dynamics.empirical_errors": "0",
  "DynamicsFit.learning_rate": "0.001",
  "DynamicsFit.max_epochs": "200",
  "DynamicsFit.max_batches": "None",
  "DynamicsFit.patience": "5",
  "DynamicsFit.weight_decay": "0.0",
  "DynamicsFit.average_decay": "0.0",
  "DynamicsFit.recent_fraction": "0.0",
}


@pytest.mark.parametrize("task", ["half_cheetah", "hopper", "walker2d", "ant"])
def test_paper_is_the_setting_of_the_paper(task):
  """What the authors' runs and ours of them had (design section 3, results/), task by task."""
  config.load([str(GIN / f"{task}.gin"), str(PAPER)])
  Trainer(make_task(task))
  bindings = {}
  for line in re.sub(r"\\?\n[ \t]+", " ", gin.operative_config_str()).splitlines():
    name, _, value = line.partition(" = ")
    bindings[name] = " ".join(value.split())
  long = {"hopper": "(1, 15, 20, 100)", "ant": "(1, 25, 20, 100)"}
  want = PAPER_SETTING | {
    "Maac.horizon": "2" if task == "walker2d" else "4",
    "Maac.initial_temperature": "1.0" if task == "half_cheetah" else "0.1",
    "Maac.model_capacity": "1000000" if task in long else "400000",
    "Trainer.rollout_schedule": long.get(task, "(1, 1, 0, 1)"),
    "Trainer.updates_per_step": "2" if task == "hopper" else "4",
    "DynamicsFit.variance_weighting": "0.5" if task == "hopper" else "0.0",
    "Policy.activation": "'relu'" if task == "half_cheetah" else "'tanh'",
    "Critic.activation": "'tanh'" if task in ("hopper", "walker2d") else "'relu'",
  }
  got = {}
  for name in want:
    value = bindings[name]
    got[name] = bindings[value[1:]] if value.startswith("%") else value
  assert got == want
  assert repr(gin.query_parameter("train.iterations")) == "%paper_iterations"
  assert gin.query_parameter("paper_iterations/gin.macro.value") == (150 if task == "ant" else 50)


def test_what_has_no_effect_is_found(tiny):
  unused = unused_parameters(Trainer(make_task("pendulum"), rounds=1).agent)
  assert config.without_effect({"Maac.horizon", "train.seed"}, unused) == {}
  agent = Maac(make_task("pendulum"), make_task("pendulum").make_environment(), shared_rollout=True)
  found = config.without_effect(
    {
      "Maac.critic_horizon",
      "Maac.horizon",
      "Maac.task_coordinates",
      "Maac.task_symmetries",
      "paper_horizon",
    },
    unused_parameters(agent),
  )
  assert found == {
    "Maac.task_coordinates": "the task has no coordinates of its own",
    "Maac.task_symmetries": "the task has no symmetries",
    "Maac.critic_horizon": "the critics learn from the policy's own rollouts (Maac.shared_rollout)",
    "paper_horizon": "no file that was given uses it",
  }
  sac = Maac(
    make_task("pendulum"),
    make_task("pendulum").make_environment(),
    horizon=0,
    critic_horizon=0,
    real_fraction=1.0,
  )
  found = config.without_effect(
    {"Dynamics.ensemble_size", "Maac.model_capacity", "Maac.batch_size"}, unused_parameters(sac)
  )
  assert set(found) == {"Dynamics.ensemble_size", "Maac.model_capacity"}
  sac.task = make_task("ant")  # whose coordinates policy and critics see, too
  assert "Maac.task_coordinates" not in unused_parameters(sac)
  assert unused_parameters(sac)["Maac.task_symmetries"] == "nothing uses the model"


def test_the_buffer_holds_what_the_environment_returned(tiny, monkeypatch):
  """Of an ant, whose policy normalises quaternions, which after a reset have another length."""
  gin.parse_config(["Maac.task_coordinates = True", "Trainer.episode_steps = 5"])
  trainer, seen = Trainer(make_task("ant_v5")), []
  reset = type(trainer.environment).reset

  def recorded(self, seed):
    seen.append(reset(self, seed).copy())
    return seen[-1].copy()

  monkeypatch.setattr(type(trainer.environment), "reset", recorded)
  trainer.collect(20, random=True)
  trainer.agent.begin_iteration()
  trainer.collect(20)
  starts = trainer.agent.env_buffer.newest(20).observation.numpy()[::5]
  assert np.abs(np.linalg.norm(starts[:, 1:5], axis=1) - 1).max() > 1e-3
  for start in starts:
    assert np.min(np.abs(np.array(seen) - start).max(1)) == 0.0


def test_the_best_networks_are_kept_and_evaluated_on_other_seeds(tiny, monkeypatch):
  trainer = Trainer(make_task("pendulum"), random_steps=40)
  trainer.collect(40, random=True)
  seeds = []
  run = trainer._run_episodes

  def spy(count, seed):
    seeds.append((count, seed))
    return run(count, seed)

  monkeypatch.setattr(trainer, "_run_episodes", spy)
  first = [v.numpy() for v in trainer.agent.network_variables()]
  assert not trainer.has_best
  assert trainer.keep_best(None) == {
    "best/return": None, "best/return_std": None, "best/env_steps": None,
  }  # fmt: skip
  kept = trainer.keep_best(-500.0)
  assert trainer.best_is_now and trainer.has_best and seeds == [(20, 20_000)]
  assert kept["best/env_steps"] == 40 and kept["best/return"] < -500
  for variable in trainer.agent.network_variables():
    variable.assign_add(tf.ones_like(variable))
  assert trainer.keep_best(-600.0) == kept  # worse: what was best stays
  assert not trainer.best_is_now and len(seeds) == 1
  with trainer.best_networks():
    for variable, value in zip(trainer.agent.network_variables(), first, strict=True):
      np.testing.assert_array_equal(variable, value)
  np.testing.assert_array_equal(trainer.agent.network_variables()[0], first[0] + 1)
  trainer.keep_best(-400.0)
  for variable in trainer.agent.network_variables():
    variable.assign(tf.zeros_like(variable))
  with trainer.best_networks():
    np.testing.assert_array_equal(trainer.agent.network_variables()[0], first[0] + 1)


class _TorqueIsReward(gym.Wrapper):
  def step(self, action):
    observation, _, *others = super().step(action)
    return observation, float(action[0]), *others


@pytest.mark.parametrize(("factor", "learned"), [(1.0, False), (0.5, False), (0.5, True)])
def test_functions_that_are_not_the_environments_are_warned_of(tiny, monkeypatch, factor, learned):
  """In the environment's units, torques in [-2, 2]; not where the reward is learned."""
  gin.parse_config(f"Maac.learn_reward = {learned}")
  warnings = []
  monkeypatch.setattr(
    trainer_module.logging, "warning", lambda *arguments: warnings.append(arguments)
  )
  trainer = Trainer(
    Task("t", lambda: _TorqueIsReward(gym.make("Pendulum-v1")), lambda s, a, n: factor * a[..., 0])
  )
  trainer.run_iteration()
  assert len(warnings) == (factor != 1.0 and not learned), warnings


def test_updates_on_the_random_steps_come_before_the_first_action(tiny):
  """The policy that collects for the first time is not the initial one any more."""
  trainer = Trainer(make_task("pendulum"), initial_updates=30)  # 20 updates an iteration
  updates, acted_after, fitted_after = [], [], []
  train, collect, fit = trainer.agent.train, trainer.collect, trainer.agent.dynamics_fit.fit

  def count(number, seed):
    updates.append(int(number))
    return train(number, seed)

  def note(steps, random=False):
    acted_after.append(sum(updates))
    return collect(steps, random)

  def fitted(seed):
    fitted_after.append(sum(updates))
    return fit(seed)

  trainer.agent.train, trainer.collect, trainer.agent.dynamics_fit.fit = count, note, fitted
  trainer.run_iteration()
  assert acted_after == [0, 40] and fitted_after == [0, 20, 40] and sum(updates) == 60


@pytest.mark.parametrize(
  ("updates", "sizes"), [(20, [20]), (300, [100] * 3), (150, [75, 75]), (101, [51, 50])]
)
def test_the_updates_of_a_round_are_calls_of_two_sizes_at_most(tiny, updates, sizes):
  trainer, shares = Trainer(make_task("pendulum")), []
  trainer.updates_per_round, calls = updates, []
  trainer.agent.train = lambda number, seed: calls.append(number) or {}
  trainer.update(shares.append)
  assert calls == sizes and sum(shares) == pytest.approx(1.0)


def test_time_limit_is_not_termination(tiny):
  trainer = Trainer(make_task("pendulum"))  # episodes of 200 steps
  trainer.collect(450, random=True)
  stored = trainer.agent.env_buffer.gather(tf.range(450))
  assert not np.any(stored.terminal)
  # The next observation of the last step is where it led, not where the next episode starts.
  follows = np.all(stored.next_observation[:-1] == stored.observation[1:], axis=-1)
  assert np.flatnonzero(~follows).tolist() == [199, 399]
  jump = np.abs(stored.next_observation - stored.observation).max()
  assert jump < 1.5  # a step changes the speed by 0.05 (15 sin + 3 torque) = 1.05 at the most


def _collected(trainer, count):
  return trainer.agent.env_buffer.gather(tf.range(count))


def test_an_episode_goes_on_over_iterations(tiny):
  trainer = Trainer(make_task("pendulum"))  # episodes of 200 steps
  returns = [trainer.collect(150)["collect/return"] for _ in range(3)]
  stored = _collected(trainer, 450)
  follows = np.all(stored.next_observation[:-1] == stored.observation[1:], axis=-1)
  assert np.flatnonzero(~follows).tolist() == [199, 399]
  assert returns[0] is None
  np.testing.assert_allclose(returns[1], np.sum(stored.reward[:200]), rtol=1e-5)
  np.testing.assert_allclose(returns[2], np.sum(stored.reward[200:400]), rtol=1e-5)


def test_training_episodes_are_cut_off_and_evaluations_are_not(tiny):
  trainer = Trainer(make_task("pendulum"), episode_steps=80)
  trainer.collect(200)
  stored = _collected(trainer, 200)
  follows = np.all(stored.next_observation[:-1] == stored.observation[1:], axis=-1)
  assert np.flatnonzero(~follows).tolist() == [79, 159]
  assert not np.any(stored.terminal)
  assert trainer.evaluate()["eval/length"] == 200


@pytest.mark.parametrize(
  ("task", "episode_steps"),
  [("pendulum", None), ("pendulum", 65), ("pendulum", 50), ("hopper_v5", None)],  # 130 is 2 * 65
)
def test_a_restored_run_goes_on_with_its_episode(tiny, tmp_path, task, episode_steps):
  trainer, restored = (Trainer(make_task(task), i, episode_steps=episode_steps) for i in (0, 1))
  trainer.collect(130, random=True)
  path = tf.train.Checkpoint(trainer=trainer).write(str(tmp_path / "checkpoint"))
  tf.train.Checkpoint(trainer=restored).restore(path)
  returns = trainer.collect(120), restored.collect(120)
  assert returns[0] == returns[1] and returns[0]["collect/return"] is not None
  for one, other in zip(_collected(trainer, 250), _collected(restored, 250), strict=True):
    np.testing.assert_array_equal(one, other)


def test_rollouts_grow_linearly(tiny):
  trainer = Trainer(make_task("pendulum"), rollout_schedule=(1, 15, 20, 100))
  lengths = []
  for iteration in (0, 20, 60, 99, 100, 300):
    trainer.iteration.assign(iteration)
    lengths.append(trainer.rollout_length())
  assert lengths == [1, 1, 8, 14, 15, 15]


def test_rollout_starts_shrink_to_fit_the_buffer(tiny):
  trainer = Trainer(make_task("pendulum"), rollout_schedule=(20, 20, 0, 1), rounds=2)
  trainer.collect(50, random=True)
  for _ in range(2):
    assert trainer.imagine()["imagine/length"] == 20
    assert trainer.agent.model_buffer.size == 200 * 20  # capacity 4,000: a round fits, none is lost


def test_a_loss_that_is_not_finite_stops_the_run(tiny):
  trainer = Trainer(make_task("pendulum"))
  trainer.agent.critic.trainable_variables[0].assign(
    tf.fill(trainer.agent.critic.trainable_variables[0].shape, float("nan"))
  )
  with pytest.raises(FloatingPointError, match="became nan in iteration 1"):
    trainer.run_iteration()


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"random_steps": 0}, "random_steps must be an integer of 1 or more, not 0"),
    ({"random_steps": 31}, r"random_steps \(31\) must be 32 or more, so that every member"),
    ({"rollout_schedule": (5, 1, 0, 1)}, "rollout_schedule must be"),
    ({"rollout_schedule": (1, 2)}, "rollout_schedule must be .from, to, first, last."),
    ({"rollout_schedule": (1.5, 2, 0, 1)}, "rollout_schedule must be a tuple of integers"),
    ({"episode_steps": 0}, "episode_steps must be an integer of 1 or more, not 0"),
    ({"updates_per_step": 0}, "makes 0 updates an iteration"),
    ({"updates_per_step": 0.52}, "must divide into whole ones"),
    ({"random_steps": 5_000}, r"env_capacity \(2000\) must hold"),
  ],
)
def test_impossible_settings_are_refused(tiny, settings, message):
  with pytest.raises(ValueError, match=message):
    Trainer(make_task("pendulum"), **settings)
