// Ranks of a trainer whose sources gather each row with a collective of their own, on the host:
// whoever is in it waits for the others.
#include <condition_variable>
#include <cstdlib>
#include <iostream>
#include <random>
#include <thread>

#include "tests/actors/cluster_kit.h"

namespace packcast {
namespace {

using testing::CallbackSink;
using testing::kPatience;

// The ranks' collective: a barrier that says when somebody waits in vain, or for another row.
class Meeting {
 public:
  // Before anybody comes.
  void SetRanks(uint32_t ranks) { rows_.resize(ranks); }
  // True once all are there, for the same row.
  bool Come(uint32_t rank, uint64_t row) {
    std::unique_lock lock(mutex_);
    rows_[rank] = row;
    const uint64_t round = round_;
    if (++here_ == rows_.size()) {
      for (const uint64_t other : rows_) mismatched_ = mismatched_ || other != row;
      here_ = 0;
      ++round_;
      changed_.notify_all();
      return !mismatched_;
    }
    // Far below the test's patience: what comes to nothing here must not end the epoch for us.
    if (changed_.wait_for(lock, Seconds(8), [&] { return round_ != round; })) return !mismatched_;
    --here_;
    alone_ = true;
    return false;
  }
  bool matched() const {
    std::lock_guard lock(mutex_);
    return !mismatched_ && !alone_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  size_t here_ = 0;
  uint64_t round_ = 0;
  std::vector<uint64_t> rows_;  // by rank
  bool mismatched_ = false;
  bool alone_ = false;
};

class GatheringSource : public WeightSource {
 public:
  GatheringSource(uint32_t rank, Meeting* meeting, size_t rows)
      : rank_(rank), meeting_(meeting), rows_(rows), source_(testing::SmallSource(rows)) {}

  StatusOr<Manifest> Describe(const SyncRequest& request) override {
    return source_->Describe(request);
  }
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo& epoch) override {
    PC_ASSIGN_OR_RETURN(std::unique_ptr<Cursor> cursor, source_->Open(epoch));
    return std::unique_ptr<Cursor>(std::make_unique<GatheringCursor>(this, std::move(cursor)));
  }
  uint64_t entered() const { return entered_; }

 private:
  struct GatheringCursor : public Cursor {
    GatheringCursor(GatheringSource* of, std::unique_ptr<Cursor> behind)
        : source(of), cursor(std::move(behind)) {}
    StatusOr<TensorGroup> Next() override {
      if (next < source->rows_) PC_RETURN_IF_ERROR(Gather());
      return cursor->Next();
    }
    void Release(uint64_t group) override { cursor->Release(group); }
    Status StopAt(uint64_t group) override {
      while (next <= group) PC_RETURN_IF_ERROR(Gather());
      return cursor->StopAt(group);
    }
    Status Gather() {
      ++source->entered_;
      if (!source->meeting_->Come(source->rank_, next)) return Internal("left alone");
      ++next;
      return OkStatus();
    }
    GatheringSource* const source;
    const std::unique_ptr<Cursor> cursor;
    uint64_t next = 0;
  };

  const uint32_t rank_;
  Meeting* const meeting_;
  const size_t rows_;
  const std::unique_ptr<ChangingSource> source_;
  std::atomic<uint64_t> entered_{0};  // over all walks
};

// Fails once, where it is told to.
class FailingSink : public CallbackSink {
 public:
  Status Load(const EpochInfo& epoch, const TensorGroup& group) override {
    const auto rows = static_cast<int64_t>(group.tensors.size());
    const int64_t left = left_.fetch_sub(rows);
    if (left > 0 && left <= rows) {
      std::lock_guard lock(mutex_);
      return status_;
    }
    return CallbackSink::Load(epoch, group);
  }
  // With the so-many-th row from now on; not while a sync runs.
  void FailAt(int64_t row, Status status) {
    {
      std::lock_guard lock(mutex_);
      status_ = std::move(status);
    }
    left_ = row;
  }

 private:
  std::atomic<int64_t> left_{0};
  std::mutex mutex_;
  Status status_;  // guarded by mutex_
};

class LazyTrainerTest : public testing::ClusterTest {
 protected:
  static constexpr size_t kRows = 2000;

