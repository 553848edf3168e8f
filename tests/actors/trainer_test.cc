#include "actors/trainer.h"

#include <thread>

#include "tests/actors/cluster_kit.h"

namespace packcast {
namespace {

using testing::CallbackSink;
using testing::Gate;
using testing::kPatience;

// Another source behind hooks; finds out when two threads are inside at once.
class WatchedSource : public WeightSource {
 public:
  explicit WatchedSource(size_t rows) : source_(testing::SmallSource(rows)) {}

  StatusOr<Manifest> Describe(const SyncRequest& request) override {
    const Inside here(this);
    if (on_describe) on_describe();
    return source_->Describe(request);
  }
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo& epoch) override {
    const Inside here(this);
    PC_ASSIGN_OR_RETURN(std::unique_ptr<Cursor> cursor, source_->Open(epoch));
    return std::unique_ptr<Cursor>(std::make_unique<WatchedCursor>(this, std::move(cursor)));
  }

  std::function<void()> on_describe;
  std::function<void()> on_next;
  std::atomic<int> inside{0};
  std::atomic<bool> overlapped{false};

 private:
  struct Inside {
    explicit Inside(WatchedSource* of) : source(of) {
      if (++source->inside > 1) source->overlapped = true;
    }
    ~Inside() { --source->inside; }
    WatchedSource* const source;
  };
  struct WatchedCursor : public Cursor {
    WatchedCursor(WatchedSource* of, std::unique_ptr<Cursor> behind)
        : source(of), cursor(std::move(behind)) {}
    StatusOr<TensorGroup> Next() override {
      const Inside here(source);
      if (source->on_next) source->on_next();
      return cursor->Next();
    }
    void Release(uint64_t group) override {
      const Inside here(source);
      cursor->Release(group);
    }
    Status StopAt(uint64_t group) override {
      const Inside here(source);
      return cursor->StopAt(group);
    }
    WatchedSource* const source;
    const std::unique_ptr<Cursor> cursor;
  };

  const std::unique_ptr<ChangingSource> source_;
};

class TrainerTest : public testing::ClusterTest {
 protected:
  // With a worker, so that syncs can commit.
  void Start(size_t rows = 20) {
    source_ = std::make_unique<WatchedSource>(rows);
    trainer_ =
        Trainer::Start(trainer_runtime_.get(), TrainerNamed("trainer-0"), source_.get()).value();
    WorkerOptions options = WorkerNamed("worker-0");
    options.own_thread = true;
    worker_ = Worker::Start(worker_runtime_.get(), options, &sink_).value();
    WaitMembers(2);
  }

