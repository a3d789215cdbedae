"""What examples/ show, run."""

import ast

import numpy as np
import pytest
import tensorflow as tf

from examples.own_critic_target import LambdaTargets
from maac_tf.runs import config
from maac_tf.runs.experiment import train
from tests import commands
from tests.commands import ROOT
from tests.conftest import TINY
from tests.learners import ROLLOUT, SEED, make_learner, targets

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


@pytest.mark.parametrize("decay", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("horizon", [1, 3])
def test_its_numbers_are_those_of_a_loop(horizon, decay):
  learner = make_learner(
    *ROLLOUT,
    f"Maac.horizon = {horizon}",
    "Maac.discount = 0.9",
    "Maac.initial_temperature = 0.3",
  )
  learner.critic_targets = LambdaTargets(decay)
  noise = learner.draw(SEED)
  # Some of the paths end at each step.
  step = learner.model_env.random_member
  learner.model_env.random_member = lambda *a: step(*a)._replace(terminal=step(*a)[0][:, 0] > 0.7)
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
  want = [_lambda_return(decay, 0.9, reward[:, i], terminal[:, i], value[:, i]) for i in range(32)]
  np.testing.assert_allclose(regression.targets, want, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(regression.observation, batch.observation)
  np.testing.assert_array_equal(regression.action, steps.action[0])
  if decay == 1.0:  # the default's return of all H steps
    learner.critic_targets = type(make_learner().critic_targets)()
    np.testing.assert_allclose(
      targets(learner, noise)[0].targets, regression.targets, rtol=1e-4, atol=1e-4
    )


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
  config.load(FILES, [*TINY, "Maac.horizon = 1"])
  values = config.values()
  assert values["Maac.critic_targets"] == "@LambdaTargets()"
  assert values["LambdaTargets.decay"] == "0.9"
  assert train(str(tmp_path / "run"), iterations=1) is None
  assert "LambdaTargets.decay = 0.9" in (tmp_path / "run" / "operative_config.gin").read_text()
  longer = f"--run_dir={tmp_path / 'run'}", "--gin_param=train.iterations=2"
  code, _, err = commands.run("train", *longer, cwd=str(ROOT))
  assert code == 1 and "'import examples.own_critic_target' would run code: " in err
  code, out, err = commands.run("train", *longer, "--trust", cwd=str(ROOT))
  assert code == 0 and "Resuming" in out, err
