"""The policy as a file for other programs, compared with itself in the runtime of that file."""

import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import tensorflow as tf

from maac_tf import files
from maac_tf._quiet_import import run_quietly
from maac_tf.algorithm.evaluator import BEST_EVALUATION_EPISODES
from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.planner import Planner
from maac_tf.algorithm.trainer import Trainer
from maac_tf.checks import ConfigError
from maac_tf.runs import config, runtimes, version
from maac_tf.runs.saved_model import ExportedPolicy, save_planner, save_policy
from maac_tf.tasks.actions import NO_BOUND
from maac_tf.tasks.episodes import Act, Episodes, run_episodes

EXTENSIONS = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx"}
QUANTIZATIONS = ("float16", "int8")
NUM_OBSERVATIONS = 1_000  # that a file is compared on
TOLERANCE = 1e-4  # of an action in [-1, 1]


def metadata(
  trainer: Trainer, is_best: bool, code: Mapping[str, str | None] | None = None
) -> dict[str, Any]:
  """What a file says of the policy in it, for JSON.

  Args:
    is_best: whether the policy is that of the best evaluation, the return of which is known.
    code: what trained it, as of `version.current`; None: what runs now.
  """
  environment, known = trainer.environment, trainer.best.metrics() if is_best else {}
  seen, box = gym.spaces.flatten_space(environment.env.observation_space), environment.action_box
  assert isinstance(seen, gym.spaces.Box), "the adapter takes no others"
  return {
    "task": trainer.learner.task.name,
    "observation": {"name": "observation", "size": environment.observation_size}
    | {"low": _bounds(seen.low), "high": _bounds(seen.high)},
    "action": {"name": "action", "size": environment.action_size}
    | {"low": _bounds(box.low), "high": _bounds(box.high)},
    "seconds_per_action": _seconds_per_action(environment.env),
    "return": known.get("best/return"),
    "return_std": known.get("best/return_std"),
    "episodes": BEST_EVALUATION_EPISODES if known.get("best/return") is not None else 0,
    "env_steps": int(known.get("best/env_steps") or trainer.env_steps),
  } | dict(code or version.current())


def _seconds_per_action(env: gym.Env) -> float | None:
  """What MuJoCo's environments, and most of those with a clock, have as `dt`; None elsewhere."""
  try:
    return float(env.get_wrapper_attr("dt"))
  except (AttributeError, TypeError, ValueError):
    return None


def format_of(path: str) -> str:
  """Of a file of this name; without an extension that is another's, a SavedModel."""
  extension = os.path.splitext(path)[1]
  return next((f for f, e in EXTENSIONS.items() if e and e == extension), "saved_model")


def _bounds(values: np.ndarray) -> list[float | None]:
  """None where there is none: JSON has no infinity."""
  return [float(x) if abs(x) < NO_BOUND else None for x in np.asarray(values, np.float64).ravel()]


def export_policy(
  trainer: Trainer,
  path: str,
  format: str = "saved_model",
  quantize: str | None = None,
  code: Mapping[str, str | None] | None = None,
) -> float:
  """Writes the policy of the best evaluation, or of now if there was none, to a new file.

  Args:
    path: to write; it must end as the format's files do.
    format: saved_model (a folder), litert (.tflite) or onnx (.onnx).
    quantize: float16 or int8, for the weights in a file of LiteRT.
    code: what trained it, see `metadata`.

  Returns:
    The largest difference of an action, of those in [-1, 1], between file and policy, over 1,000
    observations drawn from D_env (of an empty one, standard normals).

  Raises:
    ConfigError: for a wrong argument, a package that is not installed, a policy that cannot be
      converted, and a difference above 1e-4, or of quantised weights one that is no number.
  """
  if not path.endswith(EXTENSIONS[format]):
    raise ConfigError(f"A file of {format} ends in {EXTENSIONS[format]}: {path!r} does not.")
  _refuse_to_overwrite(path)
  if quantize and format != "litert":
    raise ConfigError(f"Only a file of LiteRT is quantised, not one of {format}.")
  learner = trainer.learner
  with trainer.best.in_use(), files.creating(path):
    about = metadata(trainer, trainer.best.exists, code)
    if format == "saved_model":
      save_policy(learner, path, about)
    elif format == "litert":
      _save_litert(learner, path, about, quantize)
    else:
      _save_onnx(learner, path, about)
    difference = _difference(trainer, runtimes.load(path))
  if not difference <= (np.inf if quantize else TOLERANCE):
    raise ConfigError(
      f"{path!r} is not to be used: its actions differ from the policy's by up to {difference:.2g} "
      f"(of those in [-1, 1]; {TOLERANCE} is allowed)."
    )
  return difference


