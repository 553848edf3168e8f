#include "tests/runtime/sim/descriptors.h"

#include "runtime/base/check.h"

namespace packcast::rtsim {

Descriptors& Descriptors::Of(Kernel& kernel) { return kernel.descriptors(); }

int Descriptors::Open() {
  states_[++last_] = {};
  return last_;
}

void Descriptors::Close(int fd) { PC_CHECK(states_.erase(fd) == 1) << "descriptor " << fd; }

void Descriptors::Raise(int fd) {
  State& state = states_.at(fd);
  state.is_raised = true;
  if (state.poller != nullptr) kernel_->WakeAll(state.poller);
}

void Descriptors::Lower(int fd) { states_.at(fd).is_raised = false; }

int Descriptors::Count(pollfd* items, size_t count) const {
  int raised = 0;
  for (size_t k = 0; k < count; ++k) {
    items[k].revents = is_raised(items[k].fd) ? POLLIN : 0;
    raised += items[k].revents != 0 ? 1 : 0;
  }
  return raised;
}

int Descriptors::Poll(pollfd* items, size_t count, int milliseconds) {
  const Time end = milliseconds < 0 ? Time::max() : kernel_->now() + Milliseconds(milliseconds);
  while (true) {
    const int raised = Count(items, count);
    if (raised > 0 || kernel_->now() >= end) return raised;
    for (size_t k = 0; k < count; ++k) states_.at(items[k].fd).poller = items;
    kernel_->Wait(items, end);
    // One of them may have been closed meanwhile.
    for (size_t k = 0; k < count; ++k) {
      const auto found = states_.find(items[k].fd);
      if (found != states_.end()) found->second.poller = nullptr;
    }
  }
}

}  // namespace packcast::rtsim
