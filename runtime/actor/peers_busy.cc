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
    if (before != Time()) TellBusy(*link, "it is no longer busy");
    return;
  }
  if (before >= until - kSameTime && before <= until + kSameTime) return;
  const Value* why = said->Find("why");
  const std::string* text = why == nullptr ? nullptr : why->AsString();
  TellBusy(*link, text == nullptr ? "" : std::string(CutText(*text, limits::kBusyTextBytes)));
}

void Peers::TellBusy(const Link& link, const std::string& cause) {
  const bool is_busy = link.busy_until != Time();
  LogDebug("node ", node_->options().name, ": peer ", link.node,
           is_busy ? " is busy: " : " is free: ", cause);
  for (const Link::Watch& watch : link.watches) TellWatcherBusy(watch, link, cause);
}

void Peers::TellWatcherBusy(const Link::Watch& watch, const Link& link, const std::string& cause) {
  const auto cell = watch.watcher.lock();
  if (cell == nullptr) return;
  const bool is_busy = link.busy_until != Time();
  const auto kind = is_busy ? PeerEvent::Kind::kBusy : PeerEvent::Kind::kFree;
  cell->PushPeer({kind, watch.ref, watch.ref.incarnation(), cause, link.busy_until});
}

}  // namespace packcast::internal
