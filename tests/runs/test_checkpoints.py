"""Files of a run that are damaged or gone."""

import os
import shutil

import pytest

from maac_tf.checks import ConfigError
from maac_tf.runs import checkpoints, saved_config
from maac_tf.runs.experiment import restore, train
from tests.runs.conftest import rows_of, step_log

pytestmark = pytest.mark.usefixtures("untraced")


def _half(data):
  return data[: len(data) // 2]


def _bit(data):
  place = len(data) // 3
  return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


DAMAGES = {"empty": lambda _: b"", "binary": lambda _: b"\x80\x04\x95", "half": _half, "bit": _bit}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize(
  "name", ["variables.data-00000-of-00001", "variables.index", "d_model.npz", "state.json",
           "checksums.json"],
)  # fmt: skip
def test_every_damage_to_a_checkpoint_is_seen(original_run, tmp_path, name, damage):
  shutil.copytree(original_run / "checkpoints", tmp_path / "checkpoints")
  log, file = step_log(original_run / "steps.bin"), tmp_path / "checkpoints" / "2" / name
  assert checkpoints.find(str(tmp_path / "checkpoints"), log)[0].env_steps == 380
  file.write_bytes(damage(file.read_bytes()))
  found, damaged = checkpoints.find(str(tmp_path / "checkpoints"), log)
  assert found.env_steps == 340 and list(damaged) == [str(tmp_path / "checkpoints" / "2")]
  file.unlink()
  assert checkpoints.find(str(tmp_path / "checkpoints"), log)[0].env_steps == 340


def test_damaged_steps_are_seen_where_a_checkpoint_needs_them(original_run, tmp_path):
  folder, path = str(original_run / "checkpoints"), tmp_path / "steps.bin"
  data = (original_run / "steps.bin").read_bytes()
  for place, env_steps in ((-100, 340), (1_000, None)):
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    found, damaged = checkpoints.find(folder, step_log(path))
    assert (found and found.env_steps) == env_steps
    assert all("does not hold its" in reason for reason in damaged.values())


def test_a_damaged_checkpoint_is_kept_and_the_one_before_is_taken(finished_run, capsys):
  (finished_run / "checkpoints" / "2" / "variables.data-00000-of-00001").write_bytes(b"")
  (finished_run / "metrics.csv").write_text("env_steps,iteration\n340,one\n")
  assert train(str(finished_run), iterations=2) is None
  err = capsys.readouterr().err
  assert "checkpoints/2' is damaged (variables.data-00000-of-00001 is not as it was" in err
  assert "the one before, of 340 of 380 environment steps, is taken" in err
  assert "metrics.csv' was not as the run wrote it; it is now" in err
  assert [row["env_steps"] for row in rows_of(finished_run)] == ["340", "380"]
  assert (finished_run / "damaged-1-metrics.csv").read_text().endswith("340,one\n")
  assert {f.name for f in (finished_run / "checkpoints").iterdir()} == {"1", "2", "damaged-1-2"}


def test_a_run_without_a_whole_checkpoint_ends_with_one_line(finished_run):
  for number in ("1", "2"):
    (finished_run / "checkpoints" / number / "state.json").write_bytes(b"")
  before = {f: f.read_bytes() for f in finished_run.rglob("*") if f.is_file()}
  with pytest.raises(ConfigError, match=r"No checkpoint in .* is whole .*steps\.bin'\."):
    train(str(finished_run), iterations=3)
  with pytest.raises(ConfigError, match="No checkpoint in .* is whole"):
    restore(str(finished_run))
  assert {f: f.read_bytes() for f in finished_run.rglob("*") if f.is_file()} == before


def test_a_run_of_older_checkpoints_is_left_alone(finished_run):
  shutil.rmtree(finished_run / "checkpoints" / "1")
  os.rename(finished_run / "checkpoints" / "2", finished_run / "checkpoints" / "checkpoint")
  with pytest.raises(ConfigError, match="whose checkpoints this version does not read. Go on"):
    train(str(finished_run), iterations=3)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_configs_that_are_damaged_come_back(finished_run, capsys, damage):
  names = "config.gin", "operative_config.gin"
  texts = [(finished_run / name).read_text() for name in names]
  damaged = [damage(text.encode()) for text in texts]
  for name, data in zip(names, damaged, strict=True):
    (finished_run / name).write_bytes(data)
  assert saved_config.find(str(finished_run)) == str(finished_run / "config.gin")
  assert [(finished_run / name).read_text() for name in names] == texts
  assert [(finished_run / f"damaged-1-{name}").read_bytes() for name in names] == damaged
  err = capsys.readouterr().err.splitlines()
  assert len(err) == 2 and "To change an option, give --gin_param." in err[0]
  shutil.rmtree(finished_run / "checkpoints")
  (finished_run / "config.gin").write_bytes(b"")
  with pytest.raises(
    ConfigError, match="config.gin' is not as the run wrote it, and no checkpoint"
  ):
    saved_config.load(str(finished_run))


def test_what_is_not_there_comes_back(finished_run):
  before = [(finished_run / name).read_bytes() for name in ("config.gin", "metrics.csv")]
  for name in ("config.gin", "metrics.csv", "version.json", "curve.png"):
    (finished_run / name).unlink()
  shutil.rmtree(finished_run / "policy")
  saved_config.load(str(finished_run))
  assert train(str(finished_run), iterations=2) is None
  assert [(finished_run / n).read_bytes() for n in ("config.gin", "metrics.csv")] == before
  assert (finished_run / "policy" / "saved_model.pb").exists()
