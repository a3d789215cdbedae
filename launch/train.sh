#!/usr/bin/env bash
# Sets everything up, then trains: ./launch/train.sh --gin_file=gin/hopper.gin
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash launch/setup.sh
exec "${MAAC_VENV:-.venv}/bin/python" -m maac_tf.train "$@"
