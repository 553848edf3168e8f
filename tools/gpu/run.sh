#!/usr/bin/env bash
# Runs a program of this bundle (see tools/gpu/bundle.sh): run NAME [ARGUMENTS], or run tests.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export LD_LIBRARY_PATH="$here/lib:${LD_LIBRARY_PATH:-}"
# NVLink multicast has hung on shared machines, and changes what is measured.
export NCCL_NVLS_ENABLE=0
# All ranks of a bundle are on one host: NCCL's own sockets have no business elsewhere.
export NCCL_SOCKET_IFNAME="${NCCL_SOCKET_IFNAME:-lo}"
name=${1:?name a program in $here/bin, or tests}
shift
if [[ $name != tests ]]; then exec "$here/bin/$name" "$@"; fi
failed=0
for test in "$here"/bin/*_test; do "$test" "$@" || failed=1; done
exit $failed
