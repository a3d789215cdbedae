"""The trainings of `python -m maac_tf.suite`, with the same flags, on Ray: here, or on a cluster.

    python launch/sweep.py --gin_file=gin/pendulum.gin --grid=Maac.horizon=1,3 --jobs=2
    python launch/sweep.py --gin_file=gin/hopper.gin --run_dir=/shared/sweep --address=auto

A training is a process with a run directory and a log of its own. Where one ends with an error, or
its worker or machine is lost, another worker goes on from the run directory: on a cluster, all
machines must see it, and this folder, at the same path.

It needs the extra `ray`. docs/how-to/compare_and_plot.md says more.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence

import ray
from absl import app, flags

from maac_tf import suite
from maac_tf.runs.trainings import Runs, Training

_ADDRESS = flags.DEFINE_string(
  "address",
  None,
  "Of a cluster, as ray.init takes it, such as auto; default: a Ray of its own here.",
)
_MAX_RETRIES = flags.DEFINE_integer(
  "max_retries", 3, "How often a training goes on after it was lost.", lower_bound=0
)


def train(command: Sequence[str], folder: str, log: str) -> None:
  """In a worker: a training as a process, which does not outlive the worker."""
  os.makedirs(os.path.dirname(os.path.join(folder, log)), exist_ok=True)
  with open(os.path.join(folder, log), "a") as file:
    print(f"Worker {os.getpid()} on {socket.gethostname()}.", file=file, flush=True)
    command = ["setpriv", "--pdeathsig", "KILL", *command]
    code = subprocess.run(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT).returncode
  if code:
    raise RuntimeError(f"ended with {code}, see {log}")


class RayRuns(Runs):
  """Runs trainings as tasks of Ray, each on one CPU."""

  def __init__(self) -> None:
    self.failed: list[Training] = []
    self.interrupted = False

  def run(
    self, trainings: Sequence[Training], jobs: int, result: Callable[[Training], str]
  ) -> None:
    own = {} if _ADDRESS.value else {"num_cpus": jobs, "include_dashboard": False}
    ray.init(_ADDRESS.value, log_to_driver=False, **own)
    task = ray.remote(num_cpus=1, max_retries=_MAX_RETRIES.value, retry_exceptions=True)(train)
    folder = os.getcwd()
    left = {task.remote(t.command, folder, f"{t.run_dir}.log"): t for t in trainings}
    try:
      while left:
        (done,), _ = ray.wait(list(left))
        training = left.pop(done)
        try:
          ray.get(done)
          print(f"{training.run_dir}: {result(training)}", flush=True)
        except ray.exceptions.RayError as error:
          self.failed.append(training)
          print(f"{training.run_dir}: {str(error).strip().splitlines()[-1]}", flush=True)
    except KeyboardInterrupt:
      self.interrupted = True
    finally:
      ray.shutdown()


if __name__ == "__main__":
  sys.path.insert(0, os.getcwd())
  app.run(lambda argv: suite.main(argv, RayRuns))
