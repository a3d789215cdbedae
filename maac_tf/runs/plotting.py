"""Every figure: of one run, of many runs, of a diagnosis, of the gradient study."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from maac_tf.runs import curves

if TYPE_CHECKING:
  from matplotlib.figure import Figure

Groups = dict[tuple[str, str], list[curves.Run]]  # by (task, method)


def plot_run(metrics_csv: str, path: str | None = None) -> "Figure":
  """Draws return and model loss against environment steps from a metrics.csv, into a PNG if asked.

  Where a run took none, against iterations.

  A notebook's figures, and the windows of a program, stay as they are: this one is of neither.
  """
  from matplotlib.figure import Figure  # here, not above, as in `pyplot`

  metrics = curves.read_metrics(metrics_csv)
  steps, what = metrics["env_steps"], "environment steps"
  if not steps.any():
    steps, what = metrics["iteration"], "iterations, without environment steps"
  figure = Figure(figsize=(7, 6), layout="constrained")
  top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
  evaluated = np.isfinite(metrics["eval/return"])
  x, mean = steps[evaluated], metrics["eval/return"][evaluated]
  std = metrics["eval/return_std"][evaluated]
  collected = np.isfinite(metrics["collect/return"])  # where an episode ended
  top.plot(
    steps[collected], metrics["collect/return"][collected], color="0.7", label="while collecting"
  )
  top.fill_between(x, mean - std, mean + std, alpha=0.2, linewidth=0)
  top.plot(x, mean, marker=".", label="deterministic policy, mean ± std over episodes")
  top.set_ylabel("return")
  top.legend(loc="best", frameon=False)
  if "model/validation_loss" in metrics:
    bottom.plot(steps, metrics["model/validation_loss"], marker=".")
  bottom.set_ylabel("model loss [nats]")
  bottom.set_xlabel(what)
  for axes in (top, bottom):
    axes.grid(alpha=0.3)
  if path:
    figure.savefig(path, dpi=120, format="png")
  return figure


def plot_curves(groups: Groups, axis: str, paths: list[str]) -> None:
  """Draws return, a panel a task, a colour a method; a faint line a seed.

  Args:
    groups: runs by (task, method).
    axis: "steps" or "hours".
    paths: of PNG, SVG or whatever Matplotlib writes, by their extensions.
  """
  plt = pyplot()
  from matplotlib import ticker

  tasks, color = list(dict.fromkeys(task for task, _ in groups)), _method_colors(groups)
  figure, panels = plt.subplots(
    1, len(tasks), figsize=(5 * len(tasks) + 2, 4), squeeze=False, layout="constrained"
  )
  for (task, method), runs in groups.items():
    axes = panels[0, tasks.index(task)]
    lines = [(getattr(run, axis), run.returns) for run in runs]
    for line in lines:
      axes.plot(*line, color=color[method], alpha=0.3, linewidth=0.8)
    band = curves.band(lines)
    if band:
      axes.plot(band.x, band.mean, color=color[method], linewidth=2)
      axes.fill_between(band.x, band.low, band.high, color=color[method], alpha=0.15, linewidth=0)
  for task, axes in zip(tasks, panels[0], strict=True):
    axes.set_title(task)
    if axis == "steps":
      axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))  # 10k
    axes.set_xlabel({"steps": "environment steps", "hours": "wall-clock [hours]"}[axis])
    axes.grid(alpha=0.3)
  seeds = {
    method: {len(runs) for (_, m), runs in groups.items() if m == method} for method in color
  }
  if max(map(max, seeds.values())) > 1:
    panels[0, 0].set_ylabel("return\n(interquartile mean over seeds, 95 % interval)")
  else:
    panels[0, 0].set_ylabel("return")
  labels = {
    method: f"{method} (n = {' to '.join(str(n) for n in sorted({min(ns), max(ns)}))})"
    for method, ns in seeds.items()
  }
  handles = [plt.Line2D([], [], color=c, label=labels[method]) for method, c in color.items()]
  figure.legend(handles=handles, loc="outside right upper", frameon=False)
  for path in paths:
    figure.savefig(path, dpi=120)
  plt.close(figure)


def plot_means(groups: Groups, paths: list[str]) -> None:
  """Draws each run's mean return over the steps that all of its task have, the best method on top.

  A point is a seed, a tick their interquartile mean, a bar its 95 % interval (`curves.band`).
  """
  plt = pyplot()
  tasks, color = list(dict.fromkeys(task for task, _ in groups)), _method_colors(groups)
  width = 4.5 + 0.09 * max(map(len, color))  # inches: a panel, and the names beside it
  figure, panels = plt.subplots(
    1,
    len(tasks),
    figsize=(width * len(tasks), 1.2 + 0.3 * len(color)),
    squeeze=False,
    layout="constrained",
  )
  for task, axes in zip(tasks, panels[0], strict=True):
    methods = {method: runs for (t, method), runs in groups.items() if t == task}
    steps = curves.common_steps([run for runs in methods.values() for run in runs])
    axes.set_xlabel(
      "mean return of the evaluations\n(points: seeds; interquartile mean, 95 % interval)"
    )
    axes.grid(alpha=0.3)
    if not steps.size:
      axes.set_title(f"{task}: no steps in common")
      continue
    axes.set_title(f"{task}: {steps[0]:,.0f} to {steps[-1]:,.0f} steps")
    means = {m: [curves.mean_return(run, steps) for run in runs] for m, runs in methods.items()}
    # Of curves of one point each, at 0, which they have in common.
    points = {m: [(np.zeros(1), np.array([v])) for v in values] for m, values in means.items()}
    bands = {m: band for m, lines in points.items() if (band := curves.band(lines))}
    order = sorted(bands, key=lambda method: bands[method].mean[0])
    for row, method in enumerate(order):
      band = bands[method]
      axes.plot([band.low, band.high], [row, row], color=color[method], alpha=0.3, linewidth=5)
      axes.plot(band.mean, [row], "|", color=color[method], markersize=14, markeredgewidth=3)
      axes.plot(means[method], [row] * len(means[method]), "o", color="0.2", markersize=4)
    axes.set_yticks(np.arange(len(order)), order)
    axes.set_ylim(-0.6, len(order) - 0.4)
  for path in paths:
    figure.savefig(path, dpi=120)
  plt.close(figure)


def _method_colors(groups: Groups) -> dict[str, tuple[float, ...]]:
  """A colour for each method, the same in every panel."""
  methods = list(dict.fromkeys(method for _, method in groups))
  colors = pyplot().get_cmap("tab10" if len(methods) <= 10 else "tab20").colors
  return {method: colors[i % len(colors)] for i, method in enumerate(methods)}


def _colors(count: int) -> np.ndarray:
  """Of state dimensions, or outputs, by their index."""
  return pyplot().get_cmap("turbo")(np.linspace(0.0, 1.0, count))


def pyplot() -> ModuleType:
  """Matplotlib's, for files alone."""
  import matplotlib  # here, not above: it takes a second, and acting does not need it

  matplotlib.use("Agg")
  from matplotlib import pyplot as plt

  return plt


