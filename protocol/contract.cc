#include "protocol/contract.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <tuple>

namespace packcast {

std::string_view InstallModeName(InstallMode mode) {
  switch (mode) {
    case InstallMode::kStaged: return "staged";
    case InstallMode::kInPlace: return "in-place";
  }
  return "unknown";
}

StatusOr<InstallMode> InstallModeFromName(std::string_view name) {
  if (name == "staged") return InstallMode::kStaged;
  if (name == "in-place" || name == "in_place") return InstallMode::kInPlace;
  return InvalidArgument("unknown install mode \"" + std::string(name) +
                         "\"; use staged or in-place");
}

std::string_view RoleName(Role role) {
  switch (role) {
    case Role::kTrainer: return "trainer";
    case Role::kWorker: return "worker";
  }
  return "unknown";
}

namespace {

const TransportOffer* Find(const Offer& offer, const std::string& kind) {
  for (const TransportOffer& transport : offer.transports) {
    if (transport.kind == kind) return &transport;
  }
  return nullptr;
}

std::string KindsOf(const Offer& offer) {
  std::string out;
  for (const TransportOffer& t : offer.transports) out += (out.empty() ? "" : ", ") + t.kind;
  return out.empty() ? "none" : out;
}

// Members of a flow: trainer ranks beyond the root hold nothing to send or receive in this version.
bool IsInFlow(const MemberOffer& offer) {
  return offer.role != Role::kTrainer || offer.rank_in_unit == 0;
}

// Why the flow cannot use a transport; "" when it can.
std::string WhyNot(const std::string& kind, const std::vector<MemberOffer>& offers) {
  uint32_t receivers = 0;
  for (const MemberOffer& offer : offers) {
    if (offer.role == Role::kWorker) ++receivers;
    if (Find(offer.offer, kind) != nullptr) continue;
    return "is not offered by " + offer.member.name + " (it offers " + KindsOf(offer.offer) + ")";
  }
  for (const MemberOffer& offer : offers) {
    const uint32_t most = Find(offer.offer, kind)->receivers_max;
    if (most == 0 || receivers <= most) continue;
    return "is offered by " + offer.member.name + " for " + std::to_string(most) +
           " receivers, and there are " + std::to_string(receivers);
  }
  return "";
}

StatusOr<std::string> ChooseTransport(const ContractPolicy& policy,
                                      const std::vector<MemberOffer>& offers) {
  std::vector<std::string> candidates;
  for (const TransportOffer& t : offers.front().offer.transports) candidates.push_back(t.kind);
  if (!policy.transport.empty()) candidates = {policy.transport};
  std::string why;
  for (const std::string& transport : candidates) {
    const std::string reason = WhyNot(transport, offers);
    if (reason.empty()) return transport;
    why += "; \"" + transport + "\" " + reason;
  }
  return FailedPrecondition("no transport is common to all members" + why);
}

Status CheckInstall(const ContractPolicy& policy, const std::vector<MemberOffer>& offers) {
  for (const MemberOffer& offer : offers) {
    if (offer.role != Role::kWorker) continue;
    const auto& modes = offer.offer.install_modes;
    if (std::find(modes.begin(), modes.end(), policy.install) == modes.end()) {
      return FailedPrecondition("worker " + offer.member.name +
                                " does not offer the install mode " +
                                std::string(InstallModeName(policy.install)) +
                                "; change the policy or the worker's sink");
    }
  }
  return OkStatus();
}

Status CheckLibraries(const std::string& transport, const std::vector<MemberOffer>& offers) {
  const std::string& wanted = Find(offers.front().offer, transport)->library;
  for (const MemberOffer& offer : offers) {
    const std::string& library = Find(offer.offer, transport)->library;
    if (!IsInFlow(offer) || library == wanted) continue;
    return FailedPrecondition("\"" + transport + "\" differs: " + offers.front().member.name +
                              " has \"" + wanted + "\", " + offer.member.name + " has \"" +
                              library + "\"");
  }
  return OkStatus();
}

// Sets `bound` to `limit` if that is lower, and is told by whom.
template <class T>
bool Lower(T limit, T* bound) {
  if (limit == 0 || limit >= *bound) return false;
  *bound = limit;
  return true;
}

// What the offers of a flow's members leave of the policy's buffers.
struct Buffers {
  uint64_t bytes = 0;
  uint32_t count = 0;
  std::string by = "the policy";  // who decided on the size

  void LimitByWish(const MemberOffer& offer) {
    if (Lower(offer.offer.buffer_bytes_max, &bytes)) by = "the offer of " + offer.member.name;
    Lower(offer.offer.buffer_count_max, &count);
  }

