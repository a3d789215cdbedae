"""Which code a run was made by, so that it can be made again."""

import functools
import json
import os
import re
import subprocess

import maac_tf

FILE = "version.json"


def current() -> dict[str, str | None]:
  """The package's version and, in a checkout, its commit ("+" after it: with changes)."""
  folder = os.path.dirname(os.path.abspath(maac_tf.__file__))
  return {"maac_tf": maac_tf.__version__, "commit": _commit(folder)}


@functools.cache  # what was imported does not change, and a run asks at each iteration
def _commit(folder: str) -> str | None:

  def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)

  try:
    tracked = git("ls-files", "--error-unmatch", "__init__.py")
    commit = git("rev-parse", "HEAD")
    changes = git("status", "--porcelain", "--untracked-files=no")
  except OSError:  # no git
    return None
  if tracked.returncode or commit.returncode:
    return None
  return commit.stdout.strip() + "+" * bool(changes.stdout.strip())


def record(run_dir: str, resumed: bool) -> dict[str, object]:
  """What version.json holds: the version that began the run, and others that went on with it."""
  now: dict[str, object] = dict(current())
  try:
    with open(os.path.join(run_dir, FILE)) as file:
      record = dict(json.load(file))
  except (OSError, TypeError, ValueError):
    if not resumed:
      return now
    record = dict.fromkeys(now)  # it is not known
  found = record.get("resumed_by", [])
  others = [v for v in found if v != now] if isinstance(found, list) else []
  if {name: record.get(name) for name in now} != now:
    others.append(now)
  return record | ({"resumed_by": others} if others else {})


def of_run(run_dir: str) -> dict[str, str | None]:
  """The version that a run was begun by, as of `current`; None for what is not known."""
  try:
    with open(os.path.join(run_dir, FILE)) as file:
      found = json.load(file)
    return {name: _plain(found[name]) for name in ("maac_tf", "commit")}
  except (OSError, ValueError, KeyError, TypeError):
    return {"maac_tf": None, "commit": None}


def _plain(text: object) -> str | None:
  """None for what is no version or commit: it is printed."""
  return text if isinstance(text, str) and re.fullmatch(r"[\w.+-]{1,80}", text) else None


def dataset_of(run_dir: str) -> str | None:
  """What a run took its first steps from, see `datasets.read`; None for its environment."""
  try:
    with open(os.path.join(run_dir, FILE)) as file:
      return str(json.load(file)["dataset"]["source"])
  except (OSError, ValueError, KeyError, TypeError):
    return None


def describe(run_dir: str) -> str:
  """The version that a run was begun by, for a message."""
  version, commit = of_run(run_dir).values()
  return f"maac_tf {version or 'of an unknown version'}, commit {commit or 'unknown'}"
