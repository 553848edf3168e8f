#include <algorithm>
#include <atomic>
#include <future>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "runtime/data/zmq_collective.h"
#include "tests/runtime/data/broadcast_fixture.h"

namespace packcast {
namespace {

using ::testing::HasSubstr;
using testing::In;
using testing::TestTensor;

// A packed broadcast from rank 0 to rank 1 over TCP.
class ZmqBroadcast : public ::testing::Test {
 protected:
  void Join(ZmqTransportOptions options = {}) {
    options.chunk_bytes = 4096;
    transport_ = MakeZmqTransport(options).value();
    ranks_ = testing::JoinAll(transport_.get(), 2, 0);
    testing::BeginAll(ranks_, testing::TestStream());
  }
  void Add(int64_t bytes) {
    const std::string name = "t" + std::to_string(tensors_.size());
    tensors_.push_back(testing::MakeTensor(name, Dtype::kU8, {bytes}, &rng_));
  }
  // Runs the consumer on a thread of its own.
  std::future<Status> Consume(BroadcastOptions options) {
    return std::async(std::launch::async, [this, options] {
      testing::Collector collector(tensors_);
      const auto rows = RowsOf(testing::RowsIn(tensors_));
      auto consumer =
          PackedConsumer::Make(ranks_[1].get(), rows.get(), options, collector.callback()).value();
      const Status status = consumer->Run(In(Seconds(60))).status();
      EXPECT_EQ(collector.complete(), status.ok());
      return status;
    });
  }
  Status Produce(TensorSource* source, const BroadcastOptions& options,
                 Duration deadline = Seconds(60)) {
    auto producer = PackedProducer::Make(ranks_[0].get(), source, options).value();
    return producer->Run(In(deadline)).status();
  }

