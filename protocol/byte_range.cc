#include "protocol/byte_range.h"

#include <algorithm>

namespace packcast {

ByteRange::ByteRange(Bytes bytes) {
  auto owner = std::make_shared<const Bytes>(std::move(bytes));
  bytes_ = *owner;
  owner_ = std::move(owner);
}

ByteRange ByteRange::Lend(std::span<const std::byte> bytes, std::function<void()> release) {
  // Whoever lets the last copy go runs it, once.
  struct Loan {
    explicit Loan(std::function<void()> on_end) : release(std::move(on_end)) {}
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    ~Loan() {
      if (release) release();
    }
    std::function<void()> release;
  };
  return ByteRange(bytes, std::make_shared<const Loan>(std::move(release)));
}

ByteRange ByteRange::Part(size_t offset, size_t size) const {
  const size_t begin = std::min(offset, bytes_.size());
  return ByteRange(bytes_.subspan(begin, std::min(size, bytes_.size() - begin)), owner_);
}

bool operator==(const ByteRange& a, const ByteRange& b) {
  return std::ranges::equal(a.bytes_, b.bytes_);
}

}  // namespace packcast
