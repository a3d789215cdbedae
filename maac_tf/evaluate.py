"""Runs a policy: a pre-trained one, or an exported one,

python -m maac_tf.evaluate --policy=hopper_v5
python -m maac_tf.evaluate --policy=runs/R/policy

or the best one of a run, also with planning at test time (section 5.4):

python -m maac_tf.evaluate --run_dir=runs/R --planner=cem

--video=FILE.mp4 films it.
"""

import csv
import statistics
import sys
import time

import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from maac_tf.algorithm.planner import Planner
from maac_tf.checks import ConfigError
from maac_tf.runs import command_line, config, film, runtimes, trust
from maac_tf.runs.aggregates import interval
from maac_tf.tasks.adapter import Environment
from maac_tf.tasks.episodes import Act, run_episodes, the_only_one
from maac_tf.tasks.registry import make_task
from maac_tf.tasks.task import Task

_POLICY = command_line.define_path(
  "policy",
  None,
  "A SavedModel, a file .tflite or .onnx, or the name of a pre-trained policy: hopper_v5.",
)
_RUN_DIR = command_line.define_path("run_dir", None, "The folder of a run, in place of --policy.")
_VOUCHED = command_line.define_vouched(
  "With --policy: another environment, or task, than that it was trained for. With --run_dir: "
)
_ENV = _VOUCHED.env
_PLANNER = flags.DEFINE_enum(
  "planner", None, ["cem"], "With --run_dir: evaluate the cross-entropy method, too."
)
_GIN_PARAM = flags.DEFINE_multi_string(
  "gin_param",
  [],
  "With --planner: a binding such as 'Planner.horizon=5'; with --policy: of make_task, such as "
  "'make_task.episode_steps=500'. Repeatable.",
)
_EPISODES = flags.DEFINE_integer("episodes", 20, "How many episodes.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Start seed of the first episode.", lower_bound=0)
_OUT = command_line.define_path(
  "out", None, "With --planner: a CSV file of the return from each start seed, without and with it."
)
_SAMPLE = flags.DEFINE_bool("sample", False, "Draw actions instead of the deterministic policy.")
_RENDER = flags.DEFINE_bool("render", False, "Show the episodes in a window.")
_VIDEO = command_line.define_path(
  "video",
  None,
  "A video of the first episode, such as hopper.mp4; with --run_dir also for TensorBoard.",
)
_CONTACT_SHEET = command_line.define_path(
  "contact_sheet", None, "Pictures of the first episode in a file, such as hopper.png."
)


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)
  try:
    if _RUN_DIR.value and not (_POLICY.value or _SAMPLE.value):
      _evaluate_run(_RUN_DIR.value)
    elif _POLICY.value and not (
      _RUN_DIR.value or _PLANNER.value or _VOUCHED.gin_file.value or _OUT.value
    ):
      _evaluate_policy(_POLICY.value)
    else:
      raise ValueError(
        "Give --policy (and --env, --sample, --gin_param), or --run_dir (and --planner, "
        "--gin_param, --env, --gin_file)."
      )
  except (
    ConfigError, ValueError, OSError, FloatingPointError, tf.errors.OpError
  ) as error:  # fmt: skip
    print(f"Error: {' '.join(str(error).split())}", file=sys.stderr)
    return 1
  return 0


def _evaluate_policy(path: str) -> None:
  config.load([], _GIN_PARAM.value)
  for name in sorted(config.parameters(_GIN_PARAM.value)):
    if not name.startswith("make_task."):
      raise ValueError(f"{name} is not of make_task: a policy is as it was trained.")
  task = make_task(_ENV.value) if _ENV.value else None
  policy = runtimes.load(path, "sample" if _SAMPLE.value else "serving_default")
  if "task" in policy.metadata:  # one of another program does not say it
    trained_for = policy.metadata["task"]
    if not (task or _VOUCHED.trust.value):
      trust.check_environment(path, trained_for)
    task = task or make_task(trained_for)
    if task.name != trained_for:
      print(f"Warning: {path!r} was trained for {trained_for}, not {task.name}.", file=sys.stderr)
  if not task:
    raise ValueError(f"{path!r} does not say what task it was trained for: give --env.")
  environment = task.make_environment()
  act = _action(policy, path, task.name, environment)
  _film(task, act)
  _run(task, task.name, act, _window(task) or the_only_one(task, environment))
  about = policy.metadata
  if about.get("return") is not None:
    print(
      f"Its file states: return {about['return']:.5g} ± {about['return_std']:.5g} over "
      f"{about['episodes']} episodes, after {about['env_steps']:,} steps of training."
    )


