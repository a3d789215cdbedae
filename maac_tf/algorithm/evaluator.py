"""What the policy returns, apart from the training."""

import functools
from collections.abc import Callable

import numpy as np

from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.real_returns import Recorder, critic_errors
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.episodes import Episodes, Record, run_episodes, the_only_one, unrecorded

# Evaluation episodes start from these seeds and the following ones, the same in every run; the best
# policy is evaluated again on others.
EVALUATION_SEED, BEST_EVALUATION_SEED = 10_000, 20_000
BEST_EVALUATION_EPISODES = 20
COLUMNS = (
  "eval/return", "eval/return_std", "eval/length", "eval/q_bias", "eval/q_correlation",
)  # fmt: skip


class Evaluator:
  """Runs episodes of a learner's EMA policy without noise, from the same start seeds every time."""

  def __init__(
    self,
    learner: Maac,
    environment: Environment,
    where: str,
    episodes: int,
    take_environment: Callable[[], None],
  ):
    """Runs nothing yet.

    Args:
      learner: whose policy it is.
      environment: that of the training.
      where: `Trainer.evaluation_environment`.
      episodes: of an evaluation.
      take_environment: called before an evaluation in that of the training.
    """
    self._learner, self._of_training, self._where = learner, environment, where
    self.episodes, self._take_environment = episodes, take_environment

  @functools.cached_property
  def environment(self) -> Environment | None:
    """That of all episodes; None: each has one of its own."""
    if self._where == "auto":
      return the_only_one(self._learner.task, self._of_training)
    return self._of_training if self._where == "training" else None

  def evaluate(self) -> dict[str, float | None]:
    """The values of `COLUMNS`; None of critics where too few returns are known."""
    recorder = Recorder(self.episodes)
    episodes = self.run(self.episodes, EVALUATION_SEED, recorder)
    values = np.mean(episodes.returns), np.std(episodes.returns), np.mean(episodes.lengths)
    errors = critic_errors(self._learner, recorder.transitions()) or (None, None)
    return dict(zip(COLUMNS, (*map(float, values), *errors), strict=True))

  def evaluate_again(self) -> np.ndarray:
    """Returns of further episodes, [N], from other start seeds."""
    return self.run(BEST_EVALUATION_EPISODES, BEST_EVALUATION_SEED).returns

  def run(self, count: int, seed: int, record: Record = unrecorded) -> Episodes:
    """So many episodes, from the start seeds `seed`, `seed` + 1, ...."""
    if self.environment:
      self._take_environment()
    act = self._learner.actor_critic.ema_policy.in_numpy()
    seeds = range(seed, seed + count)
    return run_episodes(self._learner.task, lambda x: act(x, 0.0), seeds, record, self.environment)
