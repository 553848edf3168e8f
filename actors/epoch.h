#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/contract.h"
#include "protocol/messages.h"
#include "protocol/time.h"
#include "protocol/value.h"

// The coordinator's record of the epoch that runs, and its report. Plain data.
namespace packcast {

// How long each phase may take before those who have not answered are expelled. Generous: they
// bound hangs, while dead processes are noticed by their lost session.
struct EpochDeadlines {
  Duration wait_replicas = Seconds(30);
  Duration offer = Seconds(5);
  Duration prepare = Seconds(60);
  Duration rendezvous = Seconds(30);
  Duration quiesce = Seconds(60);
  Duration transfer_base = Seconds(30);
  double transfer_floor_bytes_per_second = 50e6;
  Duration transfer_step = Milliseconds(5);  // for each buffer: many tiny ones take round trips
  // Members give a transfer up by themselves this much later: until then who is furthest behind
  // can be told, and one that is slow does not look like an end of the wire to all others.
  Duration transfer_grace = Seconds(5);
  // One rank that keeps all others of a flow from going on, within the transfer; zero: no bound.
  Duration stall = Seconds(30);
  Duration install = Seconds(60);
  Duration abort = Seconds(10);
  // From when somebody is seen to be behind until a catch-up begins: those that come together are
  // caught up together, and between two syncs that follow one another at once there is none.
  Duration catch_up_settle = Milliseconds(50);
};

enum class EpochPhase : uint8_t {
  kWaitReplicas,
  kOffers,
  kPreparing,
  kJoining,
  kQuiescing,
  kStreaming,
  kCommitting,  // decided
  kAborting,
};
std::string_view EpochPhaseName(EpochPhase phase);

// Who is waited for before a version is decided.
enum class CommitPolicy : uint8_t {
  kAll,   // all replicas: they change together, or none does
  kEach,  // its own ranks: each replica changes as soon as it can
};
std::string_view CommitPolicyName(CommitPolicy policy);  // "all", "each"
StatusOr<CommitPolicy> CommitPolicyFromName(std::string_view name);

// What becomes of an epoch that an attempt has left fewer than min_replicas.
enum class BelowMin : uint8_t {
  kFail,  // it ends at once
  kWait,  // as long as for the first ones (EpochDeadlines::wait_replicas) for others, or the same
          // ones again; then the next attempt
};
std::string_view BelowMinName(BelowMin choice);  // "fail", "wait"
StatusOr<BelowMin> BelowMinFromName(std::string_view name);

// Whether `status` says "a peer or the wire", not "me".
bool IsWire(const Status& status);

// Which rows each trainer rank can send, of those that do not hold all.
using HeldRows = std::map<MemberId, std::vector<RowRange>>;

struct Participant {
  MemberId id;
  Role role = Role::kWorker;
  std::string unit;
  uint32_t rank_in_unit = 0;
  bool answered = false;  // the present phase's question
  bool excluded = false;  // not in the next attempt: its unit lost a rank or failed
  bool lost = false;      // gone: nothing more is expected of it
  bool astray = false;    // and may live: it goes its own way
  Offer offer;
  // Of the present attempt:
  bool prepared = false;
  bool staged = false;
  Digest plan_digest;
  Digest content_digest;
  double staged_seconds = 0;  // since the transfer began
  std::vector<Phase> phases;
  uint64_t bytes = 0;  // through, as it last said
  bool halted = false;
  std::optional<uint64_t> entered_group;
  // After commit:
  std::optional<EpochKey> decided;  // its replica before the others, in this attempt
  bool ended = false;               // and has said how its install went
  bool installed = false;
  std::optional<Digest> memory_digest;
  double pause_seconds = 0;

  // Nothing is expected of it in the present attempt.
  bool out() const { return lost || excluded || decided; }
  // The same member with the same offer, of whom nothing else is known yet.
  Participant Anew() const;
};

struct ExpelledUnit {
  std::string unit;
  std::string culprit;
  std::string reason;
};

// What makes an epoch a catch-up: who is behind gets what others serve already, from one of them.
struct CatchUp {
  Version version;
  MemberId provider;      // who sends, in the trainer's place
  Digest content_digest;  // as the provider has told it
};

struct Epoch {
  EpochKey key;
  std::optional<CatchUp> catch_up;
  uint64_t label = 0;
  std::vector<MemberId> callers;
  HeldRows held;
  std::shared_ptr<const Manifest> manifest;
  std::vector<Participant> participants;
  EpochPhase phase = EpochPhase::kWaitReplicas;
  Time began{};
  Time phase_began{};
  Duration phase_limit{};
  Time transfer_began{};
  Time deadline{};
  std::vector<Phase> phase_seconds;

  std::optional<Contract> contract;
  Digest contract_digest;
  Duration transfer_limit{};                // of the phase
  std::vector<FlowGeneration> generations;  // in the order of the contract's flows
  bool ahead = false;                       // members were told the last contract with the proposal
  bool offers_changed = false;              // or the policy, since the contract was made
  std::vector<FlowRendezvous> rendezvous;   // of new generations

  // Why the last attempt was given up, if one was; or what went wrong after the decision.
  Status failure;
  std::string culprit;
  // The failure is what a member said of its peers: a known loss is better evidence.
  bool hearsay = false;
  // Counts as failed once when the attempt is given up and nobody turned out to be lost.
  std::optional<MemberId> suspect;
  bool final = false;  // do not try again
  std::vector<ExpelledUnit> expelled;
  std::vector<std::string> failed_once;  // units
  // Replicas that live and are in no attempt to come, also where that asks anew who is there.
  std::set<std::string> barred;
  bool rows_sent = false;  // to all participants who lack them

  // Keeps of the reason what a message can carry: members may say more.
  void Blame(const Status& reason, const std::string& who);
  Participant* Find(const MemberId& id);
  const Participant* FindName(const std::string& name) const;
  bool decided() const { return phase == EpochPhase::kCommitting; }
  // Some replicas were decided before the others.
  bool parted() const;
  // What its members serve in the end.
  Version version() const { return catch_up ? catch_up->version : key.version(); }
  // Participants that still owe an answer.
  std::vector<const Participant*> Waiting() const;
  size_t LiveReplicas() const;
  // Of all that the trainer's ranks have sent; nothing while one of them has not said so.
  std::optional<Digest> SentDigest() const;
};

// A contract for people and scripts (docs/protocol.md, "Reports").
Value ContractSummary(const Contract& contract);

// The report of an ended epoch (docs/protocol.md, "Reports").
Value EpochReport(const Epoch& epoch, const Status& status, Time now);
// The same of a catch-up.
Value CatchUpReport(const Epoch& epoch, const Status& status, Time now);

}  // namespace packcast
