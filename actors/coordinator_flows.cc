// What an epoch's members agree on before a byte moves: the contract, its flows' generations, and
// how the members of each find each other.
#include <algorithm>

#include "actors/coordinator_machine.h"
#include "protocol/limits.h"

namespace packcast {

// What the coordinator makes of all offers, deadlines included.
StatusOr<Contract> CoordinatorMachine::ContractOfOffers() const {
  const Epoch& epoch = *epoch_;
  std::vector<MemberOffer> offers;
  for (const Participant& p : epoch.participants) {
    if (p.out()) continue;
    const auto held = epoch.held.find(p.id);
    offers.push_back({p.id, p.role, p.unit, p.rank_in_unit, p.offer,
                      held == epoch.held.end() ? std::nullopt : std::optional(held->second)});
  }
  PC_ASSIGN_OR_RETURN(Contract contract,
                      MakeContract(config_.policy, std::move(offers),
                                   static_cast<uint32_t>(epoch.manifest->size())));
  const EpochDeadlines& deadlines = config_.deadlines;
  const uint64_t bytes = epoch.manifest->total_bytes();
  // More steps than a plan may have are refused in prepare.
  const uint64_t steps = std::min<uint64_t>(bytes / contract.buffer_bytes + 1, limits::kPlanSteps);
  const auto time_of = [&](uint64_t moved) {
    return FromSeconds(static_cast<double>(moved) / deadlines.transfer_floor_bytes_per_second);
  };
  const Duration transfer_limit = deadlines.transfer_base + time_of(bytes) +
                                  deadlines.transfer_step * static_cast<int64_t>(steps);
  contract.transfer_deadline = transfer_limit + deadlines.transfer_grace;
  contract.prepare_deadline = deadlines.prepare;
  contract.rendezvous_deadline = deadlines.rendezvous * 4 / 5;
  if (deadlines.stall > Duration::zero()) {
    // A step may take as long as its bytes do.
    contract.stall_deadline = deadlines.stall + time_of(std::min(bytes, contract.buffer_bytes));
  }
  return contract;
}

void CoordinatorMachine::DecideContract() {
  Epoch& epoch = *epoch_;
  StatusOr<Contract> contract = ContractOfOffers();
  if (!contract.ok()) {
    BeginAbort(contract.status().WithContext("contract"), "", true);
    return;
  }
  epoch.transfer_limit = contract->transfer_deadline - config_.deadlines.transfer_grace;
  epoch.contract = std::move(contract).value();
  epoch.contract_digest = ContractDigest(*epoch.contract);
  SendPrepare();
}

bool CoordinatorMachine::Generation::Carries(const Flow& flow) const {
  return transport == flow.transport && cta_count_max == flow.cta_count_max &&
         relays == flow.relays &&
         std::equal(
             members.begin(), members.end(), flow.members.begin(), flow.members.end(),
             [](const MemberId& mine, const FlowMember& other) { return mine == other.member; });
}

bool CoordinatorMachine::Generation::Has(const MemberId& member) const {
  return std::find(members.begin(), members.end(), member) != members.end();
}

// A generation that still fits its flow stays; the others are retired.
void CoordinatorMachine::ChooseGenerations() {
  Epoch& epoch = *epoch_;
  // A catch-up's are of no use to anybody later: its members are together once.
  if (epoch.catch_up) ForgetGenerations();
  std::vector<Generation> others = generations_;
  std::vector<Generation> before = std::exchange(generations_, {});
  epoch.generations.clear();
  epoch.rendezvous.clear();
  for (const Flow& flow : epoch.contract->flows) {
    const auto fits = std::find_if(before.begin(), before.end(),
                                   [&](const Generation& g) { return g.Carries(flow); });
    const bool reuse = fits != before.end();
    if (reuse) {
      generations_.push_back(*fits);
    } else {
      Generation& fresh = generations_.emplace_back();
      fresh.id = GenerationId(++last_generation_);
      for (const FlowMember& member : flow.members) fresh.members.push_back(member.member);
      fresh.transport = flow.transport;
      fresh.cta_count_max = flow.cta_count_max;
      fresh.relays = flow.relays;
    }
    epoch.generations.push_back({generations_.back().id, reuse});
  }
  if (epoch.catch_up) generations_ = std::move(others);
}

void CoordinatorMachine::SendPrepare() {
  Epoch& epoch = *epoch_;
  ChooseGenerations();
  EnterPhase(EpochPhase::kPreparing, config_.deadlines.prepare);
  Prepare prepare{epoch.key,    epoch.label,      epoch.manifest->digest(), epoch.contract_digest,
                  std::nullopt, epoch.generations};
  const auto without_contract = Shared(prepare);
  prepare.contract = *epoch.contract;
  const auto with_contract = Shared(std::move(prepare));
  SharedMessages rows;
  for (const Participant& p : epoch.participants) {
    if (p.out()) continue;
    if (!epoch.rows_sent) SendRows(p, &rows);
    Member* member = membership_.Find(p.id);
    const bool is_held = member->contract_held == epoch.contract_digest;
    member->contract_held = epoch.contract_digest;
    Emit(SendToMember{p.id, is_held ? without_contract : with_contract});
  }
  epoch.rows_sent = true;
  TellWhoIsBusy();
}

void CoordinatorMachine::AfterPrepared() {
  Epoch& epoch = *epoch_;
  const Participant* first = nullptr;
  for (const Participant& p : epoch.participants) {
    if (p.out()) continue;
    if (first == nullptr) first = &p;
    if (p.plan_digest == first->plan_digest) continue;
    BeginAbort(Internal("plans differ: " + first->id.name + " has " + ToHex(first->plan_digest) +
                        ", " + p.id.name + " has " + ToHex(p.plan_digest) +
                        "; run the same packcast version everywhere"),
               p.id.name, true);
    return;
  }
  bool all_live = true;
  for (const Flow& flow : epoch.contract->flows) {
    if (epoch.generations[flow.id.value].reuse) continue;
    all_live = false;
    for (uint32_t rank = 0; rank < flow.members.size(); ++rank) {
      if (!flow.Feeds(rank) || FindRendezvous(flow.id, rank) != nullptr) continue;
      const std::string& who = flow.members[rank].member.name;
      BeginAbort(Internal(who + " made no rendezvous for flow " + std::to_string(flow.id.value)),
                 who, true);
      return;
    }
  }
  if (all_live) {
    QuiesceOrStart();
    return;
  }
  EnterPhase(EpochPhase::kJoining, config_.deadlines.rendezvous);
  for (Participant& p : epoch.participants) SendRendezvous(&p);
}

// S4: only who feeds others makes a rendezvous, and only of a new generation.
void CoordinatorMachine::TakeRendezvous(const MemberId& from,
                                        const std::vector<FlowRendezvous>& made) {
  Epoch& epoch = *epoch_;
  const std::vector<Flow>& flows = epoch.contract->flows;
  for (const FlowRendezvous& one : made) {
    if (one.flow.value >= flows.size() || epoch.generations[one.flow.value].reuse) continue;
    const Flow& flow = flows[one.flow.value];
    const bool own = flow.RankOf(from) == one.rank && flow.Feeds(one.rank);
    if (own && FindRendezvous(one.flow, one.rank) == nullptr) epoch.rendezvous.push_back(one);
  }
}

const FlowRendezvous* CoordinatorMachine::FindRendezvous(FlowId flow, uint32_t rank) const {
  for (const FlowRendezvous& made : epoch_->rendezvous) {
    if (made.flow == flow && made.rank == rank) return &made;
  }
  return nullptr;
}

// Those of the new generations that it is in; a secret of theirs.
void CoordinatorMachine::SendRendezvous(Participant* participant) {
  const Epoch& epoch = *epoch_;
  RendezvousBlob message{epoch.key, {}};
  for (const FlowRendezvous& one : epoch.rendezvous) {
    const Flow& flow = epoch.contract->flows[one.flow.value];
    const std::optional<uint32_t> rank = flow.RankOf(participant->id);
    if (rank && flow.FeederOf(*rank) == one.rank) message.flows.push_back(one);
  }
  if (participant->out() || message.flows.empty()) {
    participant->answered = true;
    return;
  }
  Send(participant->id, std::move(message));
}

}  // namespace packcast
