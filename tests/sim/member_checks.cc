// What must hold of a rank, whatever happens elsewhere.
#include <algorithm>

#include "tests/sim/describe.h"
#include "tests/sim/member_shell.h"

namespace packcast::sim {

// A contract is made of what its members have said that they offer.
void MemberShell::CheckTransports() {
  for (const Lane& lane : lanes_) {
    const std::string& kind = FlowOf(lane).transport;
    const bool offered = std::any_of(told_transports_.begin(), told_transports_.end(),
                                     [&](const auto& told) { return told.kind == kind; });
    if (!offered) Violate("is to take transport " + kind + ", which it has said it does not offer");
  }
}

// S4, S6: of what lived before only that lives on which a flow of this rank's reuses.
void MemberShell::CheckGenerations(const PrepareAttempt& effect) {
  for (const GenerationId id : member().generations()) {
    const bool used = std::any_of(lanes_.begin(), lanes_.end(), [&](const Lane& lane) {
      return lane.generation == id && effect.generations[lane.flow.value].reuse;
    });
    if (!used) Violate("S4: generation " + std::to_string(id.value) + " lives on for no flow");
  }
}

void MemberShell::CheckStep() {
  if (!process_->alive) return;
  const MemberMachine& machine = member();
  if (machine.phase() == MemberPhase::kIdle && job_ != Job::kNone) {
    Violate("S9: idle, with local work of " + KeyText(job_key_));
  }
  if (machine.phase() == MemberPhase::kIdle && !wedged_ &&
      around_->data_plane->Streaming(process_)) {
    Violate("S9: idle, with a stream under way");
  }
  // What it takes for a generation that can be used again must be one.
  for (const GenerationId id : machine.generations()) {
    const bool lives = around_->data_plane->Lives(process_, id);
    if (machine.phase() == MemberPhase::kIdle && !lives) {
      Violate("S4: generation " + std::to_string(id.value) + " is closed, and not for the machine");
    }
  }
  if (is_worker()) CheckService();
}

// S1 and S2 of one rank: what it serves is what the trainer held for that version.
void MemberShell::CheckService() {
  const MemberMachine& machine = member();
  if (machine.serving() < last_served_) Violate("S2: the served version went back");
  last_served_ = machine.serving();
  if (!machine.in_service()) return;
  if (!engine_runs_) Violate("S2: in service, but the engine never resumed");
  if (machine.serving().IsZero()) return;
  if (!around_->truth->decided_versions.contains(machine.serving())) {
    Violate("S5: serves " + ToString(machine.serving()) + ", which nobody has decided on");
  }
  if (live_ != around_->truth->contents[machine.serving()]) {
    Violate("S1: serves " + ToString(machine.serving()) + " with other bytes than the trainer's");
  }
}

}  // namespace packcast::sim
