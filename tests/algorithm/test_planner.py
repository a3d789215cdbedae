"""The cross-entropy method where the best plan is known, and where it is the policy."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import gin
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm.learner import Maac
from maac_tf.algorithm.noise import normals
from maac_tf.algorithm.planner import Planner
from maac_tf.runs.saved_model import save_planner
from maac_tf.tasks.registry import make_task
from tests import commands
from tests.learners import eagerly

A = np.array([[1.0, 0.1], [0.0, 0.9]])
B = np.array([[0.0], [0.3]])
Q, R = np.diag([1.0, 0.1]), np.array([[0.2]])
DISCOUNT = 0.95


def _linear_quadratic_learner(
  act, decide=lambda after, reward: (after, reward, after[..., 0] > 1e9)
):
  """s' = A s + B a, reward -(s'Q s + a'R a), value -s'Q s after it; act(observation, noise)."""

  def cost(x, matrix):
    matrix = tf.constant(matrix, tf.float32)
    return tf.reduce_sum(x * tf.matmul(x, matrix), -1)

  def step(observation, action, noise):
    del noise
    after = tf.matmul(observation, A.T.astype("f")) + tf.matmul(action, B.T.astype("f"))
    return decide(after, -cost(observation, Q) - cost(action, R))

  return SimpleNamespace(
    dynamics=SimpleNamespace(ensemble_size=1),
    actor_critic=SimpleNamespace(
      ema_policy=SimpleNamespace(act=act),
      value=lambda observation, action: (
        -tf.reduce_sum(observation * tf.linalg.matvec(tf.constant(Q, tf.float32), observation), -1)
      ),
    ),
    model_env=SimpleNamespace(own_member=step),
    noise_arguments=(1, normals(2)),
    action_size=1,
    discount=DISCOUNT,
  )


def _broad(observation, noise):
  action = tf.clip_by_value(0.0 * observation[..., :1] + 0.7 * noise, -1.0, 1.0)
  return action, tf.zeros(tf.shape(action)[:-1])


def _riccati(horizon):
  """The first feedback gain of the optimal plan over `horizon` steps."""
  value = Q
  for _ in range(horizon):
    value = DISCOUNT * value
    gain = np.linalg.solve(R + B.T @ value @ B, B.T @ value @ A)
    value = Q + A.T @ value @ (A - B @ gain)
  return gain


def test_finds_the_optimum_of_a_linear_quadratic_problem():
  observation = np.array([[0.8, 0.0], [-0.5, 0.4], [0.1, -0.3]], np.float32)
  planner = Planner(
    _linear_quadratic_learner(_broad),
    horizon=5,
    num_candidates=400,
    num_iterations=8,
  )
  want = -observation @ _riccati(5).T
  assert np.abs(want).max() < 0.9  # inside the limits
  np.testing.assert_allclose(planner.plan(observation, tf.constant([1, 2])), want, atol=0.02)


def test_returns_are_those_of_a_loop_and_stop_where_the_plan_ends():
  def decide(after, reward):
    return after, reward, after[..., 0] > 0.65

  planner = Planner(_linear_quadratic_learner(_broad, decide), horizon=3, num_candidates=4)
  rng = np.random.default_rng(0)
  observation = rng.normal(size=(3, 2)).astype(np.float32)
  noises = rng.normal(size=(1, 3, 4, 3, 1)).astype(np.float32)
  got = planner.returns(tf.constant(observation), tf.constant(noises), tf.constant([0, 0]))
  ended = 0
  for b in range(3):
    for n in range(4):
      s, total, going_on = observation[b], 0.0, 1.0
      for t in range(3):
        a = np.clip(0.7 * noises[0, b, n, t], -1.0, 1.0)
        total -= going_on * DISCOUNT**t * (s @ Q @ s + a @ R @ a)
        s = A @ s + B @ a
        going_on *= s[0] <= 0.65
      total -= going_on * DISCOUNT**3 * s @ Q @ s
      ended += going_on == 0
      assert got[0, b, n].numpy() == pytest.approx(total, rel=1e-4)
  assert 0 < ended < 12


def _learner_of_four():
  """s' = s + a + m + noise by member m, reward and value s'_0, and a policy that is its noise."""

  def step(observation, action, noise):
    member = tf.range(4, dtype=tf.float32)[:, tf.newaxis, tf.newaxis]
    after = observation + action + member + noise
    return after, after[..., 0], after[..., 0] > 1e9

  def act(observation, noise):
    action = noise + 0.0 * observation[..., :1]
    return action, tf.zeros(tf.shape(action)[:-1])

  learner = _linear_quadratic_learner(act)
  learner.dynamics.ensemble_size, learner.model_env.own_member = 4, step
  learner.actor_critic.value = lambda observation, action: observation[..., 0]
  return learner


def test_all_candidates_of_a_member_meet_the_same_noises():
  """Their actions alone rank them."""
  planner = Planner(_learner_of_four(), horizon=2, num_candidates=8)
  observation = tf.constant([[1.0, 0.0], [5.0, 0.0], [-3.0, 0.0]])
  actions = np.random.default_rng(0).uniform(-1, 1, (4, 3, 2, 2, 1)).astype(np.float32)
  first, second = actions[..., 0, 0], actions[..., 1, 0]
  of_actions = first + (DISCOUNT + DISCOUNT**2) * (first + second)
  all_returns, compiled = [], tf.function(planner.returns)
  for i in range(300):
    returns = compiled(observation, tf.constant(actions), tf.constant([0, i])).numpy()
    rest = returns - of_actions
    np.testing.assert_allclose(rest, np.broadcast_to(rest[..., :1], rest.shape), atol=1e-4)
    all_returns.append(rest[..., 0])
  of_steps = observation[:, 0] + (DISCOUNT + DISCOUNT**2) * observation[:, 0]
  of_members = np.arange(4)[:, np.newaxis] * (1 + 2 * (DISCOUNT + DISCOUNT**2))
  error = np.std(all_returns, 0) / np.sqrt(300)
  assert np.all(np.abs(np.mean(all_returns, 0) - of_steps - of_members) < 5 * error)
  assert np.all(error > 0.01)
  between_members = np.corrcoef(np.transpose(all_returns, [1, 2, 0])[:, 0])
  assert np.abs(between_members - np.eye(4)).max() < 0.3


def test_the_elites_are_the_best_of_each_member(monkeypatch):
  """Of candidates that each member is given, although all of the last member return more."""
  planner = Planner(_learner_of_four(), horizon=1, num_candidates=64, num_iterations=1)
  seen = []
  returns = Planner.returns

  def watched(self, observation, candidates, seed):
    seen.append(candidates)
    return returns(self, observation, candidates, seed)

  monkeypatch.setattr(Planner, "returns", watched)
  with eagerly():
    action = planner.plan(tf.zeros([1, 2]), tf.constant([1, 2])).numpy()
  best = np.sort(seen[0].numpy()[:, 0, :, 0, 0])[:, -2:]  # an eighth of 16
  np.testing.assert_allclose(action, [[best.mean()]], rtol=1e-5)


def test_what_is_not_finite_is_ranked_last():
  def decide(after, reward):
    return after, tf.where(after[..., 1] > 0.0, np.nan, reward), after[..., 0] > 1e9

  planner = Planner(
    _linear_quadratic_learner(_broad, decide), horizon=2, num_candidates=200, num_iterations=6
  )
  # The best action would be positive; all that is finite is below 0.
  action = planner.plan(np.array([[-1.0, 0.0]], np.float32), tf.constant([1, 2])).numpy()
  assert np.isfinite(action) and -0.3 < action < 0.02


def test_without_a_finite_return_the_policy_stands():
  def decide(after, reward):
    return after, reward * np.nan, after[..., 0] > 1e9

  def act(observation, noise):
    return 0.4 + 0.1 * noise + 0.0 * observation[..., :1], tf.zeros(
      tf.shape(noise + observation[..., :1])[:-1]
    )

  planner = Planner(_linear_quadratic_learner(act, decide), horizon=2, num_candidates=8)
  action = planner.plan(np.zeros((3, 2), np.float32), tf.constant([1, 2]))
  np.testing.assert_allclose(action, 0.4, atol=1e-6)


def _learner(name="pendulum"):
  task = make_task(name)
  learner = Maac(task, task.make_environment(), seed=4)
  for variable in learner.actor_critic.ema_policy.trainable_variables:
    variable.assign(tf.random.stateless_normal(variable.shape, [1, 2], 0.0, 0.5))
  return learner


def test_without_iterations_it_is_the_policy(tiny):
  learner = _learner()
  observation = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
  planner = Planner(learner, num_iterations=0)
  got = planner.plan(observation, tf.constant([1, 2]))
  np.testing.assert_allclose(
    got, learner.actor_critic.ema_policy.in_numpy()(observation, 0.0), atol=1e-6
  )


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"horizon": 0}, "horizon must be an integer of 1 or more"),
    ({"num_candidates": 30}, r"num_candidates \(30\) must be a multiple of Dynamics.ensemble_size"),
  ],
)
def test_what_makes_no_sense_is_refused(tiny, settings, message):
  with pytest.raises(ValueError, match=message):
    Planner(_learner(), **settings)


LOADER = """
import json, sys
import numpy as np, tensorflow as tf
plan = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
observation = tf.constant(np.load(sys.argv[2]))
print(json.dumps([plan(observation=observation)["action"].numpy().tolist() for _ in range(40)]))
assert not any(name.startswith("maac_tf") for name in sys.modules)
"""


def test_exported_planner_plans_in_a_fresh_process(tiny, tmp_path):
  gin.parse_config(["Dynamics.ensemble_size = 1", "Maac.horizon = 1"])
  learner = _learner()  # torques in [-2, 2]
  learner.dynamics.log_var.assign(tf.fill(learner.dynamics.log_var.shape, -20.0))
  planner = Planner(learner, horizon=2, num_candidates=256, num_iterations=2)
  save_planner(learner, planner, str(tmp_path / "planner"), {})
  observation = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
  np.save(tmp_path / "observation.npy", observation)
  command = [sys.executable, "-I", "-c", LOADER, tmp_path / "planner", tmp_path / "observation.npy"]
  done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr
  got = np.array(json.loads(done.stdout))  # each search has random numbers of its own
  want = 2.0 * np.array([planner.plan(observation, tf.constant([1, i])) for i in range(40)])
  policy = 2.0 * learner.actor_critic.ema_policy.in_numpy()(observation, 0.0)
  error = np.sqrt((got.var(0) + want.var(0)) / 40)
  assert np.all(np.abs(got.mean(0) - want.mean(0)) < 5.0 * error + 0.02)
  assert np.any(np.abs(policy - want.mean(0)) > 10.0 * error + 0.04) and np.any(got[0] != got[1])


def test_a_planner_in_the_frame_of_a_torso_is_exported(tiny, tmp_path):
  task = make_task("ant")
  learner = Maac(task, task.make_environment(), horizon=1)
  planner = Planner(learner, horizon=2, num_candidates=32, num_iterations=1)
  save_planner(learner, planner, str(tmp_path / "planner"), {})
  plan = tf.saved_model.load(str(tmp_path / "planner")).signatures["serving_default"]
  observation = np.random.default_rng(0).normal(size=(3, 27)).astype(np.float32)
  action = plan(observation=tf.constant(observation))["action"]
  assert action.shape == (3, 8) and np.isfinite(action).all()


def test_commands_evaluate_and_export_a_run(original_run, tmp_path):
  shutil.copytree(original_run, tmp_path / "run")

  def command(*arguments):
    code, out, err = commands.run(*arguments, cwd=tmp_path)
    return code, out + err

  planner = "--run_dir=run", "--planner=cem"
  small = "--gin_param=Planner.horizon=2", "--gin_param=Planner.num_candidates=16"
  evaluated = *planner, "--episodes=2", "--seed=3", "--out=p.csv", *small
  code, out = command("evaluate", *evaluated)
  assert code == 0, out
  for text in ("policy: return -", "policy and cem: return -", "times a second"):
    assert text in out
  rows = np.genfromtxt(tmp_path / "p.csv", delimiter=",", names=True)
  assert rows["seed"].tolist() == [3, 4]
  gain = (rows["cem"] - rows["policy"]).mean()
  assert f"Planning gains {gain:.3g} [" in out and f"cem: return {rows['cem'].mean():.5g} " in out
  for refused, message in (
    ([*planner, "--gin_param=Maac.discount=0.5"], "Maac.discount is not of the planner"),
    (["--run_dir=run", "--gin_param=Planner.horizon=2"], "give --planner=cem"),
    (["--run_dir=run", "--out=p.csv"], "--out is of the planner: give --planner=cem"),
    ([*planner, "--gin_param=Planner.horizon=0"], "horizon must be an integer of 1 or more"),
    (["--run_dir=run", "--env=hopper"], "'run' is a run of 'pendulum', not of 'hopper'."),
  ):
    code, out = command("evaluate", *refused)
    assert code == 1 and message in out
  code, out = command("export", *planner, *small)
  assert code == 0, out
  exported = "--policy=run/policy_cem", "--episodes=1"
  assert "pendulum: return -" in command("evaluate", *exported)[1]
  for refused, message in (
    (planner, "'run/policy_cem' exists"),
    ([*planner, "--format=onnx"], "A planner draws random numbers"),
    (["--run_dir=run", "--gin_param=Planner.horizon=2"], "give --planner=cem"),
    (["--run_dir=run", "--quantize=int8"], "Only a file of LiteRT is quantised"),
  ):
    code, out = command("export", *refused)
    assert code == 1 and message in out and out.count("\n") == 1
