"""A critic target of one's own: TD(λ) over the policy's imagined steps (Sutton 1988).

python -m maac_tf.train --gin_file=gin/pendulum.gin --gin_file=examples/own_critic_target.gin
"""

from typing import Annotated

import tensorflow as tf

from maac_tf.algorithm.critic_targets import CriticTargets, Regression
from maac_tf.algorithm.objectives import if_alive
from maac_tf.checks import Option, configurable, require


@configurable
class LambdaTargets(CriticTargets):
  """Mixes the returns of 1 to H imagined steps, that of h with weight λ^(h-1)."""

  def __init__(self, decay: Annotated[float, Option("λ of TD(λ)", low=0, high=1)] = 0.9):
    self.decay = decay

  def uses_models(self) -> bool:
    return True

  def check(self, learner) -> None:
    require(learner.horizon, "LambdaTargets are of the policy's imagined steps: set Maac.horizon.")

  def __call__(self, learner, batch, path, target_values, noise) -> Regression:
    steps, temperature = path.trajectory, learner.temperature
    actions = [*steps.action, path.final_action[0]]
    log_probs = [*steps.log_prob, path.final_log_prob[0]]
    target = None
    for t in reversed(range(len(steps.reward))):  # G_t = r_t + γ c ((1-λ) V_{t+1} + λ G_{t+1})
      value = tf.reduce_min(target_values(steps.observation[t + 1], actions[t + 1]), 0)
      value -= temperature * log_probs[t + 1]
      if target is not None:
        later = target - temperature * log_probs[t + 1]
        value = (1.0 - self.decay) * value + self.decay * later
      target = steps.reward[t] + learner.discount * if_alive(1.0 - steps.terminal[t], value)
    targets = tf.stop_gradient(target)
    return Regression(steps.observation[0], actions[0], targets, {})
