"""That it learns: the pendulum of gin/pendulum.gin, less than half of its run."""

import csv

from maac_tf.runs import config
from maac_tf.runs.experiment import make_trainer, train
from tests.commands import ROOT


def test_pendulum_swings_up_and_balances(tmp_path):
  config.load([str(ROOT / "gin" / "pendulum.gin")])
  assert make_trainer().evaluator.evaluate()["eval/return"] < -800  # before it learned
  assert train(str(tmp_path / "run"), iterations=4) is None  # of 10
  with open(tmp_path / "run" / "metrics.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  returns = [float(row["eval/return"]) for row in rows]  # over 20 episodes of fixed start seeds
  # All but one or two of the start states; a random policy has -1,200.
  assert sum(returns[-3:]) / 3 > -200
  assert float(rows[-1]["best/return"]) > -220  # on other start seeds
