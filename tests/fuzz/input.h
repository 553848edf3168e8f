#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace packcast::fuzz {

// Takes a fuzzer's bytes from the front. Past their end there are zeros, so that every input means
// something, and loops go on while !empty().
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }
  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const auto byte = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return byte;
  }
  // 0 ... count - 1, from a byte; 0 when there is nothing to choose from.
  size_t Below(size_t count) { return count == 0 ? 0 : Byte() % count; }
  bool Flag() { return Byte() % 2 == 1; }
  // One in `count`; not with zeros.
  bool OneIn(size_t count) { return Below(count) == count - 1; }
  uint64_t Word() {
    uint64_t word = 0;
    for (int k = 0; k < 8; ++k) word = word << 8 | Byte();
    return word;
  }
  // At most `size` bytes.
  std::string_view Take(size_t size) {
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(taken.size());
    return taken;
  }
  std::string_view Rest() { return Take(rest_.size()); }

 private:
  std::string_view rest_;
};

}  // namespace packcast::fuzz
