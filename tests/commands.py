"""The package's commands as a user gives them, each in a process of its own."""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import warnings

import tensorflow as tf

from maac_tf.runs import experiment

ROOT = pathlib.Path(__file__).parent.parent
TIMEOUT = 300  # seconds
_CAPABILITY_VERSION = 0x20080522  # of Linux's capset

# To import TensorFlow takes longer than most commands: one process does, and the others fork off.
_forked = multiprocessing.get_context("forkserver")
_forked.set_forkserver_preload(["maac_tf.runs.experiment"])


def start(module, *arguments, cwd, environment=()):
  """`python -m maac_tf.MODULE ARGUMENT...`, under way."""
  return subprocess.Popen(
    [sys.executable, "-m", f"maac_tf.{module}", *map(str, arguments)],
    cwd=cwd,
    env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def python(lines, cwd=ROOT):
  """What a fresh Python prints on these lines."""
  done = subprocess.run(
    [sys.executable, "-c", lines],
    cwd=cwd,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def run(module, *arguments, cwd, prepare=None):
  """(exit code, stdout, stderr) of the same, where the start of Python itself is not the point.

  Args:
    prepare: a function of a module, which the process calls first.
  """
  with under_way(module, *arguments, cwd=cwd, prepare=prepare) as (_, end):
    return end()


@contextlib.contextmanager
def under_way(module, *arguments, cwd, prepare=None, environment=()):
  """The process of `run`, and what waits for its end and returns as `run` does."""
  with tempfile.TemporaryDirectory() as folder:
    paths = [os.path.join(folder, name) for name in ("out", "err")]
    target = f"maac_tf.{module}", [*map(str, arguments)], str(cwd), paths, prepare, environment
    process = _forked.Process(target=_main, args=target)

    def end():
      process.join(TIMEOUT)
      if process.is_alive():
        raise TimeoutError(f"{target} is still running after {TIMEOUT} s")
      return process.exitcode, *(pathlib.Path(path).read_text() for path in paths)

    process.start()
    try:
      yield process, end
    finally:
      process.kill()


def _main(module, arguments, cwd, paths, prepare, environment):
  collect_less_garbage()
  os.environ.update(environment)
  os.chdir(cwd)
  sys.path.insert(0, cwd)  # as `python -m` does
  for descriptor, path in enumerate(paths, 1):
    os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), descriptor)
  if prepare:
    prepare()
  sys.argv = [module, *arguments]
  runpy.run_module(module, run_name="__main__", alter_sys=True)


def collect_less_garbage():
  """To look for it takes a quarter of the time in which graphs are built, and finds little."""
  gc.freeze()  # what is imported stays
  gc.set_threshold(20_000, 20, 50)


def run_eagerly():
  """For a training of a few updates, which would be traced for longer than they take."""
  tf.config.run_functions_eagerly(True)
  warnings.filterwarnings("ignore", "Even though the `tf.config.*` option is set", UserWarning)


def on_second_cpu():
  """In the place of a GPU or TPU; the training prints where its variables are."""
  (cpu,) = tf.config.list_physical_devices("CPU")
  tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
  trainers, make, train = [], experiment.Trainer, experiment.train

  def watched(*arguments):
    stopped_by = train(*arguments)
    variables = trainers[0].variables
    print("Variables:", len(variables), *{v.device for v in variables})
    return stopped_by

  experiment.Trainer = lambda *arguments: trainers.append(make(*arguments)) or trainers[0]
  experiment.train = watched


def obey_permissions():
  """Root's thread, and those that it starts, from now on as any user."""
  libc = ctypes.CDLL(None)
  header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
  sets = (ctypes.c_uint32 * 6)()
  libc.capget(header, sets)
  sets[0] &= ~0b110  # effective: without the right to pass over permissions
  libc.capset(header, sets)


def full_stdout():
  os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def gone_reader():
  reading, writing = os.pipe()
  os.close(reading)
  os.dup2(writing, 1)
