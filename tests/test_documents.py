"""What the documents link to exists, and every command in them is one that can be given."""

import ast
import importlib
import itertools
import multiprocessing
import os
import re
import shlex
import sys

import gin
import numpy as np
import pytest
from absl import flags

import maac_tf.algorithm.planner  # noqa: F401  (its options)
from maac_tf import checks
from maac_tf.runs import config
from maac_tf.tasks.registry import find_task
from tests.commands import ROOT
from tests.learners import eagerly

PAGES = [
  ROOT / f"{name}.md" for name in ("README", "BUILD", "CONTRIBUTING", "CHANGELOG", "SECURITY")
]
PAGES += [ROOT / "results" / "README.md"]
PAGES += sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)
SOURCES = [*sorted((ROOT / "maac_tf").glob("*.py")), *sorted((ROOT / "examples").glob("*.py"))]


def anchors(page):
  """Those that GitHub gives to a page's headings, if no two are alike."""
  headings = re.findall(r"(?m)^#+ (.*)$", page.read_text())
  return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page):
  text = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text())
  targets = re.findall(r"\]\(([^)\s]+)\)", text)
  targets += re.findall(r"\{(?:literalinclude|include)\} (\S+)", page.read_text())
  for target in targets:
    path, _, anchor = target.partition("#")
    linked = page.parent / path if path else page
    if target.startswith(("http://", "https://")):
      continue
    if not linked.exists() or (anchor and anchor not in anchors(linked)):
      yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
  assert list(dead_links(page)) == []


def test_a_dead_link_is_found(tmp_path):
  page = tmp_path / "page.md"
  page.write_text(
    "# A Heading, here\n[a](page.md#a-heading-here) [b](#nowhere) [c](nothing.png)\n"
    "```{literalinclude} nothing.py\n```\n"
  )
  assert list(dead_links(page)) == ["#nowhere", "nothing.png", "nothing.py"]


def commands_in(text):
  """Arguments, after `python -m maac_tf.`, of every command in a text; those of train.sh, too."""
  text = re.sub(r"\\\n\s*", "", text)
  for line in re.findall(r"(?:python -m maac_tf\.|\./launch/)(\w[^`\n]*)", text):
    words = shlex.split(re.split(r"  #|  +|\.$", line)[0], comments=True)
    if words[0] == "train.sh":
      yield ["train", *words[1:]]
    elif not words[0].endswith(".sh") and words[0] != "NAME":
      yield words


def problem_with(command):
  """What is wrong with a command, None if nothing is; in a process that has no flags."""
  name, *arguments = command
  try:
    importlib.import_module(f"maac_tf.{name}")
    rest = flags.FLAGS([name, *arguments])[1:]
    if name != "plot" and rest:
      return f"unknown arguments {rest}"
    files, bindings = ([*getattr(flags.FLAGS, n, [])] for n in ("gin_file", "gin_param"))
    variants = flags.FLAGS.variant if name == "suite" else []
    for variant in [None, *variants]:
      more = [variant] if variant else []
      is_binding = bool(more) and "=" in variant
      config.load(files + more * (not is_binding), bindings + more * is_binding)
      values = config.values()
      for option in checks.options():
        if values[option.name][0] not in "@%<":  # no object, macro or value that must be given
          option.check(ast.literal_eval(values[option.name]))
      if files and name != "suite" and not gin.get_bindings("train").get("task"):
        return "no task"
  except (Exception, SystemExit) as error:
    return f"{type(error).__name__}: {error}"
  finally:  # the next command has flags of the same names
    for flag in list(flags.FLAGS.flags_by_module_dict().get(f"maac_tf.{name}", [])):
      delattr(flags.FLAGS, flag.name)
    sys.modules.pop(f"maac_tf.{name}", None)
  return None


@pytest.fixture(scope="module")
def pool():
  """A process of its own: here, flags of commands that other tests import may have been defined."""
  with multiprocessing.get_context("forkserver").Pool(1, _in_project) as pool:
    yield pool


