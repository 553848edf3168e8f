// Two ranks of a trainer whose sources gather each row with a collective of their own, on the host:
// whoever is in it waits for the other.
#include <condition_variable>
#include <thread>

#include "tests/actors/cluster_kit.h"

namespace packcast {
namespace {

using testing::CallbackSink;
using testing::kPatience;

// The ranks' collective: a barrier that says when somebody waits in vain, or for another row.
class Meeting {
 public:
  // True once both are there, for the same row.
  bool Come(uint32_t rank, uint64_t row) {
    std::unique_lock lock(mutex_);
    rows_[rank] = row;
    const uint64_t round = round_;
    if (++here_ == 2) {
      if (rows_[0] != rows_[1]) mismatched_ = true;
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
  int here_ = 0;
  uint64_t round_ = 0;
  uint64_t rows_[2] = {};
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

class LazyTrainerTest : public testing::ClusterTest {
 protected:
  static constexpr size_t kRows = 2000;

  void Start() {
    for (uint32_t rank = 0; rank < 2; ++rank) {
      const std::string name = "trainer-" + std::to_string(rank);
      runtimes_.push_back(testing::StartRuntime(name, testing::Patient()));
      sources_.push_back(std::make_unique<GatheringSource>(rank, &meeting_, kRows));
      TrainerOptions options = TrainerNamed(name);
      options.rank = rank;
      options.unit_size = 2;
      trainers_.push_back(
          Trainer::Start(runtimes_.back().get(), options, sources_.back().get()).value());
    }
    runtimes_.push_back(testing::StartRuntime("worker", testing::Patient()));
    WorkerOptions options = WorkerNamed("worker-0");
    options.own_thread = true;
    worker_ = Worker::Start(runtimes_.back().get(), options, &sink_).value();
    WaitMembers(3);
  }
  // Both ranks; how it ended.
  Status Sync(
      uint64_t label, const std::function<void()>& meanwhile = [] {}) {
    Status other;
    std::thread second([&] { other = trainers_[1]->Sync(label, kPatience).status; });
    std::thread besides(meanwhile);
    const Status status = trainers_[0]->Sync(label, kPatience).status;
    second.join();
    besides.join();
    EXPECT_EQ(status.code(), other.code()) << status << " and " << other;
    return status;
  }
  void WaitEntered(uint64_t rows) {
    while (sources_[0]->entered() < rows) std::this_thread::yield();
  }

  Meeting meeting_;
  CallbackSink sink_;
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
