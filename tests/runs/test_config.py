"""gin files and bindings: what is loaded, what is refused, what is reported."""

import gin
import pytest

from maac_tf.checks import ConfigError
from maac_tf.runs import config
from maac_tf.runs.experiment import make_trainer
from tests.commands import ROOT

GIN = ROOT / "gin"
HOPPER, PAPER = str(GIN / "hopper.gin"), str(GIN / "paper" / "maac.gin")
SAC = str(GIN / "paper" / "sac.gin")


def test_differences_ignore_order_comments_and_line_breaks():
  saved = "# Parameters for A:\nA.x = 1\nB.y = \\\n    (1, 2)\ntrain.iterations = 5\n"
  assert not config.differences(saved, "B.y = (1, 2)\n\nA.x = 1\ntrain.iterations = 9\n")
  changed = config.differences(saved, "B.y = (1, 3)\nA.x = 1")
  assert changed == ["- B.y = (1, 2)", "+ B.y = (1, 3)"]


def test_a_macro_of_what_may_change_may_change():
  saved = "n = 50\nm = 4\ntrain.iterations = %n\n"
  assert not config.differences(saved, "m = 4\ntrain.iterations = 100\n")
  assert not config.differences(saved, saved.replace("50", "60"))
  changed = config.differences(saved, saved.replace("= 4", "= 5"))
  assert changed == ["- m = 4", "+ m = 5"]
  saved += "Trainer.eval_episodes = %n\n"  # which may not
  assert config.differences(saved, saved.replace("50", "60"))


def test_a_difference_is_a_new_option_and_another_default_too():
  """Operative configs hold the defaults: nothing is the same because it was not said."""
  saved = "A.x = 1\nA.y = 2\n"
  assert config.differences(saved, saved) == []
  assert config.differences(saved, saved + "A.new = None\n") == ["+ A.new = None"]
  assert config.differences(saved, "A.x = 1\nA.y = 3\n") == ["- A.y = 2", "+ A.y = 3"]
  assert config.differences(saved, "A.x = 1\n") == ["- A.y = 2"]


def test_unknown_options_are_those_that_nothing_declares():
  text = "m = 3\nMaac.horizon = 2\nMaac.soft_returns = True\nx/Planner.horizon = 1\n"
  assert config.unknown(text) == {"Maac.soft_returns"}


def test_values_are_what_is_in_force():
  config.load([HOPPER], ["Maac.horizon = 3", "n = 7", "train.iterations = %n"])
  values = config.values()
  assert values["Maac.horizon"] == "3" and values["Maac.discount"] == "0.99"
  assert values["train.task"] == "'hopper'" and values["n"] == "7"


@pytest.mark.parametrize(
  ("files", "idle"),
  [
    ([HOPPER, PAPER], None),
    ([HOPPER, PAPER, SAC], None),
    ([HOPPER, "same.gin"], "same.gin"),
  ],
  ids=["paper", "baseline", "same"],
)
def test_a_file_that_changes_nothing_is_reported(files, idle, tmp_path, capsys):
  (tmp_path / "same.gin").write_text("Maac.horizon = 5\n")
  config.load([tmp_path / file if file == idle else file for file in files])
  warning = capsys.readouterr().err
  assert f"{idle} has no effect" in warning if idle else warning == ""


@pytest.mark.parametrize("task", ["hopper", "double_integrator", "paper/ant"])
def test_a_task_file_comes_first(task):
  with pytest.raises(ConfigError, match=f"{task}.gin sets the task: give it first"):
    config.load([PAPER, str(GIN / f"{task}.gin")])


def test_a_mistake_in_a_file_is_shown_with_its_line(tmp_path):
  (tmp_path / "mine.gin").write_text(f"include '{HOPPER}'\n\nMaac.horizn = 3")
  with pytest.raises(ConfigError, match=r"horizn.*mine.gin\", line 3"):
    config.load([str(tmp_path / "mine.gin")])


def test_a_value_in_a_file_that_is_none_is_shown_with_its_line(tmp_path):
  (tmp_path / "mine.gin").write_text(f"include '{HOPPER}'\n\nMaac.horizon = three  # steps\n")
  with pytest.raises(ConfigError, match=r"mine.gin, line 3: Maac.horizon must be .*, not three \("):
    config.load([str(tmp_path / "mine.gin")])


def test_a_file_without_a_task_asks_for_one():
  config.load([PAPER])
  with pytest.raises(ConfigError, match="No task: give --env=ENVIRONMENT or a task file"):
    make_trainer()


def test_a_scope_is_refused():
  with pytest.raises(ConfigError, match="^x/Maac.horizon: gin's scopes mean nothing"):
    config.load([HOPPER], ["x/Maac.horizon = 3"])


def test_macros_of_a_user_are_theirs(tmp_path, capsys):
  """A run of it can be made longer; one that nothing uses is reported."""
  (tmp_path / "mine.gin").write_text("n = 100\ntrain.iterations = %n")
  config.load([str(tmp_path / "mine.gin")], ["train.iterations = 400"])
  assert capsys.readouterr().err == ""
  (tmp_path / "mine.gin").write_text("horizon = 3\nMaac.horizon = 2")
  config.load([str(tmp_path / "mine.gin")])
  assert "Warning: horizon has no effect: it is no" in capsys.readouterr().err


def test_a_file_includes_what_is_in_its_own_folder(tmp_path, monkeypatch):
  """Not what has the same name in the folder that the command runs in."""
  (tmp_path / "maac.gin").write_text("Maac.horizon = 77")
  monkeypatch.chdir(tmp_path)
  config.load([str(GIN / "paper" / "hopper.gin")])
  assert gin.query_parameter("Maac.horizon") == 4
  (tmp_path / "mine.gin").write_text(f"include '{HOPPER}'\ntrain.iterations = 3")
  config.load(["mine.gin"])
  assert (
    gin.query_parameter("train.task") == "hopper" and gin.query_parameter("train.iterations") == 3
  )


def test_loading_forgets_what_was_loaded_before():
  config.load([HOPPER], ["SteveTargets.horizon = 7"])
  config.load([HOPPER])
  assert "SteveTargets" not in gin.config_str()


@pytest.mark.parametrize(
  ("binding", "message"),
  [
    ("horizon = 0", "'horizon' is no option's name: write Maac.horizon or Planner"),
    ("horizn = 0", "'horizn' is no option's name: write OWNER.horizn"),
    ("Dynamics.hidden_units = (64, 64", "open bracket"),
    ("Maac.jit_compile = false", "Maac.jit_compile must be True or False, not false"),
    ("Maac.horizon = three", "Maac.horizon must be an integer of 0 or more, not three .text needs"),
    ("Maac.horizon =", "Maac.horizon must be an integer of 0 or more, not nothing"),
    ("Maac.discount = 0,99", "Maac.discount must be a number from 0 to .*, not 0,99"),
    ("Dynamics.hidden_units = 64 64", "must be a tuple of integers of 1 or more, not 64 64"),
    ("Maac.critic_targets = SteveTargets()", "not SteveTargets.. .write @NAME"),
    ("Maac.horizon : 3", "Maac.horizon : 3 .text needs quotes"),
    ("train.iterations = %typo", "typo"),
    ("Maac.horizn = 3", "horizn"),
    ("Mac.horizon = 3", "Mac"),
  ],
)
def test_a_binding_that_is_none_is_refused(binding, message):
  with pytest.raises(ConfigError, match=message):
    config.load([HOPPER], [binding])
