#include "runtime/actor/busy.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "protocol/limits.h"
#include "protocol/text.h"
#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"
#include "runtime/actor/runtime.h"
#include "runtime/base/clock.h"

namespace packcast {
namespace {

// A reactor that does not come to it is starved; then its beats are late anyway.
constexpr Duration kSayingTime = Seconds(1);

struct Said {
  std::mutex mutex;
  std::condition_variable changed;
  bool is_said = false;
};

}  // namespace

StatusOr<BusyPeriod> Runtime::Busy(Duration limit, const std::string& why) {
  if (limit <= Duration(0) || limit > limits::kBusyTime) {
    return InvalidArgument("a process can be busy for more than 0 and up to " +
                           std::to_string(ToMilliseconds(limits::kBusyTime)) + " ms, not for " +
                           std::to_string(ToMilliseconds(limit)) + " ms");
  }
  const uint64_t number = node_->NextBusyPeriod();
  const auto said = std::make_shared<Said>();
  const Time until = Now() + limit;
  const std::string text = WireText(why, limits::kBusyTextBytes);
  const bool is_posted = node_->reactor().Post([said, number, until, text](internal::Peers& peers) {
    peers.SayBusy(number, until, text);
    std::lock_guard lock(said->mutex);
    said->is_said = true;
    said->changed.notify_all();
  });
  if (!is_posted) return Cancelled("the runtime shut down");
  std::unique_lock lock(said->mutex);
  BusyPeriod period(node_->weak_from_this(), number);
  if (said->changed.wait_for(lock, kSayingTime, [&] { return said->is_said; })) return period;
  return DeadlineExceeded("the peers could not be told within " +
                          std::to_string(ToMilliseconds(kSayingTime)) +
                          " ms that this process is busy: it does not run");
}

void BusyPeriod::End() {
  const uint64_t number = std::exchange(number_, 0);
  const auto node = node_.lock();
  if (number == 0 || node == nullptr) return;
  node->reactor().Post([number](internal::Peers& peers) { peers.EndBusy(number); });
}

}  // namespace packcast
