"""Figure 3: the error of the MAAC gradient against H: `python -m maac_tf.gradient_error`."""

import csv
import os
import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags, logging

from maac_tf import files
from maac_tf.analysis import gradient_study
from maac_tf.checks import ConfigError
from maac_tf.runs import command_line, plotting

_OUT = command_line.define_path("out", "gradient_error", "Folder for gradient_error.csv and .png.")
_HORIZON = flags.DEFINE_integer("horizon", 100, "The longest H.", lower_bound=1)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Seeds 0, 1, ...: of data and networks.", lower_bound=1)
_TRANSITIONS = flags.DEFINE_integer(
  "transitions", 100, "Real transitions that models and critic learn from: a multiple of 50."
)
flags.register_validator("transitions", lambda n: n > 0 and n % 50 == 0, "must be 50, 100, ...")


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  table, figure = (os.path.join(_OUT.value, f"gradient_error.{kind}") for kind in ("csv", "png"))
  try:
    with files.using(_OUT.value):
      os.makedirs(_OUT.value, exist_ok=True)
      for path in (table, figure):
        open(path, "a").close()  # now, not when all is done
    _study(table, figure)
  except ConfigError as error:
    print(f"Error: {error}", file=sys.stderr)
    return 1
  return 0


def _study(table: str, figure: str) -> None:
  studies = []
  for seed in range(_SEEDS.value):
    studies.append(gradient_study.study(seed, _HORIZON.value, _TRANSITIONS.value))
    print(f"seed {seed}: best H with learned dynamics {studies[-1].learned.argmin()}")
  _print(studies)  # first: what cannot be written is seen
  with files.using(table), open(table, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["seed", "H", *gradient_study.Study._fields])
    for seed, study in enumerate(studies):
      for h, row in enumerate(zip(*study, strict=True)):
        writer.writerow([seed, h, *row])
  with files.using(figure):
    plotting.plot_gradient_error(studies, figure)
  print(f"Wrote {table} and {figure}")


def _print(studies: Sequence[gradient_study.Study]) -> None:
  mean = gradient_study.Study(*np.mean(studies, 0))
  print("Means over seeds. L1 error relative to the gradient of the expected return:")
  print("   H  true dynamics  learned dynamics")
  last = len(mean.learned) - 1
  for h in sorted({min(h, last) for h in (0, 5, 10, 20, 30, 40, 60, 80, 100)}):
    print(f"{h:4}{mean.true_dynamics[h]:15.3f}{mean.learned[h]:18.3f}")
  best = mean.learned.argmin()
  print(
    f"With learned dynamics the error is least at H = {best} ({mean.learned[best]:.3f}); at "
    f"H = {last} it is {mean.learned[-1]:.3f}. By seed: {_least(studies, 'learned')}."
  )
  print(
    "Against the same objective with true dynamics and Q it is least, by seed, at H = "
    f"{_least(studies, 'to_lemma_reference')}."
  )
  for name, title in (("lemma_bound", "Lemma 4.1"), ("sensitivity_bound", "From sensitivities")):
    ratios = np.array([getattr(s, name) / s.to_lemma_reference for s in studies])
    holds = "holds for all seeds and H" if np.all(ratios >= 1) else "does NOT hold everywhere"
    median = np.median(ratios, 0)
    print(
      f"{title}: the bound {holds}; it is least, by seed, at H = {_least(studies, name)}; it is "
      f"{median[0]:.3g}, {median[min(5, last)]:.3g}, {median[min(20, last)]:.3g} and "
      f"{median[-1]:.3g} times the error (median) at H = 0, {min(5, last)}, {min(20, last)} and "
      f"{last}."
    )


def _least(studies: Sequence[gradient_study.Study], name: str) -> str:
  return ", ".join(str(getattr(study, name).argmin()) for study in studies)


if __name__ == "__main__":
  app.run(main)
