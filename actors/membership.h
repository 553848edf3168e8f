#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/ids.h"
#include "protocol/messages.h"
#include "protocol/time.h"

namespace packcast {

// What a coordinator knows of one rank.
struct Member {
  MemberId id;
  Role role = Role::kWorker;
  std::string unit;
  uint32_t rank_in_unit = 0;
  uint32_t unit_size = 1;
  Offer offer;
  Version serving;
  bool dirty = false;
  uint64_t install_count = 0;
  // Of `serving`, if it can be had from here for all that is known: a worker that offers can_serve
  // and could not when asked for it has none until its next install.
  std::optional<ServedWeights> weights;
  Digest contract_held;  // the last contract sent to it
  Time busy_until;       // it does not answer until then, or did not
  std::string busy_why;
};

// Who is in the cluster, by unit: a replica (or the trainer unit) is complete when every one of
// its ranks is here, or it is nothing. Pure; not thread-safe.
class Membership {
 public:
  // Whether `join` of `id` may come in. Errors name the conflict and the remedy: an empty or
  // overlong name, a rank out of its unit's size, a size unlike its siblings', a rank that another
  // live member holds, a second trainer unit, or a full cluster.
  Status CheckJoin(const MemberId& id, const JoinCluster& join) const;
  // After CheckJoin; replaces an earlier incarnation of the same name.
  Member& Add(const MemberId& id, const JoinCluster& join);
  void Remove(const std::string& name) { members_.erase(name); }

  bool Has(const MemberId& id) const {
    const auto it = members_.find(id.name);
    return it != members_.end() && it->second.id == id;
  }
  // Null when unknown, or known under another incarnation.
  Member* Find(const MemberId& id);
  Member* FindName(const std::string& name);
  const std::map<std::string, Member>& all() const { return members_; }

  // Names of units of `role` with all ranks here; drained replicas are left out.
  std::vector<std::string> CompleteUnits(Role role) const;
  // The ranks of those units, unit by unit, in rank order.
  std::vector<const Member*> CompleteRanks(Role role) const;
  // Ranks of a unit in rank order.
  std::vector<Member*> Ranks(Role role, const std::string& unit);

  static constexpr size_t kDrainedGone = 1024;
  // A drained replica stays connected and takes no part in epochs, also when it comes back; of more
  // than kDrainedGone those that are not here now are forgotten. kNotFound for an unknown one.
  Status Drain(const std::string& replica);
  Status Readmit(const std::string& replica);
  const std::set<std::string>& drained() const { return drained_; }

 private:
  std::map<std::string_view, std::vector<const Member*>> Complete(Role role) const;

  std::map<std::string, Member> members_;
  std::set<std::string> drained_;
};

}  // namespace packcast
