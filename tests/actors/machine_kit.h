#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "actors/coordinator_machine.h"
#include "actors/trainer_machine.h"

// What the tests of the machines share: small worlds, and questions about effects.
namespace packcast {

inline std::shared_ptr<const Manifest> SmallManifest(const std::string& name = "layer.0") {
  Row row;
  row.name = name;
  row.dtype = Dtype::kF32;
  row.shape = {256};
  return std::make_shared<const Manifest>(Manifest::Make({row}).value());
}

inline MemberId Id(const std::string& name, uint64_t life = 1) { return {name, Incarnation(life)}; }

inline EpochKey Key(uint64_t epoch, uint64_t attempt = 1, Term term = {1, 7}) {
  return {"default", term, EpochId(epoch), Attempt(attempt)};
}

inline Offer SmallOffer(Role role) {
  Offer offer;
  offer.transports = {{.kind = "zmq"}};
  if (role == Role::kWorker) offer.install_modes = {InstallMode::kStaged, InstallMode::kInPlace};
  return offer;
}

// trainer-0 sends, worker-0 receives.
inline Contract SmallContract(InstallMode install = InstallMode::kStaged) {
  Contract contract;
  contract.buffer_bytes = 1024;
  contract.buffer_count = 2;
  contract.install = install;
  Flow flow;
  flow.transport = "zmq";
  flow.members = {{Id("trainer-0"), Role::kTrainer, "trainer"},
                  {Id("worker-0"), Role::kWorker, "replica-0"}};
  contract.flows = {flow};
  return contract;
}

// Of a contract of one flow.
inline std::vector<FlowGeneration> Generations(uint64_t id, bool reuse = false) {
  return {{GenerationId(id), reuse}};
}
inline FlowRendezvous Found(uint64_t flow = 0, uint32_t rank = 0) {
  return {FlowId(flow), "zmq", Bytes(8), rank};
}

// The first effect or message of a type; null when there is none.
template <class T, class Effects>
const T* Effect(const Effects& effects) {
  for (const auto& effect : effects) {
    if (const T* found = std::get_if<T>(&effect)) return found;
  }
  return nullptr;
}

template <class T>
const T* Sent(const MemberEffects& effects) {
  for (const MemberEffect& effect : effects) {
    const auto* send = std::get_if<SendToCoordinator>(&effect);
    if (send == nullptr) continue;
    if (const T* found = std::get_if<T>(&send->message)) return found;
  }
  return nullptr;
}

// A member's machine, stepped and checked.
class MemberKit {
 public:
  explicit MemberKit(Role role, InstallMode install = InstallMode::kStaged)
      : contract(SmallContract(install)), machine(Config(role)) {}

  static MemberConfig Config(Role role, uint32_t rank = 0, uint32_t size = 1) {
    MemberConfig config;
    const bool trainer = role == Role::kTrainer;
    config.self = Id((trainer ? "trainer-" : "worker-") + std::to_string(rank));
    config.role = role;
    config.unit = trainer ? "trainer" : "replica-0";
    config.rank_in_unit = rank;
    config.unit_size = size;
    config.offer = SmallOffer(role);
    return config;
  }

  MemberEffects On(const MemberEvent& event) {
    MemberEffects effects = machine.On(event, Time());
    invariants = machine.CheckInvariants();
    return effects;
  }

  // Steps to a phase of attempt `key`, answering local work at once.
  void Join() {
    On(CoordinatorUp{});
    On(CoordinatorMessage(Welcome{"default", Term{1, 7}}));
  }
  MemberEffects ToPrepared(const EpochKey& key, bool reuse = false, uint64_t generation = 1) {
    for (ManifestPart& part : ManifestParts(*manifest)) On(CoordinatorMessage(std::move(part)));
    On(CoordinatorMessage(Propose{key, 5, SyncKind::kFull, std::nullopt, manifest->digest()}));
    On(CoordinatorMessage(Prepare{key, 5, manifest->digest(), ContractDigest(contract), contract,
                                  Generations(generation, reuse)}));
    return On(PrepareDone{key, OkStatus(), Digest{1, 2}, {}, ""});
  }
  void ToJoined(const EpochKey& key, uint64_t generation = 1) {
    ToPrepared(key, false, generation);
    On(CoordinatorMessage(RendezvousBlob{key, {Found()}}));
    On(GenerationsReady{key, OkStatus()});
    if (contract.install == InstallMode::kStaged || machine.config().role == Role::kTrainer) return;
    On(CoordinatorMessage(Quiesce{key}));
    On(QuiesceDone{key, OkStatus()});
  }
  MemberEffects ToStreaming(const EpochKey& key) {
    ToJoined(key);
    return On(CoordinatorMessage(Start{key}));
  }
  MemberEffects ToStaged(const EpochKey& key) {
    ToStreaming(key);
    return On(StreamDone{key, OkStatus(), Digest{3, 4}, 1024, {}, ""});
  }
  void ToServing(const EpochKey& key) {
    ToStaged(key);
    On(CoordinatorMessage(Commit{key}));
    On(InstallDone{key, OkStatus()});
  }
  MemberEffects Abort(const EpochKey& key) {
    return On(CoordinatorMessage(AbortAttempt{key, WireStatus::From(Unavailable("a test")), ""}));
  }

  std::shared_ptr<const Manifest> manifest = SmallManifest();
  Contract contract;
  MemberMachine machine;
  Status invariants;
};

}  // namespace packcast
