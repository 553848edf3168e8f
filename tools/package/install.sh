#!/usr/bin/env bash
# Builds packcast and installs it for projects that are not built by Bazel: headers, the shared
# library, and files for CMake and pkg-config. Installing again replaces what is there.
#   tools/package/install.sh --prefix=/usr/local
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=0.1.0
abi=0

prefix=
case "${1:-}" in
  --prefix=?*) prefix=${1#--prefix=} ;;
esac
if [[ -z $prefix || $# -ne 1 ]]; then
  echo "usage: tools/package/install.sh --prefix=FOLDER" >&2
  exit 2
fi

bazel build //tools/package:libpackcast.so
library=$(bazel info bazel-bin)/tools/package/libpackcast.so

# The headers that users need, and nothing else: what the one that they include brings along.
roots=(actors/packcast.h runtime/testing/stage.h)
closure() { g++ -std=c++20 -I. "$1" -x c++ "${roots[@]}" | tr -s ' \\\n' '\n'; }
if closure -M | grep -E '^/.*/(absl|cuda|fmt|msgpack|nccl|spdlog|xxhash|zmq)'; then
  echo "install.sh: the headers above are not packcast's and must not be needed by its users" >&2
  exit 1
fi
headers=$(closure -MM | grep -E '\.h$' | sort -u)

include=$prefix/include/packcast
lib=$prefix/lib
rm -rf "$include" "$lib/cmake/packcast"
mkdir -p "$include" "$lib/cmake/packcast" "$lib/pkgconfig"
for header in $headers; do install -D -m 644 "$header" "$include/$header"; done
install -m 755 "$library" "$lib/libpackcast.so.$abi"
ln -sf "libpackcast.so.$abi" "$lib/libpackcast.so"

# Both find the folders from where they are themselves: the tree may be moved.
cat >"$lib/pkgconfig/packcast.pc" <<END
prefix=\${pcfiledir}/../..
Name: packcast
Description: Actors, and coordinated broadcasts of model weights from trainers to workers
Version: $version
Cflags: -std=c++20 -I\${prefix}/include/packcast
Libs: -L\${prefix}/lib -lpackcast
END
cat >"$lib/cmake/packcast/packcastConfig.cmake" <<END
get_filename_component(_packcast_prefix "\${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET packcast::packcast)
  add_library(packcast::packcast SHARED IMPORTED)
  set_target_properties(packcast::packcast PROPERTIES
    IMPORTED_LOCATION "\${_packcast_prefix}/lib/libpackcast.so.$abi"
    IMPORTED_SONAME "libpackcast.so.$abi"
    INTERFACE_INCLUDE_DIRECTORIES "\${_packcast_prefix}/include/packcast"
    INTERFACE_COMPILE_FEATURES cxx_std_20)
endif()
unset(_packcast_prefix)
END
cat >"$lib/cmake/packcast/packcastConfigVersion.cmake" <<END
set(PACKAGE_VERSION $version)
if(PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
else()
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
END
echo "install.sh: packcast $version is in $prefix"
