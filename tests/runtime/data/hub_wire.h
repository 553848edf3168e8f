#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "runtime/data/wire.h"

namespace packcast::testing {

// Two ranks in one process: an operation is complete on both once the test lets it.
struct Hub {
  std::vector<Operation> sent;      // by rank 0
  std::vector<Operation> received;  // by rank 1
  uint64_t allowed = 0;
  uint64_t copied = 0;
  std::vector<std::vector<std::byte>> bytes;  // of what was copied
  bool up = true;
  Status error;
  std::atomic<int> aborts{0};
  std::atomic<int> begun_aborts{0};

  // Operations that are complete; copies their bytes. Both sides need as many.
  uint64_t Complete() {
    const uint64_t both = std::min(sent.size(), received.size());
    for (; copied < std::min(both, allowed); ++copied) {
      const Span& from = sent[copied].spans.front();
      const Span& to = received[copied].spans.front();
      bytes.emplace_back(from.data, from.data + from.bytes);
      std::memcpy(to.data, from.data, std::min(from.bytes, to.bytes));
    }
    return copied;
  }
};

class HubWire final : public Wire {
 public:
  HubWire(Hub* hub, bool root) : hub_(hub), root_(root) {}
  StatusOr<bool> Up() override { return hub_->up; }
  Status Launch(const Operation& operation) override {
    (root_ ? hub_->sent : hub_->received).push_back(operation);
    return OkStatus();
  }
  StatusOr<uint64_t> Completed() override {
    PC_RETURN_IF_ERROR(hub_->error);
    return hub_->Complete();
  }
  Status Abort() override {
    ++hub_->aborts;
    return OkStatus();
  }
  void BeginAbort() override { ++hub_->begun_aborts; }

 private:
  Hub* const hub_;
  const bool root_;
};

}  // namespace packcast::testing
