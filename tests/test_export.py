"""The SavedModel against the policy it was made from."""

import json
import shutil
import subprocess
import sys

import numpy as np
import tensorflow as tf

from maac_tf.algorithm.learner import Maac
from maac_tf.runs.saved_model import save_policy
from maac_tf.tasks.registry import make_task
from tests import commands

# Imports nothing of this package.
LOADER = """
import json, sys
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
out = {}
for rows in (1, 5):
  observation = np.load(sys.argv[2])[:rows]
  action = loaded.signatures["serving_default"](observation=tf.constant(observation))["action"]
  out[rows] = action.numpy().tolist()
samples = [
  loaded.signatures["sample"](observation=tf.constant(np.load(sys.argv[2])))["action"].numpy()
  for _ in range(400)
]
out["mean"], out["std"] = np.mean(samples, 0).tolist(), np.std(samples, 0).tolist()
out["task"] = loaded.signatures["task"]()["task"].numpy().decode()
with tf.Graph().as_default(), tf.compat.v1.Session() as session:  # as other programs load it
  signature = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1]).signature_def
  signature = signature["serving_default"]
  feed = {signature.inputs["observation"].name: np.load(sys.argv[2])}
  out["v1"] = session.run(signature.outputs["action"].name, feed).tolist()
assert not any(name.startswith("maac_tf") for name in sys.modules)
print(json.dumps(out))
"""


def test_an_exported_policy_has_the_coordinates_of_its_task(tiny, tmp_path):
  task = make_task("ant_v5")
  learner = Maac(task, task.make_environment(), seed=4)
  save_policy(learner, str(tmp_path / "policy"))
  observation = np.random.default_rng(0).normal(size=(5, 27)).astype(np.float32)
  loaded = tf.saved_model.load(tmp_path / "policy")
  got = loaded.deterministic(tf.constant(observation))["action"]
  want = learner.actor_critic.ema_policy.in_numpy()(observation, 0.0)
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_saved_model_acts_like_the_policy_in_a_fresh_process(tiny, tmp_path, monkeypatch):
  """Also the second one of a learner, which takes its graphs from the first."""
  task = make_task("pendulum")  # torques in [-2, 2]
  learner = Maac(task, task.make_environment(), seed=4)
  save_policy(learner, str(tmp_path / "before"))
  policy, average = learner.actor_critic.policy, learner.actor_critic.ema_policy
  policy.normalizer.fit(tf.random.stateless_normal([50, 3], [1, 2], 5.0, 9.0))
  for variable, value in zip(average.variables, policy.variables, strict=True):
    variable.assign(value)  # the average is exported
  policy.trainable_variables[0].assign_add(tf.ones_like(policy.trainable_variables[0]))
  monkeypatch.setattr(tf.saved_model, "save", None)  # which keeps what it saves
  save_policy(learner, str(tmp_path / "policy"), str(tmp_path / "before"))
  shutil.rmtree(tmp_path / "before")
  observation = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
  np.save(tmp_path / "observation.npy", observation)
  arguments = [tmp_path / "policy", tmp_path / "observation.npy"]
  result = subprocess.run(
    [sys.executable, "-I", "-c", LOADER, *map(str, arguments)],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert result.returncode == 0, result.stderr
  got = json.loads(result.stdout)
  assert got["task"] == "pendulum"
  want = 2.0 * average.in_numpy()(observation, 0.0)
  assert not np.allclose(want, 2.0 * policy.in_numpy()(observation, 0.0))
  np.testing.assert_allclose(got["1"], want[:1], atol=1e-6)
  np.testing.assert_allclose(got["5"], want, atol=1e-6)
  np.testing.assert_allclose(got["v1"], want, atol=1e-6)
  many = 2.0 * np.tanh(average(observation).distribution.sample(20_000, seed=[1, 2]).numpy())
  std = many.std(0)
  np.testing.assert_allclose(got["std"], std, rtol=0.25)
  np.testing.assert_allclose(got["mean"], many.mean(0), atol=5 * std.max() / 20)


def test_a_policy_that_does_not_name_its_task_needs_to_be_told(tmp_path):
  class Still(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    def act(self, observation):
      return {"action": tf.zeros([tf.shape(observation)[0], 1])}

  still = Still()
  tf.saved_model.save(still, str(tmp_path / "old"), signatures={"serving_default": still.act})
  arguments = "evaluate", "--episodes=1"
  code, _, err = commands.run(*arguments, "--policy=old", cwd=tmp_path)
  assert code == 1
  assert err == "Error: 'old' does not say what task it was trained for: give --env.\n"
  code, out, err = commands.run(*arguments, "--policy=old", "--env=pendulum", cwd=tmp_path)
  assert code == 0 and out.startswith("pendulum: return "), err
  other = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None, 3], tf.float32)])
  still.other = other
  tf.saved_model.save(still, str(tmp_path / "other"), signatures={"serving_default": other})
  code, _, err = commands.run(*arguments, "--policy=other", "--env=pendulum", cwd=tmp_path)
  assert code == 1 and "maps x to y, not observation to action" in err
