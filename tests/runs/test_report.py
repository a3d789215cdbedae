"""The report: its numbers by hand, its rules, and that documents say what results/ give."""

import json
import re

import numpy as np
import pytest

from maac_tf.runs import report_tables
from tests import commands

RESULTS = commands.ROOT / "results"
TOML = """
[reference.other]
name = "another method"
seeds = "5"
source = "its paper"
task = { 2000 = 77 }
[[table]]
name = "main"
kind = "returns"
file = "README.md"
steps = [1_000, 2_000, 3_000]
rows = [
  { task = "task", name = "Task", setting = "default", label = "ours" },
  { task = "task", name = "Task", reference = "other" },
]
[[table]]
name = "change"
kind = "pairs"
file = "docs/page.md"
rows = [{ task = "task", name = "Task", setting = "wide", baseline = "default", label = "wide" }]
[[table]]
name = "first"
kind = "reached"
file = "docs/page.md"
rows = [{ task = "task", name = "Task", setting = "default", label = "ours", return = 20 }]
"""
RUNS = {
  "default-0": [(1_000, 10.0), (2_000, 20.0), (2_600, 15.0)],
  "default-1": [(1_000, 40.0), (2_000, 60.0)],
  "wide-0": [(1_000, 11.0), (2_000, 26.0), (4_000, 900.0)],
  "wide-1": [(1_000, 50.0), (2_000, 66.0)],
  "wide-2": [(1_000, 7_000.0)],
}


@pytest.fixture
def root(tmp_path):
  folder = tmp_path / "results" / "runs" / "task"
  folder.mkdir(parents=True)
  for name, evaluations in RUNS.items():
    rows = [f"{step},{step / 10},{value},1.0,100" for step, value in evaluations]
    lines = ["env_steps,seconds,return,return_std,length", *rows]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
  (tmp_path / "results" / "report.toml").write_text(TOML)
  (tmp_path / "README.md").write_text("A\n<!-- report:main -->\n<!-- /report:main -->\nB\n")
  (tmp_path / "docs").mkdir()
  page = "".join(
    f"<!-- report:{name} -->\n<!-- /report:{name} -->\n" for name in ("change", "first")
  )
  (tmp_path / "docs" / "page.md").write_text(page)
  return tmp_path


def rows(root, file):
  new = report_tables.documents(str(root))[file][1]
  return [line.strip("| ").split(" | ") for line in new.splitlines() if line.startswith("|")]


def test_returns_at_fixed_steps(root):
  _, _, ours, other = rows(root, "README.md")
  assert ours[1] == "ours" and ours[-1] == "2"
  assert ours[2:4] == ["25 [10, 40]", "40 [20, 60]"]  # two seeds: resamples are these, or both
  assert ours[4] == "15 (n = 1)"  # at 2,600, within 500 of 3,000; the other seed ends before
  assert other == ["Task", "another method", "–", "77", "–", "5"]


def test_differences_are_of_the_same_seeds_and_steps(root):
  change = rows(root, "docs/page.md")[2]
  # Seed 0: (11 + 26 - 10 - 20) / 2, seed 1: (50 + 66 - 40 - 60) / 2; seed 2 has no partner.
  assert change == ["Task", "wide", "+6 [+4, +8]", "32.5", "1,000 to 2,000", "2"]


def test_differences_at_one_step(root):
  toml = root / "results" / "report.toml"
  text = toml.read_text()
  row = re.search(r"rows = \[\{[^}]*baseline = [^}]*", text)[0]
  toml.write_text(text.replace(row, f"{row}, from = 2_000, until = 2_000 "))
  change = rows(root, "docs/page.md")[2]  # 26 - 20 and 66 - 60
  assert change == ["Task", "wide", "+6 [+6, +6]", "40", "2,000", "2"]


def test_when_a_return_is_reached_and_what_comes_after(root):
  first = rows(root, "docs/page.md")[-1]
  assert first[2:] == ["20", "1,000 to 2,000", "2 to 3", "2 of 2", "2", "1", "15"]


def test_gain_of_planning_is_of_the_same_start_seeds(root):
  file = root / "results" / "planning.csv"
  file.write_text("seed,policy,cem\n0,10,13\n1,3000,3003\n2,500,503\n")
  table = {"rows": [{"file": file.name, "label": "ours"}]}
  row = report_tables.planning_table(str(file.parent), table, {}).splitlines()[-1]
  assert row == "| ours | 1,170 | 1,173 | +3.0 [+3.0, +3.0] | +3.0 | 3 |"


