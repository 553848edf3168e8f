#include "actors/membership.h"

#include <algorithm>

#include "protocol/limits.h"

namespace packcast {

Status Membership::CheckJoin(const MemberId& id, const JoinCluster& join) const {
  const auto bad_name = [](const std::string& name) {
    return name.empty() || name.size() > limits::kNameBytes;
  };
  if (bad_name(id.name) || bad_name(join.unit)) {
    return InvalidArgument("member and unit names have 1 to " + std::to_string(limits::kNameBytes) +
                           " bytes");
  }
  if (id.incarnation.value == 0) return InvalidArgument("a member needs an incarnation");
  if (join.unit_size == 0 || join.unit_size > limits::kMembers ||
      join.rank_in_unit >= join.unit_size) {
    return InvalidArgument("rank " + std::to_string(join.rank_in_unit) + " of " + join.unit +
                           " is out of its size " + std::to_string(join.unit_size));
  }
  if (members_.size() >= limits::kMembers && !members_.contains(id.name)) {
    return ResourceExhausted("the cluster is full: " + std::to_string(limits::kMembers) +
                             " members");
  }
  for (const auto& [name, member] : members_) {
    if (name == id.name || member.role != join.role) continue;
    if (join.role == Role::kTrainer && member.unit != join.unit) {
      return AlreadyExists("the trainer unit \"" + member.unit +
                           "\" is registered; stop it before \"" + join.unit + "\" can take over");
    }
    if (member.unit != join.unit) continue;
    if (member.unit_size != join.unit_size) {
      return InvalidArgument(id.name + " says " + join.unit + " has " +
                             std::to_string(join.unit_size) + " ranks, " + name + " says " +
                             std::to_string(member.unit_size));
    }
    if (member.rank_in_unit == join.rank_in_unit) {
      return AlreadyExists("rank " + std::to_string(join.rank_in_unit) + " of " + join.unit +
                           " is held by " + name);
    }
  }
  return OkStatus();
}

Member& Membership::Add(const MemberId& id, const JoinCluster& join) {
  Member& member = members_[id.name];
  member = Member{id,         join.role,    join.unit,  join.rank_in_unit,  join.unit_size,
                  join.offer, join.serving, join.dirty, join.install_count, join.weights,
                  {}};
  return member;
}

Member* Membership::Find(const MemberId& id) {
  Member* member = FindName(id.name);
  return member != nullptr && member->id == id ? member : nullptr;
}

Member* Membership::FindName(const std::string& name) {
  const auto it = members_.find(name);
  return it == members_.end() ? nullptr : &it->second;
}

std::map<std::string_view, std::vector<const Member*>> Membership::Complete(Role role) const {
  std::map<std::string_view, std::vector<const Member*>> units;
  for (const auto& [name, member] : members_) {
    if (member.role == role) units[member.unit].push_back(&member);
  }
  std::erase_if(units, [&](const auto& entry) {
    const Member& any = *entry.second.front();
    const bool out_of_use = role == Role::kWorker && drained_.contains(any.unit);
    return entry.second.size() != any.unit_size || out_of_use;
  });
  return units;
}

std::vector<std::string> Membership::CompleteUnits(Role role) const {
  std::vector<std::string> out;
  for (const auto& [unit, ranks] : Complete(role)) out.emplace_back(unit);
  return out;
}

std::vector<const Member*> Membership::CompleteRanks(Role role) const {
  std::vector<const Member*> out;
  for (auto& [unit, ranks] : Complete(role)) {
    std::sort(ranks.begin(), ranks.end(),
              [](const Member* a, const Member* b) { return a->rank_in_unit < b->rank_in_unit; });
    out.insert(out.end(), ranks.begin(), ranks.end());
  }
  return out;
}

std::vector<Member*> Membership::Ranks(Role role, const std::string& unit) {
  std::vector<Member*> out;
  for (auto& [name, member] : members_) {
    if (member.role == role && member.unit == unit) out.push_back(&member);
  }
  std::sort(out.begin(), out.end(),
            [](const Member* a, const Member* b) { return a->rank_in_unit < b->rank_in_unit; });
  return out;
}

Status Membership::Drain(const std::string& replica) {
  if (Ranks(Role::kWorker, replica).empty()) {
    return NotFound("no replica \"" + replica + "\"; see members for the names");
  }
  // Those that have gone would add up where each replica that is to end is drained first.
  if (drained_.size() >= kDrainedGone) {
    std::erase_if(drained_,
                  [&](const std::string& unit) { return Ranks(Role::kWorker, unit).empty(); });
  }
  drained_.insert(replica);
  return OkStatus();
}

Status Membership::Readmit(const std::string& replica) {
  if (drained_.erase(replica) == 0) return NotFound("replica \"" + replica + "\" is not drained");
  return OkStatus();
}

}  // namespace packcast
