#include "runtime/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace packcast::internal {

CheckFailure::CheckFailure(const char* file, int line, const char* condition) {
  stream_ << file << ":" << line << ": check failed: " << condition << " ";
}

CheckFailure::~CheckFailure() {
  // Not through the log: it may be what broke.
  std::fprintf(stderr, "packcast: %s\n", stream_.str().c_str());
  std::abort();
}

}  // namespace packcast::internal
