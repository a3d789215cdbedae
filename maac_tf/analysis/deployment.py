"""A call for one robot, of the policy in each runtime and of the planner: the rows of
`maac_tf.benchmark --runtimes`.
"""

import os
import shutil
import subprocess
import tempfile
import time
import timeit
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import tensorflow as tf

from maac_tf.algorithm.planner import Planner
from maac_tf.algorithm.trainer import Trainer
from maac_tf.analysis.timing import Row
from maac_tf.runs import config, experiment, exports, runtimes, saved_model
from maac_tf.runs.gin_files import gin_root

SIGNATURE, OPERATION = "SavedModel, signature", "SavedModel, operation"
CALLS = 10  # that are timed at once
PLANS = 25  # in a round


def measure(
  name: str, files: Sequence[str], bindings: Sequence[str], rounds: int, parts: Collection[str]
) -> Iterator[Row]:
  """Rows of the untrained networks of a setting; of `timing.PARTS`, "act" and "plan" count."""
  config.load(files, bindings)
  trainer = experiment.make_trainer()
  if "act" in parts:
    yield from _policy(name, trainer, rounds)
  if "plan" in parts and trainer.learner.dynamics:
    yield from _planner(name, trainer, rounds)


def percentiles(call: Callable[[], object], count: int) -> dict[str, float]:
  """Of this many calls one by one, after one that is not timed: milliseconds, by name.

  The time of the processor, all threads together, leaves out what else a machine runs.
  """
  call()
  clocks, times = (time.perf_counter, time.process_time), []
  for _ in range(count):
    before = [clock() for clock in clocks]
    call()
    times.append([clock() - start for clock, start in zip(clocks, before, strict=True)])
  wall, processor = 1e3 * np.array(times).T
  return {
    f"p{q}{of}": float(np.percentile(values, q))
    for of, values in (("", wall), (" of processor time", processor))
    for q in (50, 99)
  }


def _planner(name: str, trainer: Trainer, rounds: int) -> Iterator[Row]:
  """Rows of the SavedModel that plans."""
  learner = trainer.learner
  observation = np.zeros([1, learner.observation_size], np.float32)
  with tempfile.TemporaryDirectory() as folder:
    about = exports.metadata(trainer, False)
    with config.user_errors():
      saved_model.save_planner(learner, Planner(learner), folder, about)
    act = runtimes.load(folder).act
    for part, value in percentiles(lambda: act(observation), PLANS * rounds).items():
      yield Row(name, f"planner, {part}", value, "ms")


def _policy(name: str, trainer: Trainer, rounds: int) -> Iterator[Row]:
  """Microseconds from NumPy array to NumPy array.

  The least of many, taken in turn: what else runs can only add. The ratio is to the signature's.
  """
  trainer.collect(exports.NUM_OBSERVATIONS, random=True)
  policy = trainer.learner.actor_critic.ema_policy.in_numpy()
  observation = np.zeros([1, trainer.learner.observation_size], np.float32)
  with tempfile.TemporaryDirectory() as folder:

    def export(form: str, quantize: str | None = None) -> str:
      path = os.path.join(folder, f"{quantize}{exports.EXTENSIONS[form]}")
      exports.export_policy(trainer, path, form, quantize)
      return path

    saved_model = export("saved_model")
    loaded = tf.saved_model.load(saved_model)
    signature = loaded.signatures["serving_default"]
    weights = signature.captured_inputs
    calls: dict[str, Callable[[np.ndarray], object]] = {
      SIGNATURE: lambda x: signature(observation=tf.constant(x))["action"].numpy(),
      OPERATION: lambda x: tf.raw_ops.PartitionedCall(
        args=[x, *weights], Tout=[tf.float32], f=signature
      )[0].numpy(),
      "ONNX Runtime": runtimes.load(export("onnx")).act,
      "LiteRT": runtimes.load(export("litert")).act,
      "LiteRT, float16": runtimes.load(export("litert", "float16")).act,
      "LiteRT, int8": runtimes.load(export("litert", "int8")).act,
      "NumPy, in this package": lambda x: policy(x, 0.0),
    }
    times: dict[str, list[float]] = {part: [] for part in calls}
    for _ in range(10 * rounds):
      for part, call in calls.items():
        seconds = timeit.timeit(lambda call=call: call(observation), number=CALLS)  # type: ignore[misc]
        times[part].append(1e6 * seconds / CALLS)
    least = {part: min(values) for part, values in times.items()}
    in_cpp = _in_cpp(folder, saved_model, *observation.shape[1:], trainer.learner.action_size)
  if in_cpp:
    least["SavedModel, from C++"] = in_cpp
  for part, value in least.items():
    yield Row(name, part, value, "µs", ratio=value / least[SIGNATURE])


def _in_cpp(folder: str, saved_model: str, *sizes: int) -> float | None:
  """Of examples/act.cc; None where there is no compiler, or no checkout."""
  source = os.path.join(gin_root(), "examples", "act.cc")
  if not shutil.which("g++") or not os.path.isfile(source):
    return None
  program, library = os.path.join(folder, "act"), tf.sysconfig.get_lib()
  libraries = [f"{library}/libtensorflow_{part}.so.2" for part in ("cc", "framework")]
  command = ["g++", "-O2", "-std=c++17", f"-I{tf.sysconfig.get_include()}", source, "-o", program]
  subprocess.run([*command, *libraries, f"-Wl,-rpath,{library}"], check=True)
  command = [program, saved_model, *map(str, sizes)]
  output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
  return float(output.split()[-2])
