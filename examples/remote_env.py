"""Learns on a simulator that runs in another process, which may be any program that answers.

python -m maac_tf.train --gin_file=gin/pendulum.gin --env=examples.remote_env:make

When the simulator dies, the training ends with one line, which says how to go on.
"""

import multiprocessing
import pathlib
import subprocess
import sys

import gymnasium as gym
import numpy as np

TIMEOUT = 60.0  # seconds, for an answer


class Remote(gym.Env):
  """The cart of examples/simulator.py, to be brought to a stop in the middle of its rail.

  Attributes:
    process: the simulator.
  """

  observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)  # m, m/s
  action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)  # N

  def __init__(self):
    self._connection, other_end = multiprocessing.Pipe()
    self.process = subprocess.Popen(
      [sys.executable, pathlib.Path(__file__).with_name("simulator.py"), str(other_end.fileno())],
      pass_fds=[other_end.fileno()],
      start_new_session=True,  # Ctrl-C is for the training alone
    )
    other_end.close()  # the simulator alone has it now, so that its death is seen

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return np.float32(self._ask("reset", seed)), {}

  def step(self, action):
    observation, reward = self._ask("step", float(action[0]))
    return np.float32(observation), reward, False, False, {}

  def close(self):
    self._connection.close()  # at which the simulator ends
    self.process.wait()

  def _ask(self, *question):
    try:
      if self.process.poll() is not None:
        raise EOFError
      self._connection.send(question)
      if self._connection.poll(TIMEOUT):
        return self._connection.recv()
      what = f"gave no answer for {TIMEOUT:g} s"
    except (EOFError, OSError):
      what = f"ended with exit code {self.process.wait(TIMEOUT)}"
    raise ConnectionError(f"The simulator (process {self.process.pid}) {what}.")


def make():
  """The environment, with a time limit."""
  return gym.wrappers.TimeLimit(Remote(), 100)
