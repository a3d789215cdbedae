#!/usr/bin/env bash
# Trains a task as shipped, and with each of the given gin files over it, from the same seeds:
#   SEEDS="0 1 2" JOBS=2 ./launch/compare.sh gin/gymnasium/half_cheetah_v5.gin 20 gin/without/*.gin
# 20 is train.iterations. JOBS runs side by side, one thread each, go to runs/compare/TASK/FILE-SEED.
# Started again, it resumes what was stopped and passes over what is finished.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,5s/^# //p' "$0" >&2
  exit 2
fi
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/launch/setup.sh"
task=$1 iterations=$2
shift 2
for seed in ${SEEDS:-0 1 2}; do
  for variant in shipped "$@"; do
    run="runs/compare/$(basename "$task" .gin)/$(basename "$variant" .gin)-$seed"
    flags="--gin_file=$task --run_dir=$run --seed=$seed --threads=1"
    flags+=" --gin_param=train.iterations=$iterations"
    [ "$variant" = shipped ] || flags+=" --gin_file=$variant"
    echo "$flags"
  done
done | xargs -P "${JOBS:-2}" -L 1 "${MAAC_VENV:-$root/.venv}/bin/python" -m maac_tf.train
