"""SAC of Stable-Baselines3 or SBX, of the sizes that gin/paper/sac.gin has over gin/paper/maac.gin.

Runs in .venv-peers (launch/peers.sh), without maac_tf:

python launch/peer_sac.py update stable_baselines3 THREADS ROUNDS    milliseconds of an update
python launch/peer_sac.py train stable_baselines3 HalfCheetah-v5 STEPS SEED RUN_DIR
"""

import csv
import importlib
import os
import statistics
import sys
import time

import mujoco

UPDATES_PER_CALL = 10
# As Trainer.random_steps, eval_every, eval_episodes and the trainer's EVALUATION_SEED.
RANDOM_STEPS, EVAL_EVERY, EVAL_EPISODES, EVALUATION_SEED = 5_000, 1_000, 5, 10_000


def _sac(library, task, random_steps, seed):
  """Both libraries have the same interface."""
  mujoco.set_mju_user_warning(lambda message: None)  # as maac_tf.tasks does: no MUJOCO_LOG.TXT
  cpu = {"device": "cpu"} if library == "stable_baselines3" else {}
  return importlib.import_module(library).SAC(
    "MlpPolicy",
    task,
    learning_rate=3e-4,
    buffer_size=250_000,
    learning_starts=random_steps,
    batch_size=256,
    tau=0.005,
    gamma=0.99,
    ent_coef="auto_0.1",
    policy_kwargs={"net_arch": [256, 256]},
    seed=seed,
    **cpu,
  )


def update(library, threads, rounds):
  """Prints the median time of an update, in milliseconds; 0 threads: as the library likes."""
  if threads:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # PyTorch's
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])  # JAX's
  model = _sac(library, "HalfCheetah-v5", 1_000, 0)
  model.learn(1_000)  # random steps alone
  seconds = []
  for _ in range(rounds + 1):
    start = time.perf_counter()
    model.train(batch_size=256, gradient_steps=UPDATES_PER_CALL)
    seconds.append(time.perf_counter() - start)
  print(1e3 * statistics.median(seconds[1:]) / UPDATES_PER_CALL)  # the first compiles


def train(library, task, steps, seed, run_dir):
  """Writes RUN_DIR/metrics.csv with the columns that maac_tf.plot reads."""
  import gymnasium as gym

  model = _sac(library, task, RANDOM_STEPS, seed)
  os.makedirs(run_dir, exist_ok=True)
  environment, start = gym.make(task), time.perf_counter()
  with open(os.path.join(run_dir, "metrics.csv"), "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["env_steps", "eval/return", "seconds/total"])
    for done in range(EVAL_EVERY, steps + 1, EVAL_EVERY):
      model.learn(EVAL_EVERY, reset_num_timesteps=done == EVAL_EVERY)
      if done <= RANDOM_STEPS:
        continue
      returns = [_episode(environment, model, EVALUATION_SEED + i) for i in range(EVAL_EPISODES)]
      table.writerow([done, statistics.mean(returns), time.perf_counter() - start])
      file.flush()


def _episode(environment, model, seed):
  """The return of the deterministic policy."""
  observation, _ = environment.reset(seed=seed)
  total, done = 0.0, False
  while not done:
    action, _ = model.predict(observation, deterministic=True)
    observation, reward, terminal, truncated, _ = environment.step(action)
    total, done = total + float(reward), terminal or truncated
  return total


if __name__ == "__main__":
  command, name, *rest = sys.argv[1:]
  if command == "update":
    update(name, *map(int, rest))
  else:
    train(name, rest[0], int(rest[1]), int(rest[2]), rest[3])
