#!/usr/bin/env bash
# Sets everything up, then checks style and runs the tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash launch/setup.sh
python="${MAAC_VENV:-.venv}/bin/python"
"$python" -m ruff check .
"$python" -m ruff format --check .
exec "$python" -m pytest tests "$@"
