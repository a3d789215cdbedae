"""The package's commands as a user gives them, each in a process of its own."""

import ctypes
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

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


def run(module, *arguments, cwd, prepare=None):
  """(exit code, stdout, stderr) of the same, where the start of Python itself is not the point.

  Args:
    prepare: a function of a module, which the process calls first.
  """
  with tempfile.TemporaryDirectory() as folder:
    paths = [os.path.join(folder, name) for name in ("out", "err")]
    target = f"maac_tf.{module}", [*map(str, arguments)], str(cwd), paths, prepare
    process = _forked.Process(target=_main, args=target)
    process.start()
    process.join(TIMEOUT)
    if process.is_alive():
      process.kill()
      raise TimeoutError(f"{target} is still running after {TIMEOUT} s")
    return process.exitcode, *(pathlib.Path(path).read_text() for path in paths)


def _main(module, arguments, cwd, paths, prepare):
  os.chdir(cwd)
  sys.path.insert(0, cwd)  # as `python -m` does
  for descriptor, path in enumerate(paths, 1):
    os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), descriptor)
  if prepare:
    prepare()
  sys.argv = [module, *arguments]
  runpy.run_module(module, run_name="__main__", alter_sys=True)


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
