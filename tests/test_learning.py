"""That it learns: the shipped pendulum, in full (about a minute and a half on two cores)."""

import csv
import pathlib

from maac_tf import config
from maac_tf.trainer import train

GIN = pathlib.Path(__file__).parent.parent / "gin"


def test_pendulum_swings_up_and_balances(tmp_path):
  config.load([str(GIN / "pendulum.gin")])
  assert train(str(tmp_path / "run")) is None
  with open(tmp_path / "run" / "metrics.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  returns = [float(row["eval/return"]) for row in rows]  # over 20 episodes of fixed start seeds
  assert returns[0] < -400  # it did not know how to at first
  assert sum(returns[-3:]) / 3 > -200
