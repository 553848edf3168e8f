#include "tests/fuzz/member_world.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <variant>

#include "protocol/manifest_cache.h"
#include "runtime/base/check.h"
#include "tests/fuzz/machine_checks.h"

namespace packcast::fuzz {
namespace {

constexpr Term kTerm{1, 7};
constexpr Digest kPlan{1, 2};
constexpr Digest kContent{3, 4};

std::shared_ptr<const Manifest> ManifestOf(size_t rows) {
  std::vector<Row> all(rows);
  for (size_t k = 0; k < rows; ++k) {
    all[k].name = "row." + std::to_string(k);
    all[k].shape = {1024};
  }
  return std::make_shared<const Manifest>(Manifest::Make(std::move(all)).value());
}

// Made once: they never change.
const std::vector<std::shared_ptr<const Manifest>>& Manifests() {
  static const std::vector<std::shared_ptr<const Manifest>> manifests = {
      ManifestOf(1), ManifestOf(3), ManifestOf(0)};
  return manifests;
}

template <class Variant, size_t I = 0>
Variant Make(size_t index, Filler* filler) {
  if constexpr (I + 1 < std::variant_size_v<Variant>) {
    if (index != I) return Make<Variant, I + 1>(index, filler);
  }
  return filler->Make<std::variant_alternative_t<I, Variant>>();
}

}  // namespace

MemberConfig MemberWorld::ConfigOf(Input* in, Role role) {
  MemberConfig config;
  const uint8_t bits = in->Byte();
  const bool trainer = role == Role::kTrainer;
  config.self = {trainer ? "trainer-0" : "worker-0", Incarnation(1)};
  config.role = role;
  config.unit = trainer ? "trainer" : "replica-0";
  config.unit_size = bits & 1 ? 2 : 1;
  config.rank_in_unit = bits & 2 ? config.unit_size - 1 : 0;
  config.offer.transports = {{.kind = "zmq"}};
  if (!trainer) config.offer.install_modes = {InstallMode::kStaged, InstallMode::kInPlace};
  return config;
}

MemberWorld::MemberWorld(Input* in)
    : in_(*in),
      filler_(in, &pools_),
      manifests_(Manifests()),
      contract_digest_(ContractDigest(contract_)) {
  manifest_ = manifests_.front();
  pools_.texts = {"default", "zmq", "trainer-0", "worker-0", "worker-1", "replica-0", "", "nccl"};
  pools_.digests = {kPlan, kContent, Digest{}};
  for (const auto& manifest : manifests_) pools_.digests.push_back(manifest->digest());
  SetKey({"default", kTerm, EpochId(1), Attempt(1)});
}

void MemberWorld::SetKey(const EpochKey& key) {
  key_ = key;
  pools_.keys.insert(pools_.keys.begin(), key);
  if (pools_.keys.size() > 4) pools_.keys.pop_back();
}

std::shared_ptr<const Manifest> MemberWorld::PickManifest() {
  return manifests_[in_.Below(manifests_.size())];
}

void MemberWorld::Run() {
  while (!in_.empty() && !stopped_) Step();
}

void MemberWorld::Step() {
  switch (in_.Below(16)) {
    case 0: return On(CoordinatorUp{});
    case 1: return Tell(Welcome{"default", key_.term});
    case 2:
      manifest_ = PickManifest();
      for (ManifestPart& part : ManifestParts(*manifest_)) Tell(std::move(part));
      return;
    case 3: return TellPropose();
    case 4: return TellPrepare();
    case 5: return TellRendezvous();
    case 6:
    case 7: return TellRight();
    case 8:
    case 9: return EndWork();
    case 10: return TellAny();
    case 11: return EndOfAnother();
    case 12:
      if (!in_.OneIn(4)) return On(OfferChanged{{{.kind = "zmq"}}, in_.Below(2), 0});
      return On(CoordinatorLost{"a test"});
    default: return StepOwn();
  }
}

void MemberWorld::Tell(CoordinatorMessage message) { On(MemberEvent(std::move(message))); }

void MemberWorld::TellPropose() {
  EpochKey key = key_;
  const uint8_t bits = in_.Byte();
  key.epoch.value += bits % 4;
  key.attempt = Attempt(1);
  if (bits % 32 == 31) ++key.term.counter;
  SetKey(key);
  Propose propose{key_, in_.Below(3), SyncKind::kFull, std::nullopt, manifest_->digest()};
  if (bits & 16) {  // what others serve, and maybe this one
    propose.kind = SyncKind::kCatchUp;
    propose.base = in_.Flag() ? filler_.Make<Version>() : served_;
  }
  if (bits >= 128) {
    propose.contract_digest = contract_digest_;
    propose.generations.emplace();
    for (const FlowGeneration& flow : generations_) propose.generations->push_back(flow.id);
  }
  Tell(propose);
}

// That this member can follow, more or less.
Contract MemberWorld::MakeContract() {
  if (in_.OneIn(16)) return filler_.Make<Contract>();
  const uint8_t bits = in_.Byte();
  Contract contract;
  contract.buffer_bytes = 1024;
  contract.buffer_count = 2;
  if (bits & 1) contract.install = InstallMode::kInPlace;
  const size_t flows = 1 + (bits >> 1) % 3;
  for (size_t k = 0; k < flows; ++k) {
    Flow flow;
    flow.id = FlowId(k);
    flow.transport = k == 0 ? "zmq" : "peer@" + std::to_string(k);
    flow.members = {{{"trainer-0", Incarnation(1)}, Role::kTrainer, "trainer"},
                    {{"worker-0", Incarnation(1)}, Role::kWorker, "replica-0"},
                    {{"worker-1", Incarnation(1)}, Role::kWorker, "replica-1"}};
    if (bits & 8 && k > 0) flow.members.erase(flow.members.begin() + 1);
    flow.relays = (bits & 16) != 0;
    if (bits & 32) flow.root = 1;  // a worker that others catch up with
    contract.flows.push_back(std::move(flow));
  }
  return contract;
}

void MemberWorld::TellPrepare() {
  const uint8_t bits = in_.Byte();
  if (bits & 1) {
    EpochKey next = key_;
    ++next.attempt.value;
    SetKey(next);
  }
  const bool reuse = (bits & 2) != 0;
  if (!reuse) {
    contract_ = MakeContract();
    contract_digest_ = ContractDigest(contract_);
    generations_.clear();
    for (size_t k = 0; k < contract_.flows.size(); ++k) {
      generations_.push_back({GenerationId(++last_generation_), false});
    }
  }
  for (FlowGeneration& flow : generations_) flow.reuse = reuse;
  if (bits >= 248) generations_ = filler_.Make<std::vector<FlowGeneration>>();
  Prepare prepare{key_,      in_.Below(3), manifest_->digest(), contract_digest_,
                  contract_, generations_};
  if (bits & 4) prepare.contract.reset();
  Tell(std::move(prepare));
}

void MemberWorld::TellRendezvous() {
  RendezvousBlob message{key_, {}};
  for (size_t k = 0; k < generations_.size(); ++k) {
    if (!generations_[k].reuse) message.flows.push_back({FlowId(k), "zmq", Bytes(8), 0});
  }
  Tell(std::move(message));
}

void MemberWorld::TellRight() {
  const WireStatus reason = WireStatus::From(Unavailable("a test"));
  switch (in_.Below(8)) {
    case 0: return Tell(Quiesce{key_});
    case 1:
    case 2: return Tell(Start{key_});
    case 3:
    case 4: return Tell(Commit{key_});
    case 5: return Tell(AbortAttempt{key_, reason, ""});
    case 6: return Tell(Drain{key_, in_.Below(3)});
    default: return Tell(Expelled{"default", reason, !in_.OneIn(16)});
  }
}

void MemberWorld::TellAny() {
  const size_t index = in_.Below(std::variant_size_v<CoordinatorMessage>);
  CoordinatorMessage message = Make<CoordinatorMessage>(index, &filler_);
  // One after which nothing happens.
  if (std::holds_alternative<Shutdown>(message) && !in_.OneIn(8)) return;
  Tell(std::move(message));
}

void MemberWorld::EndWork() {
  if (work_.empty()) return;
  const size_t index = in_.Below(work_.size());
  const Work work = work_[index];
  work_.erase(work_.begin() + static_cast<ptrdiff_t>(index));
  End(work, in_.OneIn(8) ? filler_.AnyStatus() : OkStatus());
}

void MemberWorld::End(const Work& work, const Status& status) {
  if (const auto* prepare = std::get_if<PrepareAttempt>(&work)) {
    if (status.ok()) prepared_.insert(prepare->key);
    PrepareDone done{prepare->key, status, kPlan, {}, ""};
    const uint8_t bits = in_.Byte();
    if (bits & 1) done.rendezvous = {{FlowId(0), "zmq", Bytes(8), 0}};
    done.can_serve = (bits & 2) != 0;
    On(done);
  } else if (const auto* join = std::get_if<JoinGenerations>(&work)) {
    On(GenerationsReady{join->key, status});
  } else if (const auto* quiesce = std::get_if<QuiesceEngine>(&work)) {
    On(QuiesceDone{quiesce->key, status});
  } else if (const auto* start = std::get_if<StartStream>(&work)) {
    if (status.ok()) streamed_.insert(start->key);
    On(StreamDone{start->key, status, kContent, 1024, {{"send", 0.5}}, ""});
  } else if (const auto* install = std::get_if<InstallVersion>(&work)) {
    On(InstallDone{install->key, status, kContent, 0.1});
  } else if (const auto* halt = std::get_if<HaltSource>(&work)) {
    On(HaltDone{halt->key, in_.Below(4)});
  } else {
    const AbortOutcome outcome = status.ok() ? AbortOutcome::kClean : AbortOutcome::kWedged;
    On(AbortDone{std::get<AbortLocal>(work).key, outcome});
  }
}

// What ends of an attempt that is not the machine's has no effect at all.
void MemberWorld::EndOfAnother() {
  EpochKey key = filler_.Make<EpochKey>();
  if (key == member().key()) ++key.attempt.value;
  const Status status = in_.Flag() ? OkStatus() : filler_.AnyStatus();
  const MemberEvent events[] = {PrepareDone{key, status, kPlan, {}, ""},
                                GenerationsReady{key, status},
                                QuiesceDone{key, status},
                                StreamDone{key, status, kContent, 0, {}, ""},
                                InstallDone{key, status, {}, 0},
                                HaltDone{key, 1},
                                AbortDone{key, AbortOutcome::kWedged}};
  const MemberPhase phase = member().phase();
  const MemberEffects effects = Feed(events[in_.Below(std::size(events))]);
  PC_CHECK(effects.empty() && member().phase() == phase)
      << "S6: the end of another attempt's work counts, in " << MemberPhaseName(phase);
}

void MemberWorld::TakeAll(const MemberEffects& effects) {
  const Status status = CheckMachine();
  if (IsTraced()) Trace(effects);
  PC_CHECK(status.ok()) << status;
  PC_CHECK(effects.size() <= kEffectsMax) << effects.size() << " effects";
  PC_CHECK(member().serving() >= served_) << "S2: a served version went back";
  served_ = member().serving();
  for (const MemberEffect& effect : effects) Take(effect);
}

void MemberWorld::Trace(const MemberEffects& effects) const {
  std::string what = std::string(MemberPhaseName(member().phase()));
  for (const MemberEffect& effect : effects) {
    const auto* send = std::get_if<SendToCoordinator>(&effect);
    what += send != nullptr ? ", says " + std::string(MessageName(send->message))
                            : ", effect " + std::to_string(effect.index());
  }
  std::fprintf(stderr, "%s\n", what.c_str());
}

void MemberWorld::Take(const MemberEffect& effect) {
  if (const auto* send = std::get_if<SendToCoordinator>(&effect)) {
    CheckMessage(send->message);
  } else if (const auto* finished = std::get_if<SyncFinished>(&effect)) {
    TakeFinished(*finished);
  } else if (std::holds_alternative<StopMember>(effect)) {
    PC_CHECK(!std::get<StopMember>(effect).status.ok());
    stopped_ = true;
  } else if (const auto* prepare = std::get_if<PrepareAttempt>(&effect)) {
    CheckPrepare(*prepare);
    work_.push_back(*prepare);
  } else if (const auto* start = std::get_if<StartStream>(&effect)) {
    PC_CHECK(prepared_.contains(start->key)) << "S3: streams unprepared";
    work_.push_back(*start);
  } else if (const auto* install = std::get_if<InstallVersion>(&effect)) {
    PC_CHECK(streamed_.contains(install->key)) << "S5: installs what is not here";
    work_.push_back(*install);
  } else if (const auto* join = std::get_if<JoinGenerations>(&effect)) {
    for (const FlowRendezvous& one : join->rendezvous) {
      PC_CHECK(one.flow.value < limits::kFlows);
    }
    work_.push_back(*join);
  } else if (const auto* quiesce = std::get_if<QuiesceEngine>(&effect)) {
    work_.push_back(*quiesce);
  } else if (const auto* halt = std::get_if<HaltSource>(&effect)) {
    work_.push_back(*halt);
  } else if (const auto* abort = std::get_if<AbortLocal>(&effect)) {
    // It ends all other work of the attempt.
    std::erase_if(work_,
                  [](const Work& work) { return !std::holds_alternative<InstallVersion>(work); });
    work_.push_back(*abort);
  }
}

// What flows are made of.
void MemberWorld::CheckPrepare(const PrepareAttempt& prepare) const {
  PC_CHECK(prepare.manifest != nullptr && prepare.contract != nullptr);
  const Status status = CheckFlows(*prepare.contract);
  PC_CHECK(status.ok()) << status;
  PC_CHECK(prepare.generations.size() == prepare.contract->flows.size());
}

void MemberWorld::CheckRests() {
  if (stopped_) return;
  On(CoordinatorLost{"the end"});
  constexpr int kEndsMax = 20;
  for (int k = 0; k < kEndsMax && !work_.empty() && !stopped_; ++k) {
    const Work work = work_.front();
    work_.erase(work_.begin());
    End(work, OkStatus());
  }
  if (stopped_) return;
  PC_CHECK(work_.empty()) << "work without end";
  PC_CHECK(member().phase() == MemberPhase::kIdle)
      << "hangs in phase " << MemberPhaseName(member().phase());
}

}  // namespace packcast::fuzz
