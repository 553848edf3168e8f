#include "runtime/data/collective.h"

#include <algorithm>

#include "runtime/data/collective_base.h"

namespace packcast {

Digest StreamTag(const StreamId& stream) {
  std::string text;
  for (uint64_t word :
       {stream.version.term.counter, stream.version.term.nonce, stream.version.epoch.value,
        stream.attempt.value, stream.flow.value, stream.generation.value}) {
    for (int k = 0; k < 8; ++k) text.push_back(static_cast<char>(word >> (8 * k)));
  }
  return HashBytes(text);
}

StatusOr<std::span<const std::byte>> Collective::Landed(Sequence) {
  return FailedPrecondition("the bytes are in the spans of the operation");
}

Status Collective::Release(Sequence) {
  return FailedPrecondition("the bytes were in the spans of the operation");
}

std::string CollectiveBase::Describe(uint32_t rank) const {
  const bool known = rank < options_.numbers.size();
  std::string text = "rank " + std::to_string(known ? options_.numbers[rank] : rank);
  if (rank < options_.names.size()) text += " (" + options_.names[rank] + ")";
  return text;
}

Status CollectiveBase::PlansDiffer(uint32_t rank, const Digest& theirs, const Digest& roots) const {
  return FailedPrecondition("the plan of " + Describe(rank) + " is " + ToHex(theirs) +
                            ", that of the root, " + Describe(root()) + ", is " + ToHex(roots) +
                            "; rows, buffer size, layout and direct rows must be equal");
}

std::string CollectiveBase::WaitingForMembers(const RootLedger& ledger) const {
  const std::vector<uint32_t> laggards = ledger.Laggards();
  if (laggards.empty()) return "nothing";
  const std::string what =
      ledger.ended() ? "Finished" : "a grant of step " + std::to_string(ledger.launched());
  return what + " by " + DescribeAll(laggards);
}

std::string CollectiveBase::WaitingForRoot(const MemberLedger& ledger) const {
  const std::string by = " by " + Describe(root());
  if (const auto unsealed = ledger.FirstUnsealed()) {
    return "the seal of step " + std::to_string(unsealed->value) + by;
  }
  if (ledger.end()) return "nothing";
  return "a launch of step " + std::to_string(ledger.launched()) + " or the end of the stream" + by;
}

std::string CollectiveBase::DescribeAll(const std::vector<uint32_t>& ranks) const {
  constexpr size_t kShown = 8;
  std::string text;
  for (size_t k = 0; k < std::min(ranks.size(), kShown); ++k) {
    if (k > 0) text += ", ";
    text += Describe(ranks[k]);
  }
  if (ranks.size() > kShown) text += " and " + std::to_string(ranks.size() - kShown) + " more";
  return text;
}

}  // namespace packcast
