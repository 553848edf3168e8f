#!/usr/bin/env bash
# Runs fuzz targets with libFuzzer, one after the other:
#
#   tests/fuzz/run.sh TARGET [--executions N | --seconds N]   one, for so long (60 s)
#   tests/fuzz/run.sh --all [--seconds N]                     each, N seconds in all (60 s)
#   tests/fuzz/run.sh ... --fast                              many times as many executions
#   tests/fuzz/run.sh TARGET FILE                             one input
#   tests/fuzz/run.sh TARGET --merge                          what is learnt into the corpus
#
# What it learns goes to out/fuzz/TARGET, where the next run begins; what crashes to out/fuzz. With
# --fast the programs are without sanitizers, but for cheap traps, and all that is learnt then runs
# once with them: what memory errors new code has is found by the inputs that reach it. With
# PACKCAST_FUZZ_TRACE=1 the machines' targets tell of each event. Needs clang: ./setup.sh --fuzz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

die() {
  echo "run.sh: $*" >&2
  exit 2
}

bazel() { command bazel ${CI_BAZELRC:+--bazelrc="$CI_BAZELRC"} "$@"; }

targets() { bazel query --noshow_progress 'kind(cc_test, //tests/fuzz:all)' | sed 's/.*://'; }

# build CONFIG: the targets named in $names.
build() {
  command -v clang-14 >/dev/null || die "there is no clang-14; run ./setup.sh --fuzz"
  bazel build --config="$1" --noshow_progress "${names[@]/#///tests/fuzz:}" ||
    die "cannot build ${names[*]}"
  bin=$(bazel info --config="$1" --noshow_progress bazel-bin 2>/dev/null)/tests/fuzz
}

# fuzz TARGET LIBFUZZER-OPTION...
fuzz() {
  local target=$1 learnt=out/fuzz/$1
  shift
  mkdir -p "$learnt"
  echo "=== $target: $*"
  # Short stacks, and little memory kept from reuse: of many small allocations that is most of the
  # time. Inputs are chosen without "entropic", whose book-keeping costs more than it finds here.
  # Without ASan: what is freed is kept, for long texts come and go.
  MALLOC_TRIM_THRESHOLD_=$((1 << 30)) MALLOC_MMAP_THRESHOLD_=$((32 << 20)) \
    ASAN_OPTIONS=malloc_context_size=4:quarantine_size_mb=16:${ASAN_OPTIONS:-} \
    "$bin/$target" "$@" -max_len=1024 -timeout=20 -rss_limit_mb=2048 -entropic=0 -reload=0 \
    -print_final_stats=1 -print_funcs=0 -artifact_prefix="out/fuzz/$target-" \
    "$learnt" "tests/fuzz/corpus/$target" 2>&1 |
    grep -vE '^#[0-9]+.(NEW|REDUCE|RELOAD|pulse)|# Uses: |^INFO: (Loaded|Running)|ecommended'
}

# merge TARGET: what has learnt to reach new code goes into the corpus. How often it reaches it does
# not count, for the corpus is to be small.
merge() {
  local scratch corpus=tests/fuzz/corpus/$1 file name
  scratch=$(mktemp -d)
  cp -r "$corpus" "$scratch/corpus"
  "$bin/$1" -merge=1 -use_counters=0 -max_len=1024 -merge_control_file="$scratch/control" \
    "$scratch/corpus" "out/fuzz/$1" >"$scratch/log" 2>&1 || die "cannot merge; see $scratch/log"
  python3 tests/fuzz/choose.py "$scratch/control" | while read -r file; do
    name=$(sha1sum <"$file")
    cp "$file" "$corpus/${name:0:12}"
  done
  echo "$1: $(find "$corpus" -type f | wc -l) files"
  rm -rf "$scratch"
}

[[ $# -gt 0 ]] || die "name a target, or --all; targets: $(targets | tr '\n' ' ')"
what=$1
shift
limit=seconds
amount=60
file=
config=fuzz
while [[ $# -gt 0 ]]; do
  case $1 in
    --fast)
      config=fuzz-fast
      shift
      ;;
    --merge)
      limit=merge
      shift
      ;;
    --executions | --seconds)
      [[ ${2:-} =~ ^[0-9]+$ ]] || die "$1 needs a number"
      limit=${1#--} amount=$2
      shift 2
      ;;
    *)
      [[ -f $1 ]] || die "$1 is neither an option nor a file"
      file=$1
      shift
      ;;
  esac
done

names=("$what")
[[ $what == --all ]] && mapfile -t names < <(targets)
build "$config"
if [[ -n $file ]]; then
  exec "$bin/$what" "$file"
fi
if [[ $limit == merge ]]; then
  merge "$what"
  exit
fi
failed=0
options=()
# How often code is reached does not count: inputs stay short, so that there are two or three times
# as many executions, and new code is found no later. A run with the sanitizers does count it.
[[ $config == fuzz-fast ]] && options+=(-use_counters=0)
for name in "${names[@]}"; do
  option=-max_total_time=$((amount / ${#names[@]} > 0 ? amount / ${#names[@]} : 1))
  [[ $limit == executions ]] && option=-runs=$amount
  fuzz "$name" "$option" "${options[@]}" || failed=1
done
if [[ $config == fuzz-fast ]]; then
  build fuzz
  for name in "${names[@]}"; do
    fuzz "$name" -runs=0 || failed=1
  done
fi
exit $failed
