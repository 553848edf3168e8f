#!/usr/bin/env bash
# Installs packcast into a folder of its own, moves that, and builds and runs a consumer with CMake
# and with pkg-config from there. Checks that the library shows no names but ours. Then a
# workspace of somebody else's, with our labels (analysed, not built again).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tools/package/install.sh --prefix="$scratch/first"
mv "$scratch/first" "$scratch/installed"

foreign=$(nm -DC --defined-only "$scratch/installed/lib/libpackcast.so" |
  grep -vE 'packcast|std::' || true)
if [[ -n $foreign ]]; then
  echo "consume.sh: libpackcast.so shows names that are not packcast's: $foreign" >&2
  exit 1
fi

needed=$(readelf -d "$scratch/installed/lib/libpackcast.so" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' |
  grep -vE '^(libzmq|libstdc\+\+|libm|libgcc_s|libc|ld-linux-.*)\.so' || true)
if [[ -n $needed ]]; then
  echo "consume.sh: libpackcast.so needs more than libzmq where it runs: $needed" >&2
  exit 1
fi

if grep -q PACKCAST_FAILPOINTS "$scratch/installed/lib/libpackcast.so"; then
  echo "consume.sh: libpackcast.so fails when an environment variable says so" >&2
  exit 1
fi

cmake -S tests/package -B "$scratch/build" -DCMAKE_PREFIX_PATH="$scratch/installed"
cmake --build "$scratch/build"
"$scratch/build/consumer"

export PKG_CONFIG_PATH="$scratch/installed/lib/pkgconfig"
# shellcheck disable=SC2046
g++ tests/package/consumer.cc -o "$scratch/by-pkg-config" $(pkg-config --cflags --libs packcast)
LD_LIBRARY_PATH="$scratch/installed/lib" "$scratch/by-pkg-config"

mkdir "$scratch/workspace"
cat >"$scratch/workspace/WORKSPACE" <<END
workspace(name = "user")
local_repository(name = "packcast", path = "$PWD")
load("@packcast//tools/workspace:default.bzl", "packcast_repositories")
packcast_repositories()
END
cat >"$scratch/workspace/BUILD.bazel" <<END
cc_binary(name = "program", srcs = ["program.cc"], deps = ["@packcast//:packcast"])
cc_test(name = "test", srcs = ["test.cc"], deps = ["@packcast//runtime/testing:stage"])
END
touch "$scratch/workspace/program.cc" "$scratch/workspace/test.cc"
# Somebody else's workspace does not have our configurations: neither those of a caller of this
# script, who may wrap `bazel` in a function with some.
their_bazel() {
  (cd "$scratch/workspace" && command bazel --output_base="$scratch/bazel" "$@")
}
analysed=0
their_bazel build --nobuild //... || analysed=$?
their_bazel aquery 'mnemonic("CppLink", deps(//:test))' >"$scratch/links" || analysed=$?
their_bazel shutdown
chmod -R u+w "$scratch/bazel"
[[ $analysed == 0 ]] || exit "$analysed"

# A cc_test links shared objects by default; those of ours that call CUDA would not load.
grep -q 'Outputs: .*external/packcast/protocol/libprotocol\.a' "$scratch/links"
if grep 'Outputs: .*external/packcast/.*\.so' "$scratch/links"; then
  echo "consume.sh: a cc_test in another workspace gets shared objects of packcast" >&2
  exit 1
fi
