// Epochs of several flows, end to end: workers that take different transports, trainer ranks that
// each send what they hold, and both.
#include <map>
#include <set>
#include <thread>

#include "tests/actors/cluster_kit.h"

namespace packcast {
namespace {

using testing::CallbackSink;
using testing::kPatience;

constexpr size_t kRows = 40;

// A rank's part of a source: what it does not hold has no data.
class PartSource : public WeightSource {
 public:
  explicit PartSource(std::set<uint32_t> held)
      : source_(testing::SmallSource(kRows)), held_(std::move(held)) {}

  StatusOr<Manifest> Describe(const SyncRequest& request) override {
    return source_->Describe(request);
  }
  std::optional<std::vector<Region>> Held() override {
    std::vector<Region> held;
    for (const uint32_t row : held_) held.push_back({row, 0, 100, 0});
    return held;
  }
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo& epoch) override {
    if (!opens.ok()) return opens;
    PC_ASSIGN_OR_RETURN(std::unique_ptr<Cursor> cursor, source_->Open(epoch));
    return std::unique_ptr<Cursor>(std::make_unique<PartCursor>(&held_, std::move(cursor)));
  }
  Digest ContentDigest() const { return source_->ContentDigest(); }

  Status opens;

 private:
  struct PartCursor : public Cursor {
    PartCursor(const std::set<uint32_t>* rows, std::unique_ptr<Cursor> behind)
        : held(rows), cursor(std::move(behind)) {}
    StatusOr<TensorGroup> Next() override {
      PC_ASSIGN_OR_RETURN(TensorGroup group, cursor->Next());
      for (SourceTensor& tensor : group.tensors) {
        if (!held->contains(tensor.row)) tensor.data = nullptr;
      }
      return group;
    }
    void Release(uint64_t group) override { cursor->Release(group); }
    Status StopAt(uint64_t group) override { return cursor->StopAt(group); }
    const std::set<uint32_t>* const held;
    const std::unique_ptr<Cursor> cursor;
  };

  const std::unique_ptr<ChangingSource> source_;
  const std::set<uint32_t> held_;
};

std::set<uint32_t> Range(uint32_t begin, uint32_t end) {
  std::set<uint32_t> rows;
  for (uint32_t row = begin; row < end; ++row) rows.insert(row);
  return rows;
}

class FlowsTest : public testing::ClusterTest {
 protected:
  struct Rank {
    std::unique_ptr<Runtime> runtime;
    std::unique_ptr<PartSource> source;
    std::unique_ptr<Trainer> trainer;
  };
  struct Receiver {
    std::unique_ptr<Runtime> runtime;
    std::unique_ptr<CallbackSink> sink;
    std::unique_ptr<Worker> worker;
  };

  void AddTrainer(uint32_t rank, uint32_t size, std::set<uint32_t> held, bool shm = true) {
    const std::string name = "trainer-" + std::to_string(rank);
    Rank& added = ranks_.emplace_back();
    added.runtime = testing::StartRuntime(name + "-runtime", testing::Patient());
    added.source = std::make_unique<PartSource>(std::move(held));
    TrainerOptions options = TrainerNamed(name);
    options.rank = rank;
    options.unit_size = size;
    options.shared_memory = shm;
    added.trainer = Trainer::Start(added.runtime.get(), options, added.source.get()).value();
  }
  void AddWorker(const std::string& name, bool shm, std::function<void()> on_load = nullptr) {
    Receiver& added = receivers_[name];
    added.runtime = testing::StartRuntime(name + "-runtime", testing::Patient());
    added.sink = std::make_unique<CallbackSink>();
    added.sink->on_load = std::move(on_load);
    WorkerOptions options = WorkerNamed(name);
    options.shared_memory = shm;
    options.own_thread = true;
    added.worker = Worker::Start(added.runtime.get(), options, added.sink.get()).value();
  }

  // All ranks call sync; the answer is the same for all.
  SyncResult Sync(uint64_t label) {
    std::vector<SyncResult> results(ranks_.size());
    std::vector<std::thread> threads;
    for (size_t k = 0; k < ranks_.size(); ++k) {
      threads.emplace_back([&, k] { results[k] = ranks_[k].trainer->Sync(label, kPatience); });
    }
    for (std::thread& thread : threads) thread.join();
    for (const SyncResult& result : results) {
      EXPECT_EQ(result.status.code(), results.front().status.code()) << result.status;
    }
    return results.front();
  }
  // Commits, and every worker holds what the trainer does.
  Value Committed(uint64_t label) {
    const SyncResult result = Sync(label);
    EXPECT_EQ(result.status, OkStatus());
    const Digest content = ranks_.front().source->ContentDigest();
    for (const auto& [name, receiver] : receivers_) {
      EXPECT_EQ(receiver.worker->Serving().label, label) << name;
      EXPECT_EQ(receiver.sink->ContentDigest(), content) << name;
    }
    const Value* digest = result.report.Find("digest");
    EXPECT_TRUE(digest != nullptr && *digest->AsString() == ToHex(content));
    return result.report;
  }
  // "kind members rows" of each flow of a report, without what names the host.
  static std::vector<std::string> FlowsOf(const Value& report) {
    std::vector<std::string> texts;
    for (const Value& flow : *report.Find("contract")->Find("flows")->AsArray()) {
      const std::string& kind = *flow.Find("transport")->AsString();
      std::string text = kind.substr(0, kind.find('@'));
      for (const Value& member : *flow.Find("members")->AsArray()) text += " " + *member.AsString();
      uint64_t rows = 0;
      if (flow.Find("rows") != nullptr) {
        EXPECT_TRUE(flow.Find("rows")->GetUint(&rows));
        text += " " + std::to_string(rows);
      }
      texts.push_back(text);
    }
    return texts;
  }
  using Texts = std::vector<std::string>;