  std::mt19937_64 rng_{3};
  std::unique_ptr<Transport> transport_;
  std::vector<std::unique_ptr<Collective>> ranks_;
  std::vector<TestTensor> tensors_;
};

// The end of the stream stayed in the root's queue, and nobody polled it any more.
TEST_F(ZmqBroadcast, MembersFinishThoughARootThatDoesNotWaitForThemStopsPolling) {
  Join();
  Add(100'000);
  BroadcastOptions options;
  options.plan.buffer_bytes = 8192;
  options.wait_for_members = false;
  auto consumed = Consume(options);
  const auto source = SourceOf(testing::ViewsOf(tensors_));
  EXPECT_TRUE(Produce(source.get(), options).ok());
  EXPECT_TRUE(consumed.get().ok());
}

TEST_F(ZmqBroadcast, MembersFinishAStreamWithoutStepsToo) {
  Join();
  BroadcastOptions options;
  options.wait_for_members = false;
  auto consumed = Consume(options);
  const auto source = SourceOf({});
  EXPECT_TRUE(Produce(source.get(), options).ok());
  EXPECT_TRUE(consumed.get().ok());
}

TEST_F(ZmqBroadcast, UnequalHashSettingsAreRefused) {
  for (const bool producer_hashes : {false, true}) {
    Join();
    tensors_.clear();
    Add(10'000);
    BroadcastOptions with;
    with.plan.buffer_bytes = 4096;
    BroadcastOptions without = with;
    without.hash = false;
    auto consumed = Consume(producer_hashes ? without : with);
    const auto source = SourceOf(testing::ViewsOf(tensors_));
    EXPECT_FALSE(Produce(source.get(), producer_hashes ? with : without).ok());
    const Status status = consumed.get();
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(status.message(), HasSubstr("`hash` (integrity) must be equal"));
  }
}

// A source whose second tensor comes when somebody lets it.
class SourceInTwoParts : public TensorSource {
 public:
  explicit SourceInTwoParts(std::vector<NamedTensor> tensors) : tensors_(std::move(tensors)) {}
  StatusOr<std::optional<NamedTensor>> Next() override {
    EXPECT_TRUE(Ready());
    if (next_ == tensors_.size()) return std::optional<NamedTensor>();
    return std::optional<NamedTensor>(tensors_[next_++]);
  }
  bool Ready() override { return next_ == 0 || open_; }
  void SetWake(std::function<void()> wake) override {
    std::lock_guard lock(mutex_);
    wake_ = std::move(wake);
  }
  void Open() {
    open_ = true;
    std::lock_guard lock(mutex_);
    if (wake_) wake_();
  }

 private:
  std::vector<NamedTensor> tensors_;
  size_t next_ = 0;
  std::atomic<bool> open_{false};
  std::mutex mutex_;
  std::function<void()> wake_;
};

TEST_F(ZmqBroadcast, BytesMoveWhileTheSourceHasNothing) {
  Join();
  Add(8 << 20);
  Add(1000);
  BroadcastOptions options;
  options.plan.buffer_bytes = 8 << 20;
  SourceInTwoParts source(testing::ViewsOf(tensors_));
  auto consumed = Consume(options);
  std::thread opener([&] {
    const Time limit = In(Seconds(60));
    while (ranks_[1]->progress().completed < 1 && std::chrono::steady_clock::now() < limit) {
      std::this_thread::yield();
    }
    EXPECT_EQ(ranks_[1]->progress().completed, 1u) << "the first step waits for the second tensor";
    source.Open();
  });
  EXPECT_TRUE(Produce(&source, options).ok());
  EXPECT_TRUE(consumed.get().ok());
  opener.join();
}

TEST_F(ZmqBroadcast, ASourceThatHasNothingIsNamedAtTheDeadline) {
  Join();
  Add(1000);
  BroadcastOptions options;
  auto consumed = Consume(options);
  SourceInTwoParts source(testing::ViewsOf(tensors_));
  const Status status = Produce(&source, options, Milliseconds(100));
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(status.message(), HasSubstr("waiting for row 1 of its source"));
  EXPECT_FALSE(consumed.get().ok());
}

// ZeroMQ cannot be made to let go in time: what it reads must stay for ever.
TEST_F(ZmqBroadcast, MemoryThatIsStillReadAfterAnAbortIsKept) {
  ZmqTransportOptions transport;
  transport.abort_timeout = Duration::zero();
  Join(transport);
  constexpr int64_t kBytes = 64 << 20;  // far more than the kernel takes
  tensors_.push_back({.row = {.name = "direct", .shape = {kBytes}}, .wire = {}});
  tensors_.back().wire.resize(kBytes);
  Add(2000);
  BroadcastOptions options;
  options.plan.buffer_bytes = 1024;
  options.plan.direct_bytes_min = 4096;
  options.plan.direct_rows = {0};
  testing::CountingAllocator allocator;
  options.allocator = &allocator;
  for (uint64_t step = 0; step < 4; ++step) {
    ASSERT_TRUE(ranks_[1]->Grant(Sequence(step)).ok());
  }
  auto views = testing::ViewsOf(tensors_);
  std::vector<int> released;
  for (int row : {0, 1}) {
    views[static_cast<size_t>(row)].release = [&released, row] { released.push_back(row); };
  }
  const auto source = SourceOf(std::move(views));
  auto producer = PackedProducer::Make(ranks_[0].get(), source.get(), options).value();
  std::thread granter([&] {
    for (int k = 0; k < 200; ++k) (void)ranks_[1]->Poll(Milliseconds(1));
  });
  const Status status = producer->Run(In(Milliseconds(500))).status();
  granter.join();
  EXPECT_THAT(status.message(), HasSubstr("ZeroMQ still holds buffers of rank 0"));
  EXPECT_EQ(producer->rows_released(), 1u);
  EXPECT_EQ(released, std::vector<int>{1}) << "packed, so nothing reads it";
  producer.reset();
  EXPECT_GE(allocator.bytes(), 1024u) << "the ring is kept";
  ranks_.clear();
  transport_.reset();  // ZeroMQ lets go of the tensor before it goes
}

}  // namespace
}  // namespace packcast
