"""gin files and bindings: what is loaded, what is refused, what is reported."""

import gin
import pytest

from maac_tf.checks import ConfigError
from maac_tf.runs import config
from tests.algorithm.test_trainer import GIN

HOPPER, PAPER = str(GIN / "hopper.gin"), str(GIN / "paper.gin")
SINGLE_SAMPLE = str(GIN / "ablations" / "single_sample.gin")


def test_differences_ignore_order_comments_and_line_breaks():
  saved = "# Parameters for A:\nA.x = 1\nB.y = \\\n    (1, 2)\ntrain.iterations = 5\n"
  assert not config.differences(saved, "B.y = (1, 2)\n\nA.x = 1\ntrain.iterations = 9\n")
  changed = config.differences(saved, "B.y = (1, 3)\nA.x = 1")
  assert changed == ["- B.y = (1, 2)", "+ B.y = (1, 3)"]


def test_a_macro_of_what_may_change_may_change():
  """A run of gin/paper.gin, where train.iterations = %paper_iterations, is made longer."""
  saved = "paper_iterations = 50\npaper_horizon = 4\ntrain.iterations = %paper_iterations\n"
  assert not config.differences(saved, "paper_horizon = 4\ntrain.iterations = 100\n")
  assert not config.differences(saved, saved.replace("50", "60"))
  changed = config.differences(saved, saved.replace("= 4", "= 5"))
  assert changed == ["- paper_horizon = 4", "+ paper_horizon = 5"]
  saved += "Trainer.eval_episodes = %paper_iterations\n"  # which may not
  assert config.differences(saved, saved.replace("50", "60"))


@pytest.mark.parametrize(
  ("files", "idle"),
  [
    ([HOPPER, PAPER], None),
    ([HOPPER, SINGLE_SAMPLE], SINGLE_SAMPLE),
    ([HOPPER, PAPER, SINGLE_SAMPLE], None),
  ],
  ids=["paper", "same", "ablation"],
)
def test_a_file_that_changes_nothing_is_reported(files, idle, capsys):
  config.load(files)
  warning = capsys.readouterr().err
  assert warning.startswith(f"Warning: {idle} has no effect") if idle else warning == ""


@pytest.mark.parametrize("task", ["hopper", "double_integrator"])
def test_a_task_file_comes_first(task):
  with pytest.raises(ConfigError, match=f"{task}.gin includes maac.gin, .* give it first"):
    config.load([PAPER, str(GIN / f"{task}.gin")])


def test_a_mistake_in_a_file_is_shown_with_its_line(tmp_path):
  (tmp_path / "mine.gin").write_text(f"include '{HOPPER}'\n\nMaac.horizn = 3")
  with pytest.raises(ConfigError, match=r"horizn.*mine.gin\", line 3"):
    config.load([str(tmp_path / "mine.gin")])


def test_paper_gin_alone_asks_for_a_task_file():
  with pytest.raises(ConfigError, match="macro paper_iterations: .* give a task"):
    config.load([PAPER])


def test_a_misspelt_macro_of_the_paper_is_reported(tmp_path, capsys):
  path = tmp_path / "mine.gin"
  path.write_text(f"include '{HOPPER}'\npaper_horizn = 2")
  config.load([str(path), PAPER])
  assert "paper_horizn has no effect" in capsys.readouterr().err
  config.load([HOPPER])
  assert not capsys.readouterr().err


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
  config.load([HOPPER])
  assert gin.query_parameter("Maac.horizon") == 5
  (tmp_path / "mine.gin").write_text(f"include '{HOPPER}'\ntrain.iterations = 3")
  config.load(["mine.gin"])
  assert gin.query_parameter("Maac.horizon") == 5 and gin.query_parameter("train.iterations") == 3


def test_loading_forgets_what_was_loaded_before():
  config.load([HOPPER], ["Maac.critic_horizon = 7"])  # which no file of these binds
  config.load([HOPPER])
  assert "critic_horizon" not in gin.config_str()


@pytest.mark.parametrize(
  ("binding", "message"),
  [
    ("horizon = 0", "'horizon' is no parameter's name: write Maac.horizon or Planner.horizon"),
    ("horizn = 0", "'horizn' is no parameter's name: write OWNER.horizn"),
    ("Policy.hidden_units = (64, 64", "open bracket"),
    ("Maac.soft_returns = false", "it is True and False"),
    ("train.iterations = %typo", "typo"),
  ],
)
def test_a_binding_that_is_none_is_refused(binding, message):
  with pytest.raises(ConfigError, match=message):
    config.load([HOPPER], [binding])
