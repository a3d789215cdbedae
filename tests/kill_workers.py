"""Kills one of two workers that train together, then the other, and resumes both each time:

python -m tests.kill_workers --csv=results/workers.csv FOLDER

A row of the CSV is a start of both. At the end the run is compared with one that nothing disturbed.
pytest does not collect it: it takes minutes.
"""

import argparse
import csv
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

from tests.equal_runs import differences, newest_checkpoint, run_values

COMMAND = (
  *(sys.executable, "-m", "maac_tf.train", "--gin_file=gin/pendulum.gin", "--threads=1"),
  *("--gin_param=train.iterations=6", "--gin_param=Trainer.updates_per_step=0.2"),
)
# Environment steps after which a checkpoint tells that the training is well under way.
KILLS = ((1, 1_200), (0, 1_600))
COLUMNS = (
  "start",
  "resumed_after",
  "killed",
  "exit_of_the_other",
  "seconds_until_its_end",
  "what_it_says",
  "env_steps",
  "equal_to_undisturbed",
)


def free_ports(count):
  sockets = [socket.socket() for _ in range(count)]
  for each in sockets:
    each.bind(("127.0.0.1", 0))
  ports = [each.getsockname()[1] for each in sockets]
  for each in sockets:
    each.close()
  return ports


def start(run, log):
  """Both workers; what each says goes to LOG-INDEX."""
  cluster, processes = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}, []
  for index in range(2):
    config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
    with open(f"{log}-{index}", "w") as file:
      environment = os.environ | {"TF_CONFIG": config}
      processes.append(
        subprocess.Popen([*COMMAND, f"--run_dir={run}"], env=environment, stdout=file, stderr=file)
      )
  return processes


def env_steps(run):
  """Of the newest checkpoint, 0 before the first."""
  if not list((run / "checkpoints").glob("[0-9]*")):
    return 0
  return json.loads((newest_checkpoint(run) / "state.json").read_text())["env_steps"]


def end(processes):
  codes = [process.wait() for process in processes]
  if any(codes):
    raise RuntimeError(f"The workers ended with {codes}.")


def kill(run, log, which, after):
  """Starts both, kills one of them; returns a row of the CSV."""
  resumed_after, processes = env_steps(run), start(run, log)
  while env_steps(run) < after:
    if any(process.poll() is not None for process in processes):
      raise RuntimeError(f"A worker ended by itself: see {log}-*.")
    time.sleep(0.1)
  processes[which].kill()
  killed = time.monotonic()
  code = processes[1 - which].wait(timeout=600)
  lines = pathlib.Path(f"{log}-{1 - which}").read_text().splitlines()
  (said,) = [line for line in lines if line.startswith(("Error", "Traceback"))]
  return {
    "resumed_after": resumed_after,
    "killed": which,
    "exit_of_the_other": code,
    "seconds_until_its_end": round(time.monotonic() - killed, 1),
    "what_it_says": re.match("[^.]*[.]", said)[0],
    "env_steps": env_steps(run),
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("--csv", type=pathlib.Path, required=True)
  arguments = parser.parse_args()
  folder = arguments.folder.resolve()
  folder.mkdir(parents=True)
  whole, killed = folder / "whole", folder / "killed"
  end(start(whole, folder / "whole.log"))
  rows = [kill(killed, folder / f"{i}.log", *which) for i, which in enumerate(KILLS)]
  resumed_after = env_steps(killed)
  end(start(killed, folder / "last.log"))
  same = not differences(run_values(whole), run_values(killed))
  last = {"resumed_after": resumed_after, "env_steps": env_steps(killed)}
  with open(arguments.csv, "w", newline="") as file:
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for number, row in enumerate([*rows, last | {"equal_to_undisturbed": same}], 1):
      writer.writerow({"start": number} | row)


if __name__ == "__main__":
  main()
