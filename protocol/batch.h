#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/frame.h"
#include "protocol/ids.h"
#include "protocol/status.h"

namespace packcast {

// Many small messages of one connection in one: the body of a `batch` (docs/protocol.md, section
// 1). Messages of one kind between the same two actors share an envelope, so that each costs 18
// bytes besides its body, and no decoding. Not thread-safe.
class BatchWriter {
 public:
  // `envelope` and `body` as they would travel alone.
  void Add(const Envelope& envelope, std::string_view body);

  size_t bytes() const { return out_.size(); }
  size_t messages() const { return messages_; }
  // What was added; the writer is empty afterwards.
  std::string Take();

 private:
  // The number of an equal envelope of this batch, or that of the next new one.
  size_t HeadOf(const Envelope& envelope) const;

  std::string out_;
  size_t messages_ = 0;
  std::vector<Envelope> heads_;
};

// Reads what BatchWriter wrote. The views live as long as the bytes. Not thread-safe.
class BatchReader {
 public:
  struct Record {
    // Numbers of envelopes count from 0, as they come. A new one is as in a message of its own.
    size_t head = 0;
    std::string_view new_head;  // not empty: this record brings it
    // These hold whatever the envelope says.
    CallId call_id;
    std::optional<uint64_t> deadline_ms;
    std::string_view body;
  };

  explicit BatchReader(std::string_view bytes) : rest_(bytes) {}
  // False at the end. kInvalidArgument: not a batch; what follows cannot be read.
  StatusOr<bool> Next(Record* record);

 private:
  std::string_view rest_;
  size_t heads_ = 0;
};

}  // namespace packcast
