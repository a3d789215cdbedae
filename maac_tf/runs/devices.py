"""The devices that a training runs on."""

import contextlib

import tensorflow as tf

from maac_tf.checks import ConfigError
from maac_tf.runs import workers


def device(
  name: str | None,
) -> contextlib.AbstractContextManager[tf.distribute.Strategy | None]:
  """A context in which variables live, and operations run, on one device; or of several.

  Args:
    name: such as "GPU:1" or "TPU:0", the TPU of this machine; None leaves it to TensorFlow, which
      takes the first GPU if there is one. Several have commas between; "GPU" or "TPU" is all of
      them.

  Returns:
    What enters as the strategy of several devices, or of the workers that TF_CONFIG names, as
    `experiment.train` takes it; or as None.

  Raises:
    ConfigError: for a device that there is not.
  """
  if together := workers.strategy():
    if name:
      raise ConfigError(
        f"With the workers of TF_CONFIG, each has all its devices: no --device={name}."
      )
    return contextlib.nullcontext(together)
  if name is None:
    return contextlib.nullcontext()
  resolver = _connect_to_tpu() if name.startswith("TPU") else None
  known = [d.name.removeprefix("/device:") for d in tf.config.list_logical_devices()]
  of_kind = [n for n in known if n.partition(":")[0] == name]
  names = of_kind or name.split(",")
  for one in names:
    if one not in known:
      raise ConfigError(f"There is no device {one!r}: TensorFlow sees {', '.join(known)}.")
  if len(names) == 1:
    return tf.device(names[0])
  if len(set(names)) < len(names):
    raise ConfigError(f"{name!r} names a device twice.")
  if resolver and not of_kind:
    raise ConfigError("Of a TPU, --device=TPU takes all cores, and --device=TPU:0 one.")
  strategy = tf.distribute.TPUStrategy(resolver) if resolver else None
  return contextlib.nullcontext(strategy or tf.distribute.MirroredStrategy(names))


def _connect_to_tpu() -> tf.distribute.cluster_resolver.TPUClusterResolver:
  try:
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return resolver
  except (tf.errors.OpError, RuntimeError, ValueError) as error:
    reason = str(error).strip().partition("\n")[0]
    raise ConfigError(f"TensorFlow cannot connect to a TPU: {reason}") from error