  std::vector<Rank> ranks_;
  std::map<std::string, Receiver> receivers_;
};

TEST_F(FlowsTest, WorkersOfSeveralTransportsGetTheSameVersion) {
  AddTrainer(0, 1, Range(0, kRows));
  AddWorker("near-0", true);
  AddWorker("far-0", false);
  AddWorker("near-1", true);
  WaitMembers(4);
  EXPECT_EQ(FlowsOf(Committed(1)), (Texts{"shm trainer-0 near-0 near-1", "zmq trainer-0 far-0"}));
  for (uint64_t label = 2; label <= 5; ++label) Committed(label);
}

TEST_F(FlowsTest, AMemberThatGoesLeavesTheOtherFlowsGenerationAlone) {
  AddTrainer(0, 1, Range(0, kRows));
  AddWorker("near-0", true);
  AddWorker("far-0", false);
  WaitMembers(3);
  Committed(1);
  receivers_.erase("far-0");
  EXPECT_EQ(FlowsOf(Committed(2)), Texts{"shm trainer-0 near-0"});
  AddWorker("far-1", false);
  WaitJoined("far-1");
  const Value report = Committed(3);
  EXPECT_EQ(FlowsOf(report), (Texts{"shm trainer-0 near-0", "zmq trainer-0 far-1"}));
  receivers_.erase("near-0");
  EXPECT_EQ(FlowsOf(Committed(4)), Texts{"zmq trainer-0 far-1"});
  AddWorker("near-2", true);
  WaitJoined("near-2");
  for (uint64_t label = 5; label <= 7; ++label) Committed(label);
}

TEST_F(FlowsTest, EachTrainerRankSendsWhatItHolds) {
  AddTrainer(0, 3, Range(0, 15));
  AddTrainer(1, 3, {});
  AddTrainer(2, 3, Range(10, kRows));
  AddWorker("far-0", false);
  AddWorker("far-1", false);
  WaitMembers(5);
  EXPECT_EQ(FlowsOf(Committed(1)),
            (Texts{"zmq trainer-0 far-0 far-1 15", "zmq trainer-2 far-0 far-1 25"}));
  for (uint64_t label = 2; label <= 4; ++label) Committed(label);
}

TEST_F(FlowsTest, RanksTimesTransports) {
  std::set<uint32_t> even;
  std::set<uint32_t> odd;
  for (uint32_t row = 0; row < kRows; ++row) (row % 2 == 0 ? even : odd).insert(row);
  AddTrainer(0, 2, even);
  AddTrainer(1, 2, odd);
  AddWorker("near-0", true);
  AddWorker("far-0", false);
  WaitMembers(4);
  EXPECT_EQ(FlowsOf(Committed(1)), (Texts{"shm trainer-0 near-0 20", "zmq trainer-0 far-0 20",
                                          "shm trainer-1 near-0 20", "zmq trainer-1 far-0 20"}));
  for (uint64_t label = 2; label <= 4; ++label) Committed(label);
}

TEST_F(FlowsTest, ARowThatNobodyHoldsEndsTheEpochBeforeAByteMoves) {
  AddTrainer(0, 2, Range(0, 15));
  AddTrainer(1, 2, Range(16, kRows));
  AddWorker("far-0", false);
  WaitMembers(3);
  const SyncResult result = Sync(1);
  EXPECT_EQ(result.status.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(result.status.message().find("row 15 is held by no trainer rank"), std::string::npos)
      << result.status;
  EXPECT_EQ(receivers_["far-0"].sink->installs, 0u);
}

TEST_F(FlowsTest, ARankThatFailsEndsAllFlowsAndTheNextEpochSucceeds) {
  AddTrainer(0, 2, Range(0, 15));
  AddTrainer(1, 2, Range(15, kRows));
  AddWorker("near-0", true);
  AddWorker("far-0", false);
  WaitMembers(4);
  Committed(1);
  ranks_[1].source->opens = InvalidArgument("the shards are gone");
  const SyncResult failed = Sync(2);
  EXPECT_NE(failed.status.message().find("the shards are gone"), std::string::npos)
      << failed.status;
  EXPECT_EQ(*failed.report.Find("culprit")->AsString(), "trainer-1");
  for (const auto& [name, receiver] : receivers_) EXPECT_EQ(receiver.sink->installs, 1u) << name;
  ranks_[1].source->opens = OkStatus();
  Committed(3);
}

// All others wait for it, and only the root knows for whom.
TEST_F(FlowsTest, AWorkerThatIsStuckInACallbackIsNamedAndTheOthersGoOn) {
  CoordinatorOptions options;
  options.deadlines.stall = Milliseconds(200);
  options.deadlines.abort = Milliseconds(500);
  StartCoordinator(options);
  AddTrainer(0, 1, Range(0, kRows));
  const auto free = std::make_shared<testing::Gate>();
  AddWorker("stuck", false, [free] { free->Wait(); });
  AddWorker("well", false);
  WaitMembers(3);
  const SyncResult result = Sync(1);
  EXPECT_EQ(result.status, OkStatus());
  EXPECT_EQ(*result.report.Find("culprit")->AsString(), "stuck");
  EXPECT_EQ(receivers_["well"].worker->Serving().label, 1u);
  EXPECT_EQ(receivers_["stuck"].sink->installs, 0u);
  free->Open();
}

}  // namespace
}  // namespace packcast
