"""Logged steps: of a file, a run or Minari into D_env, and those of a run for other programs.

For other programs a step is a row of `COLUMNS`, in the environment's units. Observations are flat,
as `tasks.adapter` has them; in Minari they are as the environment's space says.
"""

import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import tensorflow as tf

from maac_tf.algorithm.trainer import Trainer
from maac_tf.checks import ConfigError
from maac_tf.data.step_log import DamagedError, StepLog, is_of_several
from maac_tf.data.types import Transition
from maac_tf.runs import runtimes, version
from maac_tf.tasks.actions import ActionBox
from maac_tf.tasks.adapter import Environment, flatten

# [N, S], [N, A], [N], [N, S], [N] and [N]; Minari's names.
COLUMNS = (
  "observations", "actions", "rewards", "next_observations", "terminations", "truncations",
)  # fmt: skip
FORMATS = ("npz", "minari")
MINARI = "minari:"  # before a name
STEPS = "steps.bin"
ROUNDING = 1e-5  # of an action's range: so far beyond it is not outside


class Dataset(NamedTuple):
  """Steps in the order in which they were taken.

  Attributes:
    source: as of `read`.
    steps: [N, ...] float32 in NumPy, actions in [-1, 1].
    first: [N] bool, where a step does not go on from the one before.
  """

  source: str
  steps: Transition
  first: np.ndarray


def read(source: str, environment: Environment) -> Dataset:
  """Reads logged steps of an environment.

  Args:
    source: an NPZ file with `COLUMNS`; a run directory, or its steps.bin; or minari:NAME.

  Raises:
    ConfigError: for what is not there, or does not fit the environment.
  """
  if source.startswith(MINARI):
    columns = _of_minari(source.removeprefix(MINARI), environment.action_box)
    return _checked(source, columns, environment)
  if not os.path.exists(source):
    raise ConfigError(f"There is no {source!r}: give an NPZ file, a run's folder or minari:NAME.")
  if source.endswith(".bin") or os.path.isdir(source):
    return _of_run(source, environment)
  return _checked(source, _of_npz(source), environment)


def put(trainer: Trainer, dataset: Dataset) -> None:
  """Into D_env, which must be empty.

  Raises:
    ConfigError: where it has no room for all.
  """
  buffer, count = trainer.learner.env_buffer, len(dataset.first)
  if count > buffer.capacity:
    raise ConfigError(
      f"Maac.env_capacity ({buffer.capacity}) must hold the {count} steps of {dataset.source!r}."
    )
  buffer.add(Transition(*map(tf.constant, dataset.steps)))


def write(dataset: Dataset, environment: Environment, format: str, out: str) -> None:
  """Writes what `read` reads.

  The last step of an episode that was cut off, or is still under way, is a truncation.

  Args:
    format: of `FORMATS`.
    out: a file, or for Minari the name of a new dataset.

  Raises:
    ConfigError: for a name that Minari does not take.
    OSError: for a file that cannot be written.
  """
  steps, box = dataset.steps, environment.action_box
  terminal = steps.terminal > 0
  columns = {
    "observations": steps.observation,
    "actions": box.units_in_numpy(steps.action),
    "rewards": steps.reward,
    "next_observations": steps.next_observation,
    "terminations": terminal,
    "truncations": np.append(dataset.first[1:], True) & ~terminal,
  }
  if format == "npz":
    with open(out, "xb") as file:
      np.savez_compressed(file, **columns)
  else:
    _write_minari(columns, environment.env, out)


def _of_run(path: str, environment: Environment) -> Dataset:
  file = os.path.join(path, STEPS) if os.path.isdir(path) else path
  try:
    count = 1 + (os.path.isfile(file) and is_of_several(file))
    log = StepLog(file, environment.observation_size, environment.action_size, count)
  except DamagedError as error:
    raise ConfigError(f"{error}.") from error
  rows = list(log.read_rows(0, log.whole(0, 0)[0]))
  if not rows:
    raise ConfigError(f"{file!r} has no steps.")
  row = np.concatenate(rows)
  if "environment" in (row.dtype.names or ()):  # one after the other: its episodes are whole then
    row = row[np.argsort(row["environment"], kind="stable")]
  steps = Transition(*(np.ascontiguousarray(row[name]) for name in Transition._fields))
  return Dataset(path, steps, row["first"] > 0)


def _of_npz(path: str) -> dict[str, np.ndarray]:
  try:
    with open(path, "rb") as stream:
      file = np.load(stream, allow_pickle=False)
      found = dict(file) if isinstance(file, np.lib.npyio.NpzFile) else {}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise ConfigError(
      f"{path!r} is not an NPZ file of plain arrays, without pickled objects: {error}"
    ) from error
  missing = [name for name in COLUMNS if name not in found]
  if missing:
    raise ConfigError(f"{path!r} has no {', '.join(missing)}: it needs {', '.join(COLUMNS)}.")
  return found