  // In powers of two, so that a few bytes more or less do not make another contract each epoch.
  void LimitByMemory(const MemberOffer& offer, const TransportOffer& transport) {
    const Offer& o = offer.offer;
    if (o.memory_free == 0 && o.memory_held == 0) return;
    if (offer.role == Role::kWorker && !transport.needs_buffers) return;
    // Whoever says more than there can be limits nothing.
    if (o.memory_held > std::numeric_limits<uint64_t>::max() - o.memory_free) return;
    const uint64_t all = o.memory_free + o.memory_held;
    const uint64_t left = all - std::min(all, transport.device_bytes);
    const uint64_t share = left / count;
    if (share >= bytes) return;
    bytes = std::bit_floor(share);
    by = "the memory of " + offer.member.name + " (" + std::to_string(o.memory_free) +
         " bytes free and " + std::to_string(o.memory_held) + " in buffers, of which \"" +
         transport.kind + "\" takes " + std::to_string(transport.device_bytes) + ", for " +
         std::to_string(count) + " buffers)";
  }
};

}  // namespace

PlanOptions PlanOptionsOf(const Contract& contract, const Manifest& manifest) {
  constexpr uint64_t kStepsWanted = 8;
  constexpr uint64_t kStepBytesMin = uint64_t{1} << 20;
  // So many that a step of 3 MB tensors is as large as one of big ones: what NCCL takes to start
  // an operation (24 us) counts for 200 MB, not for 1 GiB.
  constexpr uint32_t kDirectRegions = 1024;
  PlanOptions options;
  options.layout = contract.layout;
  options.buffer_bytes = contract.buffer_bytes;
  options.direct_bytes_min = contract.direct_bytes_min;
  options.direct_regions_per_step = kDirectRegions;
  if (contract.layout != Layout::kAligned) return options;
  for (uint32_t row = 0; row < manifest.size(); ++row) {
    const uint64_t bytes = manifest.row_bytes(row);
    if (contract.direct_bytes_min > 0 && bytes >= contract.direct_bytes_min) {
      options.direct_rows.push_back(row);
      options.direct_bytes_total += bytes;
    } else {
      options.packed_bytes_total += AlignUp(bytes);
    }
  }
  const uint64_t part =
      options.packed_bytes_total / kStepsWanted / limits::kAlignBytes * limits::kAlignBytes;
  options.buffer_bytes = std::min(contract.buffer_bytes, std::max(part, kStepBytesMin));
  return options;
}

StatusOr<Contract> MakeContract(const ContractPolicy& policy, std::vector<MemberOffer> offers) {
  if (offers.empty()) return FailedPrecondition("nobody made an offer");
  std::sort(offers.begin(), offers.end(), [](const MemberOffer& a, const MemberOffer& b) {
    return std::tie(a.role, a.unit, a.rank_in_unit, a.member.name) <
           std::tie(b.role, b.unit, b.rank_in_unit, b.member.name);
  });
  if (offers.front().role != Role::kTrainer) return FailedPrecondition("no trainer made an offer");
  Contract contract;
  contract.install = policy.install;
  contract.integrity = policy.integrity;
  PC_RETURN_IF_ERROR(CheckInstall(policy, offers));
  PC_ASSIGN_OR_RETURN(const std::string transport, ChooseTransport(policy, offers));
  PC_RETURN_IF_ERROR(CheckLibraries(transport, offers));
  contract.direct_bytes_min = Find(offers.front().offer, transport)->direct_bytes_min;
  Buffers buffers{policy.buffer_bytes, policy.buffer_count};
  uint32_t ctas = std::numeric_limits<uint32_t>::max();
  Flow flow;
  flow.transport = transport;
  std::erase_if(offers, [](const MemberOffer& offer) { return !IsInFlow(offer); });
  for (const MemberOffer& offer : offers) {
    const TransportOffer& way = *Find(offer.offer, transport);
    buffers.LimitByWish(offer);
    Lower(way.cta_count_max, &ctas);
    // One rank that takes no direct rows turns them off; else the largest threshold holds.
    if (way.direct_bytes_min == 0 || contract.direct_bytes_min == 0) {
      contract.direct_bytes_min = 0;
    } else {
      contract.direct_bytes_min = std::max(contract.direct_bytes_min, way.direct_bytes_min);
    }
    flow.members.push_back({offer.member, offer.role, offer.unit});
  }
  // After the count is known.
  for (const MemberOffer& o : offers) buffers.LimitByMemory(o, *Find(o.offer, transport));
  if (ctas != std::numeric_limits<uint32_t>::max()) contract.cta_count_max = ctas;
  contract.buffer_count = buffers.count;
  contract.buffer_bytes = buffers.bytes - buffers.bytes % limits::kAlignBytes;
  if (contract.buffer_bytes < limits::kBufferBytesMin) {
    return FailedPrecondition("the buffer size would be " + std::to_string(contract.buffer_bytes) +
                              " bytes, by " + buffers.by + "; at least 256 are needed");
  }
  contract.flows.push_back(std::move(flow));
  return contract;
}

}  // namespace packcast
