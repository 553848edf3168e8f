#!/usr/bin/env bash
# Runs the tests of the copy kernels (pack, unpack, checksum; no NCCL) under compute-sanitizer:
# memcheck and racecheck must find nothing. About half a minute, on one GPU.
#
#   tests/gpu/sanitize.sh      after bazel build //tests/gpu:copy_kernels_test
#   FOLDER/sanitize            in a bundle (tools/gpu/bundle.sh)
#
# COMPUTE_SANITIZER names the tool where it is not found; PACKCAST_PROPERTY_CASES random batches.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export LD_LIBRARY_PATH="$here/lib:${LD_LIBRARY_PATH:-}"
# Few: every access of a kernel is looked at.
export PACKCAST_PROPERTY_CASES="${PACKCAST_PROPERTY_CASES:-4}"

find_program() {
  local file
  for file in "$@"; do
    if [[ -n $file && -f $file && -x $file ]]; then
      echo "$file"
      return
    fi
  done
  echo "not found, or not executable: $*" >&2
  return 1
}

test=$(find_program "$here/bin/copy_kernels_test" \
  "$here/../../bazel-bin/tests/gpu/copy_kernels_test")
sanitizer=$(find_program "${COMPUTE_SANITIZER:-}" "$(command -v compute-sanitizer || true)" \
  "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer")
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# check TOOL WHAT_A_CLEAN_RUN_SAYS [OPTION...]
check() {
  local tool=$1 clean=$2 began=$SECONDS
  shift 2
  echo "$tool:"
  if ! timeout 300 "$sanitizer" --tool "$tool" --error-exitcode 9 "$@" "$test" 2>&1 |
    tee "$log"; then
    echo "$tool: FAILED" >&2
    return 1
  fi
  # A tool that did not get hold of the program ends well, too.
  if ! grep -qF "$clean" "$log"; then
    echo "$tool: FAILED: it did not say \"$clean\"" >&2
    return 1
  fi
  echo "$tool: clean, $((SECONDS - began)) s"
}

failed=0
# Not the API: an event that is not there yet (cudaErrorNotReady) is no error, and the others the
# engine reports itself.
check memcheck "ERROR SUMMARY: 0 errors" --report-api-errors no || failed=1
check racecheck "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)" || failed=1
exit $failed
