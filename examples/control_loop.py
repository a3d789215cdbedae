"""Runs the LiteRT file of a policy at 50 Hz. Of what is not Python's own, it imports two packages:

pip install numpy ai-edge-litert
python examples/control_loop.py runs/first/policy.tflite

A loop must run at the rate at which the environment of the training took its steps.
"""

import sys
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter

PERIOD = 0.02  # seconds


class Policy:
  """From an observation [S] to an action [A], float32, both in the environment's units."""

  def __init__(self, path):
    self._interpreter = Interpreter(path, num_threads=1)
    self._interpreter.allocate_tensors()
    given, returned = self._interpreter.get_input_details(), self._interpreter.get_output_details()
    self._given, self._returned = given[0]["index"], returned[0]["index"]
    self.observation_size = given[0]["shape"][1]

  def __call__(self, observation):
    self._interpreter.set_tensor(self._given, np.asarray(observation, np.float32)[np.newaxis])
    self._interpreter.invoke()
    return self._interpreter.get_tensor(self._returned)[0]


def control(policy, read_sensors, move_motors, steps):
  """Takes so many steps, one each period; returns how many were late.

  Times are counted from the first step, so that small delays do not add up. After a longer one they
  are counted anew: a robot gets no burst of actions.
  """
  late, start = 0, time.monotonic()
  for step in range(1, steps + 1):
    move_motors(policy(read_sensors()))
    left = start + step * PERIOD - time.monotonic()
    late += left < 0
    if left < -PERIOD:
      start -= left
    time.sleep(max(0.0, left))
  return late


def main(path=None, steps=500):
  if path is None:
    sys.exit(__doc__)
  policy = Policy(path)
  late = control(
    policy,
    read_sensors=lambda: np.zeros(policy.observation_size),  # read your sensors here
    move_motors=lambda action: None,  # move your motors here
    steps=int(steps),
  )
  print(f"{steps} steps in {int(steps) * PERIOD:g} s, {late} of them late")


if __name__ == "__main__":
  main(*sys.argv[1:])
