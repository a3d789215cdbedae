"""The tables and figures of README.md and docs/, drawn from results/ as results/report.toml says.

A table stands between the markers `<!-- report:NAME -->` and `<!-- /report:NAME -->` of a document.
Shapes: N seeds, T evaluations.
"""

import csv
import glob
import os
import re
import tomllib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from maac_tf.checks import ConfigError
from maac_tf.runs import runtimes, suite_report, suite_tasks
from maac_tf.runs.aggregates import interval
from maac_tf.runs.curves import Run, return_at, until
from maac_tf.runs.plotting import pyplot
from maac_tf.runs.tables import MISSING, markdown, number

if TYPE_CHECKING:  # it takes a second to import
  from matplotlib.artist import Artist
  from matplotlib.axes import Axes


def read_runs(results: str, task: str, setting: str) -> list[Run]:
  """The runs results/runs/TASK/SETTING-SEED.csv, one a seed.

  Raises:
    ValueError: if there is none.
  """
  runs = []
  for path in sorted(glob.glob(os.path.join(results, "runs", task, f"{setting}-[0-9]*.csv"))):
    with open(path, newline="") as file:
      rows = list(csv.DictReader(file))
    steps, seconds, returns = (
      np.array([float(row[name] or "nan") for row in rows])
      for name in ("env_steps", "seconds", "return")
    )
    seed = os.path.splitext(path)[0].rpartition("-")[2]
    runs.append(Run(task, setting, seed, steps, seconds / 3_600, returns))
  if not runs:
    raise ValueError(f"there is no run {results}/runs/{task}/{setting}-SEED.csv")
  return runs


