"""The ensemble with reward and termination: an environment to imagine in."""

from maac_tf.models.members import random_member


class ModelSteps:
  """The ensemble as the `step` of a rollout, with reward and termination in the task's units."""

  def __init__(self, dynamics, task, environment):
    self._dynamics, self._task = dynamics, task
    self._scale, self._shift = environment.action_scale, environment.action_shift

  def random_member(self, observation, action, noise):
    """f_U: each of [N, ...] trajectories by a random member; noise: (of the model, permutation)."""
    sizes = self._dynamics.sample, self._dynamics.ensemble_size
    return self._judge(observation, action, random_member(*sizes, observation, action, *noise))

  def own_member(self, observation, action, noise):
    """f_m: [E, N, ...], each trajectory by the member it is dealt to."""
    return self._judge(observation, action, self._dynamics.sample(observation, action, noise))

  def _judge(self, observation, action, outcome):
    """(next_observation, reward, terminal) of the outcome that the models predicted."""
    next_observation = self._dynamics.next_observation(observation, outcome)
    arguments = observation, action * self._scale + self._shift, next_observation
    learned = self._dynamics.predicts_reward
    reward = outcome[..., -1] if learned else self._task.reward_fn(*arguments)
    return next_observation, reward, self._task.termination_fn(*arguments)
