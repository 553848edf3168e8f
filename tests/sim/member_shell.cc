#include "tests/sim/member_shell.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "actors/states.h"
#include "runtime/base/failpoint.h"
#include "tests/sim/describe.h"

namespace packcast::sim {
namespace {

std::variant<MemberMachine, TrainerMachine> MakeMachine(MemberConfig config) {
  if (config.role == Role::kTrainer) return TrainerMachine(std::move(config));
  return MemberMachine(std::move(config));
}

const Offer* OfferIn(const MemberMessage& message) {
  if (const auto* join = std::get_if<JoinCluster>(&message)) return &join->offer;
  if (const auto* reply = std::get_if<OfferReply>(&message)) return &reply->offer;
  const auto* staged = std::get_if<Staged>(&message);
  return staged == nullptr || !staged->offer ? nullptr : &*staged->offer;
}

constexpr size_t kEffectsMax = 64;         // of one step: a bound, not a target
constexpr Duration kHaltMax = Seconds(1);  // far longer than the slowest takes
constexpr size_t kRowsMax = 1'000'000;

}  // namespace

MemberShell::MemberShell(Surroundings* around, Process* process, MemberConfig config)
    : around_(around),
      world_(around->world),
      process_(process),
      machine_(MakeMachine(std::move(config))) {
  if (around_->scenario->lazy && !is_worker()) {
    const MemberConfig& mine = member().config();
    lazy_.emplace(world_, process_, &around_->gathers.at(mine.unit), mine.rank_in_unit,
                  around_->scenario->gather);
  }
}

const MemberMachine& MemberShell::member() const {
  if (const TrainerMachine* machine = trainer()) return machine->member();
  return std::get<MemberMachine>(machine_);
}

Who MemberShell::who() const {
  if (trainer() != nullptr) return Who::kTrainer;
  const MemberPhase phase = member().phase();
  const bool past = phase == MemberPhase::kIdle || phase == MemberPhase::kProposed;
  const bool provides = !past && provides_ == member().key();
  return provides ? Who::kProvider : Who::kWorker;
}

void MemberShell::Violate(const std::string& what) {
  world_->Violate(what + " (" + process_->name + ", " +
                  std::string(MemberPhaseName(member().phase())) + ")");
}

// ---- events -------------------------------------------------------------------------------------

void MemberShell::Feed(const MemberEvent& event) {
  if (world_->mutation() != Mutation::kNone) {
    if (IgnoresAbort(event) || MistakesCatchUp(event)) return;
    return Receive(Mutated(event));
  }
  Receive(event);
}

void MemberShell::Receive(const MemberEvent& event) {
  const auto* message = std::get_if<CoordinatorMessage>(&event);
  const auto* commit = message == nullptr ? nullptr : std::get_if<Commit>(message);
  if (commit != nullptr) committed_ = commit->key;
  const bool loses = std::holds_alternative<CoordinatorUp>(event) ||
                     std::holds_alternative<CoordinatorLost>(event) ||
                     (message != nullptr && (std::holds_alternative<Expelled>(*message) ||
                                             std::holds_alternative<Welcome>(*message)));
  if (loses && !is_worker()) around_->truth->abandoned.insert(member().key());
  world_->trace.Add(world_->now(), process_->name, NameOf(event), NumberOf(event),
                    [&] { return Describe(event); });
  Step(event);
}

void MemberShell::Sync(uint64_t label, size_t model, bool supersede) {
  world_->trace.Add(world_->now(), process_->name, "USER sync", label,
                    [&] { return "label " + std::to_string(label); });
  sources_[label] = {++around_->truth->tokens, model};
  const auto manifest = ModelManifest(model);
  Step(UserSync{label, SyncKind::kFull, manifest, supersede,
                HeldBy(*around_->scenario, member().config(), manifest->size(), label)});
}

void MemberShell::Cancel(uint64_t label) {
  world_->trace.Add(world_->now(), process_->name, "USER cancel", label,
                    [&] { return "label " + std::to_string(label); });
  Step(UserCancel{label});
}

MemberEffects MemberShell::StepMachine(const TrainerEvent& event) {
  const Time now = world_->LocalNow(process_);
  MemberEffects effects;
  Status status;
  if (auto* machine = std::get_if<TrainerMachine>(&machine_)) {
    effects = machine->On(event, now);
    status = machine->CheckInvariants();
  } else {
    auto& member = std::get<MemberMachine>(machine_);
    effects = member.On(std::get<MemberEvent>(event), now);
    status = member.CheckInvariants();
  }
  if (!status.ok()) Violate(status.message());
  if (effects.size() > kEffectsMax) Violate("S7: too many effects of one step");
  return effects;
}

void MemberShell::Step(const TrainerEvent& event) {
  const MemberPhase before = member().phase();
  const std::string_view from = StateName(member());
  const MemberEffects effects = StepMachine(event);
  PassFailpoint({RoleName(member().config().role), from, StateName(member())});
  for (const MemberEffect& effect : effects) {
    const auto* prepare = std::get_if<PrepareAttempt>(&effect);
    if (prepare != nullptr && prepare->sends && is_worker()) provides_ = prepare->key;
  }
  const bool entered = member().phase() != before;
  Carry(effects, 0, around_->owner->TearOf(*this, effects.size()));
  if (entered && process_->alive) around_->owner->OnEntered(this);
}

void MemberShell::Carry(const MemberEffects& effects, size_t first, std::optional<Tear> tear) {
  for (size_t k = first;; ++k) {
    if (tear && k == tear->after) around_->owner->OnTorn(process_, tear->freezes);
    if (!process_->alive) return;
    if (process_->frozen) {
      process_->unfinished.push_back([this, effects, k] { Carry(effects, k, std::nullopt); });
      return;
    }
    if (k == effects.size()) break;
    const MemberEffect& effect = effects[k];
    world_->trace.Add(world_->now(), process_->name, NameOf(effect), NumberOf(effect),
                      [&] { return Describe(effect); });
    std::visit([this](const auto& e) { Do(e); }, effect);
  }
  CheckStep();
}

// ---- local work ---------------------------------------------------------------------------------

// Most offers are what they were; others leave room for smaller buffers.
void MemberShell::OfferAnew() {
  // The least is enough for the smallest buffers of three flows, three each.
  constexpr uint64_t kFree[] = {2400, 3000, 100'000};
  const uint64_t draw = Mix(process_->incarnation.value + ++offers_);
  if (draw % 4 != 0) return;
  if (draw / 64 % 8 == 0) LoseTransport(kNearTransport);
  const Offer& offer = member().config().offer;
  Feed(OfferChanged{offer.transports, kFree[draw / 4 % std::size(kFree)], draw / 16 % 2});
}

// Too late for the epoch's end, so that the next one goes ahead with what does not hold any more.
void MemberShell::ChangeUnasked() {
  if (around_->unrest && world_->random.Chance(around_->scenario->offer_changes)) OfferAnew();
}

// A transport that did not come up once is not offered again in this life.
void MemberShell::LoseTransport(const std::string& kind) {
  if (around_->scenario->only_near != 0) return;  // some would never be reached again
  const Offer& offer = member().config().offer;
  std::vector<TransportOffer> left = offer.transports;
  std::erase_if(left, [&](const TransportOffer& transport) { return transport.kind == kind; });
  Feed(OfferChanged{left, offer.memory_free, offer.memory_held});
}

void MemberShell::BeginJob(Job job, const EpochKey& key) {
  const bool ends_another = job == Job::kAbort || job == Job::kHalt;
  if (job_ != Job::kNone && !ends_another) {
    Violate("S9: local work begins while other work of " + KeyText(job_key_) + " is under way");
  }
  if (key <= aborted_ && key.term == aborted_.term) {
    Violate("S6: local work for an attempt that was given up here");
  }
  job_ = job;
  job_key_ = key;
}

bool MemberShell::End(Job job, const EpochKey& key) {
  if (job_ != job || job_key_ != key) return false;
  job_ = Job::kNone;
  return true;
}

bool MemberShell::Trouble(double chance, Fault fault) {
  constexpr double kMoreOften = 3;  // catch-ups are rare
  if (who() == Who::kProvider) chance *= kMoreOften;
  if (!around_->unrest || !world_->random.Chance(chance)) return false;
  world_->Injected(fault, who(), StateOf(member().phase()));
  around_->truth->Fault(process_->name, world_->now());
  return true;
}

void MemberShell::Do(const SendToCoordinator& effect) {
  PassFailpoint({RoleName(member().config().role), "send", MessageName(effect.message)});
  MemberMessage message = effect.message;
  if (const auto* aborted = std::get_if<AttemptAborted>(&message)) {
    const bool works = job_ != Job::kNone && job_key_ == aborted->key;
    if (works && aborted->outcome == AbortOutcome::kClean) {
      Violate("S9: says Aborted while work of the attempt is under way");
    }
  }
  if (world_->mutation() != Mutation::kNone) message = Mutated(std::move(message));
  if (const Offer* offer = OfferIn(message)) told_transports_ = offer->transports;
  around_->network->Send(process_, std::move(message));
}

void MemberShell::Do(const PrepareAttempt& effect) {
  BeginJob(Job::kPrepare, effect.key);
  // The engine keeps the buffers of the same contract.
  const bool is_new = contract_ != effect.contract || manifest_ != effect.manifest;
  prepared_ = effect.key;
  version_ = effect.version;
  sends_ = effect.sends;
  contract_ = AsAgreed(effect);
  manifest_ = effect.manifest;
  label_ = effect.label;
  ChooseLanes(effect);
  CheckTransports();
  CheckGenerations(effect);
  if (!is_worker()) NoteContents(effect.key);
  CountFlows(effect);
  PrepareDone done{effect.key, OkStatus(), PlansDigestOf(*manifest_, *contract_), {}, ""};
  done.can_serve = member().config().offer.can_serve;
  if (Trouble(around_->scenario->refuse, Fault::kRefuse)) {
    done.status = InvalidArgument("injected: shapes differ");
    done.row = "m0.t0";
  } else {
    done.rendezvous = MakeRendezvous(effect);
  }
  world_->After(process_, world_->Work(process_, Microseconds(100), Milliseconds(3)),
                [this, done = std::move(done), is_new] {
                  if (is_new) OfferAnew();
                  End(Job::kPrepare, done.key);
                  Feed(done);
                });
}

void MemberShell::CountFlows(const PrepareAttempt& effect) {
  const bool first = !is_worker() && member().config().rank_in_unit == 0;
  if (!first || contract_->flows.size() < 2) return;
  ++world_->stats.several_flows;
  const auto reused = std::count_if(effect.generations.begin(), effect.generations.end(),
                                    [](const FlowGeneration& one) { return one.reuse; });
  const bool all = static_cast<size_t>(reused) == effect.generations.size();
  if (reused > 0 && !all) ++world_->stats.partly_reused;
}

void MemberShell::ChooseLanes(const PrepareAttempt& effect) {
  lanes_.clear();
  for (const Flow& flow : contract_->flows) {
    if (!flow.RankOf(member().config().self)) continue;
    lanes_.push_back({.flow = flow.id, .generation = effect.generations[flow.id.value].id});
  }
}

// What the workers must hold of this version, as far as this rank sends it.
void MemberShell::NoteContents(const EpochKey& key) {
  const auto source = sources_.find(label_);
  if (source == sources_.end()) return Violate("asked for a label that nobody promised");
  const auto held = HeldBy(*around_->scenario, member().config(), manifest_->size(), label_);
  Words& contents = around_->truth->contents[key.version()];
  contents.resize(ModelCells(*manifest_));
  for (const Lane& lane : lanes_) {
    if (!IsRoot(FlowOf(lane))) continue;
    for (uint32_t cell = 0; cell < contents.size(); ++cell) {
      const uint32_t row = RowOf(*manifest_, cell);
      const bool sent = Contains(FlowOf(lane).rows, row);
      // No ranges at all would mean all rows to Contains.
      const bool holds = !held || (!held->empty() && Contains(*held, row));
      if (sent && !holds)
        Violate("S1: asked to send row " + std::to_string(row) + ", which it does not hold");
      // The first attempt counts: the source must not have changed before a second one.
      if (sent && contents[cell] == 0) contents[cell] = WordOf(source->second.token, cell);
    }
  }
}

std::vector<FlowRendezvous> MemberShell::MakeRendezvous(const PrepareAttempt& effect) {
  std::vector<FlowRendezvous> made;
  for (const Lane& lane : lanes_) {
    const Flow& flow = FlowOf(lane);
    const MemberId& self = member().config().self;
    const uint32_t rank = *flow.RankOf(self);
    if (!flow.Feeds(rank) || effect.generations[flow.id.value].reuse) continue;
    made.push_back({flow.id, "sim",
                    around_->data_plane->MakeRendezvous(effect.key, lane.generation, flow, self),
                    rank});
  }
  return made;
}

MemberShell::Lane* MemberShell::FindLane(FlowId flow) {
  const auto found = std::find_if(lanes_.begin(), lanes_.end(),
                                  [&](const Lane& lane) { return lane.flow == flow; });
  return found == lanes_.end() ? nullptr : &*found;
}

const CellPlan& MemberShell::PlanOfLane(const Lane& lane) const {
  return PlanOf(*manifest_, *contract_, FlowOf(lane));
}

bool MemberShell::is_sender() const {
  return std::any_of(lanes_.begin(), lanes_.end(),
                     [this](const Lane& lane) { return IsRoot(FlowOf(lane)); });
}

void MemberShell::Do(const JoinGenerations& effect) {
  BeginJob(Job::kJoin, effect.key);
  joins_open_ = effect.rendezvous.size();
  for (const FlowRendezvous& one : effect.rendezvous) {
    Lane* lane = FindLane(one.flow);
    if (lane == nullptr) return Violate("S4: joins a flow that it is not in");
    if (KeepsGeneration(lane)) {
      Joined(effect.key, one.flow, OkStatus());
      continue;
    }
    around_->data_plane->Join(process_, this, effect.key, lane->generation, FlowOf(*lane), one.blob,
                              Trouble(around_->scenario->join_fails, Fault::kJoinFails));
  }
}

// Once all have been joined, or the first one could not be.
void MemberShell::Joined(const EpochKey& key, FlowId flow, const Status& status) {
  const bool wanted = job_ == Job::kJoin && job_key_ == key;
  if (!status.ok() && wanted && contract_->flows[flow.value].transport == kNearTransport) {
    LoseTransport(kNearTransport);
  }
  OfferAnew();
  if (join_told_ == key || (wanted && status.ok() && --joins_open_ > 0)) return;
  End(Job::kJoin, key);
  join_told_ = key;
  Feed(GenerationsReady{key, status});
}

void MemberShell::Do(const QuiesceEngine& effect) {
  BeginJob(Job::kQuiesce, effect.key);
  world_->After(process_, world_->Work(process_, Microseconds(100), Milliseconds(10)),
                [this, key = effect.key] {
                  const bool wanted = End(Job::kQuiesce, key);
                  if (wanted && world_->mutation() != Mutation::kWriteBeforeQuiesce) {
                    engine_runs_ = false;
                  }
                  Feed(QuiesceDone{key, OkStatus()});
                });
}

void MemberShell::Do(const ResumeEngine& effect) {
  if (member().dirty()) Violate("S2: the engine resumes on dirty memory");
  if (!effect.committed && effect.key == committed_) Violate("S10: resumed as if given up");
  engine_runs_ = true;
}

void MemberShell::Do(const InstallVersion& effect) {
  BeginJob(Job::kInstall, effect.key);
  world_->After(process_, world_->Work(process_, Microseconds(50), Milliseconds(5)),
                [this, key = effect.key] {
                  InstallDone done{key, OkStatus(), std::nullopt, 0.001};
                  const bool staged = contract_->install == InstallMode::kStaged;
                  if (Trouble(around_->scenario->install_fails, Fault::kInstallFails)) {
                    done.status = Internal("injected: the copy failed");
                    engine_runs_ = true;  // or may: whoever writes there has to ask again
                    // Half of it is over the old version.
                    live_.resize(staged_.size());
                    for (size_t k = 0; staged && k < live_.size() / 2; ++k) live_[k] = staged_[k];
                  } else if (staged && world_->mutation() != Mutation::kInstallSkipped) {
                    live_ = staged_;
                  }
                  End(Job::kInstall, key);
                  Feed(done);
                  ChangeUnasked();
                });
}

// ---- giving up ----------------------------------------------------------------------------------

void MemberShell::Do(const HaltSource& effect) {
  if (is_worker()) Violate("a worker halts a source");
  BeginJob(Job::kHalt, effect.key);
  around_->data_plane->Halt(process_);
  world_->After(process_, world_->Work(process_, Microseconds(20), Milliseconds(2)),
                [this, key = effect.key] { TellHalted(key); });
  // Others may wait for that in their source, and this rank for them in its own.
  world_->After(process_, kHaltMax, [this, key = effect.key] {
    if (job_ == Job::kHalt && job_key_ == key) Violate("L2: does not say where it has halted");
  });
}

void MemberShell::TellHalted(const EpochKey& key) {
  HaltDone done{key, std::nullopt};
  if (lazy_) {
    done.entered_group = lazy_->Halt(key);
    if (lazy_->Gathers() && world_->mutation() == Mutation::kHaltAfterGather) {
      if (job_ != Job::kHalt || job_key_ != key) return;
      world_->After(process_, Milliseconds(1), [this, key] { TellHalted(key); });
      return;
    }
  } else if (pulled_ > 0) {
    done.entered_group = pulled_ - 1;
  }
  End(Job::kHalt, key);
  Feed(done);
}

void MemberShell::Do(const AbortLocal& effect) {
  if (!sends() && effect.key == committed_) Violate("S10: given up after the decision");
  if (!lazy_ && effect.drain_group && pulled_ > 0 && *effect.drain_group < pulled_ - 1) {
    Violate("drained to a group before one that was entered");
  }
  BeginJob(Job::kAbort, effect.key);
  if (effect.key == early_) ++world_->stats.early_given_up;
  around_->data_plane->Halt(process_);
  AbortOutcome outcome = AbortOutcome::kClean;
  Duration wait = world_->Work(process_, Microseconds(50), Milliseconds(10));
  if (Trouble(around_->scenario->wedge, Fault::kWedge)) {
    outcome = AbortOutcome::kWedged;
    wait = Milliseconds(500);
  }
  world_->After(process_, wait, [this, effect, outcome] { GiveUp(effect, outcome); });
}

void MemberShell::GiveUp(const AbortLocal& effect, AbortOutcome outcome) {
  size_t rows = 0;
  if (effect.drain_group) rows = std::min<uint64_t>(*effect.drain_group, kRowsMax - 1) + 1;
  const bool alone = rows == kRowsMax;
  if (alone && world_->mutation() == Mutation::kDrainToOwnGroup) rows = 0;
  CloseSource(effect.key, rows, [this, effect, outcome] { FinishAbort(effect, outcome); });
}

// Goes on to so many rows, or those that it has entered.
void MemberShell::CloseSource(const EpochKey& key, size_t rows, std::function<void()> done) {
  if (!lazy_) return done();
  lazy_->Close(key, rows, std::move(done));
}

void MemberShell::FinishAbort(const AbortLocal& effect, AbortOutcome outcome) {
  if (!End(Job::kAbort, effect.key)) return Violate("an abort was given up");
  wedged_ = outcome != AbortOutcome::kClean;
  if (world_->mutation() == Mutation::kAbortClosesOneFlow && !lanes_.empty()) {
    around_->data_plane->Close(process_, lanes_.front().generation);
    aborted_ = effect.key;
  } else if (!wedged_) {
    around_->data_plane->Close(process_);
    aborted_ = effect.key;
    staged_.clear();
  }
  OfferAnew();
  Feed(AbortDone{effect.key, outcome});
}

void MemberShell::Do(const CloseGeneration& effect) {
  if (job_ != Job::kNone) Violate("S9: a generation is closed under running work");
  if (world_->mutation() == Mutation::kGenerationKept) return;
  around_->data_plane->Close(process_, effect.generation);
}

// ---- the rest -----------------------------------------------------------------------------------

void MemberShell::Scribble(uint64_t label) { sources_.erase(label); }
void MemberShell::Do(const SourceFree& effect) {
  // The epoch is over; all rows were gathered, for they have been sent.
  if (job_ != Job::kAbort) CloseSource(member().key(), 0, [] {});
  Scribble(effect.label);
  world_->After(process_, Duration::zero(), [this] { ChangeUnasked(); });
}
void MemberShell::Do(const SyncRequested& effect) {
  around_->owner->OnSyncRequested(this, effect.label);
}
void MemberShell::Do(const SyncFinished& effect) {
  Scribble(effect.label);
  around_->owner->OnSyncFinished(this, effect.label, effect.status);
}
void MemberShell::Do(const StopMember& effect) {
  around_->owner->OnStop(this, effect.status.message());
}

}  // namespace packcast::sim
