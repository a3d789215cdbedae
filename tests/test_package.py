"""What the package shows, and its scripts."""

import os
import sys

import pytest

import maac_tf
from maac_tf.runs import command_line
from tests import commands


def test_the_package_shows_its_public_names_and_imports_none_of_them(tmp_path):
  names = ["ConfigError", "MAAC", "Task", "__version__", "load_policy"]
  assert dir(maac_tf) == names and all(getattr(maac_tf, name) for name in names)
  with pytest.raises(AttributeError, match="no attribute 'trian'"):
    _ = maac_tf.trian
  line = (
    "import sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow'); import maac_tf;"
    "print(*sorted(m for m in sys.modules if m.split('.')[0] in ('maac_tf', 'gin', 'keras')))"
  )
  assert commands.python(line, tmp_path).split() == [
    "maac_tf",
    "maac_tf._quiet_import",
    "maac_tf._streams",
  ]


def test_a_console_script_is_the_module(monkeypatch):
  ran = []
  monkeypatch.setattr(command_line.runpy, "run_module", lambda name, **_: ran.append(name))
  monkeypatch.setattr(sys, "path", list(sys.path))
  for script in ("maac-train", "maac-gradient-error"):
    monkeypatch.setattr(sys, "argv", [f"/somewhere/bin/{script}", "--help"])
    command_line.console_script()
  assert ran == ["maac_tf.train", "maac_tf.gradient_error"]
  assert sys.path[0] == os.getcwd()