  void Start(uint32_t ranks = 2) {
    meeting_.SetRanks(ranks);
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      const std::string name = "trainer-" + std::to_string(rank);
      runtimes_.push_back(testing::StartRuntime(name, testing::Patient()));
      sources_.push_back(std::make_unique<GatheringSource>(rank, &meeting_, kRows));
      TrainerOptions options = TrainerNamed(name);
      options.rank = rank;
      options.unit_size = ranks;
      trainers_.push_back(
          Trainer::Start(runtimes_.back().get(), options, sources_.back().get()).value());
    }
    runtimes_.push_back(testing::StartRuntime("worker", testing::Patient()));
    WorkerOptions options = WorkerNamed("worker-0");
    options.own_thread = true;
    worker_ = Worker::Start(runtimes_.back().get(), options, &sink_).value();
    WaitMembers(ranks + 1);
  }
  // All ranks; how it ended.
  Status Sync(
      uint64_t label, const std::function<void()>& meanwhile = [] {}) {
    std::vector<Status> ends(trainers_.size());
    std::vector<std::thread> threads;
    for (size_t rank = 0; rank < trainers_.size(); ++rank) {
      threads.emplace_back(
          [&, rank] { ends[rank] = trainers_[rank]->Sync(label, kPatience).status; });
    }
    threads.emplace_back(meanwhile);
    for (std::thread& thread : threads) thread.join();
    for (const Status& end : ends) EXPECT_EQ(end.code(), ends[0].code()) << end << ", " << ends[0];
    return ends[0];
  }
  void WaitEntered(uint64_t rows) {
    while (sources_[0]->entered() < rows) std::this_thread::yield();
  }

  Meeting meeting_;
  FailingSink sink_;
  std::vector<std::unique_ptr<Runtime>> runtimes_;
  std::vector<std::unique_ptr<GatheringSource>> sources_;
  std::vector<std::unique_ptr<Trainer>> trainers_;
  std::unique_ptr<Worker> worker_;
};

TEST_F(LazyTrainerTest, ASyncGathersEachRowOnAllRanks) {
  Start();
  EXPECT_EQ(Sync(1), OkStatus());
  EXPECT_EQ(sources_[0]->entered(), kRows);
  EXPECT_EQ(sources_[1]->entered(), kRows);
  EXPECT_TRUE(meeting_.matched());
}

// The abort finds each rank inside a row or between two of them.
TEST_F(LazyTrainerTest, RanksThatAreToldToGiveUpLeaveNoneAlone) {
  constexpr uint64_t kSyncs = 30;
  Start();
  for (uint64_t label = 1; label <= kSyncs; ++label) {
    const uint64_t rows = sources_[0]->entered() + 10 + label;
    const Status status = Sync(label, [&] {
      WaitEntered(rows);
      EXPECT_TRUE(Control("cancel").ok());
    });
    EXPECT_EQ(status.code(), StatusCode::kCancelled);
    ASSERT_TRUE(meeting_.matched()) << "sync " << label;
  }
  EXPECT_EQ(Sync(kSyncs + 1), OkStatus()) << "the next one is not affected";
}

// 1,000 and more by command: PACKCAST_LAZY_ABORTS.
TEST_F(LazyTrainerTest, FourRanksStayTogetherThroughRandomAborts) {
  const char* const asked = std::getenv("PACKCAST_LAZY_ABORTS");
  const uint64_t aborts = asked == nullptr ? 40 : std::strtoull(asked, nullptr, 10);
  Start(4);
  ASSERT_EQ(Sync(1), OkStatus());
  std::mt19937_64 random(7);
  uint64_t cancelled = 0;
  uint64_t failed = 0;
  uint64_t tried_again = 0;
  for (uint64_t label = 2; label <= aborts + 1; ++label) {
    const uint64_t row = random() % (kRows * 3 / 4);
    const uint64_t kind = random() % 3;
    if (kind == 0) {  // somewhere in the walk, by a word from outside
      const uint64_t rows = sources_[0]->entered() + row;
      const Status status = Sync(label, [&] {
        WaitEntered(rows);
        (void)Control("cancel");  // or it is too late
      });
      if (status.code() == StatusCode::kCancelled) ++cancelled;
    } else {
      // By the only worker. What may be the wire is tried again; its own fault ends the epoch,
      // unless the root has told of it first, which is a suspicion.
      sink_.FailAt(static_cast<int64_t>(row) + 1,
                   kind == 1 ? Internal("a test") : Unavailable("cut"));
      const Status status = Sync(label);
      ++(status.ok() ? tried_again : failed);
      EXPECT_TRUE(status.ok() || kind == 1) << status;
    }
    ASSERT_TRUE(meeting_.matched()) << "sync " << label;
  }
  EXPECT_EQ(Sync(aborts + 2), OkStatus()) << "the next one is not affected";
  EXPECT_TRUE(meeting_.matched());
  EXPECT_GT(cancelled, aborts / 10);
  EXPECT_GT(tried_again, aborts / 10);
  std::cout << cancelled << " cancelled, " << failed << " failed, " << tried_again
            << " tried again\n";
}

// Nobody can say where to stop.
TEST_F(LazyTrainerTest, RanksThatLoseTheirCoordinatorLeaveNoneAlone) {
  Start();
  const uint64_t label = 1;
  const Status status = Sync(label, [&] {
    WaitEntered(20);
    coordinator_.reset();
  });
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(meeting_.matched());
  EXPECT_EQ(sources_[0]->entered(), sources_[1]->entered());
}

}  // namespace
}  // namespace packcast
