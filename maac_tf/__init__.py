"""Model-Augmented Actor-Critic in TensorFlow 2 / Keras."""

import os

# NumPy acts for a few robots at a time: on two threads, its products take six times as long, and
# end in other last bits. It reads this when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from maac_tf import _quiet_import  # noqa: E402, F401  (imports TensorFlow without its chatter)

__version__ = "0.2.0"
