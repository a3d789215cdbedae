"""What examples/ show, run."""

import ast
import itertools

import gin
import numpy as np
import pytest
import tensorflow as tf

from examples import remote_env
from examples.own_critic_target import LambdaTargets
from maac_tf import MAAC, load_policy
from maac_tf.algorithm import evaluator
from maac_tf.runs import config
from maac_tf.runs.experiment import train
from tests import commands
from tests.commands import ROOT
from tests.conftest import BARE
from tests.learners import ROLLOUT, SEED, eagerly, make_learner, targets

FILE = ROOT / "examples" / "own_critic_target.py"
FILES = [str(ROOT / "gin" / "pendulum.gin"), str(FILE.with_suffix(".gin"))]


def test_a_critic_target_of_ones_own_is_a_class_of_under_40_lines():
  """That uses neither of the package's two, nor what they are made of."""
  tree = ast.parse(FILE.read_text())
  (node,) = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
  assert node.end_lineno - node.decorator_list[0].lineno + 1 < 40
  names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
  names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
  names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
  assert {"CriticTargets", "Regression"} <= names
  others = "RolloutTargets", "SteveTargets", "path_targets", "steve_targets", "path_return"
  assert not names & {*others}


def _lambda_return(decay, discount, reward, terminal, value):
  """Σ_h weight_h G_h by its definition, of one trajectory.

  G_h is the h-step return, its weight (1-λ) λ^(h-1), that of the last one λ^(H-1). `value` is the
  soft one of the states after each step; `reward` has the entropy bonus of all steps but the first.
  """
  total, horizon = 0.0, len(reward)
  for h in range(1, horizon + 1):
    g, alive = 0.0, 1.0
    for t in range(h):
      g += discount**t * alive * reward[t]
      alive *= 0.0 if terminal[t] else 1.0
    g += discount**h * alive * value[h - 1]
    total += g * decay ** (h - 1) * (1.0 if h == horizon else 1.0 - decay)
  return total


