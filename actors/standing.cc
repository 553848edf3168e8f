#include "actors/standing.h"

#include <algorithm>
#include <tuple>

namespace packcast {

Standing StandingOf(const Membership& membership) {
  Standing standing;
  for (std::string& replica : membership.CompleteUnits(Role::kWorker)) {
    standing.replicas.insert(std::move(replica));
  }
  std::vector<const Member*> ranks;
  for (const auto& [name, member] : membership.all()) {
    if (member.role != Role::kWorker || !standing.replicas.contains(member.unit)) continue;
    ranks.push_back(&member);
    if (!member.dirty) standing.newest = std::max(standing.newest, member.serving);
  }
  for (const Member* rank : ranks) {
    if (!rank->dirty && rank->serving == standing.newest) {
      if (rank->offer.can_serve && rank->weights && !rank->serving.IsZero()) {
        standing.providers.push_back(rank);
      }
      continue;
    }
    Standing::Lacking& lacking = standing.behind[rank->unit];
    lacking.ranks.push_back(rank);
    if (standing.newest.IsZero() || standing.newest < rank->serving) lacking.can_catch_up = false;
  }
  const auto order = [&](const Member* rank) {
    return std::tuple(standing.behind.contains(rank->unit), rank->rank_in_unit, rank->id.name);
  };
  std::sort(standing.providers.begin(), standing.providers.end(),
            [&](const Member* a, const Member* b) { return order(a) < order(b); });
  return standing;
}

bool AllServeTheSame(const Membership& membership) {
  const Member* first = nullptr;
  for (const auto& [name, member] : membership.all()) {
    if (member.role != Role::kWorker) continue;
    if (first == nullptr) first = &member;
    if (member.dirty || member.serving != first->serving) return false;
  }
  return true;
}

}  // namespace packcast
