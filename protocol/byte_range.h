#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace packcast {

using Bytes = std::vector<std::byte>;

// Bytes that several may hold and nobody changes: what an actor's method takes or returns when
// copies of it would cost. A small copyable value; copies, and parts, share the memory. Thread-safe
// as the bytes do not change.
class ByteRange {
 public:
  ByteRange() = default;
  ByteRange(const ByteRange&) = default;
  ByteRange& operator=(const ByteRange&) = default;
  // The other one is empty afterwards.
  ByteRange(ByteRange&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})), owner_(std::move(other.owner_)) {}
  ByteRange& operator=(ByteRange&& other) noexcept {
    bytes_ = std::exchange(other.bytes_, {});
    owner_ = std::move(other.owner_);
    return *this;
  }
  // Takes the bytes over. A vector that is not moved here is copied on its way.
  ByteRange(Bytes bytes);  // NOLINT
  // Memory of somebody else, which must stay as it is until `owner` is let go: with the last copy
  // of this range, on any thread, also one of ZeroMQ's (see Lend). Null: it outlives all of them.
  ByteRange(std::span<const std::byte> bytes, std::shared_ptr<const void> owner)
      : bytes_(bytes), owner_(std::move(owner)) {}
  ByteRange(Bytes&& bytes, std::shared_ptr<const void> owner) = delete;

  // The same; `release` is called once, when nobody holds the memory any more: maybe at once, in
  // the call of Tell or Call that was refused. It must not throw, block, or call an actor.
  static ByteRange Lend(std::span<const std::byte> bytes, std::function<void()> release);

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::byte* data() const { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }

  // Bytes [offset, offset + size) of these, as far as there are any.
  ByteRange Part(size_t offset, size_t size) const;
  Bytes Copy() const { return Bytes(bytes_.begin(), bytes_.end()); }

  // By content.
  friend bool operator==(const ByteRange& a, const ByteRange& b);

 private:
  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;
};

}  // namespace packcast
