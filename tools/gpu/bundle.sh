#!/usr/bin/env bash
# Packs what runs on a machine with GPUs and without Bazel or ZeroMQ: GPU tests, benchmarks, the
# example cluster, and the shared libraries that they need and such a machine lacks.
#
#   tools/gpu/bundle.sh [FOLDER]     (default: out/gpu, which git ignores)
#   there: FOLDER/run tests          the GPU tests
#          FOLDER/run sync LIST...   a benchmark or program by its name
#          FOLDER/run all LOGS LIST...   everything, beside the rival in Python
#          FOLDER/run fleet --workers N --roots LIST...   a trainer's GPU and N more
#          FOLDER/run all-gpus LOGS LIST...   that on all GPUs there are, beside the rival
#
# Needs the CUDA toolkit here; there, a driver and libnccl.so.2 (or NCCL_LIBRARY=its path).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=${1:-out/gpu}

targets=(
  //examples:cluster //examples:coordinator //examples:trainer //examples:worker
  //runtime/data/cuda:packcast_nccl_id
  //tests/bench:beside //tests/bench:copy //tests/bench:epoch //tests/bench:fleet
  //tests/bench:sync //tests/bench:wires
  //tests/gpu:compat //tests/gpu:endurance //tests/gpu:faults
  //tests/gpu:copy_kernels_test //tests/gpu:nccl_broadcast_test
)
bazel build "${targets[@]}"

rm -rf "$folder/bin" "$folder/lib"
mkdir -p "$folder/bin" "$folder/lib"
for target in "${targets[@]}"; do
  file=bazel-bin/${target#//}
  file=${file/://}
  cp -L "$file" "$folder/bin/"
  chmod u+w "$folder/bin/$(basename "$file")"
  strip "$folder/bin/$(basename "$file")"
done
# Of the libraries, all but those of the C and C++ runtime, which every machine has.
ldd "$folder"/bin/* | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
  grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv|libgcc_s|libstdc\+\+)\.so' |
  while read -r library; do cp -L "$library" "$folder/lib/"; done
cp tools/gpu/run.sh "$folder/run"
cp tests/gpu/sanitize.sh "$folder/sanitize"
cp tests/gpu/compat_check.py tests/gpu/compat_peer.py tests/bench/rival_bench.py "$folder/bin/"
du -sh "$folder"
