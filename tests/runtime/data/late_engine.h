#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "runtime/data/copy_engine.h"
#include "tests/runtime/data/broadcast_fixture.h"

namespace packcast::testing {

// A device whose streams are late: the bytes of a source's tensor are stale until its event fires,
// which it does once it was waited for a while. And it works only when it may.
class LateEngine final : public CopyEngine {
 public:
  explicit LateEngine(std::vector<TestTensor>* tensors = nullptr) {
    if (tensors == nullptr) return;
    for (TestTensor& tensor : *tensors) {
      tensor.memory.assign(tensor.wire.size(), std::byte{0xee});
      events_[&tensor] = 300;
    }
  }
  Allocator* allocator() override { return inner_->allocator(); }
  uint32_t pieces_max() const override { return inner_->pieces_max(); }
  uint32_t layouts_max() const override { return inner_->layouts_max(); }
  bool HasRoom() const override { return inner_->HasRoom(); }
  StatusOr<Ticket> Submit(std::span<const CopyPiece> pieces, std::span<const PieceLayout> layouts,
                          void* ready, bool alone) override {
    if (ready != nullptr) awaited_.push_back(ready);
    ++submits;
    return inner_->Submit(pieces, layouts, ready, alone);
  }
  // Its work is done in order, in here.
  StatusOr<bool> Done(Ticket ticket) override {
    if (!may_work) return false;
    while (!awaited_.empty()) {
      PC_ASSIGN_OR_RETURN(const bool fired, HasFired(awaited_.front()));
      if (!fired) return false;
      awaited_.pop_front();
    }
    return inner_->Done(ticket);
  }
  StatusOr<bool> HasFired(void* event) override {
    int& asks_left = events_.at(event);
    if (asks_left > 0 && --asks_left == 0) {
      auto* tensor = static_cast<TestTensor*>(event);
      std::copy(tensor->wire.begin(), tensor->wire.end(), tensor->memory.begin());
    }
    return asks_left == 0;
  }
  std::span<const Digest> digests(Ticket ticket) const override { return inner_->digests(ticket); }
  void Forget(Ticket ticket) override { inner_->Forget(ticket); }
  Status Drain(Duration timeout) override { return inner_->Drain(timeout); }

  bool may_work = true;
  int submits = 0;

 private:
  const std::unique_ptr<CopyEngine> inner_ = MakeHostCopyEngine();
  std::map<void*, int> events_;  // how often each is asked before it has fired
  std::deque<void*> awaited_;
};

}  // namespace packcast::testing