def test_the_suite_over_tasks(root):
  results = root / "results"
  (results / "suite.toml").write_text(
    "steps = []\nquick_steps = 1\n[task.task]\nenv_steps = 1\nreference = 110\n"
  )
  (results / "random_returns.csv").write_text("task,return\ntask,10\n")
  toml = results / "report.toml"
  table = """
[[table]]
name = "suite"
kind = "suite"
file = "docs/page.md"
tasks = ["task"]
steps = [2_000]
rows = [{ setting = "default", label = "ours" }, { setting = "wide", label = "wider" }]
"""
  toml.write_text(toml.read_text() + table)
  page = root / "docs" / "page.md"
  page.write_text("<!-- report:suite -->\n<!-- /report:suite -->\n" + page.read_text())
  head, _, ours, wider = rows(root, "docs/page.md")[:4]
  assert head[:2] == ["setting", "2,000 (1 task)"]
  # From 10 to 110: 20 and 60 are 0.1 and 0.5; 26 and 66 are 0.16 and 0.56.
  assert ours[:2] == ["ours", "0.30 [0.10, 0.50]"]
  assert wider[:2] == ["wider", "0.36 [0.16, 0.56]"]
  toml.write_text(toml.read_text().replace('tasks = ["task"]', 'tasks = ["other"]'))
  with pytest.raises(ValueError, match="there is no run .*other/default-SEED"):
    report_tables.documents(str(root))


@pytest.mark.parametrize("count", [2, 3, 8])
def test_an_interval_contains_its_mean_and_is_that_of_resampled_seeds(count):
  values = np.random.default_rng(count).normal(size=[count, 4])
  mean, low, high = report_tables.interval(values)
  np.testing.assert_allclose(mean, values.mean(0))
  assert np.all(low <= mean) and np.all(mean <= high)
  draws = np.random.default_rng(1).integers(count, size=[20_000, count])
  expected = np.quantile(values[draws].mean(1), [0.025, 0.975], axis=0)
  np.testing.assert_allclose([low, high], expected, atol=0.1)


def test_the_nearest_evaluation_and_never_one_too_far(root):
  run = report_tables.read_runs(str(root / "results"), "task", "default")[0]
  assert report_tables.return_at(run, 2_200) == 20.0
  assert report_tables.return_at(run, 2_400) == 15.0
  assert report_tables.return_at(run, 3_100) == 15.0
  assert np.isnan(report_tables.return_at(run, 3_101))
  assert np.isnan(report_tables.return_at(run, 499))


def test_check_notices_a_changed_digit(root):
  assert commands.run("report", "--check", cwd=str(root))[0] == 1  # not written yet
  code, out, _ = commands.run("report", cwd=str(root))
  assert (code, out.splitlines()) == (0, ["Wrote README.md", "Wrote docs/page.md"])
  assert commands.run("report", "--check", cwd=str(root))[:2] == (0, "")
  readme = root / "README.md"
  assert readme.read_text().startswith("A\n<!-- report:main -->\n| task |")
  readme.write_text(readme.read_text().replace("77", "78"))
  code, out, _ = commands.run("report", "--check", cwd=str(root))
  assert code == 1 and out.startswith("README.md: ") and out.count("\n") == 1
  assert "78" in readme.read_text()


@pytest.mark.parametrize(
  "file, old, new, named",
  [
    ("README.md", "<!-- report:main -->", "", "<!-- report:main -->"),
    ("results/report.toml", '"wide", base', '"narrow", base', "task/narrow-SEED.csv"),
    ("results/report.toml", '"other" }', '"nobody" }', "nobody"),
  ],
)
def test_what_is_missing_is_named_in_one_line(root, file, old, new, named):
  path = root / file
  path.write_text(path.read_text().replace(old, new))
  code, out, err = commands.run("report", cwd=str(root))
  assert (code, out, err.count("\n")) == (1, "", 1)
  assert named in err


def test_documents_say_what_results_give():
  changed = [
    f for f, (old, new) in report_tables.documents(str(commands.ROOT)).items() if old != new
  ]
  assert changed == [], "run python -m maac_tf.report"


def test_each_marker_is_that_of_a_table():
  for page in [commands.ROOT / "README.md", *sorted((commands.ROOT / "docs").rglob("*.md"))]:
    for name in re.findall(r"<!-- report:(\w+) -->", page.read_text()):
      toml = (RESULTS / "report.toml").read_text()
      assert f'name = "{name}"' in toml, f"{page}: report.toml has no table {name}"


def test_each_run_says_how_it_was_made():
  tables = sorted(RESULTS.glob("runs/*/*.csv"))
  assert {path.with_suffix(".json") for path in tables} == {*RESULTS.glob("runs/*/*.json")}
  for path in tables:
    made = json.loads(path.with_suffix(".json").read_text())
    keys = {"task", "setting", "seed", "commit", "command", "machine"}
    assert keys <= set(made) <= keys | {"note"}, path
    assert path.parent.name == made["task"] and path.stem.rpartition("-")[2] == str(made["seed"])
    header, *lines = path.read_text().splitlines()
    assert header == "env_steps,seconds,return,return_std,length" and lines, path


def test_outside_a_checkout_one_line_says_what_it_needs(tmp_path):
  code, out, err = commands.run("report", cwd=tmp_path)
  assert code == 1 and out == ""
  assert err.startswith("Error: there is no './results/report.toml': start this in a checkout")
  assert len(err.splitlines()) == 1
