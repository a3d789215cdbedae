"""Algorithm 1, its data and its schedule; every shipped gin file."""

import pathlib

import gin
import numpy as np
import pytest
import tensorflow as tf

from maac_tf import config
from maac_tf.envs import make_task
from maac_tf.trainer import Trainer
from tests.conftest import TINY

GIN = pathlib.Path(__file__).parent.parent / "gin"
TASK_FILES = sorted(p for p in GIN.glob("*.gin") if p.name != "maac.gin")
ABLATIONS = sorted((GIN / "ablations").glob("*.gin"))


@pytest.mark.parametrize("files", [[t] for t in TASK_FILES] + [
  [GIN / "hopper.gin", a] for a in ABLATIONS
], ids=lambda files: files[-1].stem)  # fmt: skip
def test_every_shipped_gin_file_runs(files):
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
  config.load([str(GIN / "hopper.gin"), str(GIN / "ablations" / f"{name}.gin")], TINY)
  assert getattr(Trainer(make_task("hopper")).agent, setting) == value


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


def test_rollouts_grow_linearly(tiny):
  trainer = Trainer(make_task("pendulum"), rollout_schedule=(1, 15, 20, 100))
  lengths = []
  for iteration in (0, 20, 60, 99, 100, 300):
    trainer.iteration.assign(iteration)
    lengths.append(trainer.rollout_length())
  assert lengths == [1, 1, 8, 14, 15, 15]


def test_rollout_starts_shrink_to_fit_the_buffer(tiny):
  trainer = Trainer(make_task("pendulum"), rollout_schedule=(5, 5, 0, 1), rounds=2)
  trainer.collect(50, random=True)
  for _ in range(2):
    assert trainer.imagine()["imagine/length"] == 5
  assert trainer.agent.model_buffer.size == 2 * 400 * 5  # capacity 4,000: all fit, none is lost


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
    ({"random_steps": 0}, "random_steps must be an integer of 32 or more, not 0"),
    ({"rollout_schedule": (5, 1, 0, 1)}, "rollout_schedule must be"),
    ({"rollout_schedule": (1, 2)}, "rollout_schedule must be four integers"),
    ({"updates_per_step": 0}, "makes no update in a round"),
    ({"random_steps": 5_000}, r"env_capacity \(2000\) must hold"),
  ],
)
def test_impossible_settings_are_refused(tiny, settings, message):
  with pytest.raises(ValueError, match=message):
    Trainer(make_task("pendulum"), **settings)
