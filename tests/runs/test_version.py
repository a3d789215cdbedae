"""Which code a run is of."""

import json
import subprocess

import maac_tf
from maac_tf.runs import version
from tests.commands import ROOT


def test_the_version_is_that_of_the_checkout(finished_run):
  found = json.loads((finished_run / "version.json").read_text())
  git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
  head = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
  assert found["maac_tf"] == maac_tf.__version__
  # "+": with changes. Nothing where the package is no checkout.
  assert found["commit"] in (head, f"{head}+") if head else found["commit"] is None


def test_a_run_remembers_who_began_it_and_who_went_on(tmp_path, monkeypatch):
  file = tmp_path / "version.json"
  records, (first, second, third) = [], [{"maac_tf": v, "commit": None} for v in "123"]
  for i, now in enumerate((first, first, second, second, third, first)):
    monkeypatch.setattr(version, "current", lambda now=now: now)
    records.append(version.record(str(tmp_path), resumed=i > 0))
    file.write_text(json.dumps(records[-1]))
  assert records[0] == records[1] == first
  assert records[2] == records[3] == first | {"resumed_by": [second]}
  assert records[4] == first | {"resumed_by": [second, third]}
  assert records[5]["commit"] is None and records[5]["maac_tf"] == "1"
  assert version.describe(str(tmp_path)) == "maac_tf 1, commit unknown"
  file.write_text("cut o")  # in mid-write
  assert version.describe(str(tmp_path)) == "maac_tf of an unknown version, commit unknown"
  unknown = {"maac_tf": None, "commit": None}
  assert version.record(str(tmp_path), resumed=True) == unknown | {"resumed_by": [first]}


def test_a_package_outside_a_checkout_has_no_commit(monkeypatch, tmp_path):
  monkeypatch.setattr(maac_tf, "__file__", str(tmp_path / "__init__.py"))
  assert version.current() == {"maac_tf": maac_tf.__version__, "commit": None}
