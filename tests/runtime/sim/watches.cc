#include "tests/runtime/sim/watches.h"

#include <algorithm>
#include <utility>

#include "runtime/actor/cell.h"
#include "runtime/actor/link.h"

namespace packcast::rtsim {
namespace {

using EventKind = PeerEvent::Kind;

bool IsEnd(EventKind kind) { return kind == EventKind::kDied || kind == EventKind::kLeft; }

}  // namespace

Watch* Watches::New(const ActorRef& ref) {
  Watch& watch = watches_.emplace_back();
  watch.id = static_cast<int>(watches_.size());
  watch.by = kernel_->process();
  watch.ref = ref;
  watch.made = kernel_->now();
  kernel_->Note(watch.by->name, "monitor", static_cast<uint64_t>(watch.id),
                [&] { return Describe(watch); });
  return &watch;
}

void Watches::Renew(Watch* watch) {
  ++watch->renewals;
  kernel_->Note(watch->by->name, "monitor again", static_cast<uint64_t>(watch->id),
                [&] { return Describe(*watch); });
}

std::string Watches::Describe(const Watch& watch) const {
  return "watch " + std::to_string(watch.id) + " of " + watch.ref.ToString();
}

const Lineage* Watches::Watched(const Watch& watch) const {
  return ledger_->LineageOf(watch.ref.actor(), watch.ref.incarnation());
}

void Watches::Told(Watch* watch, const PeerEvent& event) {
  if (watch->by->is_dead) return;
  ++told_;
  kernel_->Note(watch->by->name, "told", static_cast<uint64_t>(watch->id), [&] {
    return Describe(*watch) + ": " + std::string(PeerEventKindName(event.kind)) + ": " +
           event.cause;
  });
  CheckOrder(watch, event);
  CheckTruth(watch, event);
  if (event.kind != EventKind::kRestarted) watch->state = event.kind;
}

void Watches::CheckOrder(Watch* renewed, const PeerEvent& event) {
  const Watch& watch = *renewed;
  const std::string kind(PeerEventKindName(event.kind));
  const std::string last(PeerEventKindName(watch.state));
  if (IsEnd(watch.state) && renewed->renewals > 0) {
    --renewed->renewals;
    return;
  }
  bool is_next = true;
  switch (event.kind) {
    case EventKind::kSuspect: is_next = watch.state == EventKind::kRecovered; break;
    case EventKind::kUnreachable:
      is_next = watch.state == EventKind::kRecovered || watch.state == EventKind::kSuspect;
      break;
    case EventKind::kRecovered:
      is_next = watch.state != EventKind::kRecovered && watch.state != EventKind::kLeft;
      break;
    case EventKind::kDied:
    case EventKind::kLeft: is_next = !IsEnd(watch.state); break;
    case EventKind::kRestarted: is_next = watch.state != EventKind::kLeft; break;
    case EventKind::kBusy:
    case EventKind::kFree: is_next = false; break;  // nobody says so
  }
  if (!is_next) ledger_->Violated("told of " + kind + " after " + last + ": " + Describe(watch));
}

void Watches::CheckTruth(Watch* watch, const PeerEvent& event) {
  const Lineage* const lineage = Watched(*watch);
  if (lineage == nullptr) return;  // that life never began
  const Process& process = *lineage->process;
  if (event.kind == EventKind::kRestarted) {
    const auto& lives = lineage->lives;
    const auto life = std::find(lives.rbegin(), lives.rend(), event.incarnation);
    const int number = static_cast<int>(lives.rend() - life);
    if (number < 2) ledger_->Violated("told of a life that is not: " + Describe(*watch));
    if (number <= watch->life) {
      ledger_->Violated("told of life " + std::to_string(number) + " after life " +
                        std::to_string(watch->life) + ": " + Describe(*watch));
    }
    watch->life = number;
  }
  const bool may_have_died = ledger_->MayHaveDied(*lineage) || process.is_dead || is_disturbed_;
  if (event.kind == EventKind::kDied && !may_have_died) {
    ledger_->Violated("told of a death that was none: " + Describe(*watch));
  }
  const bool may_have_left = lineage->may_leave || process.is_leaving || watch->by->is_replaced;
  if (event.kind == EventKind::kLeft && !may_have_left) {
    ledger_->Violated("told of an end that was none: " + Describe(*watch));
  }
}

// Whether it should know of the present life. Not of one that began before the watch was known
// there.
bool Watches::LacksRestart(const Watch& watch, const Lineage& lineage) const {
  constexpr Duration kKnown = Seconds(1);
  if (lineage.life() < 2 || watch.life == lineage.life()) return false;
  const Time known = std::max(watch.made, is_disturbed_ ? peace_ : Time()) + kKnown;
  return lineage.began > known;
}

// What is counted for a connection comes back to nothing.
std::string Watches::WhatIsCounted(const Watch& watch) {
  const internal::RefState& state = *watch.ref.state();
  if (state.cell != nullptr) {
    const uint32_t open = state.cell->calls_in_flight().load();
    return open == 0 ? "" : std::to_string(open) + " calls";
  }
  const internal::Link& link = *state.link;
  if (link.in_flight.load() != 0) return std::to_string(link.in_flight.load()) + " calls";
  if (link.kept_bytes.load() != 0) return std::to_string(link.kept_bytes.load()) + " kept bytes";
  if (link.queued.load() != 0) return std::to_string(link.queued.load()) + " messages";
  if (link.queued_bytes.load() != 0) return std::to_string(link.queued_bytes.load()) + " bytes";
  if (link.room->serving.load() != 0)
    return std::to_string(link.room->serving.load()) + " calls to it";
  return "";
}

std::string Watches::WhatIsMissing() const {
  // Who is out of reach, and gone, is given up after so long.
  constexpr Duration kGivenUp = Seconds(65);
  for (const Watch& watch : watches_) {
    const Lineage* const lineage = Watched(watch);
    if (watch.by->is_dead || watch.by->is_leaving || lineage == nullptr) continue;
    const Process& process = *lineage->process;
    const auto& link = watch.ref.state()->link;
    const bool is_given_up = link != nullptr && link->is_gone();
    const bool is_gone = process.is_dead || process.is_leaving;
    const bool is_there = !is_gone && lineage->is_alive;
    const bool may_wait = watch.state == EventKind::kUnreachable && is_gone &&
                          kernel_->now() < process.gone_at + kGivenUp;
    const std::string counted = WhatIsCounted(watch);
    if (!counted.empty()) return counted + " seem to be under way: " + Describe(watch);
    if (is_there && LacksRestart(watch, *lineage)) {
      return "nobody told of life " + std::to_string(lineage->life()) + ": " + Describe(watch);
    }
    const std::string state(PeerEventKindName(watch.state));
    if (is_there && watch.state != EventKind::kRecovered && !is_given_up) {
      return "it lives, and its monitor was told last of " + state + ": " + Describe(watch);
    }
    if (!is_there && !IsEnd(watch.state) && !may_wait) {
      return "it is gone, and its monitor was told last of " + state + ": " + Describe(watch);
    }
  }
  return "";
}

}  // namespace packcast::rtsim
