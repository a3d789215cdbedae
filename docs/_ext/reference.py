"""Reference tables from the code: the directive `generated` puts one into a page.

    ```{generated} options
    ```

Each table is a function of this file that returns Markdown.
"""

import importlib
import inspect
import pathlib
import re
import sys

import gin
from absl import flags
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

import maac_tf.algorithm.planner
import maac_tf.runs.experiment  # noqa: F401  (what they import declares its options)
from maac_tf import checks
from maac_tf.tasks import TASKS
from maac_tf.tasks.task import never_terminates

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMANDS = sorted(
  path.stem for path in (ROOT / "maac_tf").glob("[a-z]*.py") if path.stem != "checks"
)


def _table(titles, rows):
  """A Markdown table."""
  lines = [titles, ["---"] * len(titles), *rows]
  cells = ([str(cell).replace("|", r"\|").replace("\n", " ") for cell in line] for line in lines)
  return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _summary(documented):
  """The first paragraph of a docstring, on one line."""
  return " ".join(inspect.getdoc(documented).split("\n\n")[0].split())


def options() -> str:
  """Every option by its owner, in the order of gin/maac.gin."""
  text = (ROOT / "gin" / "maac.gin").read_text()
  order = list(dict.fromkeys(re.findall(r"(?m)^(\w+)\.", text)))
  owners = {}
  for option in checks.options():
    owners.setdefault(option.name.partition(".")[0], []).append(option)
  parts = []
  for owner in sorted(owners, key=order.index):
    target = _target(owner)
    path = inspect.getsourcefile(inspect.unwrap(target))
    parts += [f"## {owner}", f"{_summary(target)} (`{path.removeprefix(f'{ROOT}/')}`)"]
    rows = [(f"`{o.name}`", o.expected(), _default(o), o.option.doc) for o in owners[owner]]
    parts.append(_table(("option", "is", "default", "what it is"), rows))
  return "\n\n".join(parts)


def _target(owner):
  """The class or function of this package that has the name."""
  for name, module in list(sys.modules.items()):
    if name.startswith("maac_tf."):
      found = vars(module).get(owner)
      if getattr(found, "__module__", None) == name:
        return found
  raise LookupError(owner)


def _default(option):
  if option.default is gin.REQUIRED:
    return "must be given"
  if option.name == "Maac.critic_targets":
    return "`@RolloutTargets()`"
  return f"`{option.default!r}`"


def commands() -> str:
  """Every command with its flags."""
  parts = []
  for name in COMMANDS:
    module = importlib.import_module(f"maac_tf.{name}")
    description = inspect.getdoc(module)
    description = re.sub(r"(?m)^(python -m .*(?:\n .*)?)$", r"```\n\1\n```", description)
    parts += [f"## {name}", description]
    rows = []
    for flag in list(flags.FLAGS.flags_by_module_dict().get(module.__name__, [])):
      if name != "benchmark" or flag.name != "json":  # for its own processes
        default = "" if flag.default in (None, []) else f"`{flag.default!r}`"
        rows.append((f"`--{flag.name}`", _kind(flag), default, _help(flag)))
      delattr(flags.FLAGS, flag.name)  # the next command has one of this name, too
    parts.append(_table(("flag", "is", "default", "what it is"), rows))
  return "\n\n".join(parts)


def _kind(flag):
  kind, choices = flag.flag_type(), getattr(flag.parser, "enum_values", None)
  repeatable = ", repeatable" if kind.startswith("multi ") else ""
  kind = " or ".join(choices) if choices else kind.removeprefix("multi ")
  return kind.replace("comma separated list of strings", "list with commas") + repeatable


def _help(flag):
  """Without what absl adds to it."""
  text = re.sub(r"^<.*?>: *", "", flag.help)
  return re.sub(r";\s+repeat this option.*", "", text, flags=re.DOTALL)


def tasks() -> str:
  """Every task with its sizes and what it knows."""
  files = {path: path.read_text() for path in sorted((ROOT / "gin").rglob("*.gin"))}
  rows = []
  for name, task in TASKS.items():
    environment = task.make_environment()
    spec = environment.env.unwrapped.spec
    of_task = [p for p, text in files.items() if re.search(rf"(?m)^train.task = '{name}'", text)]
    rows.append(
      (
        f"`{name}`",
        "<br>".join(f"`{path.relative_to(ROOT)}`" for path in of_task),
        spec.id if spec else "this package's",
        f"{environment.observation_size}, {environment.action_size}",
        environment.env.get_wrapper_attr("_max_episode_steps"),
        "given" if task.reward_fn else "learned",
        "never" if task.termination_fn is never_terminates else "given",
      )
    )
    environment.close()
  titles = (
    "task", "gin files", "physics of", "S, A", "time limit", "reward function",
    "termination function",
  )  # fmt: skip
  return _table(titles, rows)


class Generated(Directive):
  """Parses what the function of that name returns as part of the page."""

  required_arguments = 1

  def run(self):
    text = {"options": options, "commands": commands, "tasks": tasks}[self.arguments[0]]()
    section = nodes.section()
    section.document = self.state.document
    self.state.nested_parse(StringList(text.splitlines(), ""), 0, section, match_titles=1)
    return section.children


def setup(app):
  app.add_directive("generated", Generated)
  return {"parallel_read_safe": True}
