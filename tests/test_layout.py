"""The floors of the house: imports go down only."""

import ast

import pytest

from tests.commands import ROOT

PACKAGE = ROOT / "maac_tf"
# From the top. The commands are modules of the package itself; `analysis` looks at finished runs.
FLOORS = (
  ("commands",),
  ("analysis",),
  ("runs",),
  ("algorithm",),
  ("models",),
  ("networks",),
  ("tasks",),
  ("data",),
  ("files", "replicas"),
  ("checks",),
  ("__init__",),
  ("_quiet_import", "_streams"),
)
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def _floor(parts):
  """The floor of a module, from the parts of its name after `maac_tf`."""
  return LEVEL.get(parts[0], LEVEL["commands"]) if parts else LEVEL["__init__"]


def _imported(path):
  """Modules of this package that a file imports, by the parts of their names."""
  for node in ast.walk(ast.parse(path.read_text())):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}: a relative import"
      names = [f"{node.module}.{alias.name}" for alias in node.names]
    yield from (name.split(".")[1:] for name in names if name.split(".")[0] == "maac_tf")


@pytest.mark.parametrize(
  "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_go_down_only(path):
  own = path.relative_to(PACKAGE).with_suffix("").parts
  for parts in _imported(path):
    assert _floor(parts) > _floor(own) or parts[0] == own[0], (
      f"{'.'.join(own)} imports {'.'.join(parts)}"
    )


def _classes(path):
  return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef)]


@pytest.mark.parametrize(
  "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_classes_and_their_constructors_are_small(path):
  """At most 250 lines, and 15 parameters; of what is built from parts, each is named."""
  built_of_parts = path.parent.name in ("algorithm", "models", "networks")
  for node in _classes(path):
    assert node.end_lineno - node.lineno + 1 <= 250, node.name
    for method in node.body:
      if isinstance(method, ast.FunctionDef) and method.name == "__init__":
        arguments = method.args
        names = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        assert len(names) - 1 <= 15, node.name
        assert not (built_of_parts and (arguments.kwarg or arguments.vararg)), node.name
