#!/usr/bin/env bash
# Asks Bazel who depends on whom: the rules of ARCHITECTURE.md on targets, as
# //tests/tidy:layering_test checks them on includes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

status=0

# must_be_empty RULE QUERY: the query must find no target.
must_be_empty() {
  local found
  found=$(bazel query --noshow_progress --noimplicit_deps "$2")
  if [[ -n $found ]]; then
    echo "layering: $1, but found:" $found >&2
    status=1
  else
    echo "layering: $1"
  fi
}

library='(//protocol/... + //runtime/... + //actors/...)'
machines='filter("machine", kind(cc_library, //actors/...))'
users='(//examples/... + //tests/...)'

if [[ -z $(bazel query --noshow_progress "$machines") ]]; then
  echo "layering: no library under //actors has 'machine' in its name" >&2
  status=1
fi

must_be_empty 'protocol depends on none of our layers' \
  'deps(//protocol/...) intersect (//runtime/... + //actors/... + //examples/... + //tests/...)'
must_be_empty 'protocol depends on no input or output library' \
  'deps(//protocol/...) intersect (@zmq//... + @cuda//... + @spdlog//...)'
must_be_empty 'runtime depends on neither actors nor users' \
  "deps(//runtime/...) intersect (//actors/... + $users)"
must_be_empty 'the library does not depend on its users' \
  "deps($library) intersect $users"
must_be_empty 'machines depend on protocol only' \
  "deps($machines) intersect (//runtime/... + @zmq//... + @cuda//... + @spdlog//...)"
must_be_empty 'only protocol uses msgpack' \
  'rdeps(//..., @msgpack//:msgpack, 1) except //protocol/... except @msgpack//:msgpack'
must_be_empty 'only runtime/net uses ZeroMQ, besides tests' \
  'rdeps(//..., @zmq//:zmq, 1) except //runtime/net/... except //tests/... except @zmq//:zmq'
must_be_empty 'examples use neither msgpack nor ZeroMQ themselves' \
  'rdeps(//examples/..., @zmq//:zmq + @msgpack//:msgpack, 1) intersect //examples/...'

exit $status
