#pragma once

#include <memory>
#include <string>
#include <utility>

#include "protocol/status.h"
#include "protocol/value.h"

namespace packcast {

// The body of a message that goes to many: encoded once, for those in other processes. A small
// copyable value; copies share the bytes, which do not change. Thread-safe.
class SharedBody {
 public:
  // kInvalidArgument: it cannot be encoded, or is larger than a message may be.
  static StatusOr<SharedBody> Make(const Value& body);

  // msgpack; empty for nil.
  const std::shared_ptr<const std::string>& bytes() const { return bytes_; }

 private:
  explicit SharedBody(std::shared_ptr<const std::string> bytes) : bytes_(std::move(bytes)) {}

  std::shared_ptr<const std::string> bytes_;
};

}  // namespace packcast
