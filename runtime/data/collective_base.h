#pragma once

#include <string>
#include <vector>

#include "protocol/status.h"
#include "runtime/data/collective.h"
#include "runtime/data/stream_ledger.h"
#include "runtime/data/transport.h"

namespace packcast {

// What every collective keeps: who it is, its counters. Immutable but for the counters.
class CollectiveBase : public Collective {
 public:
  uint32_t rank() const final { return options_.rank; }
  uint32_t size() const final { return options_.size; }
  uint32_t root() const final { return options_.root; }
  std::string Describe(uint32_t rank) const final;

 protected:
  explicit CollectiveBase(JoinOptions options) : options_(std::move(options)) {}
  const JoinOptions& options() const { return options_; }

  // WaitingFor, as far as the rules of the stream tell.
  std::string WaitingForMembers(const RootLedger& ledger) const;
  std::string WaitingForRoot(const MemberLedger& ledger) const;

  Status PlansDiffer(uint32_t rank, const Digest& theirs, const Digest& roots) const;

  // "rank 1 (a), rank 2"; the first few of many.
  std::string DescribeAll(const std::vector<uint32_t>& ranks) const;

 private:
  const JoinOptions options_;
};

}  // namespace packcast
