// The part of Peers about those that have said that they will not answer for a while: with each
// beat, until they say it no more.
#include <algorithm>
#include <string>

#include "protocol/limits.h"
#include "protocol/text.h"
#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"
#include "runtime/base/clock.h"

namespace packcast::internal {
namespace {

// In the map of a beat, where names of actors are the keys.
constexpr std::string_view kBusyKey = "$busy";
// What is left is told in whole milliseconds, and comes when it comes: not each beat is news.
constexpr Duration kSameTime = Milliseconds(500);

}  // namespace

void Peers::SayBusy(uint64_t number, Time until, const std::string& why) {
  busy_[number] = {until, why};
  SendBeats(false);
}

void Peers::EndBusy(uint64_t number) {
  if (busy_.erase(number) != 0) SendBeats(false);
}

// The time that ends last counts.
void Peers::AddBusy(Time now, ValueMap* beat) {
  std::erase_if(busy_, [&](const auto& entry) { return entry.second.until <= now; });
  const auto last = std::max_element(busy_.begin(), busy_.end(), [](const auto& a, const auto& b) {
    return a.second.until < b.second.until;
  });
  if (last == busy_.end()) return;
  const Duration left = last->second.until - now;
  beat->emplace_back(
      std::string(kBusyKey),
      ValueMap{{"ms", static_cast<uint64_t>(ToMilliseconds(left)) + 1}, {"why", last->second.why}});
}

void Peers::OnBusy(const std::shared_ptr<Link>& link, const Value& beat) {
  const Value* said = beat.Find(kBusyKey);
  uint64_t ms = 0;
  if (said != nullptr && said->Find("ms") != nullptr) said->Find("ms")->GetUint(&ms);
  const auto limit = static_cast<uint64_t>(ToMilliseconds(limits::kBusyTime));
  const Time now = Now();
  const Time until = ms == 0 ? Time() : now + Milliseconds(std::min(ms, limit));
  const Time before = std::exchange(link->busy_until, until);
  if (ms == 0) {
    if (before == Time()) return;
    link->busy_why = "it is no longer busy";
    return TellBusy(link.get());
  }
  if (before >= until - kSameTime && before <= until + kSameTime) return;
  const Value* why = said->Find("why");
  const std::string* text = why == nullptr ? nullptr : why->AsString();
  link->busy_why = text == nullptr ? "" : CutText(*text, limits::kBusyTextBytes);
  TellBusy(link.get());
}

void Peers::TellBusy(Link* link) {
  const bool is_busy = link->busy_until != Time();
  LogDebug("node ", node_->options().name, ": peer ", link->node,
           is_busy ? " is busy: " : " is free: ", link->busy_why);
  for (Link::Watch& watch : link->watches) TellWatcherBusy(&watch, *link);
}

void Peers::TellWatcherBusy(Link::Watch* watch, const Link& link) {
  watch->missed_busy = IsBehind(*watch);
  const auto cell = watch->watcher.lock();
  if (watch->missed_busy || cell == nullptr) return;
  watch->told_busy = link.busy_until != Time();
  const auto kind = watch->told_busy ? PeerEvent::Kind::kBusy : PeerEvent::Kind::kFree;
  cell->PushPeer({kind, watch->ref, watch->ref.incarnation(), link.busy_why, link.busy_until},
                 watch->waiting);
}

}  // namespace packcast::internal
