// A rank's streams: a flow each, which end as one.
#include <algorithm>
#include <utility>

#include "tests/sim/describe.h"
#include "tests/sim/member_shell.h"

namespace packcast::sim {

void MemberShell::Do(const StartStream& effect) {
  BeginJob(Job::kStream, effect.key);
  if (effect.early) {
    ++world_->stats.early;
    early_ = effect.key;
  }
  if (contract_ == nullptr || prepared_ != effect.key) return Violate("S3: streams unprepared");
  done_ = StreamDone{effect.key, OkStatus(), {}, 0, {}, ""};
  pulled_ = 0;
  const uint32_t cells = ModelCells(*manifest_);
  if (!sends()) {
    staged_.assign(cells, 0);
    writes_.assign(cells, 0);
    if (contract_->install == InstallMode::kInPlace) live_.resize(cells);
  } else {
    OpenSource(effect.key);
    if (!is_sender()) return;
  }
  ExpireAt(StreamEnd(effect.early), effect.key);
  size_t steps = 0;
  for (const Lane& lane : lanes_) steps += PlanOfLane(lane).steps.size();
  std::optional<size_t> fails_at;
  if (Trouble(around_->scenario->stream_fails, Fault::kStreamFails)) {
    fails_at = world_->random.Below(steps);
  }
  for (Lane& lane : lanes_) {
    lane = {.flow = lane.flow, .generation = lane.generation, .streaming = true};
    const CellPlan& plan = PlanOfLane(lane);
    StreamOptions options{effect.key, &FlowOf(lane), &plan, contract_->buffer_count, std::nullopt};
    // Of one of its flows; the others are broken off then.
    if (fails_at && *fails_at < plan.steps.size()) options.fails_at = std::exchange(fails_at, {});
    if (fails_at) *fails_at -= plan.steps.size();
    around_->data_plane->Begin(process_, lane.generation, options);
  }
  if (effect.early && is_sender()) around_->owner->OnEarlyRoot();
}

// When this rank gives its streams up by itself, by its own clock.
Time MemberShell::StreamEnd(bool early) const {
  Time now = world_->LocalNow(process_);
  if (world_->mutation() == Mutation::kClocksCompared) now = around_->CoordinatorsTime();
  return now + contract_->transfer_deadline +
         (early ? contract_->prepare_deadline : Duration::zero());
}

void MemberShell::ExpireAt(Time local, const EpochKey& key) {
  const Duration wait = std::max(Duration::zero(), local - world_->LocalNow(process_));
  world_->Timer(process_, wait, [this, local, key] {
    if (job_ != Job::kStream || job_key_ != key) return;
    if (world_->LocalNow(process_) < local) return ExpireAt(local, key);  // it slept
    for (const Lane& lane : std::vector<Lane>(lanes_)) {
      if (lane.streaming) around_->data_plane->Expire(process_, lane.generation);
    }
  });
}

// Trainers: a rank that sends nothing pulls its groups all the same, for its own collectives.
void MemberShell::OpenSource(const EpochKey& key) {
  if (!lazy_) {
    if (!is_sender()) PullBesides(key);
    return;
  }
  lazy_->Open(key, manifest_->size(), [this, key] {
    if (job_ != Job::kStream || job_key_ != key) return;
    around_->data_plane->Wake(process_);
    if (AllEnded()) FinishStream();
  });
}

bool MemberShell::AllEnded() const {
  const bool open =
      std::any_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return lane.streaming; });
  // A stream that went well has walked over all groups.
  return !open && (!lazy_ || !done_.status.ok() || lazy_->HasAll(prepared_));
}

bool MemberShell::Ready(const EpochKey& key, const std::vector<uint32_t>& cells) {
  if (!lazy_) return true;
  return std::all_of(cells.begin(), cells.end(),
                     [&](uint32_t cell) { return lazy_->Has(key, RowOf(*manifest_, cell)); });
}

void MemberShell::PullBesides(const EpochKey& key) {
  world_->After(process_, world_->Work(process_, Microseconds(20), Milliseconds(1)), [this, key] {
    if (job_ != Job::kStream || job_key_ != key) return;
    if (++pulled_ < manifest_->size()) {
      PullBesides(key);
    } else {
      FinishStream();
    }
  });
}

void MemberShell::Streamed(const EpochKey& key, FlowId flow, const Status& status,
                           const std::string& culprit) {
  world_->trace.Add(world_->now(), process_->name, "stream-ended", flow.value, [&] {
    return KeyText(key) + " flow " + std::to_string(flow.value) + " " + status.ToString();
  });
  if (job_ != Job::kStream || job_key_ != key) {  // too late: the attempt was given up here
    Feed(StreamDone{key, status, {}, 0, {}, culprit});
    return;
  }
  Lane* lane = FindLane(flow);
  if (lane == nullptr || !std::exchange(lane->streaming, false)) {
    return Violate("S3: a stream ends that never began");
  }
  if (status.ok()) {
    EndWell(lane);
  } else if (done_.status.ok()) {
    FailStream(status, culprit);
  }
  if (AllEnded()) {
    FinishStream();
  } else if (is_worker() && status.ok() && world_->mutation() == Mutation::kStagedAfterFirstFlow) {
    PretendStaged();
  }
}

