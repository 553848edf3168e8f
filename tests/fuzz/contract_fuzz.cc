// Any offers: the contract of them, if there is one, is one that every member can follow. It gives
// each worker all rows once, and depends on nobody's order.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "protocol/contract.h"
#include "protocol/manifest.h"
#include "protocol/messages.h"
#include "runtime/base/check.h"
#include "tests/fuzz/fill.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/plan_checks.h"

using namespace packcast;

namespace {

TransportOffer TakeTransport(fuzz::Input* in, fuzz::Filler* filler) {
  if (in->OneIn(16)) return filler->Make<TransportOffer>();
  static const char* const kKinds[] = {"zmq", "shm@a", "peer@b", "nccl"};
  TransportOffer way;
  way.kind = kKinds[in->Below(4)];
  if (in->OneIn(16)) way.library = "other";
  if (in->OneIn(4)) way.direct_bytes_min = filler->Number();
  if (in->OneIn(4)) way.receivers_max = static_cast<uint32_t>(in->Below(6));
  if (in->OneIn(4)) way.device_bytes = filler->Number();
  if (in->OneIn(4)) way.cta_count_max = static_cast<uint32_t>(filler->Number());
  way.needs_buffers = !in->OneIn(4);
  way.relays = in->Flag();
  return way;
}

MemberOffer TakeOffer(fuzz::Input* in, fuzz::Filler* filler, Role role, uint32_t number) {
  MemberOffer one;
  const bool trainer = role == Role::kTrainer;
  one.member = {(trainer ? "trainer-" : "worker-") + std::to_string(number), Incarnation(1)};
  one.role = role;
  one.unit = trainer ? "trainer" : "replica-" + std::to_string(in->Below(4));
  one.rank_in_unit = number;
  if (in->OneIn(32)) {
    one.offer = filler->Make<Offer>();
  } else {
    one.offer.transports = {{.kind = "zmq"}};
    if (in->Flag()) one.offer.transports.clear();
    for (size_t k = in->Below(4); k > 0; --k) {
      one.offer.transports.push_back(TakeTransport(in, filler));
    }
    one.offer.install_modes = {InstallMode::kStaged, InstallMode::kInPlace};
    if (in->OneIn(4)) one.offer.memory_free = filler->Number();
    if (in->OneIn(4)) one.offer.memory_held = filler->Number();
    if (in->OneIn(8)) one.offer.buffer_bytes_max = filler->Number();
    if (in->OneIn(8)) one.offer.buffer_count_max = static_cast<uint32_t>(filler->Number());
  }
  if (trainer && in->Flag()) {
    std::vector<RowRange>& held = one.held.emplace();
    if (in->OneIn(8)) held = filler->Make<std::vector<RowRange>>();
    uint32_t at = 0;
    for (size_t k = in->Below(4); k > 0; --k) {
      const auto begin = static_cast<uint32_t>(at + in->Below(4));
      at = static_cast<uint32_t>(begin + 1 + in->Below(8));
      held.push_back({begin, at++});
    }
  }
  return one;
}

const MemberOffer* Find(const std::vector<MemberOffer>& offers, const MemberId& member) {
  for (const MemberOffer& offer : offers) {
    if (offer.member == member) return &offer;
  }
  return nullptr;
}

void CheckFlow(const Flow& flow, const std::vector<MemberOffer>& offers) {
  PC_CHECK(flow.root == 0 && flow.members.size() >= 2);
  for (uint32_t rank = 0; rank < flow.members.size(); ++rank) {
    const FlowMember& member = flow.members[rank];
    PC_CHECK(flow.RankOf(member.member) == rank) << member.member.name << " is in it twice";
    PC_CHECK((member.role == Role::kTrainer) == (rank == 0));
    const MemberOffer* offer = Find(offers, member.member);
    PC_CHECK(offer != nullptr);
    const auto& ways = offer->offer.transports;
    PC_CHECK(std::any_of(ways.begin(), ways.end(),
                         [&](const TransportOffer& way) { return way.kind == flow.transport; }))
        << member.member.name << " does not offer " << flow.transport;
    // From the root along the feeders everybody is reached.
    uint32_t at = rank;
    for (size_t hops = 0; at != flow.root; ++hops) {
      PC_CHECK(hops < flow.members.size()) << "nobody feeds " << member.member.name;
      at = flow.FeederOf(at);
      PC_CHECK(flow.Feeds(at));
    }
  }
}

void CheckContract(const Contract& contract, const std::vector<MemberOffer>& offers,
                   const ContractPolicy& policy, uint32_t rows) {
  const Status status = CheckFlows(contract);
  PC_CHECK(status.ok()) << status;
  PC_CHECK(contract.buffer_bytes >= limits::kBufferBytesMin &&
           contract.buffer_bytes <= policy.buffer_bytes &&
           contract.buffer_bytes % limits::kAlignBytes == 0);
  PC_CHECK(contract.buffer_count >= 1 && contract.buffer_count <= policy.buffer_count);
  for (const Flow& flow : contract.flows) CheckFlow(flow, offers);
  for (const MemberOffer& worker : offers) {
    if (worker.role != Role::kWorker) continue;
    for (uint32_t row = 0; row < rows; ++row) {
      const auto carries = [&](const Flow& flow) {
        return flow.RankOf(worker.member) && Contains(flow.rows, row);
      };
      PC_CHECK(std::count_if(contract.flows.begin(), contract.flows.end(), carries) == 1)
          << worker.member.name << ", row " << row;
    }
  }
}

void CheckPlans(const Contract& contract, uint32_t count) {
  std::vector<Row> rows(count);
  for (uint32_t k = 0; k < count; ++k) {
    rows[k].name = std::to_string(k);
    rows[k].shape = {k * 300};
  }
  const Manifest manifest = Manifest::Make(std::move(rows)).value();
  for (const Flow& flow : contract.flows) {
    const PlanOptions options = PlanOptionsOf(contract, flow, manifest);
    const StatusOr<Plan> plan = MakePlan(manifest, options);
    PC_CHECK(plan.ok()) << plan.status();
    fuzz::CheckPlan(manifest, options, *plan);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  const fuzz::Pools pools{.texts = {"zmq", "nccl", "shm@a", ""}, .digests = {}, .keys = {}};
  fuzz::Filler filler(&in, &pools);
  ContractPolicy policy;
  policy.buffer_bytes = uint64_t{256} << in.Below(24);
  policy.buffer_count = static_cast<uint32_t>(1 + in.Below(64));
  if (in.OneIn(8)) policy.install = InstallMode::kInPlace;
  if (in.OneIn(8)) policy.transport = filler.Text();
  const auto rows = static_cast<uint32_t>(in.Below(24));
  std::vector<MemberOffer> offers;
  const size_t trainers = in.Below(4);
  for (uint32_t k = 0; k < trainers; ++k) {
    offers.push_back(TakeOffer(&in, &filler, Role::kTrainer, k));
  }
  const size_t workers = in.Below(8);
  for (uint32_t k = 0; k < workers; ++k) {
    offers.push_back(TakeOffer(&in, &filler, Role::kWorker, k));
  }
  const StatusOr<Contract> contract = MakeContract(policy, offers, rows);
  std::vector<MemberOffer> turned(offers.rbegin(), offers.rend());
  const StatusOr<Contract> other = MakeContract(policy, std::move(turned), rows);
  PC_CHECK(contract.status() == other.status()) << contract.status() << " and " << other.status();
  if (!contract.ok()) return 0;
  PC_CHECK(ContractDigest(*contract) == ContractDigest(*other)) << "it depends on the order";
  CheckContract(*contract, offers, policy, rows);
  CheckPlans(*contract, rows);
  return 0;
}
