// Workers that are behind catch up from one that keeps what it has installed, through the public
// API.
#include "actors/sources/memory_sink.h"
#include "runtime/data/shm_transport.h"
#include "tests/actors/cluster_kit.h"

namespace packcast {
namespace {

using testing::CallbackSink;
using testing::DrivingThread;
using testing::Gate;
using testing::kPatience;

// A worker in a process of its own, which drives itself.
struct Rank {
  std::unique_ptr<MemorySink> sink = std::make_unique<MemorySink>();
  std::unique_ptr<Runtime> runtime;
  std::unique_ptr<Worker> worker;
};

// Breaks its word: an engine that changes its weights once it serves them.
class ScribblingSink : public MemorySink {
 public:
  StatusOr<Binding> Bind(const Manifest& manifest, InstallMode mode) override {
    PC_ASSIGN_OR_RETURN(Binding binding, MemorySink::Bind(manifest, mode));
    banks_ = binding.banks;
    return binding;
  }
  void Install(const EpochInfo& epoch, Done done) override {
    MemorySink::Install(epoch, std::move(done));
    banks_[epoch.bank].front().memory[7] ^= std::byte{1};
  }

 private:
  std::vector<std::vector<Target>> banks_;
};

// Installs what it says could not be installed, and cannot be quiesced the next time; each once.
class RelapsingSink : public MemorySink {
 public:
  void Quiesce(const EpochInfo& epoch, Done done) override {
    if (std::exchange(is_to_refuse_, false)) return done(Internal("a request hangs"));
    MemorySink::Quiesce(epoch, std::move(done));
  }
  void Install(const EpochInfo& epoch, Done done) override {
    if (!std::exchange(is_to_fail_, false)) return MemorySink::Install(epoch, std::move(done));
    is_to_refuse_ = true;
    MemorySink::Install(epoch, [done](const Status& status) {
      done(status.ok() ? Internal("installed, but not verified") : status);
    });
  }

 private:
  bool is_to_fail_ = true;
  bool is_to_refuse_ = false;
};

class CatchUpTest : public testing::ClusterTest {
 protected:
  void StartTrainer(bool shared_memory = false) {
    source_ = testing::SmallSource(200);
    TrainerOptions options = TrainerNamed("trainer-0");
    options.shared_memory = shared_memory;
    trainer_ = Trainer::Start(trainer_runtime_.get(), options, source_.get()).value();
  }
  Rank StartRank(const std::string& name, bool shared_memory = false,
                 std::unique_ptr<MemorySink> sink = std::make_unique<MemorySink>()) {
    Rank rank;
    rank.sink = std::move(sink);
    rank.runtime = testing::StartRuntime(name, testing::Patient());
    WorkerOptions options = WorkerNamed(name);
    options.shared_memory = shared_memory;
    options.own_thread = true;
    options.verify = [sink = rank.sink.get()] { return sink->ServingDigest(); };
    rank.worker = Worker::Start(rank.runtime.get(), options, rank.sink.get()).value();
    return rank;
  }
  // The report of the first catch-up that ended so.
  Value WaitEnd(bool committed) {
    Value report;
    EXPECT_TRUE(events_.WaitFor([&](const Value& event) {
      if (NameOf(event) != "catch_up.end") return false;
      report = *event.Find("report");
      return *report.Find("committed")->AsBool() == committed;
    }));
    return report;
  }
  void CheckCatchUp(bool shared_memory, const std::string& transport) {
    StartTrainer(shared_memory);
    Rank first = StartRank("worker-0", shared_memory);
    Rank second = StartRank("worker-1", shared_memory);
    WaitMembers(3);
    ASSERT_EQ(trainer_->Sync(41, kPatience).status, OkStatus());
    Rank late = StartRank("worker-2", shared_memory);
    const Value report = WaitEnd(true);
    // As the worker reads it: the next epoch writes there, and ZeroMQ is between that and this.
    const Value& worker = report.Find("workers")->AsArray()->front();
    EXPECT_EQ(*worker.Find("digest")->AsString(), ToHex(source_->ContentDigest()));
    EXPECT_TRUE(*worker.Find("verified")->AsBool());
    const ServingState serving = late.worker->Serving();
    EXPECT_EQ(serving.version, first.worker->Serving().version);
    EXPECT_EQ(serving.label, 41u);
    EXPECT_TRUE(serving.in_service);
    EXPECT_EQ(*report.Find("provider")->AsString(), "worker-0");
    EXPECT_EQ(*report.Find("contract")->Find("transport")->AsString(), transport);
    for (const Rank* rank : {&first, &second}) {
      EXPECT_EQ(rank->worker->Serving().installs, 1u);
      EXPECT_TRUE(rank->worker->Serving().in_service);
      EXPECT_EQ(rank->sink->quiesce_count(), rank->sink->resume_count());
    }
    // And all go on together.
    ASSERT_EQ(trainer_->Sync(42, kPatience).status, OkStatus());
    for (const Rank* rank : {&first, &second, &late}) {
      EXPECT_EQ(rank->sink->ServingDigest().value(), source_->ContentDigest());
      EXPECT_EQ(rank->sink->misuse(), OkStatus());
    }
  }

