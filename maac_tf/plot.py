"""Draws learning curves: `python -m maac_tf.plot runs/hopper runs/half_cheetah --out=curves`."""

import collections
import functools
import os
import re
import sys

from absl import app, flags

from maac_tf import curves, plotting

_OUT = flags.DEFINE_string(
  "out",
  "curves",
  "Writes OUT.png and OUT.svg, the same against hours, OUT_hours.png and .svg, and each method's "
  "mean return, OUT_means.png and .svg.",
)


def main(argv):
  without = [path for path in argv[1:] if not curves.find_runs([path])]
  if without or not argv[1:]:
    where = f": there is none in {' '.join(without)}" if without else ""
    print(f"Error: give folders of runs (with a metrics.csv){where}.", file=sys.stderr)
    return 1
  paths, runs = curves.find_runs(argv[1:]), []
  for path in paths:
    try:
      run = curves.read_run(path)
    except (KeyError, ValueError) as error:
      print(f"Left out: {path}: its metrics.csv is not that of a run ({error!r}).")
      continue
    if run.steps.size:
      runs.append(run)
    else:
      print(f"Left out: {path}: no evaluation yet.")
  if not runs:
    print("Error: no run has an evaluation.", file=sys.stderr)
    return 1
  groups = collections.defaultdict(list)
  for run in runs:
    groups[run.task, run.method].append(run)
  for (task, method), group in groups.items():
    seeds = [run.seed for run in group]
    if len({*seeds}) < len(seeds):
      print(f"Note: several runs of {task}: {method} have the same seed, or none.")
    seeds = ", ".join(seeds)
    first, last = ([run.steps[i] for run in group] for i in (0, -1))
    note = f"{task}: {method}: {len(group)} run{'s'[: len(group) > 1]} (seed {seeds})"
    if max(first) > min(last):
      note += "; no mean: they have no steps in common"
    elif min(last) < max(last):
      note += f"; the mean ends with the shortest, at {min(last):,.0f} of {max(last):,.0f} steps"
    print(note)
  if min(map(len, groups.values())) < 4:
    print("Of fewer than four seeds, the interquartile mean is their mean.")
  out = re.sub(r"\.(png|svg)$", "", _OUT.value)
  try:
    if not os.path.basename(out):
      raise OSError(f"{_OUT.value!r} is a folder: give a file's name in it, without extension.")
    os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
  except OSError as error:
    print(f"Error: --out: {error}", file=sys.stderr)
    return 1
  views = {
    "": functools.partial(plotting.plot_curves, groups, "steps"),
    "_hours": functools.partial(plotting.plot_curves, groups, "hours"),
    "_means": functools.partial(plotting.plot_means, groups),
  }
  for suffix, draw in views.items():
    paths = [f"{out}{suffix}.{extension}" for extension in ("png", "svg")]
    draw(paths)
    print(f"Wrote {' and '.join(paths)}")
  return 0


if __name__ == "__main__":
  app.run(main)
