"""That it learns: the shipped pendulum, in full (about a minute on two cores)."""

import csv
import pathlib

from maac_tf.algorithm.trainer import Trainer
from maac_tf.runs import config
from maac_tf.runs.experiment import train
from maac_tf.tasks.registry import make_task

GIN = pathlib.Path(__file__).parent.parent / "gin"


def test_pendulum_swings_up_and_balances(tmp_path):
  config.load([str(GIN / "pendulum.gin")])
  assert Trainer(make_task("pendulum")).evaluate()["eval/return"] < -800  # before it learned
  assert train(str(tmp_path / "run")) is None
  with open(tmp_path / "run" / "metrics.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  returns = [float(row["eval/return"]) for row in rows]  # over 20 episodes of fixed start seeds
  assert sum(returns[-3:]) / 3 > -150
  assert float(rows[-1]["best/return"]) > -220  # on other start seeds
