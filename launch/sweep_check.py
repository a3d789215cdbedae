"""Whether a sweep on Ray outlives a worker: writes results/ray_sweep.csv.

    python launch/sweep_check.py runs/sweep_check

Two workers train two tiny settings of the pendulum. When the first has saved iterations, its worker
is killed (SIGKILL). At the end a training that nothing disturbed is compared with the killed one.
"""

import csv
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
TINY = (
  "Trainer.random_steps=200", "Trainer.initial_updates=0", "Trainer.steps_per_iteration=100",
  "Trainer.updates_per_step=0.2", "Trainer.eval_episodes=2", "DynamicsFit.max_batches=20",
)  # fmt: skip
SWEEP = "--gin_file=gin/pendulum.gin", "--grid=Maac.horizon=1,5", "--seeds=0", "--env_steps=1400"
KILLED = "default-0"


def rows(run):
  """Of its metrics, but for times."""
  path = run / "metrics.csv"
  if not path.exists():
    return []
  with open(path, newline="") as file:
    return [
      {name: value for name, value in row.items() if not name.startswith("seconds/")}
      for row in csv.DictReader(file)
    ]


def main(folder):
  arguments = [*SWEEP, *(f"--gin_param={binding}" for binding in TINY), f"--run_dir={folder}"]
  environment = os.environ | {"PYTHONPATH": str(ROOT)}
  sweep = [sys.executable, "launch/sweep.py", *arguments, "--jobs=2"]
  process = subprocess.Popen(sweep, cwd=ROOT, env=environment)
  run = pathlib.Path(folder) / "pendulum" / KILLED
  while len(rows(run)) < 3:
    if process.poll() is not None:
      sys.exit("The sweep ended before a worker could be killed.")
    time.sleep(0.1)
  workers = re.findall(r"(?m)^Worker (\d+)", run.with_name(f"{KILLED}.log").read_text())
  os.kill(int(workers[-1]), signal.SIGKILL)
  print(f"Killed worker {workers[-1]} after {len(rows(run))} iterations.", flush=True)
  if process.wait():
    sys.exit("The sweep failed.")
  print_commands = [sys.executable, "-m", "maac_tf.suite", *arguments, "--print_commands"]
  commands = subprocess.run(
    print_commands, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
  ).stdout.splitlines()
  (command,) = [c for c in commands if f"{KILLED} " in f"{c} "]
  whole = pathlib.Path(folder) / "undisturbed"
  words = [w if "--run_dir" not in w else f"--run_dir={whole}" for w in shlex.split(command)]
  subprocess.run([sys.executable, *words[1:]], cwd=ROOT, env=environment, check=True)
  table = []
  for path in sorted(run.parent.glob("*-0")):
    log = path.with_name(f"{path.name}.log").read_text()
    last = rows(path)[-1]
    entry = {"setting": path.name, "workers": len(re.findall(r"(?m)^Worker ", log))}
    resumed = re.findall(r"Resuming .* after ([\d,]+)", log)
    entry["resumed_after"] = "".join(resumed[-1:]).replace(",", "")
    entry |= {name: last[name] for name in ("iteration", "env_steps", "eval/return")}
    entry["equal_to_undisturbed"] = rows(path) == rows(whole) if path.name == KILLED else ""
    table.append(entry)
  with open(ROOT / "results" / "ray_sweep.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
  print((ROOT / "results" / "ray_sweep.csv").read_text())


if __name__ == "__main__":
  main(os.path.abspath(sys.argv[1]))
