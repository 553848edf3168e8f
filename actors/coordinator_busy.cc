// The part of CoordinatorMachine about members that have said that they will not answer for a
// while: the others wait for them that much longer, and are told so.
#include <algorithm>
#include <string>
#include <utility>

#include "actors/coordinator_machine.h"
#include "protocol/limits.h"

namespace packcast {

void CoordinatorMachine::Handle(const MemberBusy& event) {
  Member* member = membership_.Find(event.member);
  if (member == nullptr) return;
  const bool is_over = event.until <= now_;
  member->busy_until = is_over ? now_ : std::min(event.until, now_ + limits::kBusyTime);
  member->busy_why = is_over ? "" : WireText(event.why);
  Publish("member.busy",
          {{"member", event.member.name}, {"ms", BusyMs(*member)}, {"why", member->busy_why}});
  if (!epoch_ || epoch_->Find(event.member) == nullptr) return;
  PutDeadlineOff();
  TellBusy(*member);
}

uint64_t CoordinatorMachine::BusyMs(const Member& member) const {
  if (member.busy_until <= now_) return 0;
  return static_cast<uint64_t>(ToMilliseconds(member.busy_until - now_)) + 1;
}

// A phase that one is busy in, from whom an answer is due, begins anew when it no longer is; but
// nobody is waited for longer than limits::kBusyTime because of that.
void CoordinatorMachine::PutDeadlineOff() {
  Epoch& epoch = *epoch_;
  // An abort waits for nobody: who is silent is out, and may come back.
  if (epoch.phase == EpochPhase::kWaitReplicas || epoch.phase == EpochPhase::kAborting) return;
  Time begin = epoch.phase_began;
  for (const Participant* p : epoch.Waiting()) {
    const Member* member = membership_.Find(p->id);
    if (member != nullptr) begin = std::max(begin, member->busy_until);
  }
  begin = std::min(begin, epoch.phase_began + limits::kBusyTime);
  const Time deadline = begin + epoch.phase_limit;
  if (deadline == epoch.deadline) return;
  epoch.deadline = deadline;
  // Past already, when the busy one has answered and another, who never was, has not.
  Emit(WakeAt{std::max(deadline, now_)});
}

// Those who stream with it would take its silence for a fault.
void CoordinatorMachine::TellBusy(const Member& member) {
  const Epoch& epoch = *epoch_;
  const bool is_under_way =
      epoch.contract && epoch.phase != EpochPhase::kAborting && !epoch.decided();
  if (!is_under_way) return;
  for (const Participant& p : epoch.participants) {
    if (p.out() || p.id == member.id) continue;
    Send(p.id, PeerBusy{epoch.key, member.id.name, BusyMs(member), member.busy_why});
  }
}

// To those who have just been told of an attempt.
void CoordinatorMachine::TellWhoIsBusy() {
  const Epoch& epoch = *epoch_;
  for (const Participant& p : epoch.participants) {
    const Member* member = membership_.Find(p.id);
    if (member != nullptr && member->busy_until > now_) TellBusy(*member);
  }
}

}  // namespace packcast