def plot_diagnosis(
  values: tuple[np.ndarray, np.ndarray | None, np.ndarray] | None,
  one_step: np.ndarray | None,
  error: np.ndarray | None,
  calibration: tuple[np.ndarray, np.ndarray] | None,
  path: str,
) -> None:
  """Draws what `diagnosis` found, a panel each; what is None is an empty one.

  Args:
    values: a `diagnosis.Values`.
    one_step, error, calibration: of the functions of `diagnosis` with these names.
    path: of the PNG.
  """
  plt = pyplot()
  figure, panels = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
  beliefs, bars, lines, intervals = panels.flat
  if values is not None:
    q, model, real = values
    for name, believed in (("Q", q), ("return in the models, then Q", model)):
      if believed is not None:
        beliefs.scatter(real, believed, s=6, alpha=0.5, label=name)
    beliefs.axline((np.mean(real),) * 2, slope=1.0, color="0.4", linewidth=1)
    beliefs.legend(frameon=False)
  beliefs.set(title="Values", xlabel="real (soft) return", ylabel="believed (soft) return")
  if one_step is not None:
    bars.bar(np.arange(len(one_step)), one_step, color=_colors(len(one_step)))
    bars.axhline(1.0, color="0.4", linewidth=1)
  bars.set(
    title="One-step error of the models, by dimension",
    xlabel="dimension of the state (after them: the reward, if learned)",
    ylabel="RMSE [standard deviations of its change]",
  )
  if error is not None:
    steps = np.arange(1, len(error) + 1)
    for i, color in enumerate(_colors(error.shape[1])):
      lines.plot(steps, error[:, i], color=color, linewidth=0.8)
      lines.annotate(i, (steps[-1], error[-1, i]), color=color, fontsize=7)
    lines.plot(steps, error.mean(1), color="black", linewidth=2, label="mean over dimensions")
    lines.legend(frameon=False)
  lines.set(
    title="Open-loop error of the models, by dimension",
    xlabel="steps",
    ylabel="RMSE [standard deviations]",
  )
  if calibration is not None:
    probability, share = calibration
    for i, color in enumerate(_colors(share.shape[1])):
      intervals.plot(probability, share[:, i], color=color, linewidth=0.8)
    intervals.plot(
      probability, share.mean(1), color="black", linewidth=2, label="mean over outputs"
    )
    intervals.plot([0, 1], [0, 1], color="0.4", linewidth=1)
    intervals.legend(frameon=False)
  intervals.set(
    title="Calibration of the models", xlabel="central interval", ylabel="share of outcomes in it"
  )
  for axes in panels.flat:
    axes.grid(alpha=0.3)
  figure.savefig(path, dpi=120)
  plt.close(figure)


