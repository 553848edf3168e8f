#include "protocol/contract.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <tuple>
#include <utility>

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

// The offers by role, in rank order: of those who send, and of those who receive.
struct Sides {
  std::vector<MemberOffer> trainers;
  std::vector<MemberOffer> workers;
};

// A trainer rank that sends, and which rows.
struct Root {
  const MemberOffer* offer = nullptr;
  std::vector<RowRange> rows;  // empty: all
};

Status CheckHeld(const MemberOffer& trainer, uint32_t rows) {
  if (!trainer.held || trainer.held->empty()) return OkStatus();
  const Status status = CheckRanges(*trainer.held);
  if (!status.ok()) return status.WithContext(trainer.member.name + " says what it holds");
  if (trainer.held->back().end <= rows) return OkStatus();
  return InvalidArgument(trainer.member.name + " says that it holds rows up to " +
                         std::to_string(trainer.held->back().end) + " of " + std::to_string(rows));
}

// The rows that `trainer` holds and that are in `open`; taken out of there.
std::vector<RowRange> TakeRows(const MemberOffer& trainer, std::vector<bool>* open) {
  const std::vector<RowRange> all = {{0, static_cast<uint32_t>(open->size())}};
  std::vector<RowRange> taken;
  for (const RowRange& range : trainer.held.value_or(all)) {
    for (uint32_t row = range.begin; row < range.end; ++row) {
      if (!(*open)[row]) continue;
      (*open)[row] = false;
      if (taken.empty() || taken.back().end != row) taken.push_back({row, row});
      ++taken.back().end;
    }
  }
  return taken;
}

// Every row has one root: the first trainer rank that holds it.
StatusOr<std::vector<Root>> RootsOf(const std::vector<MemberOffer>& trainers, uint32_t rows) {
  if (!trainers.front().held) return std::vector<Root>{{&trainers.front(), {}}};
  std::vector<Root> roots;
  std::vector<bool> open(rows, true);
  for (const MemberOffer& trainer : trainers) {
    PC_RETURN_IF_ERROR(CheckHeld(trainer, rows));
    std::vector<RowRange> taken = TakeRows(trainer, &open);
    if (!taken.empty()) roots.push_back({&trainer, std::move(taken)});
  }
  const auto missing = std::find(open.begin(), open.end(), true);
  if (missing != open.end()) {
    return FailedPrecondition("row " + std::to_string(missing - open.begin()) +
                              " is held by no trainer rank; see WeightSource::Held");
  }
  if (roots.empty()) return std::vector<Root>{{&trainers.front(), {}}};  // of no rows
  if (roots.size() == 1) roots.front().rows.clear();
  return roots;
}

// A flow's members as their offers have them, the root first.
using FlowOffers = std::vector<const MemberOffer*>;

// How many receivers a transport serves at most, of what its members say, and who says so; 0: any
// number.
std::pair<uint32_t, std::string> ReceiversMax(const std::string& kind, const FlowOffers& members) {
  std::pair<uint32_t, std::string> least;
  for (const MemberOffer* member : members) {
    const uint32_t most = Find(member->offer, kind)->receivers_max;
    if (most > 0 && (least.first == 0 || most < least.first)) least = {most, member->member.name};
  }
  return least;
}

// The workers that a root's transport takes of those that are `left`; none, and `why`, when it
// takes none.
FlowOffers TakersOf(const std::string& kind, const Root& root, const FlowOffers& left,
                    size_t workers, std::string* why) {
  const auto offers = [&](const MemberOffer& m) { return Find(m.offer, kind) != nullptr; };
  const auto lacks = [&](const MemberOffer& m) {
    *why += "; \"" + kind + "\" is not offered by " + m.member.name + " (it offers " +
            KindsOf(m.offer) + ")";
  };
  if (!offers(*root.offer)) {
    lacks(*root.offer);
    return {};
  }
  FlowOffers members = {root.offer};
  const MemberOffer* without = nullptr;
  for (const MemberOffer* worker : left) {
    if (offers(*worker)) {
      members.push_back(worker);
    } else if (without == nullptr) {
      without = worker;
    }
  }
  if (without != nullptr) lacks(*without);
  const auto [most, who] = ReceiversMax(kind, members);
  if (most == 0) return members;
  if (workers > most) {
    *why += "; \"" + kind + "\" is offered by " + who + " for " + std::to_string(most) +
            " receivers, and there are " + std::to_string(workers);
  }
  return members.size() == workers + 1 && workers <= most ? members : FlowOffers{};
}

