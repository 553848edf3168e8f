#!/usr/bin/env bash
# Formats all C++ of the tree in place.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find . \( -name .git -o -name 'bazel-*' -o -name out \) -prune -o \
  -type f \( -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
  xargs -0 -r clang-format-14 -i --style=file
