"""What may grow is compared with the least of it."""

import numpy as np

from maac_tf.analysis import growth
from tests.commands import ROOT
from tests.conftest import TINY


def test_iterations_are_compared_with_those_of_the_least_rows(monkeypatch):
  """Where they take as long as D_env is large."""
  monkeypatch.setattr(growth, "OBSERVATIONS", (3,))
  monkeypatch.setattr(growth, "AT_ONCE", 70)

  def measure(trainer, log, folder):
    rows = trainer.learner.env_buffer.newest(trainer.learner.env_buffer.size)
    after = 0.9 * rows.observation.numpy()
    assert rows.reward.shape[0] == trainer.learner.env_buffer.size
    assert np.abs(rows.next_observation - after).max() <= 0.1 + 1e-6
    return {"iteration": (float(trainer.learner.env_buffer.size), "CPU s")}

  monkeypatch.setattr(growth, "_measure", measure)
  found = list(growth.with_rows([str(ROOT / "gin" / "pendulum.gin")], TINY, [900, 300]))
  assert [(row.setting, row.part, row.value, row.unit, row.ratio) for row in found] == [
    ("3 numbers, 300 rows", "iteration", 300.0, "CPU s", 1.0),
    ("3 numbers, 900 rows", "iteration", 900.0, "CPU s", 3.0),
    ("3 numbers, 900 rows", "iteration, growth", 3.0, "×", None),
  ]
