"""The flags that say what to train: of `maac_tf.train` and `maac_tf.check`."""

from absl import flags

from maac_tf.runs import config, run_directory

GIN_FILE = flags.DEFINE_multi_string("gin_file", [], "A gin file; repeatable, later ones win.")
GIN_PARAM = flags.DEFINE_multi_string(
  "gin_param", [], "A gin binding such as 'Maac.horizon=0'; repeatable, wins over the files."
)
ENV = flags.DEFINE_string(
  "env",
  None,
  "A Gymnasium environment, such as Reacher-v5, module:Id-v0 or module:function; no gin file is "
  "needed. The same as --gin_param=\"train.task='Reacher-v5'\".",
)
SEED = flags.DEFINE_integer("seed", None, "Of everything random; default 0.", lower_bound=0)
THREADS = flags.DEFINE_integer(
  "threads", 0, "CPU threads to use; 0 is one for each core.", lower_bound=0
)


def load(run_dir: str | None = None) -> set[str]:
  """Loads what the flags say, and without a file the config of the run in `run_dir`, if any.

  Returns:
    The names of the parameters that the user overrode, as of `config.load`.

  Raises:
    ConfigError: for a wrong file or binding.
  """
  params = list(GIN_PARAM.value)
  for name, flag in (("train.task", ENV), ("train.seed", SEED)):
    if flag.value is not None:
      params.append(f"{name} = {flag.value!r}")
  if not GIN_FILE.value and run_dir and run_directory.saved_config(run_dir):
    return run_directory.load_config(run_dir, params)
  return config.load(GIN_FILE.value, params)
