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
"$python" -m maac_tf.report --check
"$python" -m sphinx --fail-on-warning --keep-going --fresh-env --quiet -b html docs docs/_build
# Three workers on one thread each: most of a test is Python that builds graphs, which TensorFlow keeps;
# with two, one came to 3 GB.
export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
exec "$python" -m pytest --numprocesses=3 --dist=worksteal "$@"
