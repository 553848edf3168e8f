#!/usr/bin/env bash
# Runs what is in this bundle (see tools/gpu/bundle.sh), on a machine with two GPUs:
#
#   run NAME [ARGUMENTS]    a program
#   run tests               the GPU tests
#   run all LOGS LIST...    tests, sanitizers, benchmarks and the rival, one after another: the end
#                           of each one's output here, all of it in the folder LOGS; 10 minutes.
#                           Without PyTorch the rival and the compat check are counted as failed.
#   run all-gpus LOGS LIST...   what takes more than two GPUs, on all of the machine's: one trainer
#                           to the other GPUs, over peer copies and over NCCL; two trainer ranks
#                           with half of the rows each against one; the rival; 10 minutes at most
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$(command -v python3 || true)
libraries="$here/lib:${LD_LIBRARY_PATH:-}"
# NVLink multicast has hung on shared machines, and changes what is measured.
export NCCL_NVLS_ENABLE=0
# All ranks of a bundle are on one host: NCCL's own sockets have no business elsewhere.
export NCCL_SOCKET_IFNAME="${NCCL_SOCKET_IFNAME:-lo}"
name=${1:?name a program in $here/bin, or tests, or all, or all-gpus}
shift

# Python has libraries of its own of the same names.
run_tests() {
  local failed=0 test
  for test in "$here"/bin/*_test; do
    LD_LIBRARY_PATH="$libraries" "$test" "$@" || failed=1
  done
  return $failed
}

failures=0
# step NAME SECONDS LINES COMMAND...
step() {
  local what=$1 seconds=$2 lines=$3 began=$SECONDS status=0
  shift 3
  echo "=== $what"
  timeout --kill-after=10 "$seconds" "$@" >"$logs/$what.log" 2>&1 || status=$?
  tail -n "$lines" "$logs/$what.log"
  echo "=== $what: exit status $status after $((SECONDS - began)) s"
  if [[ $status -ne 0 ]]; then failures=$((failures + 1)); fi
}

run_all() {
  logs=${1:?a folder for the logs}
  shift
  mkdir -p "$logs"
  local run=$here/run
  step tests 120 4 "$run" tests
  step sanitize 120 6 "$here/sanitize"
  step compat 80 3 "$python" "$here/bin/compat_check.py"
  step wires 40 16 "$run" wires
  step sync 90 60 "$run" sync "$@"
  step rival 120 8 "$python" "$here/bin/rival_bench.py" "$@"
  step epoch 120 30 "$run" epoch --install in-place --ways peer,nccl "$@"
  step beside 60 12 "$run" beside --gentle --list "$1"
  step endurance 130 40 "$run" endurance
  step faults 120 45 "$run" faults --rounds 1 --lanes 2
  echo "=== $failures failed"
  [[ $failures -eq 0 ]]
}

run_all_gpus() {
  logs=${1:?a folder for the logs}
  shift
  mkdir -p "$logs"
  local run=$here/run gpus
  gpus=$(nvidia-smi -L | wc -l)
  step fleet 200 60 "$run" fleet --workers $((gpus - 1)) --roots "$@"
  step fleet-nccl 200 30 "$run" fleet --workers $((gpus - 1)) --peer-copies false "$@"
  if [[ $gpus -gt 3 ]]; then
    step two-trainers 120 20 "$run" fleet --workers $((gpus - 2)) --trainers 2 --kills 0 "$@"
    step one-trainer 120 20 "$run" fleet --workers $((gpus - 2)) --kills 0 "$@"
  fi
  step rival 200 8 "$python" "$here/bin/rival_bench.py" --ranks "$gpus" "$@"
  echo "=== $failures failed"
  [[ $failures -eq 0 ]]
}

case $name in
  tests) run_tests "$@" ;;
  all) run_all "$@" ;;
  all-gpus) run_all_gpus "$@" ;;
  *) LD_LIBRARY_PATH="$libraries" exec "$here/bin/$name" "$@" ;;
esac
