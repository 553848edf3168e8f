// A worker whose callback is stuck for longer than others wait for it: with a word, and without.
#include <atomic>

#include "gtest/gtest.h"

#include "tests/actors/cluster_kit.h"

namespace packcast {
namespace {

using testing::CallbackSink;
using testing::DrivingThread;
using testing::kPatience;
using testing::SmallSource;
using testing::StartRuntime;

constexpr Duration kStall = Seconds(1);

class BusyWorkerTest : public testing::ClusterTest {
 protected:
  BusyWorkerTest() {
    CoordinatorOptions options;
    options.deadlines.stall = kStall;
    // Small enough that the trainer is kept from going on.
    options.policy.buffer_bytes = 256;
    options.policy.buffer_count = 1;
    StartCoordinator(options);
    trainer_runtime_ = StartRuntime("trainer", testing::Patient());
    trainer_ =
        Trainer::Start(trainer_runtime_.get(), TrainerNamed("trainer"), source_.get()).value();
    sinks_[1].on_load = [this] {
      if (is_first_.exchange(false)) first_load_();
    };
    for (size_t k = 0; k < 2; ++k) {
      const std::string name = "worker-" + std::to_string(k);
      worker_runtimes_[k] = StartRuntime(name, testing::Patient());
      WorkerOptions worker = WorkerNamed(name);
      worker.own_thread = true;
      workers_[k] = Worker::Start(worker_runtimes_[k].get(), worker, &sinks_[k]).value();
    }
    WaitMembers(3);
  }
  bool WaitFor(const std::string& event) {
    return events_.WaitFor([&](const Value& value) { return NameOf(value) == event; });
  }

  // What worker-1 does in its first callback; before the sync.
  void OnFirstLoad(std::function<void()> work) {
    first_load_ = std::move(work);
    is_first_ = true;
  }

  std::atomic<bool> is_first_{false};
  std::function<void()> first_load_;
  const std::unique_ptr<ChangingSource> source_ = SmallSource();
  CallbackSink sinks_[2];
  std::unique_ptr<Runtime> trainer_runtime_;
  std::unique_ptr<Runtime> worker_runtimes_[2];
  std::unique_ptr<Trainer> trainer_;
  std::unique_ptr<Worker> workers_[2];
};

TEST_F(BusyWorkerTest, WhoSaysNothingIsGivenUp) {
  OnFirstLoad([&] { EXPECT_TRUE(WaitFor("epoch.abort")); });
  const SyncResult result = trainer_->Sync(1, kPatience);
  EXPECT_EQ(result.status, OkStatus());
  const Value* culprit = result.report.Find("culprit");
  ASSERT_NE(culprit, nullptr);
  EXPECT_EQ(*culprit->AsString(), "worker-1");
  EXPECT_FALSE(workers_[0]->Serving().version.IsZero());
}

TEST_F(BusyWorkerTest, WhoSaysThatItIsBusyIsWaitedFor) {
  OnFirstLoad([&] {
    const StatusOr<BusyPeriod> busy = worker_runtimes_[1]->Busy(Seconds(60), "compiles a graph");
    EXPECT_EQ(busy.status(), OkStatus());
    EXPECT_TRUE(WaitFor("member.busy"));
    // Stuck: nothing is waited for but the time in which it would be given up otherwise.
    const Time end = Now() + 3 * kStall;
    while (Now() < end) std::this_thread::yield();
  });
  const SyncResult result = trainer_->Sync(1, kPatience);
  EXPECT_EQ(result.status, OkStatus());
  uint64_t attempt = 0;
  ASSERT_NE(result.report.Find("attempt"), nullptr);
  EXPECT_TRUE(result.report.Find("attempt")->GetUint(&attempt));
  EXPECT_EQ(attempt, 1u);
  for (const auto& worker : workers_) EXPECT_FALSE(worker->Serving().version.IsZero());
}

}  // namespace
}  // namespace packcast
