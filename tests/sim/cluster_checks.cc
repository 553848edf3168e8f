// What must hold of all together.
#include <algorithm>

#include "tests/sim/cluster.h"

namespace packcast::sim {

void Cluster::OnCommitted(const CoordinatorShell& coordinator, const Value& report) {
  if (HasTwoCoordinators()) ++world_->stats.rivals;
  const Value* trainer = report.Find("trainer");
  if (trainer != nullptr && *trainer->Find("name")->AsString() == kRivalUnit) {
    ++world_->stats.takeovers;
  }
  std::map<std::string, uint32_t> listed = CheckListed(coordinator, report);
  for (const Post& post : posts_) {
    if (listed.contains(post.unit) && listed[post.unit] != post.size) {
      world_->Violate("S2: a part of " + post.unit + " is listed");
    }
  }
}

// Of a replica that was behind, those ranks are listed that were, and then all of them serve it;
// but one that has joined meanwhile may be behind again.
void Cluster::OnCaughtUp(const CoordinatorShell& coordinator, const Value& report) {
  const std::map<std::string, uint32_t> listed = CheckListed(coordinator, report);
  for (const auto& [name, member] : coordinator.machine().membership().all()) {
    if (!listed.contains(member.unit) || !coordinator.HadThen(member.id)) continue;
    CheckServes(coordinator, member, *report.Find("version")->AsString());
  }
}

std::map<std::string, uint32_t> Cluster::CheckListed(const CoordinatorShell& coordinator,
                                                     const Value& report) {
  const CoordinatorMachine& machine = coordinator.machine();
  std::map<std::string, uint32_t> listed;
  for (const Value& worker : *report.Find("workers")->AsArray()) {
    const std::string& name = *worker.Find("name")->AsString();
    ++listed[UnitOf(name)];
    if (worker.Find("version")->is_nil()) {
      world_->Violate("S2: committed without an answer of " + name);
    }
    const auto known = machine.membership().all().find(name);
    if (known == machine.membership().all().end()) {
      world_->Violate("S2: " + name + " is listed and no member");
      break;
    }
    CheckServes(coordinator, known->second, *report.Find("version")->AsString());
  }
  return listed;
}

void Cluster::CheckServes(const CoordinatorShell& coordinator, const Member& known,
                          const std::string& version) {
  for (const MemberShell& shell : members_) {
    const MemberMachine& member = shell.member();
    if (!shell.process()->alive || member.config().self != known.id) continue;
    // One that has turned to another coordinator meanwhile, or is just coming back from it.
    if (!member.joined() || shell.session() != coordinator.process()->incarnation) continue;
    if (ToString(member.serving()) != version || !member.in_service()) {
      world_->Violate("S2: " + known.id.name + " is listed and does not serve " + version);
    }
  }
}

const std::string& Cluster::UnitOf(const std::string& name) const {
  const auto post = std::find_if(posts_.begin(), posts_.end(),
                                 [&](const Post& each) { return each.name == name; });
  return post->unit;
}

// ---- questions ----------------------------------------------------------------------------------

bool Cluster::DecidedSince(uint64_t label, Time since) const {
  const auto last = truth_.label_decided.find(label);
  return last != truth_.label_decided.end() && last->second >= since;
}

std::string Cluster::Unrest() {
  CoordinatorShell* shell = coordinator();
  if (shell == nullptr) return "no coordinator";
  if (shell->machine().epoch()) return "an epoch runs";
  for (const auto& [unit, gather] : around_.gathers) {
    if (gather.is_broken()) return "the collectives of " + unit + " are broken";
  }
  for (const MemberShell& member : members_) {
    if (!member.process()->alive) continue;
    const std::string& name = member.process()->name;
    if (!member.member().joined()) return name + " has not joined";
    // A proposal that came twice was answered, and nobody wanted to know: the next one ends that.
    const bool offered_again =
        member.member().phase() == MemberPhase::kProposed && scenario_.Has(Fault::kReplay);
    if (member.member().phase() != MemberPhase::kIdle && !offered_again) {
      return name + " is " + std::string(MemberPhaseName(member.member().phase()));
    }
    if (member.trainer() != nullptr && member.trainer()->open_calls() > 0) {
      return name + " has open calls";
    }
    if (!shell->machine().membership().Has(member.member().config().self)) {
      return name + " is no member, and does not know";
    }
  }
  for (const Post& post : posts_) {
    if (Living(post.name) == nullptr && !IsRival(post)) return post.name + " is down";
  }
  return "";
}

std::string Cluster::Behind() {
  const CoordinatorMachine& machine = coordinator()->machine();
  if (!machine.last_committed()) return "nothing was committed";
  for (const Post& post : posts_) {
    if (post.role != Role::kWorker || machine.membership().drained().contains(post.unit)) continue;
    const MemberShell* shell = Living(post.name);
    if (shell->member().serving() != *machine.last_committed()) {
      return post.name + " serves " + ToString(shell->member().serving()) + ", not " +
             ToString(*machine.last_committed());
    }
    if (!shell->member().in_service() || !shell->engine_runs()) {
      return post.name + " is out of service";
    }
  }
  return "";
}

}  // namespace packcast::sim
