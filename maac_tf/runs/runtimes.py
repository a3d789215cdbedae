"""Exported policies, each in the runtime that its file is for."""

import importlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import maac_tf
from maac_tf._quiet_import import run_quietly
from maac_tf.checks import ConfigError

EXTRAS = {  # module: what installs it
  "ai_edge_litert.interpreter": "litert",
  "onnx": "onnx",
  "onnxruntime": "onnx",
  "tf2onnx": "onnx",
  "imageio_ffmpeg": "video",
}
METADATA_FILE = "metadata.json"  # in a LiteRT file, which may be a zip archive, too
# The policies that come along: a SavedModel each, in a folder of its name.
POLICIES = os.path.join(os.path.dirname(os.path.abspath(maac_tf.__file__)), "policies")


class Loaded(NamedTuple):
  """A policy that was loaded.

  Attributes:
    act: observations [N, S] float32 -> actions [N, A] in the environment's units.
    inputs: their shapes by name.
    outputs: their names.
    metadata: what `exports.metadata` said, or of it what there is.
  """

  act: Callable[[np.ndarray], np.ndarray]
  inputs: Mapping[str, Sequence[int | None]]
  outputs: Sequence[str]
  metadata: Mapping[str, Any]


def load(path: str, signature: str = "serving_default") -> Loaded:
  """The policy in a SavedModel's folder, or in a file of LiteRT (.tflite) or ONNX (.onnx).

  Args:
    path: of the folder, see `find_saved_model`, or the file.
    signature: of the SavedModel; the others have one alone.

  Raises:
    ConfigError: when there is none, or its runtime is not installed.
  """
  extension = os.path.splitext(path)[1]
  if extension not in (".tflite", ".onnx"):
    return _saved_model(find_saved_model(path), signature)
  if not os.path.isfile(path):
    raise ConfigError(f"There is no file {path!r}.")
  if signature != "serving_default":
    raise ConfigError(f"{path!r} has the deterministic policy alone: only a SavedModel samples.")
  try:
    return _litert(path) if extension == ".tflite" else _onnx(path)
  except (RuntimeError, ValueError) as error:
    raise ConfigError(f"{path!r} cannot be loaded: {' '.join(str(error).split())}") from error


def policies() -> list[str]:
  """The names of those that come along."""
  return sorted(os.listdir(POLICIES))


def find_saved_model(path: str) -> str:
  """The folder that `path` means: that one, or else the policy of this name that comes along.

  Raises:
    ConfigError: where there is no SavedModel.
  """
  for folder in (path, os.path.join(POLICIES, path)):
    if os.path.isfile(os.path.join(folder, "saved_model.pb")):
      return folder
  raise ConfigError(
    f"There is no SavedModel in {path!r}. The policies that come along are {', '.join(policies())}."
  )


def _saved_model(path: str, signature: str) -> Loaded:
  loaded = tf.saved_model.load(path)
  if signature not in loaded.signatures:
    hint = ": leave out --sample" if signature == "sample" else ": is it of another program?"
    raise ConfigError(f"The SavedModel in {path!r} has no signature {signature!r}{hint}.")
  policy = loaded.signatures[signature]
  metadata = {}
  if "metadata" in loaded.signatures:
    metadata = json.loads(loaded.signatures["metadata"]()["metadata"].numpy())
  elif "task" in loaded.signatures:  # of an earlier version
    metadata = {"task": loaded.signatures["task"]()["task"].numpy().decode()}

  def act(observation: np.ndarray) -> np.ndarray:
    # Through `loaded`, which holds the variables, if there are some.
    return loaded.signatures[signature](observation=tf.constant(observation))["action"].numpy()

  inputs = {k: spec.shape for k, spec in policy.structured_input_signature[1].items()}
  return Loaded(act, inputs, list(policy.structured_outputs), metadata)


def _litert(path: str) -> Loaded:
  make = require("ai_edge_litert.interpreter").Interpreter

  def allocated() -> Any:
    made = make(path, num_threads=1)
    made.allocate_tensors()  # the first time, it writes a note
    return made

  interpreter = run_quietly(allocated)
  (signature,) = interpreter.get_signature_list().values()
  given, returned = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
  shape = None

  def act(observation: np.ndarray) -> np.ndarray:
    nonlocal shape
    if observation.shape != shape:
      interpreter.resize_tensor_input(given["index"], observation.shape)
      interpreter.allocate_tensors()
      shape = observation.shape
    interpreter.set_tensor(given["index"], observation)
    interpreter.invoke()
    return interpreter.get_tensor(returned["index"])

  metadata = {}
  if zipfile.is_zipfile(path):
    with zipfile.ZipFile(path) as archive:
      metadata = json.loads(archive.read(METADATA_FILE))
  inputs = {name: given["shape_signature"] for name in signature["inputs"]}
  return Loaded(act, inputs, signature["outputs"], metadata)


def _onnx(path: str) -> Loaded:
  runtime = require("onnxruntime")
  options = runtime.SessionOptions()
  options.intra_op_num_threads = 1
  session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
  properties = session.get_modelmeta().custom_metadata_map
  metadata = json.loads(properties.get("metadata", "{}"))
  inputs = {x.name: x.shape for x in session.get_inputs()}
  outputs = [x.name for x in session.get_outputs()]
  names = list(inputs)

  def act(observation: np.ndarray) -> np.ndarray:
    return session.run(outputs, {names[0]: observation})[0]

  return Loaded(act, inputs, outputs, metadata)


def require(module: str) -> ModuleType:
  """That module of an extra.

  Raises:
    ConfigError: when it is not installed.
  """
  try:
    return importlib.import_module(module)
  except ImportError as error:
    extra = EXTRAS[module]
    raise ConfigError(
      f"{module.partition('.')[0]} is not installed: pip install 'maac_tf[{extra}]'."
    ) from error
