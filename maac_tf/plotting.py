"""The curve of one run."""

import csv

import numpy as np


def plot_run(metrics_csv: str, path: str):
  """Draws return and model loss against environment steps from a metrics.csv into a PNG."""
  import matplotlib  # here, not above: it takes a second, and acting does not need it

  matplotlib.use("Agg")
  from matplotlib import pyplot as plt

  with open(metrics_csv, newline="") as file:
    rows = list(csv.DictReader(file))

  def column(name):
    return np.array([float(row.get(name) or "nan") for row in rows])

  steps = column("env_steps")
  figure, (top, bottom) = plt.subplots(
    2, 1, figsize=(7, 6), sharex=True, height_ratios=(3, 1), layout="constrained"
  )
  evaluated = np.isfinite(column("eval/return"))
  x, mean = steps[evaluated], column("eval/return")[evaluated]
  std = column("eval/return_std")[evaluated]
  collected = np.isfinite(column("collect/return"))  # where an episode ended
  top.plot(
    steps[collected], column("collect/return")[collected], color="0.7", label="while collecting"
  )
  top.fill_between(x, mean - std, mean + std, alpha=0.2, linewidth=0)
  top.plot(x, mean, marker=".", label="deterministic policy, mean ± std over episodes")
  top.set_ylabel("return")
  top.legend(loc="best", frameon=False)
  bottom.plot(steps, column("model/validation_loss"), marker=".")
  bottom.set_ylabel("model loss [nats]")
  bottom.set_xlabel("environment steps")
  for axes in (top, bottom):
    axes.grid(alpha=0.3)
  figure.savefig(path, dpi=120, format="png")
  plt.close(figure)
