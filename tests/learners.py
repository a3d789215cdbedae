"""Small learners on data of no world."""

import gin
import numpy as np
import tensorflow as tf

from maac_tf.algorithm.imagined_data import ImaginedData
from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.objectives import imagine_path
from maac_tf.data.types import Transition
from maac_tf.tasks.registry import make_task
from tests.conftest import TINY

SEED = tf.constant([3, 4], tf.int64)

# What TINY leaves open, in settings of which each part of the algorithm has a part. The default:
PLAIN_REWARDS = "ActorCritic.normalize_rewards = False"  # β is then the number that was bound
ROLLOUT = ("Maac.horizon = 2", "Critic.num_critics = 3", PLAIN_REWARDS)
# The paper's:
STEVE = (
  "Maac.horizon = 2",
  "Maac.num_final_actions = 2",
  "Maac.real_fraction = 0.25",
  "Maac.critic_targets = @SteveTargets()",
  "ActorCritic.normalize_observations = False",
  PLAIN_REWARDS,
  "ActorCritic.bound_values = False",
  "ActorCritic.ema_decay = 0.0",
  "Critic.num_critics = 2",
  "Critic.layer_norm = False",
  "Dynamics.layer_norm = False",
  "Dynamics.constant_noise = False",
)
TD = (*STEVE, "SteveTargets.horizon = 0")
SAC = (*TD, "Maac.horizon = 0", "Maac.num_final_actions = 1", "Maac.real_fraction = 1.0")


def make_learner(*bindings, task="pendulum", strategy=None):
  """A learner of this setting over TINY, with 200 random transitions, 40 imagined ones and seed 0.

  What was bound before is forgotten.
  """
  gin.clear_config()
  gin.parse_config([*TINY, *bindings])
  task = make_task(task) if isinstance(task, str) else task
  with (strategy or tf.distribute.get_strategy()).scope():
    learner = Maac(task, task.make_environment(), seed=0)
  return fill(learner)


def fill(learner):
  """Gives it the transitions."""
  rng = np.random.default_rng(0)
  state, action = (200, learner.observation_size), (200, learner.action_size)
  columns = [rng.normal(size=size) for size in (state, action, (200,), state, (200,))]
  columns[1], columns[4] = np.tanh(columns[1]), np.zeros(200)
  learner.env_buffer.add(Transition(*(tf.constant(c, tf.float32) for c in columns)))
  with eagerly():  # once each: sooner done than traced
    learner.begin_iteration()
    if learner.imagines:
      data = ImaginedData(learner, 40)  # which its method holds weakly
      data.fill(40, 1, SEED)
  return learner


class eagerly:  # noqa: N801  (a context)
  """Runs `tf.function`s without tracing them."""

  def __enter__(self):
    tf.config.run_functions_eagerly(True)

  def __exit__(self, *_):
    tf.config.run_functions_eagerly(False)


def batch_and_path(learner, noise):
  """What an update takes, and what it imagines for its policy."""
  batch = learner.env_buffer.gather(noise.env_indices)
  if learner.imagines:
    imagined = learner.model_buffer.gather(noise.model_indices)
    batch = Transition(*(tf.concat(pair, 0) for pair in zip(batch, imagined, strict=True)))
  step = learner.model_env and learner.model_env.random_member
  return batch, imagine_path(learner.act, step, batch.observation, noise.policy)


def targets(learner, noise):
  """(the regression of the critics, and the path, of an update with this noise)."""
  batch, path = batch_and_path(learner, noise)
  values = learner.actor_critic.target_values(noise.critics)
  return learner.critic_targets(learner, batch, path, values, noise.targets), batch, path


def values_of(variables):
  """Copies of them, in NumPy."""
  return [v.numpy() for v in variables]
