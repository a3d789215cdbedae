"""Draws learning curves: `python -m maac_tf.plot MAAC=runs/hopper/maac-{0,1} runs/hopper/sac-0`."""

import collections
import functools
import os
import re
import sys
from collections.abc import Sequence

from absl import app, flags

from maac_tf import files
from maac_tf.checks import ConfigError
from maac_tf.runs import command_line, curves, plotting

_OUT = command_line.define_path(
  "out",
  "curves",
  "Writes OUT.png and OUT.svg, the same against hours, OUT_hours.png and .svg, and each method's "
  "mean return, OUT_means.png and .svg.",
)
_ENV_STEPS = flags.DEFINE_integer(
  "env_steps", None, "Draws evaluations up to so many environment steps alone.", lower_bound=1
)


def _read(arguments: Sequence[str]) -> plotting.Groups | None:
  """The runs in and below PATH or METHOD=PATH, grouped by (task, method); None: an error."""
  methods: dict[str, str] = {}  # of each folder; "" where the folder's name says it
  without = []
  for argument in arguments:
    method, equals, path = argument.partition("=")
    if not equals or os.path.exists(argument):  # a folder may have a = in its name
      method, path = "", argument
    try:
      path = files.local(path)  # a shell does not expand ~ after METHOD=
    except ConfigError as error:
      print(f"Error: {error}", file=sys.stderr)
      return None
    folders = curves.find_runs([path])
    without += [path] if not folders else []
    for folder in folders:
      known = methods.get(folder)
      if method and known and method != known:
        print(f"Error: {folder} is given as {known} and as {method}.", file=sys.stderr)
        return None
      methods[folder] = method or known or ""
  if without or not arguments:
    where = f": there is none in {' '.join(without)}" if without else ""
    print(f"Error: give folders of runs (with a metrics.csv){where}.", file=sys.stderr)
    return None
  groups: plotting.Groups = collections.defaultdict(list)
  cut = 0
  for folder, method in methods.items():
    try:
      run = curves.read_run(folder)
    except (OSError, ValueError) as error:
      print(f"Left out: {folder}: its metrics.csv is not that of a run: {error}.")
      continue
    if run.left_out:
      print(
        f"Left out: {folder}: {run.left_out} of its evaluations, whose row is cut short or whose "
        "return is not a finite number."
      )
    evaluations = run.steps.size
    if _ENV_STEPS.value:
      run = curves.until(run, _ENV_STEPS.value)
      cut += run.steps.size < evaluations
    if run.steps.size:
      groups[run.task, method or run.method].append(run)
    else:
      print(f"Left out: {folder}: no evaluation {'so early' if evaluations else 'yet'}.")
  if cut:
    print(f"Left out: what comes after {_ENV_STEPS.value:,} steps, of {cut} runs.")
  if not groups:
    print("Error: no run has an evaluation.", file=sys.stderr)
    return None
  return groups


def _describe(task: str, method: str, runs: Sequence[curves.Run]) -> None:
  """Prints what is drawn of a method, and where its means end."""
  seeds = [run.seed for run in runs]
  if len({*seeds}) < len(seeds):
    print(f"Note: several runs of {task}: {method} have the same seed, or none.")
  note = f"{task}: {method}: {len(runs)} run{'s'[: len(runs) > 1]} (seed {', '.join(seeds)})"
  for axis, digits in (("steps", 0), ("hours", 2)):
    first, last = ([getattr(run, axis)[i] for run in runs] for i in (0, -1))
    if max(first) > min(last):
      note += f"; no mean: they have no {axis} in common"
    elif min(last) < max(last):
      end, longest = f"{min(last):,.{digits}f}", f"{max(last):,.{digits}f}"
      note += f"; the mean ends with the shortest, at {end} of {longest} {axis}"
  print(note)


def main(argv: list[str]) -> int:
  groups = _read(argv[1:])
  if groups is None:
    return 1
  for (task, method), runs in groups.items():
    _describe(task, method, runs)
  if min(map(len, groups.values())) < 4:
    print("Of fewer than four seeds, the interquartile mean is their mean.")
  out = re.sub(r"\.(png|svg)$", "", _OUT.value)
  views = {
    "": functools.partial(plotting.plot_curves, groups, "steps"),
    "_hours": functools.partial(plotting.plot_curves, groups, "hours"),
    "_means": functools.partial(plotting.plot_means, groups),
  }
  try:
    if not os.path.basename(out):
      raise ConfigError(f"{out!r} is a folder: give a file's name in it, without extension.")
    with files.using(out):
      os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
      for suffix, draw in views.items():
        paths = [f"{out}{suffix}.{extension}" for extension in ("png", "svg")]
        draw(paths)
        print(f"Wrote {' and '.join(paths)}")
  except ConfigError as error:
    print(f"Error: --out: {error}", file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  app.run(main)
