#!/usr/bin/env bash
# Makes the project's virtual environment, or reuses it: .venv, with the versions of constraints.txt.
# Another folder: MAAC_VENV, a full path. Other extras than below: MAAC_EXTRAS=dev,docs,gpu.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${MAAC_VENV:-.venv}
extras=${MAAC_EXTRAS:-dev,docs,tensorboard,litert,onnx,video,minari}
python=${PYTHON:-python3}

# Made anew when what it was made from has changed.
stamp="$venv/.maac_tf"
wanted="$extras $(cat setup.py constraints.txt | cksum)"
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || {
    echo "Error: maac_tf needs Python 3.11, 3.12 or 3.13; set PYTHON to one ($python is not)." >&2
    exit 1
  }
  echo "Setting up $venv (once; a few minutes) ..." >&2
  if [ ! -f "$stamp" ] && [ -n "$(ls -A "$venv" 2>/dev/null)" ]; then
    echo "Error: $venv holds files, and no environment that this script made: move it away, or name another folder with MAAC_VENV." >&2
    exit 1
  fi
  # From nothing: pip leaves behind what the new versions no longer need.
  "$python" -m venv --clear "$venv"
  echo unfinished >"$stamp"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable ".[$extras]" >&2
  echo "$wanted" >"$stamp"
fi