def _evaluate_run(run_dir: str) -> None:
  for flag in (_GIN_PARAM, _OUT):
    if flag.value and not _PLANNER.value:
      raise ValueError(f"--{flag.name} is of the planner: give --planner=cem, too.")
  if _OUT.value:
    open(_OUT.value, "a").close()  # now, not when all is measured
  trainer = _VOUCHED.restore(run_dir, _GIN_PARAM.value)
  learner = trainer.learner
  if not trainer.best.exists:
    print("Warning: the run has no evaluation yet: its current policy.", file=sys.stderr)
  planner = None
  if _PLANNER.value:
    with config.user_errors():
      planner = Planner(learner)
  with trainer.best.in_use():
    policy = learner.actor_critic.ema_policy.in_numpy()
    generator = tf.random.Generator.from_seed(_SEED.value)

    def act(observation: np.ndarray) -> np.ndarray:
      return policy(observation, 0.0)

    def plan(observation: np.ndarray) -> np.ndarray:
      assert planner
      return planner.plan(tf.constant(observation), generator.make_seeds(1)[:, 0]).numpy()

    found = trainer.best.metrics()["best/env_steps"] or trainer.env_steps
    _film(learner.task, plan if planner else act, run_dir, int(found))
    environment = _window(learner.task) or trainer.evaluator.environment
    returns = _run(learner.task, "policy", act, environment)
    if planner:
      planned = _run(learner.task, f"policy and {_PLANNER.value}", plan, environment)
      gain = interval(planned - returns)
      print(f"Planning gains {gain.mean:.3g} [{gain.low:.3g}, {gain.high:.3g}] an episode.")
      if _OUT.value:
        with open(_OUT.value, "w", newline="") as file:
          writer = csv.writer(file)
          writer.writerow(["seed", "policy", _PLANNER.value])
          writer.writerows(zip(_seeds(), returns, planned, strict=True))
      print(f"It plans {_rate(plan, learner.observation_size):.0f} times a second.")


def _window(task: Task) -> Environment | None:
  return film.make_drawn(task, window=True) if _RENDER.value else None


def _film(task: Task, act: Act, run_dir: str | None = None, env_steps: int = 0) -> None:
  """Writes what was asked for of the first episode."""
  if _VIDEO.value:
    runtimes.require("imageio_ffmpeg")  # before an episode is run
  if not (_VIDEO.value or _CONTACT_SHEET.value):
    return
  frames, rate = film.frames(task, act, _SEED.value)
  if _VIDEO.value:
    film.write_video(_VIDEO.value, frames, rate)
    print(f"Wrote {_VIDEO.value}: {len(frames)} frames, {rate} a second.")
    if run_dir:
      film.write_to_tensorboard(run_dir, frames, rate, env_steps)
  if _CONTACT_SHEET.value:
    film.write_sheet(_CONTACT_SHEET.value, frames)
    print(f"Wrote {_CONTACT_SHEET.value}.")


def _rate(plan: Act, observation_size: int) -> float:
  """Plans a second for one robot: the median of many."""
  observation, seconds = np.zeros([1, observation_size], np.float32), []
  plan(observation)
  for _ in range(30):
    start = time.perf_counter()
    plan(observation)
    seconds.append(time.perf_counter() - start)
  return 1.0 / statistics.median(seconds)


def _seeds() -> range:
  return range(_SEED.value, _SEED.value + _EPISODES.value)


def _run(task: Task, name: str, act: Act, environment: Environment | None) -> np.ndarray:
  """The returns."""
  returns, lengths = run_episodes(task, act, _seeds(), environment=environment)
  print(
    f"{name}: return {returns.mean():.5g} ± {returns.std():.5g} "
    f"(min {returns.min():.5g}, max {returns.max():.5g}), "
    f"length {lengths.mean():.0f}, over {len(returns)} episodes"
  )
  return returns


def _action(policy: runtimes.Loaded, path: str, name: str, environment: Environment) -> Act:
  """A policy as a function to actions in [-1, 1], which is what `Environment` takes."""
  if list(policy.inputs) != ["observation"] or "action" not in policy.outputs:
    raise ValueError(
      f"The policy in {path!r} maps {', '.join(policy.inputs)} to {', '.join(policy.outputs)}, not "
      "observation to action: is it of another program?"
    )
  expected, size = policy.inputs["observation"][-1], environment.observation_size
  if expected != size:
    raise ValueError(f"The policy takes observations of {expected} numbers, but {name} has {size}.")
  return lambda observation: environment.action_box.fractions(policy.act(observation)).numpy()


if __name__ == "__main__":
  app.run(main)
