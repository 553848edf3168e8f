#include "runtime/process/host.h"

#include <algorithm>

namespace packcast::internal {

HostedOptions HostedOptions::From(const SpawnOptions& options) {
  const auto microseconds = [](Duration d) {
    return std::chrono::duration_cast<std::chrono::microseconds>(d).count();
  };
  HostedOptions out;
  out.concurrent_control = options.concurrent_control;
  out.concurrency = options.concurrency;
  for (const GroupOptions& group : options.groups) {
    out.groups.push_back({group.name, group.concurrency});
  }
  out.max_restarts = options.restart.max_restarts;
  out.backoff_us = microseconds(options.restart.backoff);
  out.backoff_max_us = microseconds(options.restart.backoff_max);
  out.healthy_after_us = microseconds(options.restart.healthy_after);
  out.mailbox_messages = options.mailbox_messages;
  out.labels = options.labels;
  return out;
}

SpawnOptions HostedOptions::ToOptions() const {
  // Anybody may have sent them: what is more than a year does not overflow.
  const auto time = [](int64_t microseconds) {
    constexpr int64_t kYear = int64_t{365} * 24 * 3600 * 1'000'000;
    return Microseconds(std::clamp(microseconds, -kYear, kYear));
  };
  SpawnOptions out;
  out.concurrent_control = concurrent_control;
  out.concurrency = concurrency;
  for (const Group& group : groups) out.groups.push_back({group.name, group.concurrency});
  out.restart.max_restarts = max_restarts;
  out.restart.backoff = time(backoff_us);
  out.restart.backoff_max = time(backoff_max_us);
  out.restart.healthy_after = time(healthy_after_us);
  out.mailbox_messages = mailbox_messages;
  out.labels = labels;
  return out;
}

StatusOr<uint64_t> Host::Spawn(Context& context, const Request& request) {
  PC_ASSIGN_OR_RETURN(ActorFactory factory,
                      classes_->Factory(request.actor_class, request.arguments));
  // It belongs to the parent, not to this actor.
  SpawnOptions options = request.options.ToOptions();
  options.detached = true;
  PC_ASSIGN_OR_RETURN(const ActorRef ref,
                      context.runtime().Spawn(request.name, std::move(factory), options));
  return ref.incarnation().value;
}

}  // namespace packcast::internal
