"""A learner of one's own: MAAC with a temperature that stays as it is.

python -m examples.own_learner
"""

import maac_tf.runs.experiment  # noqa: F401  (the gin file sets options of its `train`, too)
from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.trainer import Trainer
from maac_tf.runs import config
from maac_tf.tasks import make_task


class FixedTemperature(Maac):
  """Its options are those of Maac."""

  def _update_temperature(self, log_prob):
    del log_prob


def main(iterations: int = 10, bindings: tuple[str, ...] = ()) -> Trainer:
  """Trains it on the pendulum; prints a line an iteration."""
  config.load(["gin/pendulum.gin"], bindings)
  task = make_task("pendulum")
  environment = task.make_environment()
  trainer = Trainer(FixedTemperature(task, environment), environment)
  for _ in range(iterations):
    row = trainer.run_iteration()
    print(f"{row['env_steps']:>6,} steps: return {row['eval/return']:.1f}")
  return trainer


if __name__ == "__main__":
  main()
