"""Imports TensorFlow without the notes that it writes to the terminal while it starts.

TensorFlow's C++ side writes about oneDNN and absent GPUs before any log level can be set. They
are caught here, and written out after all if the import fails. Later ones, such as an "error" of
oneDNN that only means another kernel, are not shown either: a real error raises, too.
TF_CPP_MIN_LOG_LEVEL=0 shows all.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def _import_tensorflow() -> None:
  import tensorflow as tf

  tf.config.list_physical_devices()  # looking for a GPU is what writes the rest of the notes


def run_quietly(function: Callable[[], T]) -> T:
  """Calls `function` with file descriptor 2 redirected; shows what was caught only if it raises."""
  sys.stderr.flush()
  terminal = os.dup(2)
  with tempfile.TemporaryFile() as caught:
    os.dup2(caught.fileno(), 2)
    try:
      return function()
    except BaseException:
      caught.seek(0)
      os.write(terminal, caught.read())
      raise
    finally:
      os.dup2(terminal, 2)
      os.close(terminal)


if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0" and "tensorflow" not in sys.modules:
  run_quietly(_import_tensorflow)
