#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/runtime/data/broadcast_fixture.h"

namespace packcast {
namespace {

using testing::Collector;
using testing::CountingAllocator;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TestTensor;

// One producer and one consumer on rank 0 and 1 of a local collective, in one thread.
class PackedBroadcast : public ::testing::Test {
 protected:
  PackedBroadcast() : transport_(MakeLocalTransport()) {
    ranks_ = testing::JoinAll(transport_.get(), 2, 0);
    testing::BeginAll(ranks_, testing::TestStream());
    options_.plan.buffer_bytes = 1024;
  }

  void Add(const std::string& name, Dtype dtype, std::vector<int64_t> shape) {
    tensors_.push_back(testing::MakeTensor(name, dtype, std::move(shape), &rng_));
  }

  Status Run() { return Run(options_, testing::RowsIn(tensors_)); }
  Status Run(const BroadcastOptions& theirs, std::vector<Row> rows) {
    collector_ = std::make_unique<Collector>(tensors_);
    if (source_ == nullptr) source_ = SourceOf(testing::ViewsOf(tensors_));
    rows_ = RowsOf(std::move(rows));
    producer_ = PackedProducer::Make(ranks_[0].get(), source_.get(), options_, transform_).value();
    const UnpackCallback callback = callback_ ? callback_ : collector_->callback();
    consumer_ =
        PackedConsumer::Make(ranks_[1].get(), rows_.get(), theirs, callback, targets_).value();
    const Status status = testing::DriveAll(ranks_, producer_.get(), {consumer_.get()});
    producer_status_ = producer_->Advance().status();
    consumer_status_ = consumer_->Advance().status();
    return status;
  }

  void ExpectAllArrived() {
    EXPECT_TRUE(collector_->complete());
    for (size_t row = 0; row < tensors_.size(); ++row) {
      EXPECT_EQ(collector_->rows()[row], tensors_[row].wire) << tensors_[row].row.name;
    }
  }

