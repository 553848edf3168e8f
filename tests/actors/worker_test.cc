#include "actors/worker.h"

#include <thread>

#include "actors/sources/memory_sink.h"
#include "tests/actors/cluster_kit.h"

namespace packcast {
namespace {

using testing::CallbackSink;
using testing::DrivingThread;
using testing::Gate;
using testing::kPatience;

class WorkerTest : public testing::ClusterTest {
 protected:
  void StartTrainer(size_t rows = 20) {
    source_ = testing::SmallSource(rows);
    trainer_ =
        Trainer::Start(trainer_runtime_.get(), TrainerNamed("trainer-0"), source_.get()).value();
  }
  std::unique_ptr<Worker> StartWorker(WeightSink* sink, bool own_thread = false) {
    WorkerOptions options = WorkerNamed("worker-0");
    options.own_thread = own_thread;
    return Worker::Start(worker_runtime_.get(), options, sink).value();
  }

  std::unique_ptr<Runtime> trainer_runtime_ = testing::StartRuntime("trainer", testing::Patient());
  std::unique_ptr<Runtime> worker_runtime_ = testing::StartRuntime("worker", testing::Patient());
  std::unique_ptr<ChangingSource> source_;
  std::unique_ptr<Trainer> trainer_;
};

TEST_F(WorkerTest, DrivesItselfOnAThreadOfItsOwn) {
  StartTrainer();
  MemorySink sink;
  const auto worker = StartWorker(&sink, true);
  WaitMembers(2);
  EXPECT_EQ(worker->Drive(Duration::zero()), OkStatus());
  for (uint64_t label = 1; label <= 3; ++label) {
    ASSERT_EQ(trainer_->Sync(label, kPatience).status, OkStatus());
    EXPECT_EQ(sink.ServingDigest().value(), source_->ContentDigest());
    const ServingState serving = worker->Serving();
    EXPECT_EQ(serving.version, sink.state().version);
    EXPECT_EQ(serving.label, label);
    EXPECT_EQ(serving.installs, label);
    EXPECT_TRUE(serving.in_service && !serving.dirty);
  }
  worker->Stop();
  EXPECT_EQ(worker->Drive(Duration::zero()).code(), StatusCode::kCancelled);
  EXPECT_EQ(sink.misuse(), OkStatus());
}

TEST_F(WorkerTest, RowsBoundAsCallbacksAreLoadedOnTheDrivingThread) {
  StartTrainer();
  CallbackSink sink;
  std::thread::id loaded_on;
  sink.on_load = [&] { loaded_on = std::this_thread::get_id(); };
  const auto worker = StartWorker(&sink);
  WaitMembers(2);
  std::thread::id driven_on;
  DrivingThread driving(worker.get(), [&] { driven_on = std::this_thread::get_id(); });
  for (uint64_t label = 1; label <= 2; ++label) {
    ASSERT_EQ(trainer_->Sync(label, kPatience).status, OkStatus());
  }
  driving.Stop();
  EXPECT_EQ(sink.ContentDigest(), source_->ContentDigest());
  EXPECT_EQ(loaded_on, driven_on);
  EXPECT_EQ(sink.installed.label, 2u);
}

// The README's loop: Drive, then attribute the rollout to Serving().
TEST_F(WorkerTest, ServingNamesWhatTheLastDriveInstalled) {
  StartTrainer();
  CallbackSink sink;
  const auto worker = StartWorker(&sink);
  WaitMembers(2);
  DrivingThread driving(worker.get(), [&] {
    const ServingState serving = worker->Serving();
    EXPECT_EQ(serving.version, sink.installed.version);
    EXPECT_EQ(serving.label, sink.installed.label);
    EXPECT_EQ(serving.installs, sink.installs);
    EXPECT_EQ(serving.in_service, sink.installs > 0);
  });
  for (uint64_t label = 1; label <= 20; ++label) {
    ASSERT_EQ(trainer_->Sync(label, kPatience).status, OkStatus());
  }
}

TEST_F(WorkerTest, AFailedVerifyPutsItOutOfService) {
  StartTrainer();
  CallbackSink sink;
  WorkerOptions options = WorkerNamed("worker-0");
  options.own_thread = true;
  options.verify = []() -> StatusOr<Digest> { return DataLoss("row.3 is not what it was"); };
  const auto worker = Worker::Start(worker_runtime_.get(), options, &sink).value();
  WaitMembers(2);
  (void)trainer_->Sync(1, kPatience);
  ASSERT_TRUE(events_.WaitFor([](const Value& event) {
    const Value* reason = event.Find("reason");
    return NameOf(event) == "replica.expelled" &&
           reason->AsString()->find("row.3") != std::string::npos;
  }));
  const ServingState serving = worker->Serving();
  EXPECT_TRUE(serving.version.IsZero() && serving.dirty && !serving.in_service);
}

// An engine that fails where it is told to.
class FailingSink : public CallbackSink {
 public:
  Status Load(const EpochInfo& epoch, const TensorGroup& group) override {
    const Status load = Get(load_);
    return load.ok() ? CallbackSink::Load(epoch, group) : load;
  }
  void Install(const EpochInfo& epoch, Done done) override {
    const Status install = Get(install_);
    if (install.ok()) return CallbackSink::Install(epoch, std::move(done));
    done(install);
  }
  void SetLoad(Status status) { Set(&load_, std::move(status)); }
  void SetInstall(Status status) { Set(&install_, std::move(status)); }

