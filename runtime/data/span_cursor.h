#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "runtime/data/collective.h"

namespace packcast {

// A place in the bytes of some spans, end to end. A value.
class SpanCursor {
 public:
  SpanCursor() = default;
  explicit SpanCursor(std::vector<Span> spans) : spans_(std::move(spans)) { SkipEmpty(); }

  bool at_end() const { return index_ == spans_.size(); }
  // Where the next byte is, and how many follow it in the same span. Not at the end.
  std::byte* data() const { return spans_[index_].data + offset_; }
  uint64_t room() const { return spans_[index_].bytes - offset_; }
  // Bytes passed so far.
  uint64_t position() const { return position_; }

  // Moves by at most room().
  void Advance(uint64_t bytes) {
    offset_ += bytes;
    position_ += bytes;
    if (offset_ == spans_[index_].bytes) {
      ++index_;
      offset_ = 0;
      SkipEmpty();
    }
  }

 private:
  void SkipEmpty() {
    while (index_ < spans_.size() && spans_[index_].bytes == 0) ++index_;
  }

  std::vector<Span> spans_;
  size_t index_ = 0;
  uint64_t offset_ = 0;
  uint64_t position_ = 0;
};

}  // namespace packcast
