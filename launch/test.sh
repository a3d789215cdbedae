#!/usr/bin/env bash
# Sets everything up, then checks style, types and documents, and runs the tests; arguments go to
# pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash launch/setup.sh
python="${MAAC_VENV:-.venv}/bin/python"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy maac_tf
"$python" -m sphinx --fail-on-warning --keep-going --fresh-env --quiet -b html docs docs/_build
# On one thread each: most of a test is Python that builds graphs. A worker more would import
# TensorFlow twice more.
export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
exec "$python" -m pytest --numprocesses=2 --dist=worksteal "$@"