 private:
  Status Get(const Status& status) {
    std::lock_guard lock(mutex_);
    return status;
  }
  void Set(Status* status, Status to) {
    std::lock_guard lock(mutex_);
    *status = std::move(to);
  }

  std::mutex mutex_;
  Status load_;
  Status install_;
};

// Miles P2P: errors were swallowed, and the version grew all the same.
TEST_F(WorkerTest, ALoadThatFailsIsToldAndBumpsNoVersion) {
  StartTrainer();
  FailingSink sink;
  const auto worker = StartWorker(&sink, true);
  WaitMembers(2);
  ASSERT_EQ(trainer_->Sync(1, kPatience).status, OkStatus());
  const ServingState before = worker->Serving();
  sink.SetLoad(Internal("no room for row.3"));
  const SyncResult failed = trainer_->Sync(2, kPatience);
  EXPECT_NE(failed.status.message().find("no room for row.3"), std::string::npos) << failed.status;
  EXPECT_EQ(*failed.report.Find("committed")->AsBool(), false);
  const ServingState after = worker->Serving();
  EXPECT_EQ(after.version, before.version);
  EXPECT_EQ(after.label, 1u);
  EXPECT_EQ(after.installs, 1u);
  EXPECT_TRUE(after.in_service && !after.dirty);
  EXPECT_EQ(sink.installs, 1u);
  EXPECT_GE(sink.discards, 1u);  // of each attempt that began: the epoch may have a second one
  sink.SetLoad(OkStatus());
  ASSERT_EQ(trainer_->Sync(3, kPatience).status, OkStatus());
  EXPECT_LT(before.version, worker->Serving().version);
}

TEST_F(WorkerTest, AnInstallThatFailsIsToldAndBumpsNoVersion) {
  StartTrainer();
  FailingSink sink;
  const auto worker = StartWorker(&sink, true);
  WaitMembers(2);
  ASSERT_EQ(trainer_->Sync(1, kPatience).status, OkStatus());
  const ServingState before = worker->Serving();
  sink.SetInstall(Internal("the flip failed"));
  const SyncResult failed = trainer_->Sync(2, kPatience);
  EXPECT_NE(failed.status.message().find("the flip failed"), std::string::npos) << failed.status;
  const ServingState after = worker->Serving();
  EXPECT_EQ(after.version, before.version);
  EXPECT_EQ(after.label, 1u);
  EXPECT_EQ(after.installs, 1u);
  EXPECT_TRUE(after.dirty && !after.in_service) << "who knows what its memory holds";
}

// Who embeds it with callbacks alone learns its end from Drive.
TEST_F(WorkerTest, WithAThreadOfItsOwnDriveWaitsForTheEnd) {
  CallbackSink sink;
  const auto worker = StartWorker(&sink, true);
  EXPECT_EQ(worker->Drive(Duration(0)), OkStatus());
  std::thread stopping([&] { worker->Stop(); });
  EXPECT_EQ(worker->Drive(kPatience).code(), StatusCode::kCancelled);
  stopping.join();
}

TEST_F(WorkerTest, StopWaitsForTheCallbackThatRuns) {
  StartTrainer();
  CallbackSink sink;
  Gate in_bind;
  Gate stopping;
  std::atomic<bool> left{false};
  sink.on_bind = [&] {
    in_bind.Open();
    stopping.Wait();
    std::this_thread::sleep_for(Milliseconds(20));  // widens the window that must not be there
    left = true;
  };
  auto worker = StartWorker(&sink);
  WaitMembers(2);
  DrivingThread driving(worker.get());
  std::thread syncing([this] { (void)trainer_->Sync(1, kPatience); });
  in_bind.Wait();
  stopping.Open();
  worker->Stop();
  EXPECT_TRUE(left);
  EXPECT_EQ(driving.WaitEnd().code(), StatusCode::kCancelled);
  trainer_->Stop();
  syncing.join();
}

TEST_F(WorkerTest, ACallbackMayStopIt) {
  for (const bool own_thread : {false, true}) {
    StartTrainer();
    CallbackSink sink;
    Worker* stopped = nullptr;
    Gate made;
    Gate done;
    sink.on_bind = [&] {
      made.Wait();
      stopped->Stop();
      done.Open();
    };
    const auto worker = StartWorker(&sink, own_thread);
    stopped = worker.get();
    made.Open();
    std::optional<DrivingThread> driving;
    if (!own_thread) driving.emplace(worker.get());
    std::thread syncing([this] { (void)trainer_->Sync(1, kPatience); });
    done.Wait();
    if (driving) {
      EXPECT_EQ(driving->WaitEnd().code(), StatusCode::kCancelled);
    }
    EXPECT_EQ(worker->Drive(Duration::zero()).code(), StatusCode::kCancelled);
    trainer_->Stop();
    syncing.join();
    trainer_.reset();
  }
}

// The data thread waits for a Load that nobody will run.
TEST_F(WorkerTest, StopsWhileALoadWaits) {
  CoordinatorOptions options;
  options.policy.buffer_bytes = 1024;  // many steps, one Load for each
  StartCoordinator(options);
  StartTrainer(1000);
  CallbackSink sink;
  Gate loaded;
  std::atomic<bool> drive{true};
  sink.on_load = [&] {
    drive = false;
    loaded.Open();
  };
  auto worker = StartWorker(&sink);
  WaitMembers(2);
  std::thread driving([&] {
    while (drive) (void)worker->Drive(Milliseconds(20));
  });
  std::thread syncing([this] { (void)trainer_->Sync(1, kPatience); });
  loaded.Wait();
  driving.join();
  worker.reset();
  trainer_->Stop();
  syncing.join();
}

TEST_F(WorkerTest, ARefusalIsAnError) {
  CallbackSink sink;
  WorkerOptions options = WorkerNamed("worker-0");
  options.model = "other";
  const auto worker = Worker::Start(worker_runtime_.get(), options, &sink).value();
  const Status status = DrivingThread(worker.get()).WaitEnd();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(status.message().find("\"other\""), std::string::npos) << status.ToString();
}

TEST_F(WorkerTest, AnotherStartOfItsNameEndsItAsStale) {
  CallbackSink sink;
  const auto worker = StartWorker(&sink);
  WaitMembers(1);
  const auto other_runtime = testing::StartRuntime("elsewhere", testing::Patient());
  const auto again = Worker::Start(other_runtime.get(), WorkerNamed("worker-0"), &sink).value();
  const Status status = DrivingThread(worker.get()).WaitEnd();
  EXPECT_EQ(status.code(), StatusCode::kStale) << status.ToString();
  EXPECT_TRUE(again->Drive(Duration::zero()).ok());
}

TEST_F(WorkerTest, AShutdownIsAnOrderlyEnd) {
  CallbackSink sink;
  const auto worker = StartWorker(&sink);
  WaitMembers(1);
  ASSERT_TRUE(Control("shutdown").ok());
  EXPECT_EQ(DrivingThread(worker.get()).WaitEnd().code(), StatusCode::kCancelled);
  worker->Stop();
  EXPECT_TRUE(coordinator_->WaitStopped(kPatience));
}

}  // namespace
}  // namespace packcast
