#include "protocol/batch.h"

#include <algorithm>
#include <utility>

namespace packcast {
namespace {

// Envelopes of one batch that a new message is compared with, the latest first: more would be
// looked at for nothing where every message is to another actor.
constexpr size_t kComparedHeads = 8;
constexpr size_t kHeadsMax = 0xffff;
constexpr uint64_t kDeadlineMax = 0xffffffff;

template <class T>
void PutNumber(uint64_t value, std::string* out) {
  for (size_t k = 0; k < sizeof(T); ++k) out->push_back(static_cast<char>(value >> (8 * k)));
}

// False when too little is left.
template <class T>
bool TakeNumber(std::string_view* bytes, uint64_t* out) {
  if (bytes->size() < sizeof(T)) return false;
  *out = 0;
  for (size_t k = 0; k < sizeof(T); ++k) {
    *out |= uint64_t{static_cast<unsigned char>((*bytes)[k])} << (8 * k);
  }
  bytes->remove_prefix(sizeof(T));
  return true;
}

bool TakeBytes(std::string_view* bytes, uint64_t size, std::string_view* out) {
  if (bytes->size() < size) return false;
  *out = bytes->substr(0, size);
  bytes->remove_prefix(size);
  return true;
}

// Alike in all but what each record says for itself.
bool SameHead(const Envelope& a, const Envelope& b) {
  return a.major == b.major && a.minor == b.minor && a.kind == b.kind && a.method == b.method &&
         a.to == b.to && a.from == b.from && a.control == b.control &&
         a.idempotent == b.idempotent && a.status.ok() && b.status.ok() &&
         a.must_understand == b.must_understand;
}

}  // namespace

size_t BatchWriter::HeadOf(const Envelope& envelope) const {
  const size_t compared = std::min(heads_.size(), kComparedHeads);
  for (size_t k = 1; k <= compared; ++k) {
    if (SameHead(heads_[heads_.size() - k], envelope)) return heads_.size() - k;
  }
  return heads_.size();
}

void BatchWriter::Add(const Envelope& envelope, std::string_view body) {
  size_t head = HeadOf(envelope);
  const bool is_new = head == heads_.size();
  PutNumber<uint16_t>(head, &out_);
  PutNumber<uint64_t>(envelope.call_id.value, &out_);
  // 0 is "none": who has no time left asks for a millisecond.
  const uint64_t deadline = envelope.deadline_ms ? std::max<uint64_t>(1, *envelope.deadline_ms) : 0;
  PutNumber<uint32_t>(std::min(deadline, kDeadlineMax), &out_);
  PutNumber<uint32_t>(body.size(), &out_);
  if (is_new) {
    const std::string encoded = EncodeEnvelope(envelope);
    PutNumber<uint32_t>(encoded.size(), &out_);
    out_ += encoded;
    heads_.push_back(envelope);
  }
  out_ += body;
  ++messages_;
}

std::string BatchWriter::Take() {
  heads_.clear();
  messages_ = 0;
  return std::exchange(out_, std::string());
}

StatusOr<bool> BatchReader::Next(Record* record) {
  if (rest_.empty()) return false;
  const auto cut_short = [] { return InvalidArgument("a batch is cut short"); };
  uint64_t head = 0;
  uint64_t deadline = 0;
  uint64_t body_bytes = 0;
  if (!TakeNumber<uint16_t>(&rest_, &head) ||
      !TakeNumber<uint64_t>(&rest_, &record->call_id.value) ||
      !TakeNumber<uint32_t>(&rest_, &deadline) || !TakeNumber<uint32_t>(&rest_, &body_bytes)) {
    return cut_short();
  }
  record->head = head;
  record->deadline_ms = deadline == 0 ? std::nullopt : std::optional(deadline);
  record->new_head = {};
  if (head > heads_ || heads_ > kHeadsMax) {
    return InvalidArgument("a batch names its envelope " + std::to_string(head) + " of " +
                           std::to_string(heads_));
  }
  if (head == heads_) {
    uint64_t head_bytes = 0;
    if (!TakeNumber<uint32_t>(&rest_, &head_bytes) ||
        !TakeBytes(&rest_, head_bytes, &record->new_head)) {
      return cut_short();
    }
    if (head_bytes == 0) return InvalidArgument("a batch brings an empty envelope");
    ++heads_;
  }
  if (!TakeBytes(&rest_, body_bytes, &record->body)) return cut_short();
  return true;
}

}  // namespace packcast
