"""Model-Augmented Actor-Critic in TensorFlow 2 / Keras."""

import importlib
import os
import sys
from typing import Any

from maac_tf import _streams

_streams.prepare()  # before anything opens a file

# NumPy acts for a few robots at a time: on two threads, its products take six times as long, and
# end in other last bits. It reads this when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Keras reads this when it is imported. It may be set for other work; here one value alone is right.
_backend = os.environ.get("KERAS_BACKEND", "tensorflow")
if _backend != "tensorflow":
  print(
    f"Warning: KERAS_BACKEND={_backend} has no effect: maac_tf runs on TensorFlow.", file=sys.stderr
  )
os.environ["KERAS_BACKEND"] = "tensorflow"
if "keras" in sys.modules and sys.modules["keras"].config.backend() != "tensorflow":
  raise ImportError(
    "Keras was imported before maac_tf and runs on "
    f"{sys.modules['keras'].config.backend()}: set KERAS_BACKEND=tensorflow before that import."
  )

from maac_tf import _quiet_import  # noqa: E402, F401  (imports TensorFlow without its chatter)

__version__ = "0.2.0"

# What is imported when it is first asked for, since commands do not need it, and from where.
_PUBLIC = {
  "MAAC": "runs.agent",
  "load_policy": "runs.policy",
  "Task": "tasks.task",
  "ConfigError": "checks",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
  if name not in _PUBLIC:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
  return sorted(__all__)
