#pragma once

#include <utility>

#include "protocol/status.h"
#include "tests/bench/duo.h"

// For benchmarks: an error ends the process with its text.
namespace packcast::bench {

inline void Check(const Status& status) {
  if (!status.ok()) Die(status.ToString());
}

template <class T>
T Take(StatusOr<T> value) {
  Check(value.status());
  return std::move(value).value();
}

}  // namespace packcast::bench