def _checked(source: str, columns: Mapping[str, np.ndarray], environment: Environment) -> Dataset:
  count, box = np.size(columns["rewards"]), environment.action_box
  states, actions = (count, environment.observation_size), (count, environment.action_size)
  shapes = dict(zip(COLUMNS, (states, actions, (count,), states, (count,), (count,)), strict=True))
  found = {}
  for name, shape in shapes.items():
    values = columns[name]
    if values.dtype.kind not in "fiub" or values.shape != shape:
      raise ConfigError(
        f"{source!r}: {name} must be numbers of shape {shape}, not {values.dtype} of shape "
        f"{values.shape}."
      )
    with np.errstate(over="ignore"):
      found[name] = values.astype(np.float32)
    bad = np.argwhere(~np.isfinite(found[name]))
    if bad.size:
      raise ConfigError(f"{source!r}: {name} has {values[tuple(bad[0])]} in row {bad[0][0]}.")
  if not count:
    raise ConfigError(f"{source!r} has no steps.")
  for name in ("terminations", "truncations"):
    if not np.isin(found[name], (0.0, 1.0)).all():
      raise ConfigError(f"{source!r}: {name} must be True or False, or 1 or 0.")
  observation, units, reward, after, terminal, truncated = (found[name] for name in COLUMNS)
  action = np.clip(box.fractions(units).numpy(), -1.0, 1.0)
  tolerance = ROUNDING * (box.scale + np.abs(box.shift))
  bad = np.argwhere(np.abs(action * box.scale + box.shift - units) > tolerance)
  if bad.size:
    row, number = bad[0]
    low, high = (box.shift + sign * box.scale for sign in (-1, 1))
    raise ConfigError(
      f"{source!r}: number {number} of the action in row {row} is {units[row, number]:.6g}, "
      f"outside of [{low[number]:.6g}, {high[number]:.6g}]."
    )
  goes_on = (observation[1:] == after[:-1]).all(1) & (terminal[:-1] + truncated[:-1] == 0.0)
  first = np.append(True, ~goes_on)
  return Dataset(source, Transition(observation, action, reward, after, terminal), first)


def _of_minari(name: str, box: ActionBox) -> dict[str, np.ndarray]:
  """`COLUMNS` of a dataset on this machine."""
  minari = runtimes.require("minari")
  try:
    dataset = minari.load_dataset(name)
    episodes = list(dataset)
  except Exception as error:  # whatever a library raises of a file of another program
    raise ConfigError(
      f"Minari cannot read {name!r} ({_line(error)}): `minari download {name}` brings one of its "
      "own."
    ) from error
  space, source = dataset.observation_space, f"{MINARI}{name}"
  actions = dataset.action_space
  if not isinstance(actions, gym.spaces.Box) or not box.equals(ActionBox(actions)):
    raise ConfigError(
      f"{source!r} has actions of {actions}: those of the environment are from "
      f"{box.low.tolist()} to {box.high.tolist()}."
    )
  rows = [_flat(space, e.observations, len(e) + 1, source) for e in episodes]
  columns = {"observations": [r[:-1] for r in rows], "next_observations": [r[1:] for r in rows]}
  columns["actions"] = [np.asarray(e.actions).reshape(len(e), -1) for e in episodes]
  for key in ("rewards", "terminations", "truncations"):
    columns[key] = [np.asarray(getattr(e, key)) for e in episodes]
  if not episodes:
    raise ConfigError(f"{source!r} has no steps.")
  return {key: np.concatenate(parts) for key, parts in columns.items()}


def _write_minari(columns: Mapping[str, np.ndarray], env: gym.Env, name: str) -> None:
  minari = runtimes.require("minari")
  if not re.search(r"-v\d+$", name):
    raise ConfigError(f"A name in Minari ends in a version, as hopper/mine-v0, not {name!r}.")
  from minari.data_collector import EpisodeBuffer

  assert isinstance(env.action_space, gym.spaces.Box), "the adapter takes no others"
  ends = np.flatnonzero(columns["terminations"] | columns["truncations"]) + 1
  episodes = []
  for begin, end in zip([0, *ends[:-1]], ends, strict=True):
    part = {key: values[begin:end] for key, values in columns.items()}
    seen = np.concatenate([part["observations"], part["next_observations"][-1:]])
    buffer = EpisodeBuffer(
      observations=_of_space(env.observation_space, seen),
      actions=_of_space(env.action_space, part["actions"]),
      **{key: part[key] for key in ("rewards", "terminations", "truncations")},
    )
    episodes.append(buffer)
  try:
    with warnings.catch_warnings(action="ignore"):  # who its author is, it cannot know
      minari.create_dataset_from_buffers(
        name,
        episodes,
        env=env.spec,
        observation_space=env.observation_space,
        action_space=env.action_space,
        algorithm_name="MAAC",
        description=f"Steps of a training of maac_tf {version.current()['maac_tf']}.",
        data_format="hdf5",
      )
  except Exception as error:  # whatever the library raises
    raise ConfigError(f"Minari cannot write {name!r}: {_line(error)}") from error


def _of_space(space: gym.Space[Any], rows: np.ndarray) -> Any:
  """Flat values [T, n] as a batch of the space."""
  if isinstance(space, gym.spaces.Box):
    return rows.reshape(len(rows), *space.shape).astype(space.dtype)
  items = [gym.spaces.unflatten(space, row) for row in rows]
  batch: Any = gym.vector.utils.create_empty_array(space, len(rows))
  return gym.vector.utils.concatenate(space, items, batch)


def _flat(space: gym.Space[Any], batch: Any, count: int, source: str) -> np.ndarray:
  """The reverse, [count, n] float32."""
  if isinstance(space, gym.spaces.Box):
    return np.asarray(batch, np.float32).reshape(count, -1)
  items = gym.vector.utils.iterate(gym.vector.utils.batch_space(space, count), batch)
  return np.stack([flatten(space, item, source) for item in items])


def _line(error: Exception) -> str:
  return (str(error).strip() or repr(error)).splitlines()[0]
