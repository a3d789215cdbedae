"""Links, checkpoints and rows in somebody else's run: nothing outside of it is touched."""

import json
import os
import pathlib
import pickle
import shutil
import zlib

import gin
import numpy as np
import pytest

from maac_tf import MAAC
from maac_tf.checks import ConfigError
from maac_tf.runs import sealed, version
from maac_tf.runs.experiment import restore, train
from tests import commands
from tests.conftest import BARE
from tests.runs.conftest import it_ran, snapshot, write_into_config


def _link_to_file(place, target):
  place.unlink(missing_ok=True)
  place.symlink_to(target / "precious")


def _link_to_folder(place, target):
  shutil.rmtree(place, ignore_errors=True)
  place.symlink_to(target)


LINKS = {
  "metrics.csv": _link_to_file,
  "config.gin": _link_to_file,
  "steps.bin": _link_to_file,
  "version.json": _link_to_file,
  "curve.png": _link_to_file,
  ".curve.png": _link_to_file,
  ".metrics.csv": _link_to_file,
  ".events": _link_to_file,
  ".lock": _link_to_file,
  "unused_steps.bin": _link_to_file,
  "diagnosis.png": _link_to_file,
  "events.out.tfevents.1.film": _link_to_file,
  "checkpoints/1/state.json": _link_to_file,
  "checkpoints": _link_to_folder,
  "checkpoints/1": _link_to_folder,
  "checkpoints/.new": _link_to_folder,
  "policy": _link_to_folder,
  ".policy": _link_to_folder,
  ".old-policy": _link_to_folder,
  "policy_last/variables": _link_to_folder,
  "policy_saved_model": lambda place, target: place.symlink_to(target / "new"),
  "pipe": lambda place, _: os.mkfifo(place),
}


@pytest.mark.parametrize(("name", "make"), LINKS.items(), ids=LINKS)
def test_a_link_in_a_run_is_refused(theirs, tmp_path, name, make):
  target = tmp_path / "target"
  target.mkdir()
  (target / "precious").write_text("a year of work")
  make(theirs / name, target)
  before = snapshot(tmp_path)
  gin.parse_config(BARE)
  for use in (
    lambda: train(str(theirs), iterations=2),
    lambda: restore(str(theirs)),
    lambda: MAAC.load(theirs),
    lambda: MAAC(run_dir=theirs, gin_files="gin/pendulum.gin"),
  ):
    with pytest.raises(ConfigError, match=f"{name}' is (a link|no plain file)"):
      use()
  assert snapshot(tmp_path) == before


def test_the_run_itself_may_be_a_link(theirs, tmp_path):
  (tmp_path / "link").symlink_to(theirs)
  assert restore(str(tmp_path / "link")).env_steps == 340


def _states(run, change):
  """Changes the newest checkpoint, with the checksums that it should then have."""
  folder = run / "checkpoints" / "1"
  state = json.loads((folder / "state.json").read_text())
  sums = json.loads((folder / "checksums.json").read_text())
  change(state, sums)
  text = json.dumps(state)
  (folder / "state.json").write_text(text)
  (folder / "checksums.json").write_text(
    json.dumps(sums | {"state.json": zlib.crc32(text.encode())})
  )


STATES = {
  "a file above": lambda state, sums: sums.update({"../../../precious": 0}),
  "a file in a folder": lambda state, sums: sums.update({"a/b": 0}),
  "a whole path": lambda state, sums: sums.update({"/etc/passwd": 0}),
  "the folder": lambda state, sums: sums.update({"": 0}),
  "the folder above": lambda state, sums: sums.update({"..": 0}),
  "no texts": lambda state, sums: state.update(texts={}),
  "other texts": lambda state, sums: state.update(texts=[1, 2]),
  "a text that is none": lambda state, sums: state["texts"].update({"metrics.csv": 3}),
  "no number of steps": lambda state, sums: state.update(env_steps="340"),
  "steps below zero": lambda state, sums: state.update(env_steps=-1),
}