@pytest.mark.parametrize("horizon", [1, 3])
def test_its_numbers_are_those_of_a_loop(horizon):
  settings = f"Maac.horizon = {horizon}", "Maac.discount = 0.9", "Maac.initial_temperature = 0.3"
  learner = make_learner(*ROLLOUT, *settings)
  of_all_steps, noise = learner.critic_targets, learner.draw(SEED)
  # Some of the paths end at each step.
  step = learner.model_env.random_member
  learner.model_env.random_member = lambda *a: step(*a)._replace(terminal=step(*a)[0][:, 0] > 0.7)
  found = []
  for decay in (0.0, 0.6, 1.0):
    learner.critic_targets = LambdaTargets(decay)
    regression, batch, path = targets(learner, noise)
    steps = path.trajectory
    terminal = np.array(steps.terminal)
    assert 0.1 < terminal.mean() < 0.9
    actions = [*steps.action, path.final_action[0]]
    log_probs = np.array([*steps.log_prob, path.final_log_prob[0]])
    values = learner.actor_critic.target_values(noise.critics)
    values = [
      values(s, a).numpy().min(0) for s, a in zip(steps.observation[1:], actions[1:], strict=True)
    ]
    value, reward = np.array(values) - 0.3 * log_probs[1:], np.array(steps.reward)
    reward[1:] -= 0.3 * log_probs[1:-1]
    found.append(regression.targets)
    want = [
      _lambda_return(decay, 0.9, reward[:, i], terminal[:, i], value[:, i]) for i in range(32)
    ]
    np.testing.assert_allclose(found[-1], want, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(regression.observation, batch.observation)
    np.testing.assert_array_equal(regression.action, steps.action[0])
  learner.critic_targets = of_all_steps  # the default's
  want = targets(learner, noise)[0].targets[:32]  # the others begin with a real step
  np.testing.assert_allclose(found[-1], want, rtol=1e-4, atol=1e-4)


def test_no_gradient_flows_from_it():
  learner = make_learner("Maac.horizon = 2")
  learner.critic_targets = LambdaTargets(0.5)
  with tf.GradientTape() as tape:
    got = targets(learner, learner.draw(SEED))[0].targets
  networks = *learner.actor_critic.networks, learner.dynamics
  variables = [v for network in networks for v in network.trainable_variables]
  assert tape.gradient(got, variables) == [None] * len(variables)


def test_it_needs_a_horizon():
  with pytest.raises(ValueError, match="LambdaTargets are of the policy's imagined steps"):
    make_learner("Maac.critic_targets = @LambdaTargets()", "Maac.horizon = 0")


def test_its_gin_file_trains_it_and_its_run_resumes(tmp_path):
  config.load(FILES, [b for b in BARE if not b.startswith("train.task")])
  values = config.values()
  assert values["Maac.critic_targets"] == "@LambdaTargets()"
  assert values["LambdaTargets.decay"] == "0.9"
  with eagerly():
    assert train(str(tmp_path / "run"), iterations=1) is None
  assert "LambdaTargets.decay = 0.9" in (tmp_path / "run" / "operative_config.gin").read_text()
  longer = f"--run_dir={tmp_path / 'run'}", "--gin_param=train.iterations=2"
  code, _, err = commands.run("train", *longer, cwd=str(ROOT))
  assert code == 1 and "'import examples.own_critic_target' would run code: " in err
  train_longer = "train", *longer, "--trust"
  code, out, err = commands.run(*train_longer, cwd=str(ROOT), prepare=commands.run_eagerly)
  assert code == 0 and "Resuming" in out, err


class _Clock:
  """In place of the module `time`."""

  now = 0.0

  def monotonic(self):
    return self.now

  def sleep(self, seconds):
    assert seconds >= 0.0
    self.now += seconds


def test_the_control_loop_keeps_its_period_with_the_file_alone(original_run, tmp_path, monkeypatch):
  pytest.importorskip("ai_edge_litert", reason="the extra litert is not installed")
  from examples import control_loop

  tree = ast.parse((ROOT / "examples" / "control_loop.py").read_text())
  imported = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
  imported += [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
  assert {*imported} == {"sys", "time", "numpy", "ai_edge_litert.interpreter"}
  MAAC.load(original_run).export(tmp_path / "policy.tflite")
  policy, clock, moved = control_loop.Policy(str(tmp_path / "policy.tflite")), _Clock(), []
  monkeypatch.setattr(control_loop, "time", clock)
  observations = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
  assert policy.observation_size == 3
  sensors = iter(observations)

  def read_sensors():
    clock.now += 0.05 if len(moved) == 2 else 0.001  # the third step is slow
    return next(sensors)

  def move_motors(action):
    moved.append((clock.now, action))

  late = control_loop.control(policy, read_sensors, move_motors, steps=6)
  assert late == 1  # the third, after which times are counted anew
  times, actions = zip(*moved, strict=True)
  np.testing.assert_allclose(times, [0.001, 0.021, 0.09, 0.091, 0.111, 0.131], atol=1e-9)
  want, _ = load_policy(original_run / "policy").predict(observations, deterministic=True)
  np.testing.assert_allclose(actions, want, atol=1e-5)


def test_the_remote_simulator_is_a_cart():
  env = remote_env.make()
  (position, velocity), _ = env.reset(seed=3)
  assert (position, velocity) == tuple(env.reset(seed=3)[0])
  for step in range(100):
    observation, reward, terminated, truncated, _ = env.step(np.float32([0.5]))
    velocity += 0.05
    position += 0.1 * velocity
    np.testing.assert_allclose(observation, [position, velocity], rtol=1e-5)
    np.testing.assert_allclose(reward, -(position**2) - 0.1 * velocity**2, rtol=1e-5)
    assert not terminated and truncated == (step == 99)
  env.close()
  assert env.unwrapped.process.returncode == 0


def test_a_run_goes_on_where_its_simulator_has_died(tmp_path, monkeypatch):
  """Killed in the second iteration, in a step of the training."""
  run, step, counts = str(tmp_path / "run"), remote_env.Remote.step, {}

  def mortal(env, action):
    counts[env] = counts.get(env, 0) + 1
    if counts[env] == 350:
      env.process.kill()
      env.process.wait()
    return step(env, action)

  monkeypatch.setattr(remote_env.Remote, "step", mortal)
  monkeypatch.setattr(evaluator, "BEST_EVALUATION_EPISODES", 1)
  gin.parse_config([*BARE, "train.task = 'examples.remote_env:make'"])
  with eagerly():
    with pytest.raises(ConnectionError) as error:
      train(run, iterations=2)
    assert train(run, iterations=2) is None
  died = next(env.process for env, count in counts.items() if count == 350)
  message = str(error.value).partition("\n")[0]  # gin adds another line
  assert message == f"The simulator (process {died.pid}) ended with exit code -9."
  assert error.value.__notes__[0].startswith("Saved are all 349 real steps, in ")
  # Those of the training, and of the resumed one, which began its fourth episode again.
  assert [count for count in counts.values() if count != 100] == [350, 80]


# Beside the settings of the notebook: what it shows takes longer to compile than to run once.
FEWER = """
import tensorflow as tf
tf.config.run_functions_eagerly(True)
settings |= {
  "Trainer.initial_updates": 1,
  "Trainer.steps_per_iteration": 400,
  "Trainer.eval_every": 400,
  "Trainer.updates_per_step": 0.0025,
  "Trainer.rollout_frequency": 1,
  "Trainer.rollout_schedule": (1, 1, 0, 1),
  "DynamicsFit.max_batches": 1,
  "Planner.num_candidates": 16,
}
"""


def test_the_notebook_runs(tmp_path):
  """With an update before the policy acts, and one after."""
  pytest.importorskip("ai_edge_litert", reason="the extra litert is not installed")
  import nbclient
  import nbformat

  notebook = nbformat.read(ROOT / "examples" / "tutorial.ipynb", as_version=4)
  (cell,) = (cell for cell in notebook.cells if "settings = {" in cell.source)
  cell.source = cell.source.replace("\nagent = ", f"{FEWER}\nagent = ")
  assert FEWER in cell.source
  nbclient.NotebookClient(
    notebook, timeout=commands.TIMEOUT, resources={"metadata": {"path": str(tmp_path)}}
  ).execute()
  outputs = [*itertools.chain(*(c.outputs for c in notebook.cells if c.cell_type == "code"))]
  printed = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")
  errors = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stderr")
  assert "tensorflow" not in errors.lower()  # which has much to say in a notebook
  assert "  600 steps  return -" in printed  # progress
  assert sum("image/png" in o.get("data", {}) for o in outputs) == 4  # curves, a diagnosis
  assert len([*tmp_path.glob("runs/*/*/policy.tflite")]) == 1