def export_planner(
  trainer: Trainer, path: str, code: Mapping[str, str | None] | None = None
) -> None:
  """Writes a SavedModel that plans with the networks of the best evaluation.

  Args:
    path, code: as of `export_policy`.

  Raises:
    ConfigError: for another format, a path that exists, a run without models, or a wrong option of
      `Planner`.
  """
  if (format := format_of(path)) != "saved_model":
    raise ConfigError(f"Only a SavedModel plans: {path!r} would be a file of {format}.")
  _refuse_to_overwrite(path)
  with config.user_errors(), trainer.best.in_use(), files.creating(path):
    about = metadata(trainer, is_best=False, code=code)
    save_planner(trainer.learner, Planner(trainer.learner), path, about)


def _refuse_to_overwrite(path: str) -> None:
  if os.path.exists(path):
    raise ConfigError(f"{path!r} exists: give another path.")


def paired_episodes(trainer: Trainer, path: str, episodes: int) -> tuple[Episodes, Episodes]:
  """Episodes of the policy of the best evaluation, and of the file, from the same start states."""
  file, box = runtimes.load(path), trainer.environment.action_box

  def run(act: Act) -> Episodes:
    environment = trainer.evaluator.environment
    return run_episodes(trainer.learner.task, act, range(episodes), environment=environment)

  with trainer.best.in_use():
    policy = trainer.learner.actor_critic.ema_policy.in_numpy()
    return run(lambda x: policy(x, 0.0)), run(lambda x: box.fractions(file.act(x)).numpy())


def _difference(trainer: Trainer, file: runtimes.Loaded) -> float:
  learner, buffer = trainer.learner, trainer.learner.env_buffer
  if buffer.size > 0:
    observation = buffer.gather(buffer.random_indices([NUM_OBSERVATIONS], (0, 0))).observation
  else:
    shape = [NUM_OBSERVATIONS, learner.observation_size]
    observation = tf.random.stateless_normal(shape, (0, 0))
  want, _ = learner.actor_critic.ema_policy.act(observation, tf.zeros([learner.action_size]))
  got = learner.action_box.fractions(file.act(observation.numpy()))
  return float(np.max(np.abs(got - want)))


def _save_litert(learner: Maac, path: str, about: Mapping[str, Any], quantize: str | None) -> None:
  """With built-in operations alone."""
  runtimes.require("ai_edge_litert.interpreter")
  module = ExportedPolicy(learner, about)

  def convert() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
      tf.saved_model.save(module, folder, signatures={"serving_default": module.deterministic})
      converter = tf.lite.TFLiteConverter.from_saved_model(
        folder, signature_keys=["serving_default"]
      )
      converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
      if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
      if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
      return converter.convert()

  model = _convert("LiteRT with built-in operations", convert)
  with open(path, "wb") as file:
    file.write(model)
  with zipfile.ZipFile(path, "a") as archive:  # which leaves the model before it as it is
    archive.writestr(runtimes.METADATA_FILE, json.dumps(about))


def _save_onnx(learner: Maac, path: str, about: Mapping[str, Any]) -> None:
  onnx, converter = runtimes.require("onnx"), runtimes.require("tf2onnx")
  runtimes.require("onnxruntime")
  module = ExportedPolicy(learner, about)  # holds the weights
  function = module.deterministic

  def convert() -> Any:
    return converter.convert.from_function(function, input_signature=function.input_signature)[0]

  model = _convert("ONNX", convert)
  onnx.helper.set_model_props(model, {"metadata": json.dumps(about)})
  onnx.save(model, path)


def _convert(what: str, convert: Callable[[], Any]) -> Any:
  """Without the converter's notes; in a line what it raises."""
  try:
    return run_quietly(convert)
  except Exception as error:  # whatever a converter raises, often over pages
    first = next((line for line in str(error).splitlines() if line.strip()), repr(error))
    raise ConfigError(f"The policy cannot be converted to {what}: {first.strip()}") from error