  std::unique_ptr<Runtime> trainer_runtime_ = testing::StartRuntime("trainer", testing::Patient());
  std::unique_ptr<Runtime> worker_runtime_ = testing::StartRuntime("worker", testing::Patient());
  std::unique_ptr<WatchedSource> source_;
  CallbackSink sink_;
  std::unique_ptr<Trainer> trainer_;
  std::unique_ptr<Worker> worker_;
};

TEST_F(TrainerTest, SaysOnceOnTheCallersThreadThatTheSourceIsFree) {
  Start();
  for (uint64_t label = 1; label <= 3; ++label) {
    std::vector<std::thread::id> told;
    SyncOptions options;
    options.source_free = [&] { told.push_back(std::this_thread::get_id()); };
    const SyncResult result = trainer_->Sync(label, kPatience, options);
    ASSERT_EQ(result.status, OkStatus());
    EXPECT_EQ(told, std::vector{std::this_thread::get_id()});
    EXPECT_EQ(*result.report.Find("committed")->AsBool(), true);
  }
}

TEST_F(TrainerTest, GivesASyncUpAtItsDeadline) {
  Start(1000);
  source_->on_next = [] { std::this_thread::sleep_for(Milliseconds(20)); };  // 20 s in all
  const Time began = Now();
  bool told = false;
  SyncOptions options;
  options.source_free = [&] { told = true; };
  const SyncResult late = trainer_->Sync(1, Milliseconds(200), options);
  EXPECT_EQ(late.status.code(), StatusCode::kDeadlineExceeded) << late.status.ToString();
  EXPECT_LT(Now() - began, Seconds(15));
  EXPECT_TRUE(told) << "given up, so its bytes may change";
  source_->on_next = nullptr;
  EXPECT_EQ(trainer_->Sync(2, kPatience).status, OkStatus()) << "the next one is not affected";
}

TEST_F(TrainerTest, HasOneSyncAtATime) {
  Start();
  Gate inside;
  Gate go_on;
  source_->on_describe = [&] {
    inside.Open();
    go_on.Wait();
  };
  std::thread first([this] { EXPECT_EQ(trainer_->Sync(1, kPatience).status, OkStatus()); });
  inside.Wait();
  EXPECT_EQ(trainer_->Sync(2, kPatience).status.code(), StatusCode::kBusy);
  go_on.Open();
  first.join();
  EXPECT_EQ(trainer_->Sync(3, kPatience).status, OkStatus());
}

TEST_F(TrainerTest, AListenerBesideSyncLeavesTheSourceToIt) {
  Start(100);
  std::atomic<bool> stop{false};
  std::vector<std::thread> listeners;
  for (int k = 0; k < 2; ++k) {
    listeners.emplace_back([&] {
      while (!stop) EXPECT_TRUE(trainer_->WaitForRequest(Milliseconds(50)).ok());
    });
  }
  for (uint64_t label = 1; label <= 10; ++label) {
    EXPECT_EQ(trainer_->Sync(label, kPatience).status, OkStatus());
  }
  stop = true;
  for (std::thread& listener : listeners) listener.join();
  EXPECT_FALSE(source_->overlapped) << "two threads were inside the source";
}

TEST_F(TrainerTest, AListenerHearsOfRequestsDuringASync) {
  Start();
  Gate heard;
  source_->on_describe = [&] { heard.Wait(); };
  std::thread syncing([this] { EXPECT_EQ(trainer_->Sync(1, kPatience).status, OkStatus()); });
  const Future<Value> asked = Call("sync", {{"label", 2}});
  EXPECT_EQ(trainer_->WaitForRequest(kPatience).value(), 2u);
  heard.Open();
  syncing.join();
  EXPECT_EQ(trainer_->Sync(2, kPatience).status, OkStatus());
  EXPECT_TRUE(asked.Get(kPatience).ok());
}

// Whoever bounds them, the coordinator or the trainer, none is dropped without a word.
TEST_F(TrainerTest, EachRequestIsHeardOrAnswered) {
  constexpr uint64_t kAsked = 20;
  Start();
  std::vector<Future<Value>> asked;
  for (uint64_t label = 1; label <= kAsked; ++label) {
    asked.push_back(Call("sync", {{"label", label}}));
  }
  const auto refused = [&] {
    return std::count_if(asked.begin(), asked.end(), [](const Future<Value>& answer) {
      return answer.ready() && answer.Get(Duration::zero()).status().code() == StatusCode::kBusy;
    });
  };
  uint64_t heard = 0;
  const Time until = Now() + kPatience;
  while (heard + static_cast<uint64_t>(refused()) < kAsked && Now() < until) {
    if (trainer_->WaitForRequest(Milliseconds(50)).value()) ++heard;
  }
  EXPECT_EQ(heard + static_cast<uint64_t>(refused()), kAsked);
  EXPECT_GT(refused(), 0);
}

TEST_F(TrainerTest, ASyncOfAnyLengthShowsItsBeginningAndEnd) {
  Start();
  ASSERT_EQ(trainer_->Sync(1, kPatience).status, OkStatus());
  std::map<std::string, std::vector<uint64_t>> bytes;
  for (const Value& event : events_.items()) {
    if (NameOf(event) != "progress") continue;
    event.Find("bytes")->GetUint(&bytes[*event.Find("member")->AsString()].emplace_back());
  }
  for (const char* member : {"trainer-0", "worker-0"}) {
    ASSERT_GE(bytes[member].size(), 2u) << member;
    EXPECT_EQ(bytes[member].front(), 0u) << member;
  }
  EXPECT_EQ(bytes["worker-0"].back(), 20u * 100);
}

TEST_F(TrainerTest, StopEndsASyncThatRuns) {
  Start(1000);
  Gate streaming;
  source_->on_next = [&] {
    streaming.Open();
    std::this_thread::sleep_for(Milliseconds(20));
  };
  std::thread syncing(
      [this] { EXPECT_EQ(trainer_->Sync(1, Seconds(600)).status.code(), StatusCode::kCancelled); });
  streaming.Wait();
  trainer_->Stop();
  syncing.join();
  EXPECT_EQ(trainer_->WaitForRequest(Duration::zero()).status().code(), StatusCode::kCancelled);
}

TEST_F(TrainerTest, ARefusalIsAnError) {
  Start();
  const auto runtime = testing::StartRuntime("intruder", testing::Patient());
  WatchedSource source(1);
  TrainerOptions options = TrainerNamed("intruder");
  const auto intruder = Trainer::Start(runtime.get(), options, &source).value();
  StatusOr<std::optional<uint64_t>> heard = std::optional<uint64_t>();
  while (heard.ok()) heard = intruder->WaitForRequest(kPatience);
  EXPECT_NE(heard.status().code(), StatusCode::kCancelled) << heard.status().ToString();
  EXPECT_EQ(intruder->Sync(1, kPatience).status, heard.status());
  EXPECT_EQ(trainer_->Sync(1, kPatience).status, OkStatus()) << "the first one is not affected";
}

}  // namespace
}  // namespace packcast
