#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "runtime/data/tensor.h"

namespace packcast {

// A tensor between its Next and the moment nothing reads it any more: released when the last step
// that holds it is gone, on the thread that drives the producer.
class HeldTensor {
 public:
  HeldTensor(NamedTensor tensor, std::atomic<uint64_t>* released)
      : tensor_(std::move(tensor)), released_(released) {}
  ~HeldTensor() {
    if (is_kept_) return;
    if (tensor_.release) tensor_.release();
    released_->fetch_add(1);
  }
  HeldTensor(const HeldTensor&) = delete;
  HeldTensor& operator=(const HeldTensor&) = delete;

  const NamedTensor& tensor() const { return tensor_; }
  // A transport that could not be stopped may still read its memory: the owner keeps it for ever.
  void NeverRelease() { is_kept_ = true; }

 private:
  NamedTensor tensor_;
  std::atomic<uint64_t>* released_;
  bool is_kept_ = false;
};

}  // namespace packcast
