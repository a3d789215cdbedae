"""Exported policies against the one they were made from."""

import importlib
import json
import shutil
import subprocess
import sys
import zipfile

import gin
import numpy as np
import pytest
import tensorflow as tf

from maac_tf.algorithm.learner import Maac
from maac_tf.checks import ConfigError
from maac_tf.data.statistics import statistics_of
from maac_tf.runs import exports, runtimes
from maac_tf.runs.experiment import make_trainer
from maac_tf.runs.saved_model import save_policy
from maac_tf.tasks.registry import make_task
from tests import commands
from tests.conftest import TINY
from tests.learners import fill

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
out["metadata"] = json.loads(loaded.signatures["metadata"]()["metadata"].numpy())
with tf.Graph().as_default(), tf.compat.v1.Session() as session:  # as other programs load it
  signature = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1]).signature_def
  signature = signature["serving_default"]
  feed = {signature.inputs["observation"].name: np.load(sys.argv[2])}
  out["output"] = signature.outputs["action"].name.partition(":")[0]
  out["v1"] = session.run(signature.outputs["action"].name, feed).tolist()
assert not any(name.startswith("maac_tf") for name in sys.modules)
print(json.dumps(out))
"""


def test_an_exported_policy_has_the_coordinates_of_its_task(tiny, tmp_path):
  task = make_task("ant_v5")
  learner = Maac(task, task.make_environment(), seed=4)
  save_policy(learner, str(tmp_path / "policy"), {})
  observation = np.random.default_rng(0).normal(size=(5, 27)).astype(np.float32)
  loaded = tf.saved_model.load(tmp_path / "policy")
  got = loaded.deterministic(tf.constant(observation))["action"]
  want = learner.actor_critic.ema_policy.in_numpy()(observation, 0.0)
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_saved_model_acts_like_the_policy_in_a_fresh_process(tiny, tmp_path, monkeypatch):
  """Also the second one of a learner, which takes its graphs from the first."""
  task = make_task("pendulum")  # torques in [-2, 2]
  learner = Maac(task, task.make_environment(), seed=4)
  save_policy(learner, str(tmp_path / "before"), {"return": 1.0})
  policy, average = learner.actor_critic.policy, learner.actor_critic.ema_policy
  policy.normalizer.fit(statistics_of(tf.random.stateless_normal([50, 3], [1, 2], 5.0, 9.0)))
  for variable, value in zip(average.variables, policy.variables, strict=True):
    variable.assign(value)  # the average is exported
  policy.trainable_variables[0].assign_add(tf.ones_like(policy.trainable_variables[0]))
  monkeypatch.setattr(tf.saved_model, "save", None)  # which keeps what it saves
  save_policy(learner, str(tmp_path / "policy"), {"return": 2.0}, str(tmp_path / "before"))
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
  assert got["task"] == "pendulum" and got["metadata"] == {"return": 2.0}
  want = 2.0 * average.in_numpy()(observation, 0.0)
  assert not np.allclose(want, 2.0 * policy.in_numpy()(observation, 0.0))
  np.testing.assert_allclose(got["1"], want[:1], atol=1e-6)
  np.testing.assert_allclose(got["5"], want, atol=1e-6)
  np.testing.assert_allclose(got["v1"], want, atol=1e-6)
  assert f'"{got["output"]}"' in (commands.ROOT / "examples" / "act.cc").read_text()
  many = 2.0 * np.tanh(average(observation).distribution.sample(20_000, seed=[1, 2]).numpy())
  std = many.std(0)
  np.testing.assert_allclose(got["std"], std, rtol=0.25)
  np.testing.assert_allclose(got["mean"], many.mean(0), atol=5 * std.max() / 20)


@pytest.fixture(scope="module")
def trainer():
  """Of an ant, whose policy sees it in the frame of its torso."""
  gin.parse_config([*TINY, "train.task = 'ant_v5'"])
  trainer = make_trainer()
  fill(trainer.learner)
  gin.clear_config()
  return trainer


def _rows(trainer):
  """Observations, and the actions of the Keras policy, in the environment's units."""
  learner = trainer.learner
  observation = np.random.default_rng(1).normal(size=(7, 27)).astype(np.float32)
  action, _ = learner.actor_critic.ema_policy.act(observation, tf.zeros([8]))
  return observation, learner.action_box.units(action)


def _need(*modules):
  for module in modules:
    pytest.importorskip(module, reason=f"the extra {runtimes.EXTRAS[module]} is not installed")


