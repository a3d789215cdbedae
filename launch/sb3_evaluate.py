"""Evaluates a run by Stable-Baselines3's `evaluate_policy` and by maac_tf; both must agree:

python launch/sb3_evaluate.py RUN_DIR

Needs both libraries in one environment (pip install stable_baselines3==2.9.2). No test runs it.
"""

import sys

from maac_tf import MAAC, load_policy  # first: it imports TensorFlow quietly

import numpy as np  # isort: skip
from stable_baselines3.common.evaluation import evaluate_policy  # isort: skip
from stable_baselines3.common.monitor import Monitor  # isort: skip
from stable_baselines3.common.vec_env import DummyVecEnv  # isort: skip

EPISODES = 20


def main(run_dir):
  agent = MAAC.load(run_dir)
  make_env = agent.trainer.learner.task.make_gym_env
  own = agent.evaluate(EPISODES).returns
  print(f"maac_tf:            {own.mean():.5g} ± {own.std():.5g} over {EPISODES} episodes")
  env = make_env()
  for name, model in (("agent", agent), ("policy", load_policy(f"{run_dir}/policy", env))):
    # As users call it: start states that follow from one seed.
    env.reset(seed=0)
    mean, std = evaluate_policy(model, Monitor(env), n_eval_episodes=EPISODES)
    print(f"evaluate_policy:    {mean:.5g} ± {std:.5g} ({name}, other start states)")
    # From the same start states: episode by episode.
    returns = []
    for seed in range(EPISODES):
      vector = DummyVecEnv([lambda: Monitor(make_env())])
      vector.seed(seed)
      returns.append(evaluate_policy(model, vector, n_eval_episodes=1)[0])
      vector.close()
    print(f"from the same ones: {np.mean(returns):.5g} ± {np.std(returns):.5g} ({name})")
    np.testing.assert_allclose(returns, own, rtol=1e-3, atol=1e-3)


if __name__ == "__main__":
  main(*sys.argv[1:])
