"""Whether two runs came to the same, to the bit."""

import csv
import json

import numpy as np
import tensorflow as tf


def newest_checkpoint(run):
  """Of the folder `run`, its folder."""
  return max((run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))


def run_values(run):
  """All that is to be equal, by name: every variable, D_model, real steps and metrics."""
  checkpoint = newest_checkpoint(run)
  reader = tf.train.load_checkpoint(str(checkpoint / "variables"))
  names = [n for n in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in n]
  found = {name: reader.get_tensor(name) for name in names}
  with np.load(checkpoint / "d_model.npz") as d_model:
    found |= dict(d_model)
  under_way = json.loads((checkpoint / "state.json").read_text())["under_way"]
  del under_way["seconds"]
  with open(run / "metrics.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  rows = [{k: v for k, v in row.items() if not k.startswith("seconds/")} for row in rows]
  texts = {"rows": rows, "under_way": under_way, "steps": (run / "steps.bin").read_bytes()}
  return found | {name: np.array(str(value)) for name, value in texts.items()}


def differences(one, other):
  """The names of `run_values` that only one has, or that differ."""
  both = one.keys() & other.keys()
  differing = {
    n for n in both if not np.array_equal(one[n], other[n], equal_nan=one[n].dtype.kind == "f")
  }
  return sorted((one.keys() ^ other.keys()) | differing)
