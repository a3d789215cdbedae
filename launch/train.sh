#!/usr/bin/env bash
# Sets everything up, then trains: ./launch/train.sh --gin_file=gin/hopper.gin
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/launch/setup.sh"
venv="${MAAC_VENV:-$root/.venv}"
exec "$venv/bin/python" -m maac_tf.train "$@"
