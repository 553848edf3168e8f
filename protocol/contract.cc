#include "protocol/contract.h"

#include <algorithm>
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

bool Contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

std::string Join(const std::vector<std::string>& list) {
  std::string out;
  for (const std::string& item : list) out += (out.empty() ? "" : ", ") + item;
  return out.empty() ? "none" : out;
}

StatusOr<std::string> ChooseTransport(const ContractPolicy& policy,
                                      const std::vector<MemberOffer>& offers) {
  std::vector<std::string> candidates = offers.front().offer.transports;
  if (!policy.transport.empty()) candidates = {policy.transport};
  std::string why;
  for (const std::string& transport : candidates) {
    const MemberOffer* missing = nullptr;
    for (const MemberOffer& offer : offers) {
      if (!Contains(offer.offer.transports, transport)) missing = &offer;
    }
    if (missing == nullptr) return transport;
    why += "; \"" + transport + "\" is not offered by " + missing->member.name + " (it offers " +
           Join(missing->offer.transports) + ")";
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
  if (transport != "nccl") return OkStatus();
  for (const MemberOffer& offer : offers) {
    if (offer.offer.library != offers.front().offer.library) {
      return FailedPrecondition("NCCL differs: " + offers.front().member.name + " has \"" +
                                offers.front().offer.library + "\", " + offer.member.name +
                                " has \"" + offer.offer.library + "\"");
    }
  }
  return OkStatus();
}

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
  contract.buffer_bytes = policy.buffer_bytes;
  contract.buffer_count = policy.buffer_count;
  contract.install = policy.install;
  contract.integrity = policy.integrity;
  PC_RETURN_IF_ERROR(CheckInstall(policy, offers));
  PC_ASSIGN_OR_RETURN(const std::string transport, ChooseTransport(policy, offers));
  PC_RETURN_IF_ERROR(CheckLibraries(transport, offers));
  const MemberOffer* smallest = nullptr;
  contract.direct_bytes_min = offers.front().offer.direct_bytes_min;
  Flow flow;
  flow.transport = transport;
  for (const MemberOffer& offer : offers) {
    // Trainer ranks beyond the root hold nothing to send or receive in this version.
    if (offer.role == Role::kTrainer && offer.rank_in_unit != 0) continue;
    const Offer& o = offer.offer;
    if (o.buffer_bytes_max != 0 && o.buffer_bytes_max < contract.buffer_bytes) {
      contract.buffer_bytes = o.buffer_bytes_max;
      smallest = &offer;
    }
    if (o.buffer_count_max != 0) {
      contract.buffer_count = std::min(contract.buffer_count, o.buffer_count_max);
    }
    // One rank that takes no direct rows turns them off; else the largest threshold holds.
    if (o.direct_bytes_min == 0 || contract.direct_bytes_min == 0) {
      contract.direct_bytes_min = 0;
    } else {
      contract.direct_bytes_min = std::max(contract.direct_bytes_min, o.direct_bytes_min);
    }
    flow.members.push_back({offer.member, offer.role, offer.unit});
  }
  contract.buffer_bytes -= contract.buffer_bytes % limits::kAlignBytes;
  if (contract.buffer_bytes < limits::kBufferBytesMin) {
    return FailedPrecondition("the buffer size would be " + std::to_string(contract.buffer_bytes) +
                              " bytes, by " +
                              (smallest ? "the offer of " + smallest->member.name : "the policy") +
                              "; at least 256 are needed");
  }
  contract.flows.push_back(std::move(flow));
  return contract;
}

}  // namespace packcast