def _in_project():
  os.chdir(ROOT)
  sys.path.insert(0, str(ROOT))


def test_every_command_of_the_documents_can_be_given(pool):
  texts = {page: page.read_text() for page in PAGES}
  texts |= {path: ast.get_docstring(ast.parse(path.read_text())) or "" for path in SOURCES}
  found = [(path, words) for path, text in texts.items() for words in commands_in(text)]
  unique = {tuple(words): path for path, words in found if path != ROOT / "CHANGELOG.md"}
  assert len(unique) > 30
  problems = pool.map(problem_with, unique)
  assert [
    (str(path.relative_to(ROOT)), " ".join(words), problem)
    for (words, path), problem in zip(unique.items(), problems, strict=True)
    if problem
  ] == []


@pytest.mark.parametrize(
  "command, problem",
  [
    ("trian --gin_file=gin/hopper.gin", "No module"),
    ("train --gin_fiel=gin/hopper.gin", "Unknown command line flag"),
    ("train --gin_file=gin/hoper.gin", "no gin file"),
    ("train --gin_file=gin/hopper.gin --gin_param=Maac.horizn=3", "horizn"),
    ("train --gin_file=gin/hopper.gin --gin_param=Maac.horizon=-3", "Maac.horizon"),
    ("train --gin_file=gin/maac.gin", "no task"),
    ("suite --gin_file=gin/hopper.gin --variant=Maac.horizn=3", "horizn"),
    ("evaluate runs/first", "unknown arguments"),
  ],
)
def test_a_wrong_command_is_found(pool, command, problem):
  assert problem in pool.apply(problem_with, (command.split(),))


def test_commands_are_found_in_a_page():
  text = "A `python -m maac_tf.plot runs --out=x` and\n\n    ./launch/train.sh --seed=1  # once\n"
  assert list(commands_in(text)) == [["plot", "runs", "--out=x"], ["train", "--seed=1"]]


SMALL = (
  "Maac.horizon = 1",
  "Trainer.random_steps = 100",
  "Trainer.initial_updates = 0",
  "Trainer.steps_per_iteration = 20",
  "Trainer.updates_per_step = 0.1",
  "Trainer.rollout_frequency = 2",
  "Trainer.eval_every = 20",
  "Trainer.eval_episodes = 1",
  "Maac.batch_size = 16",
  "Maac.env_capacity = 200",
  "ActorCritic.hidden_units = (8, 8)",
  "Dynamics.hidden_units = (8, 8)",
  "Dynamics.ensemble_size = 2",
  "DynamicsFit.max_batches = 2",
)


def test_the_learner_of_the_documents_keeps_its_temperature(monkeypatch, capsys):
  monkeypatch.chdir(ROOT)
  monkeypatch.syspath_prepend(str(ROOT))
  with eagerly():
    trainer = importlib.import_module("examples.own_learner").main(1, SMALL)
  learner = trainer.learner
  want = 0.1 * learner.actor_critic.reward_scale
  np.testing.assert_allclose(learner.temperature, want, rtol=1e-6)  # a step: 3e-4
  assert " 120 steps: return -" in capsys.readouterr().out


def test_the_task_of_the_documents_is_that_of_its_environment(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))
  task = find_task("examples.own_task:balance")
  environment, rng, rows = task.make_environment(), np.random.default_rng(0), []
  task.check_functions(environment.observation_size, environment.action_size)
  for seed in itertools.count():
    observation, step = environment.reset(seed), None
    while step is None or not (step.terminal or step.truncated):
      action = rng.uniform(-1.0, 1.0, 1).astype(np.float32)
      step = environment.step(action)
      scaled = environment.action_box.units_in_numpy(action)
      rows.append((observation, scaled, step.reward, step.observation, step.terminal))
      observation = step.observation
    if len(rows) > 200:
      break
  columns = [np.asarray(column) for column in zip(*rows, strict=True)]
  assert columns[-1].sum() > 5
  assert task.disagreements(*columns) == []
