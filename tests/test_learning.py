"""That it learns: the pendulum of gin/pendulum.gin, a fifth of its iterations."""

import csv
import re

from maac_tf.runs import config
from maac_tf.runs.experiment import train
from tests.commands import ROOT


def test_pendulum_swings_up_and_balances(tmp_path, capsys):
  config.load([str(ROOT / "gin" / "pendulum.gin")])
  assert train(str(tmp_path / "run"), iterations=2) is None  # of 10
  (before,) = re.findall(r"return (\S+) .*\(before the first update\)", capsys.readouterr().out)
  with open(tmp_path / "run" / "metrics.csv", newline="") as file:
    last = [*csv.DictReader(file)][-1]
  # Over 20 episodes of fixed start seeds. A random policy has -1,200; one that fails from more than
  # one or two of them is below -200.
  assert float(before) < -800
  assert float(last["eval/return"]) > -200
  assert float(last["best/return"]) > -220  # on other start seeds
