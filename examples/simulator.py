"""A simulator that is a program of its own: examples/remote_env.py starts it and talks to it."""

import random
import sys
from multiprocessing.connection import Connection


def simulate(connection):
  """A cart on a rail; answers until the other end of the connection is closed.

  Questions: ("reset", seed), answered by (position, velocity) in m and m/s; ("step", force in N),
  answered by ((position, velocity), reward).
  """
  while True:
    try:
      what, value = connection.recv()
    except EOFError:
      return
    if what == "reset":
      generator = random.Random(value)
      position, velocity = generator.uniform(-1, 1), generator.uniform(-1, 1)
      connection.send((position, velocity))
    else:
      velocity += 0.1 * value
      position += 0.1 * velocity
      connection.send(((position, velocity), -(position**2) - 0.1 * velocity**2))


if __name__ == "__main__":
  simulate(Connection(int(sys.argv[1])))
