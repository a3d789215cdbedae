#!/usr/bin/env bash
# SAC here and in Stable-Baselines3, side by side from the same seeds, one CPU thread each:
# ./launch/compare_sac.sh 30000 0 1 2    (environment steps of HalfCheetah-v5, then seeds)
# Runs go to runs/sac/half_cheetah_v5; those that are finished are passed over.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
steps=${1:-}
[[ $steps =~ ^[0-9]+000$ && $steps -ge 6000 && $# -gt 1 ]] || {
  echo "Usage: $0 STEPS SEED...  (STEPS: thousands, 6000 or more)" >&2
  exit 1
}
bash launch/setup.sh
bash launch/peers.sh
python="${MAAC_VENV:-.venv}/bin/python"
runs=runs/sac/half_cheetah_v5
trap 'kill $(jobs -p) 2>/dev/null || :' EXIT

# The same networks, batch, learning rates, discount and first temperature; one update a step.
for seed in "${@:2}"; do
  "$python" -m maac_tf.train --threads=1 --seed="$seed" --run_dir="$runs/maac_tf-$seed" \
    --gin_file=gin/gymnasium/half_cheetah_v5.gin --gin_file=gin/paper/maac.gin \
    --gin_file=gin/paper/sac.gin --gin_param="Policy.activation='relu'" \
    --gin_param=Trainer.updates_per_step=1 --gin_param=Trainer.steps_per_iteration=250 \
    --gin_param=Trainer.rollout_frequency=250 \
    --gin_param=train.iterations=$(((steps - 5000) / 250)) &
  ours=$!
  peer="$runs/stable_baselines3-$seed"
  grep -q "^$steps," "$peer/metrics.csv" 2>/dev/null || OMP_NUM_THREADS=1 \
    .venv-peers/bin/python launch/peer_sac.py train stable_baselines3 HalfCheetah-v5 "$steps" \
    "$seed" "$peer" &
  wait $!
  wait "$ours"
done
"$python" -m maac_tf.plot "$runs" --out=runs/sac/curves
