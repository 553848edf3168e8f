#include "tests/bench/fleet_cluster.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "runtime/base/clock.h"
#include "tests/bench/take.h"

namespace packcast::bench {
namespace {

constexpr Duration kSyncGrace = Seconds(15);   // of an abort
constexpr Duration kJoinLimit = Seconds(60);   // a process comes up and has its device
constexpr Duration kLeaveLimit = Seconds(30);  // and its memory is given back

std::string WorkerName(int rank) { return "worker-" + std::to_string(rank); }
std::string ReplicaName(int rank) { return "replica-" + std::to_string(rank); }

std::string TextOf(const Value& map, const char* key) {
  const Value* const value = map.Find(key);
  const std::string* const text = value == nullptr ? nullptr : value->AsString();
  return text == nullptr ? "" : *text;
}

const ValueArray& ListOf(const Value& map, const char* key) {
  static const auto* none = new ValueArray;
  const Value* const value = map.Find(key);
  const ValueArray* const list = value == nullptr ? nullptr : value->AsArray();
  return list == nullptr ? *none : *list;
}

std::string PhasesOf(const Value& report) {
  const Value* const phases = report.Find("phases");
  if (phases == nullptr || phases->AsMap() == nullptr) return "";
  std::string text;
  for (const auto& [name, seconds] : *phases->AsMap()) {
    double value = 0;
    (void)seconds.GetDouble(&value);
    char words[64];
    std::snprintf(words, sizeof words, "%s%s %.1f", text.empty() ? "" : ", ", name.c_str(),
                  1e3 * value);
    text += words;
  }
  return text;
}

}  // namespace

FleetCluster::FleetCluster(const FleetFlags& flags, const std::string& install,
                           const std::string& list, Crew* crew)
    : flags_(flags), crew_(crew) {
  crew_->Begin("a cluster comes up", 2 * kJoinLimit);
  Runtime::Options hub;
  hub.name = "coordinator";
  runtime_ = Take(Runtime::Start(hub));
  CoordinatorOptions options;
  options.policy.buffer_bytes = flags.buffer_mib << 20;
  options.policy.buffer_count = flags.buffers;
  options.policy.install = Take(InstallModeFromName(install));
  options.on_event = [this](const Value& event) { OnEvent(event); };
  coordinator_ = Take(Coordinator::Start(runtime_.get(), options));
  for (int rank = 1; rank <= flags.workers; ++rank) TellToJoin(rank);
  TellTrainers("train " + runtime_->endpoint() + " " + list);
  trainer_ = std::make_unique<FleetTrainer>(flags, list, runtime_->endpoint(), runtime_.get());
  for (int rank = 1; rank <= flags.workers; ++rank) AwaitJoined(WorkerName(rank));
  for (int k = 1; k < flags.trainers; ++k) AwaitJoined("trainer-" + std::to_string(k));
}

FleetCluster::~FleetCluster() {
  crew_->Begin("the workers leave", kLeaveLimit);
  const Place place = crew_->PlaceAmong(flags_.processes());
  for (Channel* channel : place.channels) channel->Send("leave");
  Meet(place);
}

// On the coordinator's thread.
void FleetCluster::OnEvent(const Value& event) {
  const std::string name = TextOf(event, "event");
  if (name != "member.joined" && name != "member.lost") return;
  std::lock_guard lock(mutex_);
  if (name == "member.joined") {
    joined_.insert(TextOf(event, "member"));
  } else {
    joined_.erase(TextOf(event, "member"));
  }
  changed_.notify_all();
}

void FleetCluster::TellToJoin(int rank) {
  crew_->channel(rank)->Send("join " + runtime_->endpoint());
}

void FleetCluster::TellTrainers(const std::string& what) {
  for (int rank = flags_.workers + 1; rank < flags_.processes(); ++rank) {
    crew_->channel(rank)->Send(what);
  }
}

void FleetCluster::AwaitJoined(const std::string& name) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, kJoinLimit, [&] { return joined_.contains(name); })) {
    Die(name + " was not let in");
  }
}

void FleetCluster::Refill() {
  TellTrainers("refill " + std::to_string(++refills_));
  if (trainer_->refill != nullptr) trainer_->refill(refills_);
  last_digest_ = digest_;
}

