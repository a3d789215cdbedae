"""The same update on several devices."""

import json

import pytest
import tensorflow as tf

from maac_tf import MAAC
from maac_tf.checks import ConfigError
from maac_tf.runs import devices
from tests import commands

ON_TWO_CPUS = """
import maac_tf
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests import on_two_devices
on_two_devices.main()
"""


def test_two_devices_make_the_updates_of_one():
  """Five updates at an equal batch, and a step of the fit: losses and weights."""
  found = json.loads(commands.python(ON_TWO_CPUS).splitlines()[-1])
  assert len(found) > 80
  assert max(found.values()) <= 1e-5, {k: x for k, x in found.items() if x > 1e-5}


def test_an_agent_learns_with_the_strategy_that_it_is_given():
  strategy = tf.distribute.MirroredStrategy(["CPU:0"])
  settings = {"ActorCritic.hidden_units": (8,), "Dynamics.hidden_units": (8,)}
  learner = MAAC("pendulum", settings=settings, strategy=strategy).trainer.learner
  assert learner.strategy is strategy
  assert all(v.distribute_strategy is strategy for v in learner.network_variables())


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("CPU:0,CPU:0", "'CPU:0,CPU:0' names a device twice."),
    ("CPU:0,GPU:7", "There is no device 'GPU:7': TensorFlow sees "),
  ],
)
def test_devices_that_cannot_share_are_named(name, message):
  with pytest.raises(ConfigError, match=message):
    devices.device(name)
