"""The time of a SAC update in another library: peer_update.py stable_baselines3|sbx THREADS ROUNDS

Prints milliseconds. The networks, the batch and the critics are those of gin/half_cheetah.gin with
gin/paper.gin and gin/baselines/sac.gin. Runs in .venv-peers, without maac_tf.
"""

import os
import statistics
import sys
import time

UPDATES_PER_CALL = 10


def main(library, threads, rounds):
  if threads:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""
    os.environ["NPROC"] = str(threads)  # JAX's pool of threads
    os.environ["OMP_NUM_THREADS"] = str(threads)
  if library == "sbx":
    from sbx import SAC
  else:
    from stable_baselines3 import SAC
  networks = {"net_arch": [256, 256]}
  options = {"batch_size": 256, "learning_starts": 1_000, "buffer_size": 250_000}
  if library == "stable_baselines3":
    options["device"] = "cpu"
  model = SAC("MlpPolicy", "HalfCheetah-v5", policy_kwargs=networks, seed=0, **options)
  model.learn(1_000)  # random steps alone
  seconds = []
  for _ in range(rounds + 1):
    start = time.perf_counter()
    if library == "sbx":
      model.train(batch_size=256, gradient_steps=UPDATES_PER_CALL)
    else:
      model.train(UPDATES_PER_CALL, 256)
    seconds.append(time.perf_counter() - start)
  print(1e3 * statistics.median(seconds[1:]) / UPDATES_PER_CALL)  # the first compiles


if __name__ == "__main__":
  name, threads, rounds = sys.argv[1:]
  main(name, int(threads), int(rounds))