def test_a_saved_model_says_what_it_is_and_refuses_another_rank(trainer, tmp_path):
  path = str(tmp_path / "policy")
  assert exports.export_policy(trainer, path, code={"maac_tf": "1", "commit": "abc"}) < 1e-5
  loaded = tf.saved_model.load(path)
  about = json.loads(loaded.signatures["metadata"]()["metadata"].numpy())
  assert about["task"] == "ant_v5" and about["commit"] == "abc" and about["return"] is None
  assert about["observation"] == {
    "name": "observation",
    "size": 27,
    "low": [None] * 27,
    "high": [None] * 27,
  }
  assert about["action"] == {"name": "action", "size": 8, "low": [-1.0] * 8, "high": [1.0] * 8}
  assert about["seconds_per_action"] == 0.05
  act = loaded.signatures["serving_default"]
  for wrong in ([27], [2, 26]):
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
      act(observation=tf.zeros(wrong))
  observation, want = _rows(trainer)
  weights = act.captured_inputs

  def fast(x):
    return tf.raw_ops.PartitionedCall(args=[x, *weights], Tout=[tf.float32], f=act)[0]

  np.testing.assert_allclose(fast(observation[:1]), want[:1], atol=1e-5)
  with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected shape"):
    fast(observation[0])


def test_litert_acts_like_the_policy_with_built_in_operations(trainer, tmp_path):
  _need("ai_edge_litert.interpreter")
  from ai_edge_litert.interpreter import Interpreter

  path, (observation, want) = str(tmp_path / "policy.tflite"), _rows(trainer)
  assert exports.export_policy(trainer, path, "litert") < 1e-5
  interpreter = Interpreter(path)
  act = interpreter.get_signature_runner("serving_default")
  np.testing.assert_allclose(act(observation=observation)["action"], want, atol=1e-5)
  names = {operation["op_name"] for operation in interpreter._get_ops_details()}
  assert "FULLY_CONNECTED" in names and not any("Flex" in name for name in names)
  about = json.loads(zipfile.ZipFile(path).read("metadata.json"))
  assert about["task"] == "ant_v5" and about["action"]["high"] == [1.0] * 8
  loaded = runtimes.load(path)
  assert loaded.metadata == about
  for rows in (observation[:1], observation, observation[:3]):
    np.testing.assert_allclose(loaded.act(rows), want[: len(rows)], atol=1e-5)
  with pytest.raises(ValueError, match="Dimension mismatch|expected 2"):
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], observation[0])


def test_a_quantised_file_says_what_it_loses(trainer, tmp_path):
  _need("ai_edge_litert.interpreter")
  path = str(tmp_path / "policy.tflite")
  assert 1e-5 < exports.export_policy(trainer, path, "litert", "float16") < 0.1
  policy, file = exports.paired_episodes(trainer, path, episodes=1)
  assert policy.returns.shape == file.returns.shape == (1,) and np.isfinite(file.returns).all()


def test_onnx_acts_like_the_policy(trainer, tmp_path):
  _need("onnxruntime", "tf2onnx")
  import onnxruntime

  path, (observation, want) = str(tmp_path / "policy.onnx"), _rows(trainer)
  assert exports.export_policy(trainer, path, "onnx") < 1e-5
  session = onnxruntime.InferenceSession(path)
  (action,) = session.run(["action"], {"observation": observation})
  np.testing.assert_allclose(action, want, atol=1e-5)
  about = json.loads(session.get_modelmeta().custom_metadata_map["metadata"])
  assert about["task"] == "ant_v5" and runtimes.load(path).metadata == about
  with pytest.raises(Exception, match="Invalid rank"):
    session.run(None, {"observation": observation[0]})


def test_a_file_that_acts_otherwise_is_refused(trainer, tmp_path, monkeypatch):
  load = runtimes.load

  def off(path):
    loaded = load(path)
    return loaded._replace(act=lambda x: loaded.act(x) + 2e-4)

  monkeypatch.setattr(runtimes, "load", off)
  with pytest.raises(ConfigError, match="differ from the policy's by up to 0.0002"):
    exports.export_policy(trainer, str(tmp_path / "policy"))


@pytest.mark.parametrize("format, extra", [("litert", "litert"), ("onnx", "onnx")])
def test_what_is_not_installed_is_said_in_a_line(trainer, tmp_path, monkeypatch, format, extra):
  def no_module(name):
    raise ImportError(name)

  monkeypatch.setattr(importlib, "import_module", no_module)
  path = str(tmp_path / f"policy{exports.EXTENSIONS[format]}")
  with pytest.raises(ConfigError, match=rf"pip install 'maac_tf\[{extra}\]'\.$"):
    exports.export_policy(trainer, path, format)


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
