"""A linear system whose mean and noise are known, and a fit of models to it."""

import numpy as np
import tensorflow as tf

from maac_tf.data.replay import ReplayBuffer
from maac_tf.data.types import Transition
from maac_tf.models.ensemble import Dynamics
from maac_tf.models.fit import DynamicsFit

A = np.array([[0.9, 0.2], [-0.3, 0.8]])
B = np.array([[0.5], [2.0]])
NOISE = np.array([0.05, 0.4])
DEFAULT_NETWORK = {"layer_norm": True, "constant_noise": True}


def data(count, seed):
  rng = np.random.default_rng(seed)
  observation, action = rng.normal(size=(count, 2)), rng.uniform(-1, 1, (count, 1))
  mean = observation @ A.T + action @ B.T
  after = mean + NOISE * rng.normal(size=(count, 2))
  columns = observation, action, np.zeros(count), after, np.zeros(count)
  return Transition(*(tf.constant(c, tf.float32) for c in columns)), mean


def make_fit(count=3_000, network=None, **options):
  """Of the paper's models, by early stopping, but for what is said."""
  network = {"layer_norm": False, "constant_noise": False} | (network or {})
  options = {"max_batches": None, "weight_decay": 0.0, "recent_fraction": 0.0} | options
  dynamics = Dynamics(2, 1, ensemble_size=4, hidden_units=(32, 32), seed=1, **network)
  buffer = ReplayBuffer(count + 100, 2, 1)
  buffer.add(data(count, 0)[0])
  return dynamics, buffer, DynamicsFit(dynamics, buffer, seed=3, **options)


def for_each(rows):
  """The same for every member."""
  return Transition(*(tf.stack([x] * 4) for x in rows))


def validation_roles(fit, count):
  """Which rows each member is validated on, by a loop."""
  places = fit.bootstrap.validation_places.numpy()
  return np.array([[i % 10 == member[i // 10] for i in range(count)] for member in places])
