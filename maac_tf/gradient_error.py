"""Figure 3: the error of the MAAC gradient against H: `python -m maac_tf.gradient_error`."""

import csv
import os

import numpy as np
from absl import app, flags, logging

from maac_tf import gradient_study, plotting

_OUT = flags.DEFINE_string("out", "gradient_error", "Folder for gradient_error.csv and .png.")
_HORIZON = flags.DEFINE_integer("horizon", 100, "The longest H.", lower_bound=1)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Seeds 0, 1, ...: of data and networks.", lower_bound=1)
_TRANSITIONS = flags.DEFINE_integer(
  "transitions", 100, "Real transitions that models and critic learn from.", lower_bound=50
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  studies = []
  for seed in range(_SEEDS.value):
    studies.append(gradient_study.study(seed, _HORIZON.value, _TRANSITIONS.value))
    print(f"seed {seed}: best H with learned dynamics {studies[-1].learned.argmin()}", flush=True)
  os.makedirs(_OUT.value, exist_ok=True)
  table = os.path.join(_OUT.value, "gradient_error.csv")
  with open(table, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["seed", "H", *gradient_study.Study._fields])
    for seed, study in enumerate(studies):
      for h, row in enumerate(zip(*study, strict=True)):
        writer.writerow([seed, h, *row])
  figure = os.path.join(_OUT.value, "gradient_error.png")
  plotting.plot_gradient_error(studies, figure)
  mean = gradient_study.Study(*np.mean(studies, 0))
  _print(mean)
  print(f"Wrote {table} and {figure}")


def _print(mean):
  print("Means over seeds. L1 error relative to the gradient of the expected return:")
  print("   H  true dynamics  learned dynamics")
  last = len(mean.learned) - 1
  for h in sorted({min(h, last) for h in (0, 5, 10, 20, 30, 40, 60, 80, 100)}):
    print(f"{h:4}{mean.true_dynamics[h]:15.3f}{mean.learned[h]:18.3f}")
  best, reference = mean.learned.argmin(), mean.to_lemma_reference
  print(
    f"With learned dynamics the error is least at H = {best} ({mean.learned[best]:.3f}); at "
    f"H = {last} it is {mean.learned[-1]:.3f}."
  )
  print(f"Against the same objective with true dynamics and Q, least at H = {reference.argmin()}.")
  for name, bound in (("Lemma 4.1", mean.lemma_bound), ("Sensitivities", mean.sensitivity_bound)):
    ratio = bound / reference
    holds = "it holds at every H" if np.all(ratio >= 1) else "it does NOT hold at every H"
    print(
      f"{name}: the bound is least at H = {bound.argmin()}; {holds}; it is "
      f"{ratio[0]:.1f} times the error at H = 0, {ratio[best]:.3g} times at H = {best} and "
      f"{ratio[-1]:.3g} times at H = {last}."
    )


if __name__ == "__main__":
  app.run(main)
