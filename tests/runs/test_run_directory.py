"""What a run leaves behind, and what resuming does to it."""

import json
import os
import re
import shutil

import filelock
import gin
import numpy as np
import pytest
import tensorflow as tf

import maac_tf
from maac_tf.algorithm.evaluator import Evaluator
from maac_tf.checks import ConfigError
from maac_tf.runs import config, saved_config, sealed
from maac_tf.runs.experiment import train
from tests.runs.conftest import rows_of, step_log

pytestmark = pytest.mark.usefixtures("untraced")


def _event_steps(path):
  steps = []
  for file in sorted(path.glob("events.out.tfevents.*")):
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
      event = tf.compat.v1.Event.FromString(record)
      steps += [event.step] if event.summary.value else []
  return steps


def test_a_run_leaves_all_of_its_files(finished_run):
  assert {f.name for f in finished_run.iterdir() if f.name[0] not in ".e"} == {
    "config.gin", "operative_config.gin", "metrics.csv", "checkpoints", "policy", "policy_last",
    "curve.png", "version.json", "steps.bin",
  }  # fmt: skip
  rows = rows_of(finished_run)
  assert [row["env_steps"] for row in rows] == ["340", "380"]
  assert all(row.pop("collect/return") == "" for row in rows)  # no episode ended
  for row in rows:
    for name, value in row.items():  # a correlation needs values that differ
      assert np.isfinite(float(value)) if value else name.startswith("eval/q_"), name
  assert set(_event_steps(finished_run)) == {0, 300, 340, 380}
  assert _event_steps(finished_run).count(300) == 3  # of an evaluation before the first update
  assert (finished_run / "curve.png").read_bytes().startswith(b"\x89PNG")
  assert "Maac.horizon = 1" in (finished_run / "operative_config.gin").read_text()


def test_what_came_after_the_checkpoint_is_dropped(finished_run):
  """As after a kill between writing a row and the end of its checkpoint."""
  shutil.rmtree(finished_run / "checkpoints" / "2")
  steps = (finished_run / "steps.bin").read_bytes()
  with open(finished_run / "metrics.csv", "a") as file:
    file.write("420,3,-1.0")  # cut off by the kill
  assert train(str(finished_run), iterations=1) is None  # there is nothing left to do
  assert [row["env_steps"] for row in rows_of(finished_run)] == ["340"]
  assert set(_event_steps(finished_run)) == {0, 300, 340}
  before = float(rows_of(finished_run)[0]["seconds/total"])
  assert train(str(finished_run), iterations=2) is None
  assert [row["env_steps"] for row in rows_of(finished_run)] == ["340", "380"]
  assert set(_event_steps(finished_run)) == {0, 300, 340, 380}
  assert float(rows_of(finished_run)[1]["seconds/total"]) > before
  assert (finished_run / "steps.bin").read_bytes() == steps
  assert step_log(finished_run / "unused_steps.bin").rows == 40  # which the simulator took again


def test_a_run_killed_before_its_first_checkpoint_starts_again(finished_run):
  shutil.rmtree(finished_run / "checkpoints")
  lines = (finished_run / "metrics.csv").read_text().splitlines(keepends=True)
  (finished_run / "metrics.csv").write_text("".join(lines[:2]))
  assert train(str(finished_run), iterations=1) is None
  assert [row["env_steps"] for row in rows_of(finished_run)] == ["340"]


def test_metrics_without_their_checkpoints_are_not_overwritten(finished_run):
  shutil.rmtree(finished_run / "checkpoints")
  before = (finished_run / "metrics.csv").read_text()
  with pytest.raises(ConfigError, match="but no checkpoint to resume"):
    train(str(finished_run), iterations=3)
  assert (finished_run / "metrics.csv").read_text() == before


def test_another_config_is_refused_and_run_length_is_not(finished_run):
  with pytest.raises(ConfigError) as error:
    with gin.unlock_config():
      gin.bind_parameter("Maac.discount", 0.5)
    train(str(finished_run), iterations=3)
  assert "+ Maac.discount = 0.5" in str(error.value)
  with gin.unlock_config():
    gin.bind_parameter("Maac.discount", 0.97)
    gin.bind_parameter("Trainer.eval_every", 20)
    gin.bind_parameter("Trainer.replay_on_resume", False)
  assert train(str(finished_run), iterations=3) is None
  assert [row["iteration"] for row in rows_of(finished_run)] == ["1", "2", "3"]


