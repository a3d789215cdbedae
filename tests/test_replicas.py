"""The same update on several devices."""

import json
import os
import subprocess
import sys

from tests.commands import ROOT

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
  done = subprocess.run(
    [sys.executable, "-c", ON_TWO_CPUS],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout.splitlines()[-1])
  assert len(found) > 80
  assert max(found.values()) <= 1e-5, {k: x for k, x in found.items() if x > 1e-5}