  std::unique_ptr<Runtime> trainer_runtime_ = testing::StartRuntime("trainer", testing::Patient());
  std::unique_ptr<ChangingSource> source_;
  std::unique_ptr<Trainer> trainer_;
};

TEST_F(CatchUpTest, AFreshWorkerServesWhatTheOthersServe) { CheckCatchUp(false, "zmq"); }

TEST_F(CatchUpTest, OverSharedMemory) { CheckCatchUp(true, LocalShmKind().value()); }

TEST_F(CatchUpTest, InPlaceTheOthersServeOn) {
  CoordinatorOptions options;
  options.policy.install = InstallMode::kInPlace;
  StartCoordinator(options);
  CheckCatchUp(false, "zmq");
}

// The version that is given up is the one that its sink has installed, and nothing was written.
TEST_F(CatchUpTest, AfterAFailedInstallInPlaceItMayBeGivenUpAndComeAgain) {
  CoordinatorOptions options;
  options.policy.install = InstallMode::kInPlace;
  StartCoordinator(options);
  StartTrainer();
  const Rank first = StartRank("worker-0");
  const Rank second = StartRank("worker-1", false, std::make_unique<RelapsingSink>());
  WaitMembers(3);
  ASSERT_EQ(trainer_->Sync(1, kPatience).status, OkStatus());
  const Value report = WaitEnd(false);
  EXPECT_NE(report.Find("error")->AsString()->find("a request hangs"), std::string::npos);
  EXPECT_EQ(*WaitEnd(true).Find("provider")->AsString(), "worker-0");
  EXPECT_EQ(second.worker->Serving().version, first.worker->Serving().version);
  EXPECT_EQ(second.sink->ServingDigest().value(), source_->ContentDigest());
  EXPECT_EQ(second.sink->misuse(), OkStatus());
  EXPECT_EQ(second.sink->discard_count(), 0u);
}

TEST_F(CatchUpTest, ASyncPutsAnEndToIt) {
  StartTrainer();
  Rank first = StartRank("worker-0");
  WaitMembers(2);
  ASSERT_EQ(trainer_->Sync(1, kPatience).status, OkStatus());
  CallbackSink slow;
  Gate loading, go_on;
  std::atomic<bool> waits{true};
  slow.on_load = [&] {
    loading.Open();
    if (waits.exchange(false)) go_on.Wait();
  };
  const auto runtime = testing::StartRuntime("worker-1", testing::Patient());
  const auto late = Worker::Start(runtime.get(), WorkerNamed("worker-1"), &slow).value();
  DrivingThread driving(late.get());
  loading.Wait();  // in the middle of the catch-up
  std::thread syncing([&] { EXPECT_EQ(trainer_->Sync(2, kPatience).status, OkStatus()); });
  const Value report = WaitEnd(false);
  EXPECT_NE(report.Find("error")->AsString()->find("sync(2) begins"), std::string::npos);
  go_on.Open();
  syncing.join();
  driving.Stop();
  EXPECT_EQ(first.sink->ServingDigest().value(), source_->ContentDigest());
  EXPECT_EQ(slow.ContentDigest(), source_->ContentDigest());
  EXPECT_EQ(slow.installed.version, first.worker->Serving().version);
  EXPECT_EQ(slow.installs, 1u);
  EXPECT_EQ(first.sink->misuse(), OkStatus());
}

TEST_F(CatchUpTest, WhoChangesWhatItInstalledIsFoundOut) {
  StartTrainer();
  const Rank first = StartRank("worker-0", false, std::make_unique<ScribblingSink>());
  WaitMembers(2);
  ASSERT_EQ(trainer_->Sync(1, kPatience).status, OkStatus());
  const Rank late = StartRank("worker-1");
  const Value report = WaitEnd(false);
  EXPECT_EQ(*report.Find("culprit")->AsString(), "worker-0");
  EXPECT_TRUE(late.worker->Serving().version.IsZero());
}

TEST_F(CatchUpTest, WhatWentToCallbacksCannotBeServed) {
  class Promising : public CallbackSink {
    SinkCaps Caps() override { return {.can_serve = true}; }
  };
  StartTrainer();
  Promising sink;
  const auto runtime = testing::StartRuntime("worker-0", testing::Patient());
  const auto first = Worker::Start(runtime.get(), WorkerNamed("worker-0"), &sink).value();
  DrivingThread driving(first.get());
  WaitMembers(2);
  ASSERT_EQ(trainer_->Sync(1, kPatience).status, OkStatus());
  const Rank late = StartRank("worker-1");
  EXPECT_TRUE(events_.WaitFor([&](const Value& event) {
    return NameOf(event) == "replica.behind" && !*event.Find("served")->AsBool();
  }));
  ASSERT_EQ(trainer_->Sync(2, kPatience).status, OkStatus());
  EXPECT_EQ(late.sink->ServingDigest().value(), source_->ContentDigest());
}

}  // namespace
}  // namespace packcast
