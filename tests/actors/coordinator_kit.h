#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/actors/machine_kit.h"

namespace packcast {

// A coordinator's machine with members that a test moves by hand, or all at once. It keeps what
// was sent to each since the last look.
class CoordinatorKit {
 public:
  explicit CoordinatorKit(InstallMode install = InstallMode::kStaged) : machine(Config(install)) {}

  static CoordinatorConfig Config(InstallMode install) {
    CoordinatorConfig config;
    config.term = {1, 7};
    config.policy.install = install;
    return config;
  }

  void On(const CoordinatorEvent& event) {
    for (CoordinatorEffect& effect : machine.On(event, now)) {
      if (auto* send = std::get_if<SendToMember>(&effect)) {
        sent[send->to.name].push_back(*send->message);
      } else if (auto* reply = std::get_if<ReplyControl>(&effect)) {
        replies.push_back(std::move(*reply));
      } else if (auto* publish = std::get_if<PublishEvent>(&effect)) {
        events.push_back(std::move(publish->event));
      } else if (std::holds_alternative<StopCoordinator>(effect)) {
        stopped = true;
      } else if (const auto* wake = std::get_if<WakeAt>(&effect)) {
        EXPECT_GE(wake->at, now) << "a wish to be woken in the past";
      }
    }
    invariants = machine.CheckInvariants();
  }
  void From(const MemberId& member, MemberMessage message) {
    On(FromMember{member, std::move(message)});
  }

  // The latest message of a type to a member; null when there was none since Forget.
  template <class T>
  const T* To(const std::string& name) {
    const T* last = nullptr;
    for (const CoordinatorMessage& message : sent[name]) {
      if (const T* found = std::get_if<T>(&message)) last = found;
    }
    return last;
  }
  void Forget() { sent.clear(); }
  // All events of a name so far.
  std::vector<Value> Events(std::string_view name) const {
    std::vector<Value> out;
    for (const Value& event : events) {
      if (*event.Find("event")->AsString() == name) out.push_back(event);
    }
    return out;
  }

  MemberId JoinTrainer(uint32_t rank = 0, uint32_t size = 1, uint64_t life = 1,
                       const std::string& unit = "trainer", Term promised = {}) {
    return Join(Role::kTrainer, unit + "-" + std::to_string(rank), unit, rank, size, life,
                promised);
  }
  MemberId JoinWorker(uint32_t number, uint32_t size = 1, uint64_t life = 1, Term promised = {}) {
    return Join(Role::kWorker, "worker-" + std::to_string(number),
                "replica-" + std::to_string(number / size), number % size, size, life, promised);
  }
  MemberId Join(Role role, const std::string& name, const std::string& unit, uint32_t rank,
                uint32_t size, uint64_t life, Term promised) {
    JoinCluster join;
    join.model = "default";
    join.role = role;
    join.unit = unit;
    join.rank_in_unit = rank;
    join.unit_size = size;
    join.offer = SmallOffer(role);
    join.promised = promised;
    From(Id(name, life), join);
    return Id(name, life);
  }

  void Sync(const MemberId& trainer, uint64_t label, bool supersede = false) {
    for (ManifestPart& part : ManifestParts(*manifest)) From(trainer, std::move(part));
    From(trainer,
         SyncCall{"default", label, SyncKind::kFull, std::nullopt, manifest->digest(), supersede});
  }

  EpochKey key() const { return machine.epoch() ? machine.epoch()->key : EpochKey{}; }
  EpochPhase phase() const { return machine.epoch()->phase; }
  bool runs() const { return machine.epoch().has_value(); }

  // Every participant but those in `silent` gives the answer that the present phase asks for.
  void Answer(const std::vector<MemberId>& silent = {}) {
    const EpochKey present = key();
    const EpochPhase asked = phase();
    for (const Participant& p : std::vector<Participant>(machine.epoch()->participants)) {
      if (!runs() || phase() != asked) return;
      bool skip = p.lost;
      for (const MemberId& member : silent) skip = skip || member == p.id;
      if (!skip) AnswerAs(p, present, asked);
    }
  }
  void AnswerAs(const Participant& p, const EpochKey& present, EpochPhase asked) {
    switch (asked) {
      case EpochPhase::kWaitReplicas: return;
      case EpochPhase::kOffers:
        if (machine.epoch()->ahead) return From(p.id, Prepared{present, Digest{1, 2}, {}});
        return From(p.id, OfferReply{present, machine.membership().all().at(p.id.name).offer});
      case EpochPhase::kPreparing:
        return From(p.id, Prepared{present, Digest{1, 2}, RendezvousOf(p.id)});
      case EpochPhase::kJoining: return From(p.id, GenerationJoined{present});
      case EpochPhase::kQuiescing: return From(p.id, Quiesced{present});
      case EpochPhase::kStreaming: return From(p.id, Staged{present, Digest{3, 4}, 1024, {}});
      case EpochPhase::kCommitting:
        if (p.role == Role::kTrainer) return From(p.id, Staged{present, Digest{3, 4}, 1024, {}});
        return From(p.id, Installed{present, {}, std::nullopt, 0.0, 1});
      case EpochPhase::kAborting:
        return From(p.id, AttemptAborted{present, AbortOutcome::kClean, false});
    }
  }
  // Of the flows in which a member feeds others.
  std::vector<FlowRendezvous> RendezvousOf(const MemberId& member) const {
    std::vector<FlowRendezvous> made;
    for (const Flow& flow : machine.epoch()->contract->flows) {
      const std::optional<uint32_t> rank = flow.RankOf(member);
      if (rank && flow.Feeds(*rank)) made.push_back(Found(flow.id.value, *rank));
    }
    return made;
  }
  // Answers phase by phase until `until` is asked, or the epoch ends.
  void AnswerUntil(EpochPhase until) {
    for (int k = 0; k < 10 && runs() && phase() != until; ++k) Answer();
  }
  void AnswerAll() {
    for (int k = 0; k < 20 && runs(); ++k) Answer();
  }
  void WaitPastDeadline() {
    now = machine.epoch()->deadline;
    On(Tick{});
  }

  CoordinatorMachine machine;
  Time now{};
  std::map<std::string, std::vector<CoordinatorMessage>> sent;
  std::vector<ReplyControl> replies;
  std::vector<Value> events;
  bool stopped = false;
  Status invariants;
  std::shared_ptr<const Manifest> manifest = SmallManifest();
};

}  // namespace packcast