@pytest.mark.parametrize("change", STATES.values(), ids=STATES)
def test_a_state_that_names_other_files_is_damaged(theirs, change):
  _states(theirs, change)
  with pytest.raises(ConfigError, match="No checkpoint in .* is whole") as error:
    restore(str(theirs))
  assert "\n" not in str(error.value)


class _Evil:
  def __reduce__(self):
    return open, ("it ran", "w")


def _pickled(columns):
  np.savez("new.npz", **(columns | {"reward": np.array([_Evil()], dtype=object)}))


@pytest.mark.parametrize(
  "write",
  [_pickled, lambda columns: np.savez("new.npz", reward=columns["reward"]),
   lambda columns: pathlib.Path("new.npz").write_bytes(pickle.dumps(_Evil())),
   lambda columns: pathlib.Path("new.npz").write_bytes(b"PK\3\4 no archive")],
  ids=["a pickle", "a column alone", "a pickle alone", "no archive"],
)  # fmt: skip
def test_numbers_that_are_a_program_are_refused(theirs, write):
  folder = theirs / "checkpoints" / "1"
  with np.load(folder / "d_model.npz") as columns:
    write(dict(columns))
  shutil.move("new.npz", folder / "d_model.npz")
  pathlib.Path("it ran").unlink(missing_ok=True)  # to write it is no proof
  checksum = zlib.crc32((folder / "d_model.npz").read_bytes())
  _states(theirs, lambda state, sums: sums.update({"d_model.npz": checksum}))
  with pytest.raises(ConfigError, match="is of other networks than"):
    restore(str(theirs))
  assert not it_ran()


@pytest.mark.parametrize(
  "text", ["env_steps\n", "env_steps,x\n1,2\n", "env_steps,seconds/total\nmany,1\n"]
)
def test_rows_that_are_none_are_one_line(theirs, text):
  _states(theirs, lambda state, sums: state["texts"].update({"metrics.csv": text}))
  (theirs / "version.json").write_text('{"maac_tf": "\\u001b[2J", "resumed_by": 5}')
  gin.parse_config(BARE)
  if "," not in text:  # no row is as good as none yet
    assert train(str(theirs), iterations=1) is None
    assert version.describe(str(theirs)).startswith("maac_tf of an unknown version, commit ")
    return
  with pytest.raises(ConfigError, match="The rows that a checkpoint has of .* are none"):
    train(str(theirs), iterations=1)


def test_the_copy_of_a_config_is_no_better_than_the_config(theirs):
  text = sealed.seal("import evil\n")
  _states(theirs, lambda state, sums: state["texts"].update({"config.gin": text}))
  (theirs / "config.gin").write_text("damaged")
  with pytest.raises(ConfigError, match="'import evil' would run code"):
    restore(str(theirs))
  assert not it_ran()


def test_what_only_reads_curves_runs_nothing_and_writes_through_no_link(theirs, tmp_path):
  write_into_config(theirs, "import evil")
  runs = tmp_path / "runs" / "pendulum"
  runs.mkdir(parents=True)
  theirs.rename(runs / "theirs-0")
  code, _, err = commands.run("plot", "runs", cwd=tmp_path)
  assert (code, err) == (0, ""), err
  report = "suite", "--notrain", "--run_dir=runs"
  (tmp_path / "precious").write_text("a year of work")
  (tmp_path / "runs" / "suite.csv").symlink_to(tmp_path / "precious")
  code, _, err = commands.run(*report, cwd=tmp_path)
  assert code == 1 and err.startswith("Error: 'runs/suite.csv' is a link"), err
  (tmp_path / "runs" / "suite.csv").unlink()
  code, _, err = commands.run(*report, cwd=tmp_path)
  assert (code, err) == (0, ""), err
  assert (tmp_path / "precious").read_text() == "a year of work" and not it_ran()
