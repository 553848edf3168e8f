#include "tests/fuzz/coordinator_world.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <variant>

#include "runtime/base/check.h"
#include "tests/fuzz/machine_checks.h"

namespace packcast::fuzz {
namespace {

constexpr Digest kPlan{1, 2};
constexpr Digest kContent{3, 4};

std::shared_ptr<const Manifest> ManifestOf(size_t rows) {
  std::vector<Row> all(rows);
  for (size_t k = 0; k < rows; ++k) {
    all[k].name = "row." + std::to_string(k);
    all[k].shape = {1 << 20};
  }
  return std::make_shared<const Manifest>(Manifest::Make(std::move(all)).value());
}

CoordinatorConfig ConfigOf(Input* in) {
  CoordinatorConfig config;
  config.term = {1, 7};
  const uint8_t bits = in->Byte();
  if (bits & 1) config.policy.install = InstallMode::kInPlace;
  config.min_replicas = bits & 2 ? 2 : 1;
  config.max_attempts = bits & 4 ? 2 : 5;
  if (bits & 8) config.policy.transport = "zmq";
  return config;
}

// Made once: they never change.
const std::vector<std::shared_ptr<const Manifest>>& Manifests() {
  static const std::vector<std::shared_ptr<const Manifest>> manifests = {
      ManifestOf(1), ManifestOf(12), ManifestOf(0)};
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

CoordinatorWorld::CoordinatorWorld(Input* in)
    : in_(*in), filler_(in, &pools_), machine_(ConfigOf(in)), manifests_(Manifests()) {
  unit_size_ = in_.Flag() ? 2 : 1;
  for (const uint64_t life : {1, 2}) {
    for (const char* name : {"trainer-0", "trainer-1", "worker-0", "worker-1", "worker-2"}) {
      members_.push_back({name, Incarnation(life)});
    }
  }
  pools_.texts = {"default",  "trainer",  "replica-0", "replica-1",  "zmq",
                  "peer@a",   "shm@a",    "nccl",      "trainer-0",  "worker-0",
                  "worker-1", "transfer", "prepare",   "rendezvous", ""};
  pools_.digests = {kPlan, kContent, Digest{}};
  for (const auto& manifest : manifests_) pools_.digests.push_back(manifest->digest());
}

void CoordinatorWorld::Run() {
  while (!in_.empty() && !stopped_) {
    UpdatePools();
    Step();
  }
}

void CoordinatorWorld::UpdatePools() {
  const std::optional<Epoch>& epoch = machine_.epoch();
  if (!epoch || (!pools_.keys.empty() && pools_.keys.front() == epoch->key)) return;
  pools_.keys.insert(pools_.keys.begin(), epoch->key);
  if (pools_.keys.size() > 4) pools_.keys.pop_back();
}

void CoordinatorWorld::Step() {
  switch (in_.Below(16)) {
    case 0:
    case 1: {
      const MemberId member = PickMember();
      return On(FromMember{member, Join(member)});
    }
    case 2: return SendRows(members_.front(), *manifests_[in_.Below(manifests_.size())]);
    case 3: return Sync(PickMember());
    case 4: return Answer(PickMember());
    case 5:
    case 6:
    case 7: return AnswerAll();
    case 8:
    case 9:
    case 10: {
      const MemberId member = PickMember();
      return On(FromMember{member, AnyMessage()});
    }
    case 11: return On(MemberLost{PickMember(), filler_.AnyStatus()});
    case 12: {
      const MemberId member = PickMember();
      if (in_.OneIn(2)) return On(MemberBack{member});
      return On(MemberBusy{member, now_ + Seconds(in_.Byte()), "a test"});
    }
    case 13: return Call();
    case 14: {
      const std::optional<Time> next = machine_.NextDeadline();
      if (next) now_ = std::max(now_, *next);
      return On(Tick{});
    }
    default: now_ += Milliseconds(static_cast<int64_t>(in_.Byte()) * 100); return On(Tick{});
  }
}

void CoordinatorWorld::On(const CoordinatorEvent& event) {
  if (stopped_) return;
  Note(event);
  const CoordinatorEffects effects = machine_.On(event, now_);
  if (IsTraced()) Trace(event);
  const Status status = machine_.CheckInvariants();
  PC_CHECK(status.ok()) << status;
  PC_CHECK(effects.size() <= kEffectsMax) << effects.size() << " effects";
  for (const CoordinatorEffect& effect : effects) Take(effect);
}

// Which answers a trainer may get: one to each call, or none when it has left meanwhile.
void CoordinatorWorld::Note(const CoordinatorEvent& event) {
  const auto* from = std::get_if<FromMember>(&event);
  if (from == nullptr) return;
  const auto* call = std::get_if<SyncCall>(&from->message);
  if (call != nullptr && machine_.membership().Has(from->from)) {
    ++open_syncs_[from->from][call->label];
  }
}

void CoordinatorWorld::TakeSent(const SendToMember& send) {
  CheckMessage(*send.message);
  if (std::holds_alternative<ManifestWanted>(*send.message)) rows_wanted_ = send.to;
  if (const auto* commit = std::get_if<Commit>(send.message.get())) {
    committed_ = commit->key;
  } else if (const auto* abort = std::get_if<AbortAttempt>(send.message.get())) {
    PC_CHECK(abort->key != committed_) << "S10: aborted after its decision";
  } else if (const auto* done = std::get_if<SyncDone>(send.message.get())) {
    PC_CHECK(open_syncs_[send.to][done->label]-- > 0)
        << "S8: sync(" << done->label << ") of " << ToString(send.to) << " is answered twice";
  }
}

void CoordinatorWorld::Trace(const CoordinatorEvent& event) const {
  static_assert(std::variant_size_v<CoordinatorEvent> == 6);
  static const char* const kEvents[] = {"message", "lost", "back", "busy", "call", "tick"};
  std::string what = kEvents[event.index()];
  if (const auto* from = std::get_if<FromMember>(&event)) {
    what = ToString(from->from) + " " + std::string(MessageName(from->message));
  } else if (const auto* call = std::get_if<ControlCall>(&event)) {
    what += " " + call->method;
  }
  const std::optional<Epoch>& epoch = machine_.epoch();
  std::fprintf(stderr, "%s: %s\n", what.c_str(),
               std::string(epoch ? EpochPhaseName(epoch->phase) : "idle").c_str());
}

void CoordinatorWorld::Take(const CoordinatorEffect& effect) {
  if (const auto* send = std::get_if<SendToMember>(&effect)) {
    TakeSent(*send);
  } else if (const auto* reply = std::get_if<ReplyControl>(&effect)) {
    PC_CHECK(open_calls_.erase(reply->token) == 1) << "S8: answered twice";
    CheckCanTravel(reply->body, "a reply");
  } else if (const auto* publish = std::get_if<PublishEvent>(&effect)) {
    CheckCanTravel(publish->event, "an event");
  } else if (const auto* wake = std::get_if<WakeAt>(&effect)) {
    PC_CHECK(wake->at >= now_);
  } else {
    stopped_ = true;
  }
}

const MemberId& CoordinatorWorld::PickMember() { return members_[in_.Below(members_.size())]; }

JoinCluster CoordinatorWorld::Join(const MemberId& member) {
  JoinCluster join;
  join.model = "default";
  const bool trainer = member.name[0] == 't';
  const uint32_t number = static_cast<uint32_t>(member.name.back() - '0');
  join.role = trainer ? Role::kTrainer : Role::kWorker;
  join.unit_size = trainer ? 1 : unit_size_;
  const uint8_t bits = in_.Byte();
  if (trainer && bits & 1) join.unit_size = 2;
  join.unit = trainer ? "trainer" : "replica-" + std::to_string(number / join.unit_size);
  join.rank_in_unit = number % join.unit_size;
  join.offer.transports = {{.kind = "zmq", .relays = (bits & 2) != 0}};
  if (bits & 4) join.offer.transports.insert(join.offer.transports.begin(), {.kind = "peer@a"});
  if (!trainer) join.offer.install_modes = {InstallMode::kStaged, InstallMode::kInPlace};
  if (bits & 8) join.promised = {bits % 5u, bits};
  if (bits & 16) filler_.Fill(join.offer);
  if (!trainer && bits & 32) {  // serves something, the last version most often
    join.offer.can_serve = true;
    join.serving = machine_.last_committed().value_or(Version{{1, 7}, EpochId(1)});
    join.weights = ServedWeights{manifests_.front()->digest(), kContent, 3};
    if (bits & 128) filler_.Fill(*join.weights);
    if (bits & 64) filler_.Fill(join.serving);
  }
  return join;
}

void CoordinatorWorld::SendRows(const MemberId& from, const Manifest& manifest) {
  for (ManifestPart& part : ManifestParts(manifest)) On(FromMember{from, std::move(part)});
}

void CoordinatorWorld::Sync(const MemberId& from) {
  SyncCall call;
  call.model = "default";
  const uint8_t bits = in_.Byte();
  call.label = bits % 4;
  call.manifest_digest = manifests_[bits / 4 % manifests_.size()]->digest();
  call.supersede = bits >= 192;
  if (in_.Flag()) {
    const uint32_t cut = static_cast<uint32_t>(in_.Below(12));
    const bool first = from.name == "trainer-0";
    call.held = std::vector<RowRange>{first ? RowRange{0, cut + 1} : RowRange{cut, 12}};
  }
  On(FromMember{from, std::move(call)});
}

void CoordinatorWorld::Answer(const MemberId& from) {
  if (!machine_.epoch()) return;
  for (const Participant& p : std::vector<Participant>(machine_.epoch()->participants)) {
    if (p.id == from) return On(FromMember{from, RightAnswer(p)});
  }
}

// All that the present phase still waits for; without an epoch, rows that were asked for.
void CoordinatorWorld::AnswerAll() {
  if (!machine_.epoch()) {
    if (!rows_wanted_) return;
    const MemberId from = *std::exchange(rows_wanted_, std::nullopt);
    return SendRows(from, *manifests_.front());
  }
  const EpochKey key = machine_.epoch()->key;
  const EpochPhase phase = machine_.epoch()->phase;
  for (const Participant& p : std::vector<Participant>(machine_.epoch()->participants)) {
    if (!machine_.epoch() || machine_.epoch()->key != key) return;
    if (machine_.epoch()->phase != phase) return;
    if (!p.answered && !p.lost) On(FromMember{p.id, RightAnswer(p)});
  }
}

MemberMessage CoordinatorWorld::RightAnswer(const Participant& p) {
  const Epoch& epoch = *machine_.epoch();
  const EpochKey& key = epoch.key;
  switch (epoch.phase) {
    case EpochPhase::kWaitReplicas: break;
    case EpochPhase::kOffers:
      if (epoch.ahead) return Prepared{key, kPlan, {}};
      return OfferReply{key, Join(p.id).offer};
    case EpochPhase::kPreparing: return Prepared{key, kPlan, RendezvousOf(p.id)};
    case EpochPhase::kJoining: return GenerationJoined{key};
    case EpochPhase::kQuiescing: return Quiesced{key};
    case EpochPhase::kStreaming: return Staged{key, kContent, 1024, {{"send", 0.5}}, {}};
    case EpochPhase::kCommitting:
      if (p.role == Role::kTrainer) return Staged{key, kContent, 1024, {}, {}};
      return Installed{key, {}, std::nullopt, 0.0, 1};
    case EpochPhase::kAborting:
      if (p.role == Role::kTrainer && in_.Flag()) return Halted{key, in_.Below(4)};
      return AttemptAborted{key, AbortOutcome::kClean, false};
  }
  return Progress{key, "wait", 0, 0, 0};
}

// Of the flows in which a member feeds others.
std::vector<FlowRendezvous> CoordinatorWorld::RendezvousOf(const MemberId& member) const {
  std::vector<FlowRendezvous> made;
  for (const Flow& flow : machine_.epoch()->contract->flows) {
    const std::optional<uint32_t> rank = flow.RankOf(member);
    if (rank && flow.Feeds(*rank)) made.push_back({flow.id, flow.transport, Bytes(8), *rank});
  }
  return made;
}

// With a body that may mean something now: the present attempt's, most often.
MemberMessage CoordinatorWorld::AnyMessage() {
  const size_t index = in_.Below(std::variant_size_v<MemberMessage>);
  MemberMessage message = Make<MemberMessage>(index, &filler_);
  if (machine_.epoch() && in_.Flag()) {
    std::visit(
        [&](auto& m) {
          if constexpr (requires { m.key; }) m.key = machine_.epoch()->key;
        },
        message);
  }
  return message;
}

void CoordinatorWorld::Call() {
  static const char* const kMethods[] = {"status",  "members",  "sync",    "cancel",
                                         "limits",  "contract", "reports", "drain",
                                         "readmit", "nonsense", "shutdown"};
  static const char* const kKeys[] = {"label",        "count",        "replica", "buffer_bytes",
                                      "buffer_count", "min_replicas", "install"};
  ControlCall call;
  call.token = ++calls_;
  // Seldom the one after which little happens.
  call.method = kMethods[in_.OneIn(32) ? 10 : in_.Below(10)];
  Value body = ValueMap{};
  for (const char* key : kKeys) {
    if (in_.OneIn(4)) body.Put(key, filler_.AnyValue());
  }
  call.body = std::move(body);
  open_calls_.insert(call.token);
  On(call);
}

void CoordinatorWorld::CheckEnds() {
  constexpr int kTicksMax = 500;
  for (int k = 0; k < kTicksMax && !stopped_; ++k) {
    const std::optional<Time> next = machine_.NextDeadline();
    if (!next) break;
    now_ = std::max(now_, *next);
    On(Tick{});
  }
  if (stopped_) {
    PC_CHECK(open_calls_.empty()) << "S8: the end left a call unanswered";
    return;
  }
  PC_CHECK(!machine_.epoch()) << "an epoch goes on for ever, in phase "
                              << EpochPhaseName(machine_.epoch()->phase);
  PC_CHECK(open_calls_.empty()) << "S8: a call is not answered";
}

}  // namespace packcast::fuzz
