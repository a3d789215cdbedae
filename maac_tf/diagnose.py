"""What a run's models and critics know of the world: `python -m maac_tf.diagnose --run_dir=R`."""

import csv
import os
import sys

import numpy as np
from absl import app, flags, logging

from maac_tf import files
from maac_tf.algorithm.real_returns import correlation
from maac_tf.analysis import diagnosis
from maac_tf.checks import ConfigError
from maac_tf.runs import command_line, plotting

_RUN_DIR = command_line.define_path("run_dir", None, "The folder of the run.", required=True)
_VOUCHED = command_line.define_vouched()
_EPISODES = flags.DEFINE_integer("episodes", 10, "Fresh real episodes.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 40_000, "Start seed of the first episode.", lower_bound=0)


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  try:
    trainer = _VOUCHED.restore(_RUN_DIR.value)
    paths = [os.path.join(_RUN_DIR.value, "diagnosis.png")]
    if trainer.learner.dynamics:
      paths.append(os.path.join(_RUN_DIR.value, "open_loop_error.csv"))
    for path in paths:
      with files.using(path):
        open(path, "a").close()  # now, not when all is measured
    learner = trainer.learner
    seeds = range(_SEED.value, _SEED.value + _EPISODES.value)
    episodes = diagnosis.collect_episodes(
      learner.task, learner, seeds, trainer.evaluator.environment
    )
  except ConfigError as error:
    print(f"Error: {error}", file=sys.stderr)
    return 1
  lengths = [len(e.log_prob) for e in episodes]
  terminated = sum(bool(e.transition.terminal[-1]) for e in episodes)
  print(
    f"{len(episodes)} episodes of the sampled policy after {int(trainer.env_steps):,} steps: "
    f"{min(lengths)} to {max(lengths)} steps, {terminated} terminated, return "
    f"{np.mean([np.sum(e.transition.reward) for e in episodes]):.5g}"
  )
  values = diagnosis.values(learner, episodes)
  if values is None:
    print("Values: no episode is long enough, and none terminated, to know a return.")
  else:
    _print_values(values, "Soft returns")
  one_step = open_loop = calibration = None
  if learner.dynamics:
    one_step = diagnosis.one_step_error(learner, episodes)
    print(
      "One-step error, in standard deviations of each output's change (1: nothing is known of it): "
      f"{one_step.mean():.3f} (mean over outputs), {one_step.max():.3f} (the worst, "
      f"{one_step.argmax()})"
    )
    ends = diagnosis.ends(learner, episodes)
    if ends:
      print("Ends within 50 steps: from {:.1%} of the states, in the models {:.1%}".format(*ends))
    if terminated:
      print(
        "Probability of an end that the models give: to the steps that were ends {:.3f}, to the "
        "others {:.5f}".format(*diagnosis.end_probabilities(learner, episodes))
      )
    open_loop, counts = diagnosis.open_loop_error(learner, episodes)
    print("Open-loop error, in standard deviations of each state dimension:")
    for h in (1, 5, 10, 20, 50):
      if h <= len(open_loop):
        worst = open_loop[h - 1].argmax()
        print(
          f"  {h} steps: {open_loop[h - 1].mean():.3f} (mean over dimensions), "
          f"{open_loop[h - 1, worst]:.3f} (the worst, {worst}), from {counts[h - 1]} states"
        )
    probability, share = calibration = diagnosis.calibration(learner, episodes)
    print("Calibration: the share of outcomes inside the models' central intervals:")
    chosen = [np.argmin(np.abs(probability - p)) for p in (0.5, 0.9)]
    print("  " + ", ".join(f"{probability[i]:.0%} interval {share[i].mean():.0%}" for i in chosen))
  try:
    with files.using(paths[0]):
      plotting.plot_diagnosis(values, one_step, open_loop, calibration, paths[0])
    if open_loop is not None:
      _write_error(open_loop, paths[1])
  except ConfigError as error:
    print(f"Error: {error}", file=sys.stderr)
    return 1
  print(f"Wrote {' and '.join(paths)}")
  return 0


def _write_error(error: np.ndarray, path: str) -> None:
  """A row a step, a column a dimension of the state."""
  with files.using(path), open(path, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["steps", *(f"dimension_{i}" for i in range(error.shape[1]))])
    writer.writerows([h, *row] for h, row in enumerate(error, 1))


def _print_values(values: diagnosis.Values, title: str) -> None:
  real = values.real
  print(f"{title} at {len(real)} states: real {real.mean():.5g} ± {real.std():.5g}")
  for name, believed in (("Q", values.q), ("the models' own", values.model)):
    if believed is not None:
      error, together = believed - real, correlation(believed, real)
      text = "none, one of the two is constant" if together is None else f"{together:.2f}"
      print(
        f"  {name}: bias {error.mean():+.5g}, root mean square error "
        f"{np.sqrt(np.mean(error**2)):.5g}, correlation {text}"
      )


if __name__ == "__main__":
  app.run(main)
