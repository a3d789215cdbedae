"""Exported policies, each in the runtime that its file is for."""

import contextlib
import difflib
import importlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import maac_tf
from maac_tf import files
from maac_tf._quiet_import import run_quietly
from maac_tf.checks import ConfigError

EXTRAS = {  # module: what installs it
  "ai_edge_litert.interpreter": "litert",
  "onnx": "onnx",
  "onnxruntime": "onnx",
  "tf2onnx": "onnx",
  "imageio_ffmpeg": "video",
  "minari": "minari",
}
METADATA_FILE = "metadata.json"  # in a LiteRT file, which may be a zip archive, too
# The pre-trained policies: a SavedModel each, in a folder of its name.
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
    path: of the file, or as of `saved_model`.
    signature: of the SavedModel; the others have one alone.

  Raises:
    ConfigError: when there is none, it is damaged, or its runtime is not installed.
  """
  path = files.local(path)
  extension = os.path.splitext(path)[1]
  if extension not in (".tflite", ".onnx"):
    return _of(saved_model(path), path, signature)
  if not os.path.isfile(path):
    raise ConfigError(f"There is no file {path!r}.")
  if signature != "serving_default":
    raise ConfigError(f"{path!r} has the deterministic policy alone: only a SavedModel samples.")
  with _loading(path):
    return _litert(path) if extension == ".tflite" else _onnx(path)


def policies() -> list[str]:
  """The names of the pre-trained ones."""
  return sorted(os.listdir(POLICIES))


def saved_model(path: str) -> Any:
  """What TensorFlow makes of a SavedModel.

  Args:
    path: its folder, or the name of a pre-trained policy.

  Raises:
    ConfigError: where there is none, or one that is damaged.
  """
  for folder in (path, os.path.join(POLICIES, path)):
    if os.path.isfile(os.path.join(folder, "saved_model.pb")):
      with _loading(folder):
        return tf.saved_model.load(folder)
  if os.path.isfile(os.path.join(path, "policy", "saved_model.pb")):
    raise ConfigError(f"{path!r} is a run: its policy is {os.path.join(path, 'policy')!r}.")
  nearest = difflib.get_close_matches(path, policies(), 1)
  hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
  raise ConfigError(
    f"There is no SavedModel in {path!r}. The pre-trained policies are {', '.join(policies())}."
    f"{hint}"
  )


@contextlib.contextmanager
def _loading(path: str) -> Iterator[None]:
  try:
    yield
  except ConfigError:
    raise
  except Exception as error:  # whatever a runtime raises of half a file
    words = " ".join(f"{type(error).__name__}: {files.reason(error)}".split())
    raise ConfigError(f"{path!r} cannot be loaded ({words}).") from error


def _of(loaded: Any, path: str, signature: str) -> Loaded:
  """The policy in a SavedModel."""
  if signature not in loaded.signatures:
    hint = ": leave out --sample" if signature == "sample" else ": is it of another program?"
    raise ConfigError(f"The SavedModel in {path!r} has no signature {signature!r}{hint}.")
  policy = loaded.signatures[signature]
  metadata: Mapping[str, Any] = {}
  if "metadata" in loaded.signatures:
    with _loading(path):
      metadata = _facts(loaded.signatures["metadata"]()["metadata"].numpy())
  elif "task" in loaded.signatures:  # of an earlier version
    metadata = {"task": loaded.signatures["task"]()["task"].numpy().decode()}

  def act(observation: np.ndarray) -> np.ndarray:
    # Through `loaded`, which holds the variables, if there are some.
    return loaded.signatures[signature](observation=tf.constant(observation))["action"].numpy()

  inputs = {k: spec.shape for k, spec in policy.structured_input_signature[1].items()}
  return Loaded(act, inputs, list(policy.structured_outputs), metadata)


def _facts(text: str | bytes) -> Mapping[str, Any]:
  """What a file says of its policy."""
  facts = json.loads(text)
  if not isinstance(facts, dict) or not isinstance(facts.get("task", ""), str):
    raise ValueError("its metadata are none of maac_tf's")
  return facts


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

  metadata: Mapping[str, Any] = {}
  if zipfile.is_zipfile(path):
    with zipfile.ZipFile(path) as archive:
      metadata = _facts(archive.read(METADATA_FILE))
  inputs = {name: given["shape_signature"] for name in signature["inputs"]}
  return Loaded(act, inputs, signature["outputs"], metadata)


def _onnx(path: str) -> Loaded:
  runtime = require("onnxruntime")
  options = runtime.SessionOptions()
  options.intra_op_num_threads = 1
  session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
  properties = session.get_modelmeta().custom_metadata_map
  metadata = _facts(properties.get("metadata", "{}"))
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
