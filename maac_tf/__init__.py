"""Model-Augmented Actor-Critic in TensorFlow 2 / Keras."""

from maac_tf import _quiet_import  # noqa: F401  (first: it imports TensorFlow without its chatter)
