#pragma once

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "runtime/data/tensor_batch.h"

namespace packcast {

// A batch between its Next and the moment nothing reads it any more: released on the thread that
// drives the producer.
class HeldBatch {
 public:
  HeldBatch(TensorBatch batch, std::atomic<uint64_t>* released)
      : batch_(std::move(batch)), released_(released) {}
  ~HeldBatch() {
    if (is_kept_) return;
    if (batch_.release) batch_.release();
    released_->fetch_add(batch_.tensors.size());
  }
  HeldBatch(const HeldBatch&) = delete;
  HeldBatch& operator=(const HeldBatch&) = delete;

  const std::vector<BatchTensor>& tensors() const { return batch_.tensors; }
  void* ready() const { return batch_.ready; }
  // A transport that could not be stopped may still read its memory: the owner keeps it for ever.
  void NeverRelease() { is_kept_ = true; }

 private:
  TensorBatch batch_;
  std::atomic<uint64_t>* released_;
  bool is_kept_ = false;
};

}  // namespace packcast
