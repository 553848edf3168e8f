#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "tests/runtime/data/broadcast_fixture.h"

// What the processes of shm_process_test have in common.
namespace packcast::testing {

inline constexpr uint64_t kRowBytes = 64 << 10;
inline constexpr uint32_t kRowCount = 8;

inline std::string ToHexText(const Bytes& bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned>(byte));
    text += digits;
  }
  return text;
}

inline Bytes FromHexText(const std::string& text) {
  Bytes bytes;
  for (size_t k = 0; k + 1 < text.size(); k += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(text.substr(k, 2), nullptr, 16)));
  }
  return bytes;
}

inline std::vector<Row> EqualRows() {
  std::vector<Row> rows;
  for (uint32_t row = 0; row < kRowCount; ++row) {
    rows.push_back({.name = "r" + std::to_string(row),
                    .dtype = Dtype::kU8,
                    .shape = {static_cast<int64_t>(kRowBytes)}});
  }
  return rows;
}

inline BroadcastOptions RowOptions() {
  BroadcastOptions options;
  options.plan.buffer_bytes = kRowBytes;
  return options;
}

// A source that has nothing more after some rows.
class RowsThatStop : public TensorSource {
 public:
  explicit RowsThatStop(uint32_t count) : count_(count), bytes_(kRowBytes, std::byte{0x5a}) {}
  StatusOr<std::optional<NamedTensor>> Next() override {
    const Row row = EqualRows()[next_++];
    return std::optional(NamedTensor{
        .name = row.name, .dtype = row.dtype, .shape = row.shape, .data = bytes_.data()});
  }
  bool Ready() override { return next_ < count_; }

 private:
  const uint32_t count_;
  const std::vector<std::byte> bytes_;
  uint32_t next_ = 0;
};

// Rank 0 (root) or 1 of two, with a stream begun.
inline std::unique_ptr<Collective> JoinOne(Transport* transport, const Rendezvous& rendezvous,
                                           uint32_t rank) {
  auto collective = transport
                        ->Join({.rendezvous = rendezvous,
                                .rank = rank,
                                .size = 2,
                                .root = 0,
                                .generation = GenerationId(1),
                                .names = {"node-0", "node-1"},
                                .deadline = In(Seconds(60))})
                        .value();
  while (!collective->Joined().value()) (void)collective->Poll(Milliseconds(100));
  const Status begun = collective->Begin(TestStream());
  if (!begun.ok()) internal::DieBecauseNotOk(begun);
  return collective;
}

}  // namespace packcast::testing