def plot_gradient_error(studies: Sequence[tuple[np.ndarray, ...]], path: str) -> None:
  """Draws the errors of `gradient_study.Study`s against H: each seed's, their mean and median."""
  plt = pyplot()
  true_dynamics, learned, error, lemma, sensitivity = np.swapaxes(np.array(studies), 0, 1)
  figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
  panels = (
    (left, true_dynamics, "true dynamics, learned Q"),
    (left, learned, "learned dynamics, learned Q"),
    (right, error, "error"),
    (right, lemma, "Lemma 4.1, constants"),
    (right, sensitivity, "bound from measured sensitivities"),
  )
  for axes, values, label in panels:
    h, mean, median = np.arange(values.shape[1]), values.mean(0), np.median(values, 0)
    (line,) = axes.plot(h, mean, linewidth=2, label=label)
    axes.plot(h, values.T, color=line.get_color(), alpha=0.3, linewidth=0.6)
    axes.plot(h, median, "--", color=line.get_color(), linewidth=1.2)
    least = mean.argmin()
    axes.plot(least, mean[least], "v", color=line.get_color(), markersize=8)
  highest = 1.15 * true_dynamics.max()
  left.set(title="Against the gradient of the expected return", ylabel="relative L1 error")
  left.set_ylim(0.0, highest)
  right.set(title="Against true dynamics and Q, same H", ylabel="L2 error", yscale="log")
  right.set_ylim(0.3 * error[error > 0].min(), 1e4 * error.max())
  for style, label in (("-", "mean over seeds"), ("--", "median"), ("v", "least mean")):
    left.plot([], [], style, color="0.4", label=label)
  for axes in (left, right):
    axes.set_xlabel("H")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
  figure.savefig(path, dpi=120)
  plt.close(figure)
