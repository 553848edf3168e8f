#pragma once

#include <cstdint>
#include <memory>
#include <utility>

namespace packcast {

class Runtime;
namespace internal {
class Node;
}

// A time in which this process may not answer, as it has told its peers (Runtime::Busy). It ends
// with this object, and by itself once its limit is over. Movable; any thread.
class BusyPeriod {
 public:
  BusyPeriod() = default;
  BusyPeriod(BusyPeriod&& other) noexcept
      : node_(std::move(other.node_)), number_(std::exchange(other.number_, 0)) {}
  BusyPeriod& operator=(BusyPeriod&& other) noexcept {
    std::swap(node_, other.node_);
    std::swap(number_, other.number_);
    return *this;
  }
  ~BusyPeriod() { End(); }

  // Tells the peers that it is over. Idempotent.
  void End();

 private:
  friend class Runtime;
  BusyPeriod(std::weak_ptr<internal::Node> node, uint64_t number)
      : node_(std::move(node)), number_(number) {}

  std::weak_ptr<internal::Node> node_;
  uint64_t number_ = 0;  // 0: none
};

}  // namespace packcast