double FleetCluster::Sync(int workers) {
  crew_->Begin("an epoch", kFleetSyncLimit + kSyncGrace);
  TellTrainers("sync " + std::to_string(++label_));
  const Time begin = Now();
  SyncResult result = trainer_->trainer->Sync(label_, kFleetSyncLimit);
  const double seconds = ToSeconds(Now() - begin);
  Check(result.status);
  report_ = std::move(result.report);
  CheckReport(workers);
  return seconds;
}

void FleetCluster::CheckReport(int workers) {
  const auto die = [this](const std::string& what) { Die(what + ": " + report_.ToString(4000)); };
  const Value* const committed = report_.Find("committed");
  if (committed == nullptr || !(*committed == Value(true))) die("an epoch was not committed");
  const ValueArray& held = ListOf(report_, "workers");
  if (held.size() != static_cast<size_t>(workers)) {
    die("not " + std::to_string(workers) + " workers took part to the end");
  }
  digest_ = TextOf(report_, "digest");
  if (digest_.empty()) die("the trainer has not said what it sent");
  for (const Value& worker : held) {
    if (TextOf(worker, "digest") != digest_) die("a worker holds something else");
  }
  if (digest_ == last_digest_) die("the weights are others, and their digest is the same");
}

void FleetCluster::Measure(int repeats, Series* series) {
  for (int k = 0; k < repeats; ++k) series->seconds.push_back(Sync(series->workers));
  std::sort(series->seconds.begin(), series->seconds.end());
  if (const Value* contract = report_.Find("contract")) {
    const std::string kind = TextOf(*contract, "transport");
    series->transport = kind.substr(0, kind.find('@'));
  }
  if (const Value* bytes = report_.Find("bytes")) (void)bytes->GetDouble(&series->bytes);
}

Series FleetCluster::Run(int workers, int repeats) {
  Series series;
  series.workers = workers;
  Refill();
  series.first = Sync(workers);
  Measure(repeats, &series);
  return series;
}

Series FleetCluster::RunSurvivors(const Loss& loss, int repeats) {
  Series series;
  series.workers = flags_.workers - 1;
  series.first = loss.seconds;
  Measure(repeats, &series);
  return series;
}

Loss FleetCluster::RunWithLoss(int rank) {
  Loss loss;
  Time killed{};
  Refill();
  const Time begin = Now();
  double bytes = 0;
  if (const Value* total = report_.Find("bytes")) (void)total->GetDouble(&bytes);
  trainer_->source->CallAt(static_cast<uint64_t>(bytes / 2), [&](uint64_t left) {
    killed = Now();
    crew_->Kill(rank);
    loss.bytes_left = left;
  });
  (void)Sync(flags_.workers - 1);
  const Time end = Now();
  if (trainer_->source->Forget()) Die("an epoch ended before half of its bytes had left");
  loss.seconds = ToSeconds(end - killed);
  loss.killed_after = ToSeconds(killed - begin);
  if (const Value* attempt = report_.Find("attempt")) (void)attempt->GetUint(&loss.attempt);
  loss.phases = PhasesOf(report_);
  const ValueArray& expelled = ListOf(report_, "expelled");
  if (loss.attempt < 2) Die(WorkerName(rank) + " was killed too late: " + report_.ToString(4000));
  if (expelled.size() != 1 || TextOf(expelled.front(), "replica") != ReplicaName(rank) ||
      TextOf(expelled.front(), "culprit") != WorkerName(rank)) {
    Die(WorkerName(rank) +
        " was killed, and the report does not say so: " + report_.ToString(4000));
  }
  loss.expelled = TextOf(expelled.front(), "replica") + " for " +
                  TextOf(expelled.front(), "culprit") + ": " + TextOf(expelled.front(), "reason");
  return loss;
}

void FleetCluster::Replace(int rank) {
  crew_->Begin(WorkerName(rank) + " comes back", 3 * kJoinLimit);
  crew_->Restart(rank);
  TellToJoin(rank);
  AwaitJoined(WorkerName(rank));
}

}  // namespace packcast::bench
