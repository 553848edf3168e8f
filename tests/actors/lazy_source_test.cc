// Trainer ranks whose sources gather each group together, as FSDP does: a rank that comes alone to
// a gather waits there.
#include <map>
#include <set>
#include <thread>
#include <tuple>

#include "tests/actors/cluster_kit.h"

namespace packcast {
namespace {

using testing::CallbackSink;
using testing::Gate;
using testing::kPatience;

constexpr int kRanks = 2;
constexpr size_t kGroups = 64;

// The collectives of all ranks' sources.
class Gathers {
 public:
  using Id = std::tuple<Version, uint64_t, uint64_t>;  // attempt, group

  // A rank joins the gather and goes on.
  void Enter(const Id& id) {
    std::lock_guard lock(mutex_);
    ++ranks_[id];
    changed_.notify_all();
  }
  // Waits until all ranks have joined it.
  bool Wait(const Id& id) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return ranks_[id] == kRanks; });
  }
  bool WaitForCount(size_t whole) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return Count(kRanks) >= whole; });
  }
  // Gathers that some ranks have joined and others not.
  size_t halves() {
    std::lock_guard lock(mutex_);
    return ranks_.size() - Count(kRanks);
  }

 private:
  size_t Count(int ranks) const {
    size_t count = 0;
    for (const auto& [id, joined] : ranks_) count += joined == ranks ? 1 : 0;
    return count;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Id, int> ranks_;
};

class GatheringSource : public WeightSource {
 public:
  GatheringSource(Gathers* gathers, bool blocks, uint64_t bytes_ahead)
      : source_(testing::SmallSource(kGroups)),
        gathers_(gathers),
        blocks_(blocks),
        bytes_ahead_(bytes_ahead) {}

  StatusOr<Manifest> Describe(const SyncRequest& request) override {
    return source_->Describe(request);
  }
  StatusOr<std::unique_ptr<packcast::Cursor>> Open(const EpochInfo& epoch) override {
    PC_ASSIGN_OR_RETURN(std::unique_ptr<packcast::Cursor> cursor, source_->Open(epoch));
    return std::unique_ptr<packcast::Cursor>(
        std::make_unique<LazyCursor>(this, epoch, std::move(cursor)));
  }
  Digest ContentDigest() const { return source_->ContentDigest(); }

 private:
  struct LazyCursor : public packcast::Cursor {
    LazyCursor(GatheringSource* of, const EpochInfo& info, std::unique_ptr<packcast::Cursor> behind)
        : source(of), epoch(info), cursor(std::move(behind)) {}
    StatusOr<TensorGroup> Next() override {
      PC_ASSIGN_OR_RETURN(TensorGroup group, cursor->Next());
      if (group.tensors.empty()) return group;
      PC_RETURN_IF_ERROR(Gather(next++));
      return group;
    }
    uint64_t bytes_ahead() const override { return source->bytes_ahead_; }
    void Release(uint64_t group) override { cursor->Release(group); }
    Status StopAt(uint64_t group) override {
      while (next <= group) PC_RETURN_IF_ERROR(Gather(next++));
      return cursor->StopAt(group);
    }
    Status Gather(uint64_t group) {
      const Gathers::Id id{epoch.version, epoch.attempt.value, group};
      source->gathers_->Enter(id);
      if (!source->blocks_ || source->gathers_->Wait(id)) return OkStatus();
      return Internal("the other rank did not come to gather group " + std::to_string(group));
    }
    GatheringSource* const source;
    const EpochInfo epoch;
    const std::unique_ptr<packcast::Cursor> cursor;
    uint64_t next = 0;
  };

  const std::unique_ptr<ChangingSource> source_;
  Gathers* const gathers_;
  const bool blocks_;
  const uint64_t bytes_ahead_;
};

// A sink that may fail to take a row.
class FailingSink : public CallbackSink {
 public:
  Status Load(const EpochInfo& epoch, const TensorGroup& group) override {
    for (const SourceTensor& part : group.tensors) {
      if (part.row == fails_at) return Internal("the engine has no room");
    }
    return CallbackSink::Load(epoch, group);
  }
  std::atomic<uint32_t> fails_at{UINT32_MAX};
};

class LazySourceTest : public testing::ClusterTest {
 protected:
  void Start(bool blocks, uint64_t bytes_ahead) {
    CoordinatorOptions options;
    options.policy.buffer_bytes = 1024;  // rows of 256 bytes: many steps
    StartCoordinator(options);
    for (int rank = 0; rank < kRanks; ++rank) {
      const std::string name = "trainer-" + std::to_string(rank);
      runtimes_.push_back(testing::StartRuntime(name + "-runtime", testing::Patient()));
      sources_.push_back(std::make_unique<GatheringSource>(&gathers_, blocks, bytes_ahead));
      TrainerOptions trainer = TrainerNamed(name);
      trainer.rank = static_cast<uint32_t>(rank);
      trainer.unit_size = kRanks;
      trainers_.push_back(
          Trainer::Start(runtimes_.back().get(), trainer, sources_.back().get()).value());
    }
    runtimes_.push_back(testing::StartRuntime("worker", testing::Patient()));
    WorkerOptions worker = WorkerNamed("worker-0");
    worker.own_thread = true;
    worker_ = Worker::Start(runtimes_.back().get(), worker, &sink_).value();
    WaitMembers(kRanks + 1);
  }
  // All ranks call; what rank 0 is told.
  Status Sync(uint64_t label) {
    std::vector<Status> ends(kRanks);
    std::vector<std::thread> threads;
    for (size_t rank = 0; rank < kRanks; ++rank) {
      threads.emplace_back(
          [&, rank] { ends[rank] = trainers_[rank]->Sync(label, kPatience).status; });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(ends[0].code(), ends[1].code()) << ends[0] << " and " << ends[1];
    return ends[0];
  }

  Gathers gathers_;
  std::vector<std::unique_ptr<Runtime>> runtimes_;
  std::vector<std::unique_ptr<GatheringSource>> sources_;
  FailingSink sink_;
  std::vector<std::unique_ptr<Trainer>> trainers_;
  std::unique_ptr<Worker> worker_;
};

// TRL#6798: a gather that was enqueued behind a broadcast, which waited for it.
TEST_F(LazySourceTest, AGatherGoesOnWhileABroadcastWaitsForItsReceivers) {
  Start(true, packcast::Cursor::kNoLimit);
  Gate go_on;
  sink_.on_load = [&] { go_on.Wait(); };
  std::thread sync([&] { EXPECT_EQ(Sync(1), OkStatus()); });
  // Two buffers of four groups are on their way, or wait for the receiver. No more fit.
  EXPECT_TRUE(gathers_.WaitForCount(kGroups)) << "gathers wait for the broadcast";
  go_on.Open();
  sync.join();
  EXPECT_EQ(sink_.ContentDigest(), sources_[0]->ContentDigest());
}

// All ranks stop at the same gather, however far each has come: rank 1, which sends nothing, is far
// ahead of rank 0, which holds ten groups at most.
TEST_F(LazySourceTest, AnAbortLeavesNoRankAloneInAGather) {
  Start(false, 1000);
  for (uint32_t label = 1; label <= 10; ++label) {
    sink_.fails_at = label;
    EXPECT_FALSE(Sync(label).ok());
    EXPECT_EQ(gathers_.halves(), 0u) << "after sync " << label;
  }
  sink_.fails_at = UINT32_MAX;
  EXPECT_EQ(Sync(11), OkStatus());
  EXPECT_EQ(sink_.ContentDigest(), sources_[0]->ContentDigest());
}

}  // namespace
}  // namespace packcast
