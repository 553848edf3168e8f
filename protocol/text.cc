#include "protocol/text.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace packcast {
namespace {

// Length of the UTF-8 sequence that starts at s[i], or 0 when it is malformed.
size_t Utf8SequenceLength(std::string_view s, size_t i) {
  const auto byte = [&](size_t k) -> unsigned {
    return i + k < s.size() ? static_cast<unsigned char>(s[i + k]) : 0u;
  };
  const auto tail = [&](size_t k) { return (byte(k) & 0xc0) == 0x80; };
  const unsigned c = byte(0);
  if (c < 0x80) return 1;
  if (c >= 0xc2 && c <= 0xdf) return tail(1) ? 2 : 0;
  if (c >= 0xe0 && c <= 0xef) {
    const bool overlong = c == 0xe0 && byte(1) < 0xa0;
    const bool surrogate = c == 0xed && byte(1) > 0x9f;
    return tail(1) && tail(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (c >= 0xf0 && c <= 0xf4) {
    const bool overlong = c == 0xf0 && byte(1) < 0x90;
    const bool beyond = c == 0xf4 && byte(1) > 0x8f;
    return tail(1) && tail(2) && tail(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

}  // namespace

bool IsUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    // Most text is ASCII: eight bytes at once.
    uint64_t word = 0;
    if (text.size() - i >= sizeof word) {
      std::memcpy(&word, text.data() + i, sizeof word);
      if ((word & 0x8080808080808080) == 0) {
        i += sizeof word;
        continue;
      }
    }
    const size_t length = Utf8SequenceLength(text, i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

std::string_view CutText(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  // Back to where a code point starts; in what is no UTF-8 there may be none near.
  constexpr size_t kTailBytesMax = 3;
  for (size_t end = max_bytes; max_bytes - end <= kTailBytesMax; --end) {
    if ((text[end] & 0xc0) != 0x80) return text.substr(0, end);
    if (end == 0) break;
  }
  return text.substr(0, max_bytes);
}

std::string WireText(std::string_view text, size_t max_bytes) {
  std::string out(CutText(text, max_bytes));
  for (size_t i = 0; i < out.size();) {
    const size_t length = Utf8SequenceLength(out, i);
    if (length == 0) out[i] = '?';
    i += std::max<size_t>(length, 1);
  }
  return out;
}

}  // namespace packcast
