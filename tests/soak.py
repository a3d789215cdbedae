"""Ends trainings at random every 20 to 90 seconds, and compares them with undisturbed ones:

python -m tests.soak --hours=2 --csv=results/soak.csv FOLDER

A row of the CSV is a training. pytest does not collect it: it takes hours.
"""

import argparse
import collections
import csv
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import time

from tests.equal_runs import differences, run_values

COMMAND = (
  *(sys.executable, "-m", "maac_tf.train", "--gin_file=gin/pendulum.gin", "--threads=1"),
  # As long as some ends are apart, each kind of work of an iteration included.
  *("--gin_param=train.iterations=60", "--gin_param=Trainer.updates_per_step=4"),
)
SECONDS = 20, 90  # between two ends
GRACE = 60  # seconds to save in, and end
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "usr1": signal.SIGUSR1}
EVENTS = (*SIGNALS, "stopped", "disk")
COLUMNS = ("seed", "minutes", *EVENTS, "tracebacks", "differences")


def train(run, seed, log):
  """The training, under way; what it says goes to `log`."""
  command = [*COMMAND, f"--run_dir={run}", f"--seed={seed}"]
  return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def disturb(process, event, rng):
  """Ends the process, or makes it end, in this way; it may have ended before."""
  if event == "stopped":  # as a debugger or a full machine does, and then killed
    process.send_signal(signal.SIGSTOP)
    time.sleep(rng.uniform(1, 5))
    process.send_signal(signal.SIGCONT)
    time.sleep(rng.uniform(0, 5))
    process.kill()
  elif event == "disk":  # no file may grow beyond some bytes: so it is with a full disk
    limit = rng.randrange(200_000)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
  else:
    process.send_signal(SIGNALS[event])
  try:
    process.wait(GRACE)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()


def disturbed_training(run, seed, log, rng):
  """Runs it to its end; returns how many events of each kind there were."""
  counts = collections.Counter()
  while True:
    process = train(run, seed, log)
    try:
      if process.wait(rng.uniform(*SECONDS)) == 0:
        return counts
      raise RuntimeError(f"The training ended by itself: see {log.name}.")
    except subprocess.TimeoutExpired:
      event = rng.choice(EVENTS)
      disturb(process, event, rng)
      counts[event] += 1


def trial(folder, seed):
  """A row of the CSV."""
  start, rng = time.monotonic(), random.Random(seed)
  whole, ended = (folder / f"{name}-{seed}" for name in ("whole", "ended"))
  with open(folder / f"{seed}.log", "w") as log:
    if train(whole, seed, log).wait():
      raise RuntimeError(f"The training ended by itself: see {log.name}.")
    counts = disturbed_training(ended, seed, log, rng)
  return {
    "seed": seed,
    "minutes": round((time.monotonic() - start) / 60, 1),
    **{event: counts[event] for event in EVENTS},
    "tracebacks": (folder / f"{seed}.log").read_text().count("Traceback"),
    "differences": " ".join(differences(run_values(whole), run_values(ended))) or 0,
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("--hours", type=float, default=2.0)
  parser.add_argument("--csv", type=pathlib.Path, required=True)
  arguments = parser.parse_args()
  arguments.folder.mkdir(parents=True)
  end, seed = time.monotonic() + 3600 * arguments.hours, 0
  with open(arguments.csv, "w", newline="") as file:
    writer = csv.DictWriter(file, COLUMNS, lineterminator=os.linesep)
    writer.writeheader()
    while time.monotonic() < end:
      writer.writerow(trial(arguments.folder.resolve(), seed))
      file.flush()
      seed += 1


if __name__ == "__main__":
  main()
