"""Which settings of the agent make sense together, and which of them have no effect."""

from maac_tf.checks import require
from maac_tf.tasks.coordinates import PLAIN


def check_combination(agent):
  """Raises ValueError, with what to change, where a value of an agent contradicts another."""
  require(
    1 <= agent.critics_per_target <= agent.critic.num_critics,
    f"Maac.critics_per_target ({agent.critics_per_target}) must be between 1 and "
    f"Critic.num_critics ({agent.critic.num_critics}).",
  )
  require(
    agent.policy_decay or not agent.kl_penalty,
    f"Maac.kl_penalty ({agent.kl_penalty}) is a price on the policy's divergence from its average, "
    "which with Maac.policy_decay = 0 is the policy itself: set Maac.kl_penalty = 0.0, too.",
  )
  if agent.uses_steve:
    require(
      not agent.value_range,
      "STEVE weighs its targets by the disagreement of the critics, and critics that are clipped "
      "to the same value agree: set Maac.bound_values = False, or Maac.critic_horizon to 0.",
    )
    require(
      not agent.critic.zero_last_layer,
      "STEVE weighs its targets by the disagreement of the critics, and critics that start from "
      "zero agree: set Critic.zero_last_layer = False, or Maac.critic_horizon to 0.",
    )
    require(
      agent.critics_per_target >= 2,
      "STEVE weighs its targets by the disagreement of the critics and needs two of them: set "
      f"Critic.num_critics and Maac.critics_per_target to 2 or more (the latter is "
      f"{agent.critics_per_target}), or Maac.critic_horizon to 0.",
    )
    require(
      agent.models_per_target <= agent.dynamics.ensemble_size,
      f"Maac.models_per_target is {agent.models_per_target}, but the ensemble has only "
      f"{agent.dynamics.ensemble_size} members (Dynamics.ensemble_size).",
    )
  if agent.uses_model:
    require(
      agent.batch_size % agent.dynamics.ensemble_size == 0,
      f"Maac.batch_size ({agent.batch_size}) must be a multiple of Dynamics.ensemble_size "
      f"({agent.dynamics.ensemble_size}): each member predicts an equal share of the batch.",
    )
  if agent.imagines:
    require(
      agent.model_buffer.capacity >= agent.dynamics.ensemble_size,
      f"Maac.model_capacity ({agent.model_buffer.capacity}) must be Dynamics.ensemble_size "
      f"({agent.dynamics.ensemble_size}) or more.",
    )


def unused_parameters(agent) -> dict[str, str]:
  """Parameters that the others leave without effect, each with the reason."""
  unused = {}
  if agent.shared_rollout:
    reason = "the critics learn from the policy's own rollouts (Maac.shared_rollout)"
    unused |= dict.fromkeys(("Maac.critic_horizon", "Maac.models_per_target"), reason)
  elif not agent.critic_horizon:
    unused["Maac.models_per_target"] = "there is no STEVE (Maac.critic_horizon = 0)"
  if agent.task.reward_fn is None:
    unused["Maac.learn_reward"] = "the task has no reward function: the reward is learned"
  if agent.task.coordinates == PLAIN:
    unused["Maac.task_coordinates"] = "the task has no coordinates of its own"
  if not agent.task.symmetries:
    unused["Maac.task_symmetries"] = "the task has no symmetries"
  if not agent.horizon:
    unused["Maac.soft_returns"] = "there is one entropy bonus only (Maac.horizon = 0)"
  if not agent.imagines:
    reason = "all data are real (Maac.real_fraction = 1)"
    names = "Maac.model_capacity", "Trainer.rollout_starts", "Trainer.rollout_schedule"
    unused |= dict.fromkeys(names, reason)
  if agent.uses_model and not agent.dynamics_fit.recent_fraction:
    reason = "bootstraps are drawn evenly (DynamicsFit.recent_fraction = 0)"
    unused["DynamicsFit.recent_transitions"] = reason
  if not agent.uses_model:
    reason = "nothing uses the model"
    unused |= dict.fromkeys(
      ("Dynamics", "DynamicsFit", "Maac.learn_reward", "Maac.task_symmetries"), reason
    )
  return unused