def differences(
  runs: Sequence[Run], baseline: Sequence[Run], start: float = 0, end: float = np.inf
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Mean returns of runs less those of the baseline's runs with the same seeds.

  Returns:
    The differences [N], the baseline's means [N], and the environment steps [T] that they are over:
    those from `start` to `end` at which each of these 2 N runs has an evaluation.

  Raises:
    ValueError: if there is no such seed or step.
  """
  partners = {run.seed: run for run in baseline}
  pairs = [(run, partners[run.seed]) for run in runs if run.seed in partners]
  each = [run.steps[(run.steps >= start) & (run.steps <= end)] for pair in pairs for run in pair]
  steps = each[0] if each else np.array([])
  for other in each[1:]:
    steps = np.intersect1d(steps, other)
  if not steps.size:
    names = f"{runs[0].task}: {runs[0].method} and {baseline[0].method}"
    raise ValueError(f"{names} have no seeds and steps in common")
  means = np.array(
    [[run.returns[np.isin(run.steps, steps)].mean() for run in pair] for pair in pairs]
  )
  return means[:, 0] - means[:, 1], means[:, 1], steps


def returns_table(results: str, table: dict[str, Any], report: dict[str, Any]) -> str:
  """Return at fixed environment steps: a row a setting of a task, or a published reference."""
  lines = [["task", "setting", *(f"{step:,}" for step in table["steps"]), "seeds"]]
  for row in table["rows"]:
    if "reference" in row:
      known = report["reference"][row["reference"]]
      published = [known[row["task"]].get(str(step)) for step in table["steps"]]
      cells = [MISSING if value is None else number(value) for value in published]
      lines.append([row["name"], known["name"], *cells, known["seeds"]])
      continue
    runs, cells = read_runs(results, row["task"], row["setting"]), []
    for step in table["steps"]:
      values = np.array([return_at(run, step) for run in runs])
      values = values[np.isfinite(values)]
      fewer = f" (n = {values.size})" if 0 < values.size < len(runs) else ""
      cells.append(_cell(values) + fewer if values.size else MISSING)
    lines.append([row["name"], row["label"], *cells, str(len(runs))])
  return markdown(lines)


def pairs_table(results: str, table: dict[str, Any], report: dict[str, Any]) -> str:
  """Paired differences of the mean return: a row a setting, less a baseline of the same seeds.

  Over the steps of all, or those of a row's `from` and `until`; where these are equal, at one step.
  """
  lines = [["task", "change", "difference", "mean without the change", "steps", "pairs"]]
  for row in table["rows"]:
    setting, baseline = (read_runs(results, row["task"], row[k]) for k in ("setting", "baseline"))
    span = row.get("from", 0), row.get("until", np.inf)
    change, without, steps = differences(setting, baseline, *span)
    over = " to ".join(f"{step:,.0f}" for step in np.unique(steps[[0, -1]]))
    cells = [_cell(change, "+,.0f"), number(without.mean()), over, str(change.size)]
    lines.append([row["name"], row["label"], *cells])
  return markdown(lines)


def reached_table(results: str, table: dict[str, Any], report: dict[str, Any]) -> str:
  """When a return was first reached, least to most over seeds, and what came after it."""
  lines = [["task", "setting", "reaches", "environment steps", "minutes", "seeds"]]
  lines[0] += ["evaluations after", "of these a fifth below the one before", "least"]
  for row in table["rows"]:
    runs = read_runs(results, row["task"], row["setting"])
    reached = [run for run in runs if run.returns.max() >= row["return"]]
    first = [(run.returns >= row["return"]).argmax() for run in reached]
    steps = [run.steps[i] for run, i in zip(reached, first, strict=True)]
    minutes = [60 * run.hours[i] for run, i in zip(reached, first, strict=True)]
    later = [run.returns[i:] for run, i in zip(reached, first, strict=True)]
    falls = sum(np.sum(returns[1:] < 0.8 * returns[:-1]) for returns in later)
    after = [value for returns in later for value in returns[1:]]
    cells = [number(row["return"]), _range(steps), _range(minutes)]
    least = number(min(after)) if after else MISSING
    cells += [f"{len(reached)} of {len(runs)}", str(len(after)), str(falls), least]
    lines.append([row["name"], row["label"], *cells])
  return markdown(lines)


def speed_table(results: str, table: dict[str, Any], report: dict[str, Any]) -> str:
  """Measurements of `python -m maac_tf.benchmark`: a row a setting of a CSV, a column a part."""
  lines: list[list[str]] = []
  units: dict[str, str] = {}
  for row in table["rows"]:
    with open(os.path.join(results, row["file"]), newline="") as file:
      measured = {m["part"]: m for m in csv.DictReader(file) if m["setting"] == row["setting"]}
    units |= {part: m["unit"] for part, m in measured.items()}
    cells = [measured.get(part, {}).get("value") for part in table["parts"]]
    lines.append([row["label"], *(number(float(c)) if c else MISSING for c in cells)])
  return markdown([["", *(f"{part} [{units[part]}]" for part in table["parts"])], *lines])


def planning_table(results: str, table: dict[str, Any], report: dict[str, Any]) -> str:
  """CSVs of `maac_tf.evaluate --planner`: the gain is of episodes from the same start seeds."""
  lines = [["policy", "without planning", "with planning", "gain", "least gain", "episodes"]]
  for row in table["rows"]:
    with open(os.path.join(results, row["file"]), newline="") as file:
      pairs = [(float(r["policy"]), float(r["cem"])) for r in csv.DictReader(file)]
    without, planned = np.array(pairs).T
    gain = planned - without
    cells = [number(without.mean()), number(planned.mean()), _cell(gain, "+,.1f")]
    lines.append([row["label"], *cells, f"{gain.min():+,.1f}", str(gain.size)])
  return markdown(lines)


def gradient_table(results: str, table: dict[str, Any], report: dict[str, Any]) -> str:
  """Columns of the gradient study's CSV against H, over its seeds."""
  lines = [["", *(f"H = {h}" for h in table["horizons"]), "seeds"]]
  for row in table["rows"]:
    with open(os.path.join(results, row["file"]), newline="") as file:
      rows = [(int(r["H"]), float(r[row["column"]])) for r in csv.DictReader(file)]
    values = [np.array([value for h, value in rows if h == at]) for at in table["horizons"]]
    cells = [_cell(v, ".2f") for v in values]
    lines.append([row["label"], *cells, str(values[0].size)])
  return markdown(lines)


def suite_table(results: str, table: dict[str, Any], report: dict[str, Any]) -> str:
  """Interquartile means of normalised returns over tasks of results/suite.toml: a row a setting."""
  tasks = suite_tasks.read(os.path.join(results, "suite.toml")).tasks
  labels = {row["setting"]: row["label"] for row in table["rows"]}
  groups = {(t, s): read_runs(results, t, s) for t in table["tasks"] for s in labels}
  base = next(iter(labels))
  found = suite_report.numbers(groups, tasks, table["steps"], base)
  head, *lines = suite_report.total_table(found)
  return markdown([head, *([labels[setting], *cells] for setting, *cells in lines)])


def policies_table(results: str, table: dict[str, Any], report: dict[str, Any]) -> str:
  """What the pre-trained policies say of themselves."""
  lines = [["policy", "return", "episodes", "environment steps of training", "code"]]
  for name in runtimes.policies():
    about = runtimes.load(os.path.join(runtimes.POLICIES, name)).metadata
    mean_and_std = " ± ".join(number(about[key]) for key in ("return", "return_std"))
    steps, commit = f"{about['env_steps']:,}", about["commit"][:7]
    lines.append([f"`{name}`", mean_and_std, str(about["episodes"]), steps, commit])
  return markdown(lines)


def csv_table(results: str, table: dict[str, Any], report: dict[str, Any]) -> str:
  """A CSV as it is."""
  with open(os.path.join(results, table["csv"]), newline="") as file:
    return markdown(list(csv.reader(file)))


KINDS: dict[str, Callable[[str, dict[str, Any], dict[str, Any]], str]] = {
  "returns": returns_table,
  "pairs": pairs_table,
  "reached": reached_table,
  "speed": speed_table,
  "planning": planning_table,
  "gradient": gradient_table,
  "suite": suite_table,
  "policies": policies_table,
  "csv": csv_table,
}


def replace(text: str, name: str, table: str) -> str:
  """The document with that table between its markers.

  Raises:
    ValueError: if it has no such markers.
  """
  begin, end = f"<!-- report:{name} -->", f"<!-- /report:{name} -->"
  pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
  if not pattern.search(text):
    raise ValueError(f"it has no markers {begin} and {end}")
  return pattern.sub(lambda _: f"{begin}\n{table}\n{end}", text)


def documents(root: str) -> dict[str, tuple[str, str]]:
  """Each document that report.toml names: as it is, and as it is with the tables of results/.

  Raises:
    ValueError: for a run, a reference, a marker or a kind of table that is not there.
  """
  results, report = _read(root)
  texts = {}
  for table in report.get("table", []):
    name, file = table["name"], table["file"]
    if file not in texts:
      with open(os.path.join(root, file)) as document:
        texts[file] = (document.read(),) * 2
    try:
      old, new = texts[file]
      texts[file] = old, replace(new, name, KINDS[table["kind"]](results, table, report))
    except (ValueError, ConfigError) as error:
      raise ValueError(f"{file}: table {name}: {error}") from error
    except KeyError as error:
      raise ValueError(f"{file}: table {name}: report.toml has no {error}") from error
  return texts


def draw_figures(root: str) -> list[str]:
  """Draws the figures of report.toml and returns their paths.

  A panel a task: a faint line a seed, the mean and its interval at the environment steps that all
  seeds have, and published means as points.
  """
  results, report = _read(root)
  plt, paths = pyplot(), []
  for figure in report.get("figure", []):
    panels, columns = figure["panels"], figure["columns"]
    paths.append(os.path.join(root, figure["file"]))
    rows = -(-len(panels) // columns)
    drawing, axes = plt.subplots(
      rows, columns, figsize=(4.3 * columns, 3 * rows + 0.4), squeeze=False, layout="constrained"
    )
    for panel, ax in zip(panels, axes.flat, strict=True):
      _draw_panel(ax, results, panel, report.get("reference", {}))
    for ax in axes[:, 0]:
      ax.set_ylabel("return")
    for ax in axes[-1]:
      ax.set_xlabel("environment steps [thousands]")
    handles: dict[str, Artist] = {}
    for ax in axes.flat:
      handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    drawing.legend(
      handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False
    )
    os.makedirs(os.path.dirname(paths[-1]), exist_ok=True)
    drawing.savefig(paths[-1], dpi=150)
    plt.close(drawing)
  return paths


def _draw_panel(
  ax: "Axes", results: str, panel: dict[str, Any], references: dict[str, Any]
) -> None:
  end = panel["until"]
  for color, line in enumerate(panel["lines"]):
    runs = [until(run, end) for run in read_runs(results, panel["task"], line["setting"])]
    steps = runs[0].steps
    for run in runs:
      ax.plot(run.steps / 1_000, run.returns, color=f"C{color}", alpha=0.45, linewidth=0.8)
      steps = np.intersect1d(steps, run.steps)
    band = interval(np.stack([run.returns[np.isin(run.steps, steps)] for run in runs]))
    ax.fill_between(steps / 1_000, band.low, band.high, color=f"C{color}", alpha=0.2, linewidth=0)
    ax.plot(steps / 1_000, band.mean, color=f"C{color}", linewidth=2.2, label=line["label"])
  for name in panel.get("references", []):
    published = {int(s): value for s, value in references[name][panel["task"]].items()}
    x = [step for step in published if step <= end]
    ax.plot(
      np.divide(x, 1_000),
      [published[s] for s in x],
      "D",
      label=references[name]["name"],
      color="0.15",
      markersize=6,
      zorder=3,
      clip_on=False,
    )
  ax.set(title=panel["title"], xlim=(0, end / 970), ylim=(0 if ax.dataLim.y0 >= 0 else None, None))
  ax.yaxis.set_major_formatter("{x:,.0f}")
  ax.grid(alpha=0.3)
  ax.spines[["top", "right"]].set_visible(False)


def _read(root: str) -> tuple[str, dict[str, Any]]:
  results = os.path.join(root, "results")
  with open(os.path.join(results, "report.toml"), "rb") as file:
    report = tomllib.load(file)
  for entry in (*report.get("table", []), *report.get("figure", [])):
    name = entry.get("file", "")
    if os.path.isabs(name) or os.path.normpath(name).split(os.sep)[0] == os.pardir:
      raise ValueError(f"report.toml names {name!r}, which is outside of its checkout")
  return results, report


def _range(values: Sequence[float]) -> str:
  if not values:
    return MISSING
  least, most = f"{min(values):,.0f}", f"{max(values):,.0f}"
  return least if least == most else f"{least} to {most}"


def _cell(values: np.ndarray, form: str = ",.0f") -> str:
  mean, low, high = (format(float(x), form) for x in interval(values))
  return mean if values.size == 1 else f"{mean} [{low}, {high}]"