def test_policy_is_of_the_best_evaluation_also_after_a_kill(bare, tmp_path, monkeypatch):
  evaluations = iter([-0.5, -3.0, -1.0, -2.0])  # the first is of a policy that learned nothing yet
  monkeypatch.setattr(
    Evaluator,
    "evaluate",
    lambda self: {"eval/return": next(evaluations), "eval/return_std": 0.0, "eval/length": 200.0},
  )
  run, observation = tmp_path / "run", tf.random.stateless_normal([9, 3], [1, 2])

  def actions(name):
    policy = tf.saved_model.load(str(run / name))
    return policy.signatures["serving_default"](observation=observation)["action"].numpy()

  train(str(run), iterations=2)
  best = actions("policy")
  np.testing.assert_array_equal(best, actions("policy_last"))
  train(str(run), iterations=3)
  np.testing.assert_array_equal(actions("policy"), best)
  last = actions("policy_last")
  assert not np.array_equal(last, best)
  assert [row["best/env_steps"] for row in rows_of(run)] == ["340.0", "380.0", "380.0"]
  shutil.rmtree(run / "policy")  # as a kill between two renames leaves it
  train(str(run), iterations=3)
  np.testing.assert_array_equal(actions("policy"), best)
  np.testing.assert_array_equal(actions("policy_last"), last)


def test_a_folder_with_other_things_is_refused(bare, tmp_path):
  (tmp_path / "thesis.tex").write_text("all of it")
  with pytest.raises(ConfigError, match="is not empty and not a run"):
    train(str(tmp_path), iterations=1)
  assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_run_is_trained_by_one_process_at_a_time(finished_run):
  with filelock.FileLock(finished_run / ".lock"):
    with pytest.raises(ConfigError, match="Another process is training in"):
      train(str(finished_run), iterations=3)
  assert len(rows_of(finished_run)) == 2


def test_a_file_in_place_of_the_folder_is_refused(bare, tmp_path):
  (tmp_path / "run").write_text("")
  with pytest.raises(ConfigError, match="File exists"):
    train(str(tmp_path / "run"), iterations=1)


def test_a_path_that_is_a_pattern_to_tensorflow_is_refused(bare, tmp_path):
  with pytest.raises(ConfigError, match=r"run\[1\].* for a pattern of file names"):
    train(str(tmp_path / "run[1]"), iterations=1)
  assert not any(tmp_path.iterdir())


def test_nothing_is_created_for_a_wrong_value(bare, tmp_path):
  gin.parse_config("Maac.horizon = -1")
  with pytest.raises(ConfigError, match="Maac.horizon must be"):
    train(str(tmp_path / "run"), iterations=1)
  assert not (tmp_path / "run").exists()


def _changed(path, old, new):
  """As by another version, which sealed it."""
  text = path.read_text().rpartition("# CRC")[0]
  assert len(re.findall(old, text)) == 1
  path.write_text(sealed.seal(re.sub(old, new, text)))


@pytest.mark.parametrize(
  ("old", "new", "difference"),
  [
    (r"Trainer.cut_off_episodes = True\n", "", r"\+ Trainer.cut_off_episodes = True"),
    (
      "Maac.num_final_actions = 1",
      "Maac.num_final_actions = 2",
      r"- Maac.num_final_actions = 2\n\+ Maac.num_f.*1",
    ),
    ("Maac.num_final", "Maac.soft = 3\nMaac.num_final", "- Maac.soft = 3"),
  ],
  ids=["a_new_option", "another_default", "an_option_that_is_gone"],
)
def test_a_run_of_other_options_or_defaults_is_refused(finished_run, old, new, difference):
  """Though what its user set is the same; the difference is shown, and which code it was of."""
  _changed(finished_run / "operative_config.gin", old, new)
  before = {f: f.read_bytes() for f in finished_run.rglob("*") if f.is_file()}
  with pytest.raises(ConfigError, match=difference) as error:
    train(str(finished_run), iterations=3)
  commit = json.loads((finished_run / "version.json").read_text())["commit"]
  assert f"its code was of maac_tf {maac_tf.__version__}, commit {commit}" in str(error.value)
  assert {f: f.read_bytes() for f in finished_run.rglob("*") if f.is_file()} == before


def test_a_run_with_options_that_this_code_does_not_know_is_refused(finished_run):
  _changed(finished_run / "config.gin", "Maac.horizon", "Maac.soft_returns = True\nMaac.horizon")
  (finished_run / "version.json").write_text('{"maac_tf": "0.0.7", "commit": null}')
  with pytest.raises(ConfigError) as error:
    saved_config.load(str(finished_run))
  assert "a run of maac_tf 0.0.7, commit unknown" in str(error.value)
  assert "does not know: Maac.soft_returns. " in str(error.value)
  (finished_run / "version.json").unlink()  # older still
  with pytest.raises(
    ConfigError, match="a run of maac_tf of an unknown version, commit unknown, with options"
  ):
    saved_config.load(str(finished_run))


def test_a_mistake_of_the_users_is_not_taken_for_an_old_run(finished_run):
  with pytest.raises(ConfigError, match="horizn") as error:
    saved_config.load(str(finished_run), ["Maac.horizn = 3"])
  assert "does not know" not in str(error.value)
  with pytest.raises(ConfigError, match="There is no run in"):
    saved_config.load(str(finished_run.parent))
  saved_config.load(str(finished_run), ["Maac.horizon = 3"])
  assert config.values()["Maac.horizon"] == "3" and config.values()["Maac.batch_size"] == "32"