  std::mt19937_64 rng_{42};
  CountingAllocator allocator_;  // outlives those who use it
  std::unique_ptr<Transport> transport_;
  std::vector<std::unique_ptr<Collective>> ranks_;
  std::vector<TestTensor> tensors_;
  BroadcastOptions options_;
  TensorTransform transform_;
  UnpackCallback callback_;
  const TargetMap* targets_ = nullptr;
  std::unique_ptr<Collector> collector_;
  std::unique_ptr<TensorSource> source_;
  std::unique_ptr<RowSource> rows_;
  std::unique_ptr<PackedProducer> producer_;
  std::unique_ptr<PackedConsumer> consumer_;
  Status producer_status_;
  Status consumer_status_;
};

// vllm#57665, verl#7318: a slice after an odd-sized tensor was misaligned for its type.
TEST_F(PackedBroadcast, TensorAfterAnOddSizedOneIsAligned) {
  Add("odd", Dtype::kU8, {3});
  Add("double", Dtype::kF64, {5});
  Add("odder", Dtype::kBool, {7});
  Add("complex", Dtype::kC64, {2});
  std::vector<uintptr_t> misaligned;
  callback_ = [&](std::span<const UnpackedRegion> regions) {
    for (const UnpackedRegion& region : regions) {
      const auto at = reinterpret_cast<uintptr_t>(region.data);
      if (at % 256 != 0) misaligned.push_back(at);
    }
    return collector_->callback()(regions);
  };
  ASSERT_TRUE(Run().ok());
  EXPECT_THAT(misaligned, ElementsAre());
  ExpectAllArrived();
}

// NeMo-RL#3414: a tensor without dimensions failed.
TEST_F(PackedBroadcast, ZeroDimensionalTensorsTravel) {
  Add("scale", Dtype::kF32, {});
  Add("step", Dtype::kI64, {});
  ASSERT_TRUE(Run().ok());
  ExpectAllArrived();
}

// vLLM: "2 GiB" of buffers became 2.85 GiB, because tensors were never split.
TEST_F(PackedBroadcast, BuffersNeverExceedTheAgreedSizeWhateverTheTensors) {
  Add("huge", Dtype::kF32, {100'003});
  Add("small", Dtype::kF32, {3});
  Add("large", Dtype::kU8, {70'001});
  options_.allocator = &allocator_;
  options_.plan.buffer_bytes = 4096;
  options_.buffer_count = 3;
  ASSERT_TRUE(Run().ok());
  ExpectAllArrived();
  EXPECT_EQ(allocator_.peak(), 2u * 3 * 4096);  // both sides share the allocator
}

// SkyRL#2114: both sides compute chunk boundaries alone; unequal settings hung.
TEST_F(PackedBroadcast, UnequalBufferSizesAreRefusedInsteadOfAHang) {
  Add("a", Dtype::kF32, {3000});
  BroadcastOptions theirs = options_;
  theirs.plan.buffer_bytes = 2048;
  const Status status = Run(theirs, testing::RowsIn(tensors_));
  EXPECT_EQ(consumer_status_.code(), StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(consumer_status_.message(), HasSubstr("rank 1"));
  EXPECT_THAT(consumer_status_.message(), HasSubstr("the root sends 1024 bytes in 1 regions"));
  EXPECT_THAT(consumer_status_.message(), HasSubstr("its own plan has 2048 bytes"));
  EXPECT_EQ(producer_status_.code(), StatusCode::kAborted);
  EXPECT_THAT(producer_status_.message(), HasSubstr("rank 1 (node-1) aborted"));
}

TEST_F(PackedBroadcast, RowsThatOnlyTheProducerHasAreRefused) {
  Add("a", Dtype::kU8, {1024});
  Add("b", Dtype::kU8, {1024});
  std::vector<Row> rows = testing::RowsIn(tensors_);
  rows.pop_back();
  (void)Run(options_, rows);
  EXPECT_EQ(consumer_status_.code(), StatusCode::kFailedPrecondition) << consumer_status_;
  EXPECT_THAT(consumer_status_.message(), HasSubstr("refuses step 1"));
}

TEST_F(PackedBroadcast, RowsThatOnlyTheConsumerHasAreRefused) {
  Add("a", Dtype::kU8, {1024});
  std::vector<Row> rows = testing::RowsIn(tensors_);
  rows.push_back({.name = "extra", .shape = {4}});
  (void)Run(options_, rows);
  EXPECT_EQ(consumer_status_.code(), StatusCode::kFailedPrecondition) << consumer_status_;
  EXPECT_THAT(consumer_status_.message(), HasSubstr("from tensor \"extra\" on"));
  EXPECT_THAT(consumer_status_.message(), HasSubstr("ended after 1 steps"));
}

TEST_F(PackedBroadcast, EmptyTensorsAreShownInOrderAndAnEmptyModelIsFine) {
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(consumer_->result().steps, 0u);
}

TEST_F(PackedBroadcast, EmptyTensorsReachTheCallback) {
  Add("first", Dtype::kF32, {0, 7});
  Add("middle", Dtype::kF32, {7});
  Add("last", Dtype::kF32, {7, 0});
  std::vector<std::string> names;
  callback_ = [&](std::span<const UnpackedRegion> regions) {
    for (const UnpackedRegion& region : regions) names.push_back(region.meta->name);
    return OkStatus();
  };
  ASSERT_TRUE(Run().ok());
  EXPECT_THAT(names, ElementsAre("first", "middle", "last"));
}

TEST_F(PackedBroadcast, SourceThatLeavesTheManifestIsAnErrorWithBothSidesValues) {
  Add("weight", Dtype::kF32, {8});
  const Manifest manifest = Manifest::Make(testing::RowsIn(tensors_)).value();
  const Plan plan = MakePlan(manifest, options_.plan).value();
  BroadcastOptions theirs = options_;
  options_.manifest = &manifest;
  options_.expected = &plan;
  tensors_.clear();
  Add("weight", Dtype::kBF16, {8});
  (void)Run(theirs, testing::RowsIn(tensors_));
  EXPECT_EQ(producer_status_,
            FailedPrecondition("row 0 is \"weight\", BF16 [8], 16 bytes; the manifest has "
                               "\"weight\", F32 [8], 32 bytes"));
}

TEST_F(PackedBroadcast, SourceThatEndsEarlyNamesTheMissingTensor) {
  Add("a", Dtype::kF32, {8});
  Add("b", Dtype::kF32, {8});
  const Manifest manifest = Manifest::Make(testing::RowsIn(tensors_)).value();
  const Plan plan = MakePlan(manifest, options_.plan).value();
  options_.manifest = &manifest;
  options_.expected = &plan;
  tensors_.pop_back();
  BroadcastOptions theirs = options_;
  theirs.manifest = nullptr;
  theirs.expected = nullptr;
  (void)Run(theirs, testing::RowsIn(tensors_));
  EXPECT_THAT(producer_status_.message(),
              HasSubstr("end after 1; the manifest goes on with \"b\""));
}

TEST_F(PackedBroadcast, CallbackErrorEndsBothSides) {
  Add("a", Dtype::kF32, {8});
  callback_ = [](std::span<const UnpackedRegion>) { return Internal("engine said no"); };
  (void)Run();
  EXPECT_EQ(consumer_status_, Internal("engine said no"));
  EXPECT_THAT(producer_status_.message(), HasSubstr("engine said no"));
}

TEST_F(PackedBroadcast, DirectRowThatIsNotContiguousIsAnError) {
  Add("view", Dtype::kF32, {16, 16});
  testing::MakeStrided(&tensors_[0]);
  options_.plan.direct_bytes_min = 1;
  options_.plan.direct_rows = {0};
  std::vector<std::byte> memory(1024);
  TargetMap targets;
  targets.SetRow(0, MemoryTarget(memory.data(), memory.size()));
  targets_ = &targets;
  (void)Run();
  EXPECT_EQ(producer_status_.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(producer_status_.message(), HasSubstr("tensor \"view\""));
}

TEST_F(PackedBroadcast, DirectRowNeedsMemoryAtTheConsumer) {
  Add("direct", Dtype::kF32, {16});
  options_.plan.direct_bytes_min = 1;
  options_.plan.direct_rows = {0};
  (void)Run();
  EXPECT_EQ(consumer_status_.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(consumer_status_.message(), HasSubstr("tensor \"direct\" travels direct"));
}

TEST_F(PackedBroadcast, SkippedRowsAreVerifiedAndNotKept) {
  Add("kept", Dtype::kF32, {16});
  Add("skipped", Dtype::kF32, {16});
  std::vector<std::byte> memory(64);
  TargetMap targets(RowTarget::Kind::kSkip);
  targets.SetName("kept", MemoryTarget(memory.data(), 64));
  targets_ = &targets;
  ASSERT_TRUE(Run().ok());
  EXPECT_EQ(memory, tensors_[0].wire);
  EXPECT_EQ(collector_->regions(), 0u);
  EXPECT_EQ(consumer_->result().content_digest, producer_->result().content_digest);
}

TEST_F(PackedBroadcast, TransformConvertsWhilePacking) {
  Add("master", Dtype::kF32, {1000});
  transform_ = Fp32ToBf16;
  std::vector<Row> rows = testing::RowsIn(tensors_);
  rows[0].dtype = Dtype::kBF16;
  std::vector<std::byte> memory(2000);
  TargetMap targets;
  targets.SetRow(0, MemoryTarget(memory.data(), memory.size()));
  targets_ = &targets;
  ASSERT_TRUE(Run(options_, rows).ok());
  for (size_t k = 0; k < 1000; ++k) {
    float value;
    std::memcpy(&value, tensors_[0].wire.data() + 4 * k, 4);
    uint16_t narrow;
    std::memcpy(&narrow, memory.data() + 2 * k, 2);
    const uint32_t wide = uint32_t{narrow} << 16;
    float back;
    std::memcpy(&back, &wide, 4);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(back));
    } else if (std::isnormal(value) && std::isfinite(back)) {
      EXPECT_NEAR(back / value, 1.0, 1.0 / 256);
    }
  }
}

TEST_F(PackedBroadcast, TensorsAreReleasedOnceAndInOrder) {
  std::vector<NamedTensor> views;
  std::vector<int> released;
  for (int k = 0; k < 20; ++k) Add("t" + std::to_string(k), Dtype::kF32, {1 + 37 * k});
  for (int k = 0; k < 20; ++k) {
    views.push_back(testing::ViewOf(tensors_[static_cast<size_t>(k)]));
    views.back().release = [&released, k] { released.push_back(k); };
  }
  source_ = SourceOf(std::move(views));
  ASSERT_TRUE(Run().ok());
  EXPECT_TRUE(std::is_sorted(released.begin(), released.end()));
  EXPECT_EQ(released.size(), 20u);
  EXPECT_EQ(producer_->rows_entered(), 20u);
  EXPECT_EQ(producer_->rows_released(), 20u);
}

// A source that cancels after some rows, as a trainer's abort does.
class CancellingSource : public TensorSource {
 public:
  CancellingSource(std::vector<TestTensor>* tensors, CancelToken* cancel, size_t at)
      : tensors_(tensors), cancel_(cancel), at_(at) {}
  StatusOr<std::optional<NamedTensor>> Next() override {
    if (next_ == at_) cancel_->Cancel(Aborted("stop here"));
    return std::optional<NamedTensor>(testing::ViewOf((*tensors_)[next_++]));
  }

 private:
  std::vector<TestTensor>* tensors_;
  CancelToken* cancel_;
  size_t at_;
  size_t next_ = 0;
};

TEST_F(PackedBroadcast, CancelStopsBetweenRowsAndTellsWhichWasEntered) {
  for (int k = 0; k < 20; ++k) Add("t" + std::to_string(k), Dtype::kF32, {3});
  CancelToken cancel;
  CancellingSource source(&tensors_, &cancel, 5);
  auto producer = PackedProducer::Make(ranks_[0].get(), &source, options_).value();
  EXPECT_EQ(producer->Run(testing::In(Seconds(30)), &cancel).status(), Aborted("stop here"));
  EXPECT_EQ(producer->rows_entered(), 6u);
  EXPECT_EQ(producer->rows_released(), 6u);
  EXPECT_EQ(ranks_[1]->Poll(Duration::zero()).code(), StatusCode::kAborted);
}

TEST_F(PackedBroadcast, LentRingServesManyRunsWithoutAllocation) {
  Add("a", Dtype::kF32, {3000});
  const auto ring = BufferRing::Make(1024, 2, &allocator_).value();
  const auto other = BufferRing::Make(1024, 1, &allocator_).value();
  const uint64_t before = allocator_.peak();
  for (uint64_t epoch = 2; epoch < 12; ++epoch) {
    testing::BeginAll(ranks_, testing::TestStream(epoch));
    BroadcastOptions theirs = options_;
    options_.ring = ring.get();
    theirs.ring = other.get();
    source_.reset();
    ASSERT_TRUE(Run(theirs, testing::RowsIn(tensors_)).ok());
    ExpectAllArrived();
  }
  EXPECT_EQ(allocator_.peak(), before);
}

TEST_F(PackedBroadcast, OnlyTheRootProducesAndOnlyMembersConsume) {
  const auto source = SourceOf({});
  const auto rows = RowsOf({});
  EXPECT_FALSE(PackedProducer::Make(ranks_[1].get(), source.get(), options_).ok());
  EXPECT_FALSE(PackedConsumer::Make(ranks_[0].get(), rows.get(), options_, nullptr).ok());
}

}  // namespace
}  // namespace packcast
