#include "tests/sim/member_shell.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "tests/sim/describe.h"

namespace packcast::sim {
namespace {

std::variant<MemberMachine, TrainerMachine> MakeMachine(MemberConfig config) {
  if (config.role == Role::kTrainer) return TrainerMachine(std::move(config));
  return MemberMachine(std::move(config));
}

constexpr size_t kEffectsMax = 64;  // of one step: a bound, not a target

}  // namespace

MemberShell::MemberShell(Surroundings* around, Process* process, MemberConfig config)
    : around_(around),
      world_(around->world),
      process_(process),
      machine_(MakeMachine(std::move(config))) {}

const MemberMachine& MemberShell::member() const {
  if (const TrainerMachine* machine = trainer()) return machine->member();
  return std::get<MemberMachine>(machine_);
}

void MemberShell::Violate(const std::string& what) {
  world_->Violate(what + " (" + process_->name + ", " +
                  std::string(MemberPhaseName(member().phase())) + ")");
}

// ---- events -------------------------------------------------------------------------------------

void MemberShell::Feed(const MemberEvent& event) {
  if (world_->mutation() == Mutation::kAbortIgnored && IgnoresAbort(event)) return;
  if (const auto* message = std::get_if<CoordinatorMessage>(&event)) {
    if (world_->mutation() == Mutation::kAnswerLost && std::holds_alternative<SyncDone>(*message)) {
      return;
    }
    if (const auto* commit = std::get_if<Commit>(message)) committed_ = commit->key;
  }
  world_->trace.Add(world_->now(), process_->name, NameOf(event), NumberOf(event),
                    [&] { return Describe(event); });
  Step(event);
}

void MemberShell::Sync(uint64_t label, size_t model, bool supersede) {
  world_->trace.Add(world_->now(), process_->name, "USER sync", label,
                    [&] { return "label " + std::to_string(label); });
  sources_[label] = {++around_->truth->tokens, model};
  Step(UserSync{label, SyncKind::kFull, ModelManifest(model), supersede});
}

void MemberShell::Cancel(uint64_t label) {
  world_->trace.Add(world_->now(), process_->name, "USER cancel", label,
                    [&] { return "label " + std::to_string(label); });
  Step(UserCancel{label});
}

void MemberShell::Step(const TrainerEvent& event) {
  MemberEffects effects;
  if (auto* machine = std::get_if<TrainerMachine>(&machine_)) {
    effects = machine->On(event, world_->now());
    if (Status status = machine->CheckInvariants(); !status.ok()) Violate(status.message());
  } else {
    auto& member = std::get<MemberMachine>(machine_);
    effects = member.On(std::get<MemberEvent>(event), world_->now());
    if (Status status = member.CheckInvariants(); !status.ok()) Violate(status.message());
  }
  if (effects.size() > kEffectsMax) Violate("S7: too many effects of one step");
  for (const MemberEffect& effect : effects) {
    world_->trace.Add(world_->now(), process_->name, NameOf(effect), NumberOf(effect),
                      [&] { return Describe(effect); });
    std::visit([this](const auto& e) { Do(e); }, effect);
  }
  CheckStep();
}

// Mutation: the worker says that it has stopped, and goes on.
bool MemberShell::IgnoresAbort(const MemberEvent& event) {
  const auto* message = std::get_if<CoordinatorMessage>(&event);
  const auto* abort = message == nullptr ? nullptr : std::get_if<AbortAttempt>(message);
  if (abort == nullptr || !is_worker() || job_ != Job::kStream || abort->key != job_key_) {
    return false;
  }
  Do(SendToCoordinator{AttemptAborted{abort->key, AbortOutcome::kClean, member().dirty()}});
  return true;
}

// ---- local work ---------------------------------------------------------------------------------

// Most offers are what they were; others leave room for smaller buffers.
void MemberShell::OfferAnew() {
  constexpr uint64_t kFree[] = {1200, 3000, 100'000};
  const uint64_t draw = Mix(process_->incarnation.value + ++offers_);
  if (draw % 4 != 0) return;
  const Offer& offer = member().config().offer;
  Feed(OfferChanged{offer.transports, kFree[draw / 4 % std::size(kFree)], draw / 16 % 2});
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
  if (!around_->unrest || !world_->random.Chance(chance)) return false;
  world_->Injected(fault);
  around_->truth->Fault(process_->name, world_->now());
  return true;
}

void MemberShell::Do(const SendToCoordinator& effect) {
  MemberMessage message = effect.message;
  if (const auto* aborted = std::get_if<AttemptAborted>(&message)) {
    const bool works = job_ != Job::kNone && job_key_ == aborted->key;
    if (works && aborted->outcome == AbortOutcome::kClean) {
      Violate("S9: says Aborted while work of the attempt is under way");
    }
  }
  if (auto* join = std::get_if<JoinCluster>(&message);
      join != nullptr && world_->mutation() == Mutation::kTermNotRaised) {
    join->promised = {};
  }
  around_->network->Send(process_, std::move(message));
}

void MemberShell::Do(const PrepareAttempt& effect) {
  BeginJob(Job::kPrepare, effect.key);
  // The engine keeps the buffers of the same contract.
  const bool is_new = contract_ != effect.contract || manifest_ != effect.manifest;
  prepared_ = effect.key;
  contract_ = effect.contract;
  manifest_ = effect.manifest;
  label_ = effect.label;
  PrepareDone done{effect.key, OkStatus(), PlanOf(*manifest_, *contract_).digest, "", {}, ""};
  if (!is_worker()) {
    const auto source = sources_.find(label_);
    if (source == sources_.end()) return Violate("asked for a label that nobody promised");
    const bool root = member().config().rank_in_unit == 0;
    if (root) {
      around_->truth->contents.try_emplace(
          effect.key.version(), Truth::Content{source->second.token, ModelCells(*manifest_)});
    }
  }
  if (Trouble(around_->scenario->refuse, Fault::kRefuse)) {
    done.status = InvalidArgument("injected: shapes differ");
    done.row = "m0.t0";
  } else if (effect.make_rendezvous) {
    done.rendezvous_kind = "sim";
    done.rendezvous_blob =
        around_->data_plane->MakeRendezvous(effect.key, effect.generation, *contract_);
  }
  world_->After(process_, world_->Work(process_, Microseconds(100), Milliseconds(3)),
                [this, done = std::move(done), is_new] {
                  if (is_new) OfferAnew();
                  End(Job::kPrepare, done.key);
                  Feed(done);
                });
}

void MemberShell::Do(const JoinGeneration& effect) {
  BeginJob(Job::kJoin, effect.key);
  around_->data_plane->Join(process_, this, effect.key, effect.generation, effect.blob,
                            Trouble(around_->scenario->join_fails, Fault::kJoinFails));
}

void MemberShell::Joined(const EpochKey& key, const Status& status) {
  OfferAnew();
  End(Job::kJoin, key);
  Feed(GenerationReady{key, status});
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

void MemberShell::Do(const StartStream& effect) {
  BeginJob(Job::kStream, effect.key);
  if (contract_ == nullptr || prepared_ != effect.key) return Violate("S3: streams unprepared");
  const CellPlan& plan = PlanOf(*manifest_, *contract_);
  if (is_worker()) {
    staged_.assign(plan.cells, 0);
    if (contract_->install == InstallMode::kInPlace) live_.resize(plan.cells);
  } else if (member().config().rank_in_unit != 0) {
    pulled_ = 0;
    PullBesides(effect.key);
    return;
  }
  std::optional<size_t> fails_at;
  if (Trouble(around_->scenario->stream_fails, Fault::kStreamFails)) {
    fails_at = world_->random.Below(plan.steps.size());
  }
  around_->data_plane->Begin(process_, effect.key, plan, contract_->buffer_count, fails_at);
}

// A trainer rank that sends nothing pulls its groups all the same, for its own collectives.
void MemberShell::PullBesides(const EpochKey& key) {
  world_->After(process_, world_->Work(process_, Microseconds(20), Milliseconds(1)), [this, key] {
    if (job_ != Job::kStream || job_key_ != key) return;
    const size_t steps = PlanOf(*manifest_, *contract_).steps.size();
    if (++pulled_ < steps) {
      PullBesides(key);
    } else {
      Streamed(key, OkStatus(), "");
    }
  });
}

void MemberShell::Streamed(const EpochKey& key, const Status& status, const std::string& culprit) {
  if (!End(Job::kStream, key)) {  // too late: the attempt was given up here
    Feed(StreamDone{key, status, DigestOf(staged_), 0, {}, culprit});
    return;
  }
  StreamDone done{key, status, Digest{1, 1}, manifest_->total_bytes(), {}, culprit};
  if (!culprit.empty() && world_->mutation() == Mutation::kInnocentAccused) {
    for (const FlowMember& other : contract_->flows.front().members) {
      const bool innocent = other.member.name != culprit && other.member != member().config().self;
      if (innocent) done.culprit = other.member.name;
    }
  }
  if (is_worker()) {
    const bool in_place = contract_->install == InstallMode::kInPlace;
    done.content_digest = DigestOf(in_place ? live_ : staged_);
    if (status.ok()) {
      around_->truth->staged[key].insert(member().config().self);
    }
  } else if (world_->mutation() == Mutation::kSourceFreeAtStreamEnd) {
    if (const auto source = sources_.find(label_); source != sources_.end()) {
      source->second.token = ++around_->truth->tokens;
    }
  }
  Feed(done);
}

void MemberShell::Do(const InstallVersion& effect) {
  BeginJob(Job::kInstall, effect.key);
  world_->After(process_, world_->Work(process_, Microseconds(50), Milliseconds(5)),
                [this, key = effect.key] {
                  InstallDone done{key, OkStatus(), std::nullopt, 0.001};
                  const bool staged = contract_->install == InstallMode::kStaged;
                  if (Trouble(around_->scenario->install_fails, Fault::kInstallFails)) {
                    done.status = Internal("injected: the copy failed");
                    // Half of it is over the old version.
                    live_.resize(staged_.size());
                    for (size_t k = 0; staged && k < live_.size() / 2; ++k) live_[k] = staged_[k];
                  } else if (staged && world_->mutation() != Mutation::kInstallSkipped) {
                    live_ = staged_;
                  }
                  End(Job::kInstall, key);
                  Feed(done);
                });
}

// ---- giving up ----------------------------------------------------------------------------------

void MemberShell::Do(const HaltSource& effect) {
  if (is_worker()) Violate("a worker halts a source");
  BeginJob(Job::kHalt, effect.key);
  around_->data_plane->Halt(process_);
  world_->After(process_, world_->Work(process_, Microseconds(20), Milliseconds(2)),
                [this, key = effect.key] {
                  const bool root = member().config().rank_in_unit == 0;
                  const size_t entered = root ? around_->data_plane->Launched(process_) : pulled_;
                  HaltDone done{key, std::nullopt};
                  if (entered > 0) done.entered_group = entered - 1;
                  End(Job::kHalt, key);
                  Feed(done);
                });
}

void MemberShell::Do(const AbortLocal& effect) {
  if (is_worker() && effect.key == committed_) Violate("S10: given up after the decision");
  const size_t entered = !is_worker() && member().config().rank_in_unit != 0 ? pulled_ : 0;
  if (effect.drain_group && *effect.drain_group + 1 < entered) {
    Violate("drained to a group before one that was entered");
  }
  BeginJob(Job::kAbort, effect.key);
  around_->data_plane->Halt(process_);
  AbortOutcome outcome = AbortOutcome::kClean;
  Duration wait = world_->Work(process_, Microseconds(50), Milliseconds(10));
  if (Trouble(around_->scenario->wedge, Fault::kWedge)) {
    outcome = AbortOutcome::kWedged;
    wait = Milliseconds(500);
  }
  world_->After(process_, wait, [this, effect, outcome] { FinishAbort(effect, outcome); });
}

void MemberShell::FinishAbort(const AbortLocal& effect, AbortOutcome outcome) {
  if (!End(Job::kAbort, effect.key)) return Violate("an abort was given up");
  if (outcome == AbortOutcome::kClean) {
    around_->data_plane->Close(process_);
    aborted_ = effect.key;
    staged_.clear();
  }
  OfferAnew();
  Feed(AbortDone{effect.key, outcome});
}

void MemberShell::Do(const CloseGeneration&) {
  if (job_ != Job::kNone) Violate("S9: a generation is closed under running work");
  around_->data_plane->Close(process_);
}

// ---- the rest -----------------------------------------------------------------------------------

void MemberShell::Scribble(uint64_t label) { sources_.erase(label); }
void MemberShell::Do(const SourceFree& effect) { Scribble(effect.label); }
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

uint64_t MemberShell::ReadWord(const EpochKey& key, uint32_t cell) {
  if (key != prepared_) Violate("S6: reads for an attempt of the past");
  // Once the promise has ended the trainer trains on: the bytes are other ones each time.
  const auto source = sources_.find(label_);
  const uint64_t token = source == sources_.end() ? ++around_->truth->tokens : source->second.token;
  return WordOf(token, cell);
}

void MemberShell::WriteWord(const EpochKey& key, uint32_t cell, uint64_t word) {
  if (key <= aborted_ && key.term == aborted_.term) {
    return Violate("S9: a write of " + KeyText(key) + " lands after its Aborted");
  }
  if (key != prepared_) return Violate("S6: a write of an attempt of the past");
  if (contract_->install == InstallMode::kStaged) {
    staged_[cell] = word;
    return;
  }
  if (engine_runs_ || member().in_service()) Violate("S2: live memory is written while it serves");
  live_[cell] = word;
}

void MemberShell::CheckStep() {
  if (!process_->alive) return;
  const MemberMachine& machine = member();
  if (machine.phase() == MemberPhase::kIdle && job_ != Job::kNone) {
    Violate("S9: idle, with local work of " + KeyText(job_key_));
  }
  if (is_worker()) CheckService();
}

// S1 and S2 of one rank: what it serves is what the trainer held for that version.
void MemberShell::CheckService() {
  const MemberMachine& machine = member();
  if (machine.serving() < last_served_) Violate("S2: the served version went back");
  last_served_ = machine.serving();
  if (!machine.in_service()) return;
  if (!engine_runs_) Violate("S2: in service, but the engine never resumed");
  if (machine.serving().IsZero()) return;
  const Truth::Content& content = around_->truth->contents[machine.serving()];
  bool right = live_.size() == content.cells;
  for (uint32_t k = 0; right && k < content.cells; ++k)
    right = live_[k] == WordOf(content.token, k);
  if (!right) {
    Violate("S1: serves " + ToString(machine.serving()) + " with other bytes than the trainer's");
  }
}

}  // namespace packcast::sim
