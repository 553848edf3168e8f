// The part of Peers that says goodbye.
#include <algorithm>
#include <cstdint>

#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"
#include "runtime/base/clock.h"

namespace packcast::internal {
namespace {

// How long a node that leaves takes to send what it has said: while its peers go on reading, but
// not for ever. Then it waits for them to have heard it, as long again after each one's last sign
// of life: a batch is sent in a moment, and read by a busy peer in many.
constexpr Duration kBacklogWait = Seconds(1);
constexpr Duration kBacklogWaitMax = Seconds(5);
constexpr int kGoodbyePollMs = 5;

}  // namespace

net::SendResult Peers::SendBye(Link* link) {
  Envelope bye;
  bye.kind = FrameKind::kBye;
  bye.status = Cancelled("the node shut down");
  const Outgoing message{nullptr, bye, WireBody(), CallId(), CallId()};
  return SendOn(link, message);
}

// Sends what was said before, then the goodbye. False when not all of it has left yet.
bool Peers::SayGoodbye(const std::shared_ptr<Link>& link) {
  Flush(link);
  if (!link->is_usable()) return true;  // nobody is left to hear it
  return link->backlog.empty() && SendBye(link.get()) != net::SendResult::kFull;
}

void Peers::Goodbye() {
  is_leaving_ = true;
  std::vector<std::shared_ptr<Link>> untold;
  ForEachLink([&](const std::shared_ptr<Link>& link) {
    if (link->is_usable()) untold.push_back(link);
  });
  const Time last_moment = Now() + kBacklogWaitMax;
  Time progress = Now();
  size_t unsent = SIZE_MAX;
  while (true) {
    std::erase_if(untold, [&](const auto& link) { return SayGoodbye(link); });
    size_t still_unsent = 0;
    for (const auto& link : untold) still_unsent += link->backlog.size() + 1;
    if (still_unsent < unsent) progress = Now();
    unsent = still_unsent;
    // A DEALER with IMMEDIATE throws away what it has not read when its connection ends: so the
    // connection stays until the other side has answered the goodbye.
    bool is_awaited = false;
    ForEachLink([&](const auto& link) {
      if (!link->beats || !link->is_usable()) return;
      is_awaited = true;
      if (untold.empty()) progress = std::max(progress, link->last_heard);
    });
    if (untold.empty() && !is_awaited) break;
    if (Now() >= std::min(progress + kBacklogWait, last_moment)) break;
    AwaitAndReceive(kGoodbyePollMs);
    ConfirmLosses(Now());
  }
  ForEachLink([](const std::shared_ptr<Link>& link) { link->backlog.clear(); });
  for (Channel& channel : channels_) {
    for (PendingConnect& connect : channel.connects) {
      connect.promise.Set(Cancelled("the runtime shut down"));
    }
    channel.connects.clear();
  }
}

void Peers::OnBye(const std::shared_ptr<Link>& link, const Envelope& envelope) {
  const std::string cause =
      envelope.status.message().empty() ? "it said goodbye" : envelope.status.message();
  if (envelope.from.actor.empty()) {
    // The other side waits for an answer before it closes the connection.
    if (!is_leaving_ && link->beats) SendBye(link.get());
    SetState(link, LinkState::kLeft, cause);
    return;
  }
  OnActorBye(link, envelope, cause);
}

}  // namespace packcast::internal