// As the real engine does: flows of the same rows, which go to different members, must agree, and
// those of different rows add up.
void MemberShell::EndWell(Lane* lane) {
  const std::vector<RowRange>& rows = FlowOf(*lane).rows;
  uint64_t bytes = 0;
  for (const std::vector<uint32_t>& step : PlanOfLane(*lane).steps) {
    bytes += step.size() * kCellBytes;
    for (const uint32_t cell : step) {
      if (!sends()) lane->digest = Combine(lane->digest, DigestOf(Written()[cell]));
    }
  }
  // Mutation: nobody looks whether what was sent is what the version is made of.
  if (version_ != prepared_.version() && world_->mutation() == Mutation::kCopyWrittenOver) {
    lane->digest = {};
    for (const uint64_t word : around_->truth->contents[version_]) {
      lane->digest = Combine(lane->digest, DigestOf(word));
    }
  }
  lane->ended_well = true;
  for (const Lane& other : lanes_) {
    if (&other == lane || !other.ended_well || FlowOf(other).rows != rows) continue;
    if (other.digest != lane->digest && done_.status.ok()) {
      FailStream(DataLoss("the bytes of the source changed between flows"), "");
    }
    return;
  }
  done_.content_digest = Combine(done_.content_digest, lane->digest);
  done_.bytes += bytes;
}

// The first failure ends the other flows.
void MemberShell::FailStream(const Status& status, const std::string& culprit) {
  done_.status = status;
  done_.culprit = culprit;
  for (const Lane& lane : lanes_) {
    if (lane.streaming || lane.ended_well) {
      around_->truth->broke_off[process_->name] = world_->now();
      around_->data_plane->BreakOff(process_, lane.generation);
    }
  }
}

void MemberShell::FinishStream() {
  StreamDone done = std::exchange(done_, {});
  End(Job::kStream, done.key);
  if (!done.culprit.empty() && world_->mutation() == Mutation::kInnocentAccused) {
    const std::string guilty = done.culprit;
    for (const Flow& flow : contract_->flows) {
      for (const FlowMember& other : flow.members) {
        const bool innocent = other.member.name != guilty && other.member != member().config().self;
        if (innocent) done.culprit = other.member.name;
      }
    }
  }
  if (!sends() && done.status.ok()) {
    CheckWritten();
    around_->truth->staged[done.key].insert(member().config().self);
  } else if (!is_worker()) {
    if (done.status.ok()) pulled_ = manifest_->size();
    const auto source = sources_.find(label_);
    if (source != sources_.end() && world_->mutation() == Mutation::kSourceFreeAtStreamEnd) {
      source->second.token = ++around_->truth->tokens;
    }
  }
  // An engine's word for an attempt that is over: comes late now and then.
  if (around_->unrest && world_->random.Chance(around_->scenario->echo)) {
    world_->After(process_, world_->random.Between(Milliseconds(1), Milliseconds(40)),
                  [this, done] {
                    if (prepared_ != done.key) Feed(done);
                  });
  }
  Feed(done);
}

// Mutation: one flow's end is taken for the end of all.
void MemberShell::PretendStaged() {
  StreamDone done = done_;
  End(Job::kStream, done.key);
  done.content_digest = {};
  for (const uint64_t word : around_->truth->contents[done.key.version()]) {
    done.content_digest = Combine(done.content_digest, DigestOf(word));
  }
  Feed(done);
}

// ---- words --------------------------------------------------------------------------------------

const Words& MemberShell::Written() const {
  return contract_->install == InstallMode::kInPlace ? live_ : staged_;
}

uint64_t MemberShell::ReadWord(const EpochKey& key, FlowId flow, uint32_t cell) {
  if (key != prepared_) Violate("S6: reads for an attempt of the past");
  if (is_worker()) return ReadServed(flow, cell);
  // Once the promise has ended the trainer trains on: the bytes are other ones each time.
  const auto source = sources_.find(label_);
  const uint64_t token = source == sources_.end() ? ++around_->truth->tokens : source->second.token;
  const uint64_t word = WordOf(token, cell);
  pulled_ = std::max<size_t>(pulled_, RowOf(*manifest_, cell) + 1);
  if (Lane* lane = FindLane(flow)) lane->digest = Combine(lane->digest, DigestOf(word));
  return word;
}

void MemberShell::WriteWord(const EpochKey& key, FlowId flow, uint32_t cell, uint64_t word) {
  if (key <= aborted_ && key.term == aborted_.term) {
    return Violate("S9: a write of " + KeyText(key) + " lands after its Aborted");
  }
  if (key != prepared_) return Violate("S6: a write of an attempt of the past");
  if (FindLane(flow) == nullptr ||
      !Contains(contract_->flows[flow.value].rows, RowOf(*manifest_, cell))) {
    return Violate("S3: flow " + std::to_string(flow.value) +
                   " writes a row that it does not carry");
  }
  ++writes_[cell];
  if (contract_->install == InstallMode::kStaged) {
    staged_[cell] = word;
    return;
  }
  if (engine_runs_ || member().in_service()) Violate("S2: live memory is written while it serves");
  live_[cell] = word;
}

// S1: all flows together have brought the whole model, each cell once.
void MemberShell::CheckWritten() {
  for (size_t cell = 0; cell < writes_.size(); ++cell) {
    if (writes_[cell] == 1) continue;
    Violate("S1: staged, and cell " + std::to_string(cell) + " was written " +
            std::to_string(writes_[cell]) + " times");
  }
}

}  // namespace packcast::sim