Status CheckLibraries(const std::string& transport, const FlowOffers& members) {
  const std::string& wanted = Find(members.front()->offer, transport)->library;
  for (const MemberOffer* member : members) {
    const std::string& library = Find(member->offer, transport)->library;
    if (library == wanted) continue;
    return FailedPrecondition("\"" + transport + "\" differs: " + members.front()->member.name +
                              " has \"" + wanted + "\", " + member->member.name + " has \"" +
                              library + "\"");
  }
  return OkStatus();
}

Status CheckInstall(const ContractPolicy& policy, const std::vector<MemberOffer>& offers) {
  for (const MemberOffer& offer : offers) {
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

// Everything below looks at all pairs of transports.
Status CheckOffer(const MemberOffer& offer) {
  const auto bad = [&](const std::string& what) {
    return FailedPrecondition(offer.member.name + " offers " + what);
  };
  const size_t count = offer.offer.transports.size();
  if (count > limits::kTransports) {
    return bad(std::to_string(count) + " transports; at most " +
               std::to_string(limits::kTransports) + " are allowed");
  }
  for (const TransportOffer& way : offer.offer.transports) {
    if (way.kind.size() <= limits::kNameBytes && way.library.size() <= limits::kNameBytes) continue;
    return bad("a transport whose kind or library has more than " +
               std::to_string(limits::kNameBytes) + " bytes");
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

// A flow and what its members offer.
struct FlowChoice {
  Flow flow;
  FlowOffers members;

  bool TakesBuffersOf(const MemberOffer& offer) const {
    if (std::find(members.begin(), members.end(), &offer) == members.end()) return false;
    return &offer == members.front() || Find(offer.offer, flow.transport)->needs_buffers;
  }
};

// `backwards`: a chain goes round the workers the other way. Two chains that both went the same way
// would have each worker but the last pass on all that it gets, and the last one nothing.
FlowChoice MakeFlow(const std::string& transport, const Root& root, bool backwards,
                    FlowOffers members) {
  FlowChoice choice;
  Flow& flow = choice.flow;
  flow.transport = transport;
  flow.rows = root.rows;
  flow.relays = members.size() > 2;
  uint32_t ctas = std::numeric_limits<uint32_t>::max();
  flow.direct_bytes_min = Find(root.offer->offer, transport)->direct_bytes_min;
  for (const MemberOffer* member : members) {
    const TransportOffer& way = *Find(member->offer, transport);
    Lower(way.cta_count_max, &ctas);
    // One rank that takes no direct rows turns them off; else the largest threshold holds.
    if (way.direct_bytes_min == 0 || flow.direct_bytes_min == 0) {
      flow.direct_bytes_min = 0;
    } else {
      flow.direct_bytes_min = std::max(flow.direct_bytes_min, way.direct_bytes_min);
    }
    flow.members.push_back({member->member, member->role, member->unit});
    flow.relays = flow.relays && way.relays;
  }
  if (ctas != std::numeric_limits<uint32_t>::max()) flow.cta_count_max = ctas;
  if (flow.relays && backwards) std::reverse(flow.members.begin() + 1, flow.members.end());
  choice.members = std::move(members);
  return choice;
}

Status AddFlowsOf(const Root& root, bool backwards, const ContractPolicy& policy,
                  const std::vector<MemberOffer>& workers, std::vector<FlowChoice>* flows) {
  std::vector<std::string> kinds;
  for (const TransportOffer& t : root.offer->offer.transports) kinds.push_back(t.kind);
  if (!policy.transport.empty()) kinds = {policy.transport};
  FlowOffers left;
  for (const MemberOffer& worker : workers) left.push_back(&worker);
  std::string why;
  for (const std::string& kind : kinds) {
    FlowOffers members = TakersOf(kind, root, left, workers.size(), &why);
    if (members.size() < 2) continue;
    PC_RETURN_IF_ERROR(CheckLibraries(kind, members));
    std::erase_if(left, [&](const MemberOffer* worker) {
      return std::find(members.begin(), members.end(), worker) != members.end();
    });
    flows->push_back(MakeFlow(kind, root, backwards, std::move(members)));
    if (left.empty()) return OkStatus();
  }
  if (left.empty()) return FailedPrecondition("no worker made an offer");
  return FailedPrecondition("no transport reaches " + left.front()->member.name + " from " +
                            root.offer->member.name + why);
}

// What the offers of the flows' members leave of the policy's buffers.
struct Buffers {
  uint64_t bytes = 0;
  uint32_t count = 0;
  std::string by = "the policy";  // who decided on the size

  void LimitByWish(const MemberOffer& offer) {
    if (Lower(offer.offer.buffer_bytes_max, &bytes)) by = "the offer of " + offer.member.name;
    Lower(offer.offer.buffer_count_max, &count);
  }

  // In powers of two, so that a few bytes more or less do not make another contract each epoch.
  void LimitByMemory(const MemberOffer& offer, const std::vector<FlowChoice>& flows) {
    const Offer& o = offer.offer;
    if (o.memory_free == 0 && o.memory_held == 0) return;
    // Whoever says more than there can be limits nothing.
    if (o.memory_held > std::numeric_limits<uint64_t>::max() - o.memory_free) return;
    uint64_t buffers = 0;
    uint64_t taken = 0;  // by transports
    std::string by_transports;
    for (const FlowChoice& flow : flows) {
      if (!flow.TakesBuffersOf(offer)) continue;
      buffers += count;
      const uint64_t bytes_taken = Find(o, flow.flow.transport)->device_bytes;
      taken += std::min(bytes_taken, std::numeric_limits<uint64_t>::max() - taken);
      by_transports +=
          ", of which \"" + flow.flow.transport + "\" takes " + std::to_string(bytes_taken);
    }
    if (buffers == 0) return;
    const uint64_t all = o.memory_free + o.memory_held;
    const uint64_t share = (all - std::min(all, taken)) / buffers;
    if (share >= bytes) return;
    bytes = std::bit_floor(share);
    by = "the memory of " + offer.member.name + " (" + std::to_string(o.memory_free) +
         " bytes free and " + std::to_string(o.memory_held) + " in buffers" + by_transports +
         ", for " + std::to_string(buffers) + " buffers)";
  }
};

StatusOr<Sides> SidesOf(std::vector<MemberOffer> offers) {
  if (offers.empty()) return FailedPrecondition("nobody made an offer");
  Sides sides;
  for (MemberOffer& offer : offers) {
    auto& side = offer.role == Role::kTrainer ? sides.trainers : sides.workers;
    side.push_back(std::move(offer));
  }
  for (std::vector<MemberOffer>* side : {&sides.trainers, &sides.workers}) {
    std::sort(side->begin(), side->end(), [](const MemberOffer& a, const MemberOffer& b) {
      return std::tie(a.unit, a.rank_in_unit, a.member.name) <
             std::tie(b.unit, b.rank_in_unit, b.member.name);
    });
  }
  if (sides.trainers.empty()) return FailedPrecondition("no trainer made an offer");
  return sides;
}

}  // namespace

std::optional<uint32_t> Flow::RankOf(const MemberId& member) const {
  for (uint32_t rank = 0; rank < members.size(); ++rank) {
    if (members[rank].member == member) return rank;
  }
  return std::nullopt;
}

uint32_t Flow::FeederOf(uint32_t rank) const {
  if (!relays || rank == root) return root;
  const auto size = static_cast<uint32_t>(members.size());
  return (rank + size - 1) % size;
}

bool Flow::Feeds(uint32_t rank) const {
  if (rank == root) return true;
  return relays && (rank + 1) % members.size() != root;
}

Status CheckFlows(const Contract& contract) {
  const std::vector<Flow>& flows = contract.flows;
  const auto bad = [](const std::string& what) {
    return FailedPrecondition("the contract " + what);
  };
  if (flows.empty()) return bad("has no flow");
  if (flows.size() > limits::kFlows) return bad("has " + std::to_string(flows.size()) + " flows");
  for (size_t k = 0; k < flows.size(); ++k) {
    const Flow& flow = flows[k];
    const std::string name = "flow " + std::to_string(k);
    if (flow.id.value != k) return bad("names " + name + " otherwise");
    if (flow.root >= flow.members.size()) return bad("has no root for " + name);
    if (const Status rows = CheckRanges(flow.rows); !rows.ok()) return rows.WithContext(name);
    for (size_t other = 0; other < k; ++other) {
      if (flows[other].transport == flow.transport &&
          flows[other].root_member() == flow.root_member()) {
        return bad("has two flows of one transport and root");
      }
    }
  }
  return OkStatus();
}

PlanOptions PlanOptionsOf(const Contract& contract, const Flow& flow, const Manifest& manifest) {
  // Eight steps overlap well; 32 hide what many small tensors cost the threads around the first and
  // the last, where steps do not become so small that each one's fixed costs count.
  constexpr uint64_t kStepsWanted = 8;
  constexpr uint64_t kStepsWantedOfLarge = 32;
  constexpr uint64_t kStepBytesEnough = uint64_t{128} << 20;
  constexpr uint64_t kStepBytesMin = uint64_t{1} << 20;
  // So many that a step of 3 MB tensors is as large as one of big ones: what NCCL takes to start
  // an operation (24 us) counts for 200 MB, not for 1 GiB.
  constexpr uint32_t kDirectRegions = 1024;
  PlanOptions options;
  options.layout = contract.layout;
  options.buffer_bytes = contract.buffer_bytes;
  options.direct_bytes_min = flow.direct_bytes_min;
  options.rows = flow.rows;
  options.direct_regions_per_step = kDirectRegions;
  if (contract.layout != Layout::kAligned) return options;
  for (uint32_t row = 0; row < manifest.size(); ++row) {
    if (!Contains(flow.rows, row)) continue;
    const uint64_t bytes = manifest.row_bytes(row);
    if (flow.direct_bytes_min > 0 && bytes >= flow.direct_bytes_min) {
      options.direct_rows.push_back(row);
      options.direct_bytes_total += bytes;
    } else {
      options.packed_bytes_total += AlignUp(bytes);
    }
  }
  const uint64_t total = options.packed_bytes_total;
  const uint64_t part = std::clamp(total / kStepsWanted, kStepBytesMin,
                                   std::max(kStepBytesEnough, total / kStepsWantedOfLarge));
  options.buffer_bytes =
      std::min(contract.buffer_bytes, part / limits::kAlignBytes * limits::kAlignBytes);
  return options;
}

StatusOr<Contract> MakeContract(const ContractPolicy& policy, std::vector<MemberOffer> offers,
                                uint32_t rows) {
  PC_ASSIGN_OR_RETURN(const Sides sides, SidesOf(std::move(offers)));
  for (const auto* side : {&sides.trainers, &sides.workers}) {
    for (const MemberOffer& offer : *side) PC_RETURN_IF_ERROR(CheckOffer(offer));
  }
  Contract contract;
  contract.install = policy.install;
  contract.integrity = policy.integrity;
  PC_RETURN_IF_ERROR(CheckInstall(policy, sides.workers));
  PC_ASSIGN_OR_RETURN(const std::vector<Root> roots, RootsOf(sides.trainers, rows));
  std::vector<FlowChoice> flows;
  for (size_t k = 0; k < roots.size(); ++k) {
    const bool backwards = k % 2 == 1;
    PC_RETURN_IF_ERROR(AddFlowsOf(roots[k], backwards, policy, sides.workers, &flows));
  }
  Buffers buffers{policy.buffer_bytes, policy.buffer_count};
  FlowOffers members;  // of any flow
  for (const auto* side : {&sides.trainers, &sides.workers}) {
    for (const MemberOffer& offer : *side) {
      const bool in_flow = std::any_of(flows.begin(), flows.end(), [&](const FlowChoice& flow) {
        return flow.flow.RankOf(offer.member).has_value();
      });
      if (in_flow) members.push_back(&offer);
    }
  }
  for (const MemberOffer* offer : members) buffers.LimitByWish(*offer);
  // After the count is known.
  for (const MemberOffer* offer : members) buffers.LimitByMemory(*offer, flows);
  contract.buffer_count = buffers.count;
  contract.buffer_bytes = buffers.bytes - buffers.bytes % limits::kAlignBytes;
  if (contract.buffer_bytes < limits::kBufferBytesMin) {
    return FailedPrecondition("the buffer size would be " + std::to_string(contract.buffer_bytes) +
                              " bytes, by " + buffers.by + "; at least 256 are needed");
  }
  for (FlowChoice& flow : flows) {
    flow.flow.id = FlowId(contract.flows.size());
    contract.flows.push_back(std::move(flow.flow));
  }
  PC_RETURN_IF_ERROR(CheckFlows(contract));
  return contract;
}

}  // namespace packcast
