"""What is planned before anything is trained."""

import pytest

from maac_tf.checks import ConfigError
from maac_tf.runs import trainings
from maac_tf.runs.suite_tasks import SuiteTask
from tests.conftest import TINY

PENDULUM = SuiteTask("swing", "Reacher-v5", 330)
ANT = SuiteTask("ant", "ant", 410, ("Maac.discount=0.9",))
WITHOUT = "make_task.learn_reward=True"  # as always where there is no function


def _plan(tasks, *variants, grid=()):
  settings = trainings.with_variants("default", [], TINY, variants, grid)
  return trainings.plan(tasks, settings, ["0", "7"], "runs")


def test_every_setting_on_every_task_from_every_seed():
  planned = _plan([PENDULUM, ANT], WITHOUT)
  assert [(t.run_dir, t.seed) for t in planned] == [
    (f"runs/{task}/{name}-{seed}", seed)
    for seed in ("0", "7")
    for task in ("swing", "ant")
    for name in ("default", WITHOUT)
  ]
  by_path = {t.run_dir: t for t in planned}
  command = by_path[f"runs/ant/{WITHOUT}-7"].command
  assert {"--seed=7", "--gin_param=Maac.discount=0.9", f"--gin_param={WITHOUT}"} <= {*command}
  assert "--gin_param=train.task='ant'" in command and "--threads=1" in command
  # 300 random steps, then iterations of 40
  assert "--gin_param=train.iterations=3" in command
  assert by_path["runs/ant/default-0"].env_steps == 420
  assert by_path["runs/swing/default-0"].env_steps == 340
  assert f"--gin_param={WITHOUT}" not in by_path["runs/swing/default-7"].command


def test_a_variant_must_have_an_effect_on_one_of_the_tasks():
  with pytest.raises(ConfigError, match="of 'make_task.learn_reward=True' has no effect: the task"):
    _plan([PENDULUM], WITHOUT)
  with pytest.raises(ConfigError, match="'Maac.discount=0.9' changes nothing"):
    _plan([ANT], "Maac.discount=0.9")  # which the task has already


def test_a_grid_has_every_combination_but_the_setting_itself():
  grid = "Maac.discount=0.9, 0.99", "Critic.hidden_units=(8, 8),(16,)", 'Policy.activation="silu"'
  settings = trainings.with_variants("default", [], [], [], grid[:2])
  assert [s.bindings for s in settings] == [
    (),
    *(
      (f"Maac.discount={d}", f"Critic.hidden_units={u}")
      for d in (0.9, 0.99)
      for u in ("(8, 8)", "(16,)")
    ),
  ]
  planned = _plan([PENDULUM], grid=(grid[0], "Critic.num_critics=5,3", grid[2]))
  names = [t.setting for t in planned if t.seed == "0"]
  silu = 'Policy.activation="silu"'
  assert names == [
    "default",
    f"Maac.discount=0.9,Critic.num_critics=5,{silu}",
    f"Maac.discount=0.9,Critic.num_critics=3,{silu}",
    f"Maac.discount=0.99,Critic.num_critics=3,{silu}",  # without 3, all is as it was
  ]
  with pytest.raises(ConfigError, match=r"as Maac.horizon=1,3, not Maac.horizon\."):
    trainings.with_variants("default", [], [], [], ["Maac.horizon"])


def test_a_variant_may_have_several_bindings():
  _, variant = trainings.with_variants("default", [], [], ["Maac.horizon = 3; Maac.discount=0.9"])
  assert variant.bindings == ("Maac.horizon = 3", "Maac.discount=0.9")
  assert variant.name == "Maac.horizon=3,Maac.discount=0.9"
