#!/usr/bin/env bash
# Makes .venv-peers, or reuses it: other libraries' SAC, for `python -m maac_tf.benchmark --peers`.
# An environment of its own: SBX needs another TensorFlow Probability than maac_tf does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}

stamp=.venv-peers/.made_from
wanted="$(cksum <launch/peers.txt)"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  echo "Setting up .venv-peers (once; a few minutes) ..." >&2
  "$python" -m venv --clear .venv-peers
  .venv-peers/bin/python -m pip install --quiet --disable-pip-version-check \
    --requirement launch/peers.txt >&2
  echo "$wanted" >"$stamp"
fi
