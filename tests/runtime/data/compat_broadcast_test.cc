// The compat layout between packcast and ranks that know nothing of it: what Python stacks do
// (vLLM's packed tensor utilities) stands on the other side of a wire without words.

#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "runtime/data/device_consumer.h"
#include "runtime/data/device_producer.h"
#include "runtime/data/silent_collective.h"
#include "tests/runtime/data/broadcast_fixture.h"
#include "tests/runtime/data/hub_wire.h"

namespace packcast {
namespace {

using testing::Collector;
using testing::Hub;
using testing::HubWire;
using testing::TestTensor;
using Buffer = std::vector<std::byte>;

// The buffers that the Python producer fills and the Python consumer expects, those without bytes
// left out: NCCL has nothing to do for them.
std::vector<Buffer> PythonBuffers(const std::vector<TestTensor>& tensors, uint64_t target) {
  std::vector<Buffer> buffers(1);
  for (const TestTensor& tensor : tensors) {
    buffers.back().insert(buffers.back().end(), tensor.wire.begin(), tensor.wire.end());
    if (buffers.back().size() > target) buffers.emplace_back();
  }
  if (buffers.back().empty()) buffers.pop_back();
  return buffers;
}

std::vector<TestTensor> RandomTensors(std::mt19937_64* rng, uint64_t largest) {
  std::vector<TestTensor> tensors;
  const auto below = [rng](uint64_t limit) { return static_cast<int64_t>((*rng)() % limit); };
  const int64_t count = below(25);
  for (int64_t k = 0; k < count; ++k) {
    const Dtype dtype = std::vector<Dtype>{
        Dtype::kBF16,   Dtype::kF32,  Dtype::kF16, Dtype::kI8,
        Dtype::kF8E4M3, Dtype::kBool, Dtype::kU8,  Dtype::kI64}[static_cast<size_t>(below(8))];
    std::vector<int64_t> shape;
    switch (below(5)) {
      case 0: break;  // 0-d
      case 1: shape = {0, 5}; break;
      case 2: shape = {1 + below(9), 3, 1 + below(7)}; break;
      case 3: shape = {1 + below(40)}; break;
      case 4: shape = {1 + below(largest)}; break;
    }
    tensors.push_back(testing::MakeTensor("t" + std::to_string(k), dtype, shape, rng));
    if (below(4) == 0) MakeStrided(&tensors.back());
  }
  return tensors;
}

// What both ends need to know about some tensors.
struct Job {
  Job(const std::vector<TestTensor>& list, uint64_t target) : tensors(list) {
    manifest = Manifest::Make(testing::RowsIn(tensors)).value();
    options.plan.layout = Layout::kCompat;
    options.plan.buffer_bytes = target;
    plan = MakePlan(manifest, options.plan).value();
    options.hash = false;
    options.manifest = &manifest;
    options.expected = &plan;
  }

  const std::vector<TestTensor>& tensors;
  Manifest manifest;
  Plan plan;
  BroadcastOptions options;
};

std::unique_ptr<BatchSource> SourceOf(const Job& job) {
  TensorBatch batch;
  std::vector<TensorBatch> batches;
  for (const TestTensor& tensor : job.tensors) {
    const NamedTensor view = testing::ViewOf(tensor);
    batch.tensors.push_back({view.data, view.dtype, view.strides});
  }
  if (!batch.tensors.empty()) batches.push_back(std::move(batch));
  return BatchesOf(std::move(batches));
}

// Where a consumer's rows go: every second into memory, the others to a callback.
struct Landing {
  explicit Landing(const Job& job) : collector(job.tensors), memory(job.tensors.size()) {
    for (uint32_t row = 1; row < memory.size(); row += 2) {
      memory[row].assign(job.tensors[row].wire.size(), std::byte{0x11});
      targets.SetRow(row, MemoryTarget(memory[row].data(), memory[row].size()));
    }
    table = std::make_unique<UnpackTable>(
        UnpackTable::Make(job.manifest, job.plan, targets, false).value());
  }
  void Check(const Job& job) const {
    for (size_t row = 0; row < memory.size(); ++row) {
      const Buffer& got = row % 2 == 1 ? memory[row] : collector.rows()[row];
      EXPECT_TRUE(got == job.tensors[row].wire) << "row " << row;
    }
  }

  Collector collector;
  std::vector<Buffer> memory;
  TargetMap targets;
  std::unique_ptr<UnpackTable> table;
};

class CompatBroadcastTest : public ::testing::Test {
 protected:
  CompatBroadcastTest() {
    hub_.allowed = UINT64_MAX;
    JoinOptions join;
    join.size = 2;
    for (join.rank = 0; join.rank < 2; ++join.rank) {
      ranks_.push_back(
          MakeSilentCollective(join, std::make_unique<HubWire>(&hub_, join.rank == 0)));
      EXPECT_TRUE(*ranks_.back()->Joined());
    }
  }

  std::unique_ptr<DeviceProducer> Produce(const Job& job, BatchSource* source) {
    EXPECT_TRUE(ranks_[0]->Begin({}).ok());
    return DeviceProducer::Make(ranks_[0].get(), source, engines_[0].get(), job.options).value();
  }
  std::unique_ptr<DeviceConsumer> Consume(const Job& job, Landing* landing) {
    EXPECT_TRUE(ranks_[1]->Begin({}).ok());
    EXPECT_TRUE(ranks_[1]->End(job.plan.steps.size()).ok());
    return DeviceConsumer::Make(ranks_[1].get(), engines_[1].get(), job.options,
                                landing->table.get(), landing->collector.callback())
        .value();
  }
  // What a rank that knows nothing of packcast launches.
  static void Post(std::vector<Buffer>* buffers, std::vector<Operation>* side) {
    for (Buffer& buffer : *buffers) {
      side->push_back(
          {.sequence = Sequence(side->size()), .spans = {{buffer.data(), buffer.size()}}});
    }
  }
  static Time Soon() { return testing::In(Seconds(30)); }

  Hub hub_;
  std::vector<std::unique_ptr<Collective>> ranks_;
  std::vector<std::unique_ptr<CopyEngine>> engines_ = [] {
    std::vector<std::unique_ptr<CopyEngine>> engines;
    engines.push_back(MakeHostCopyEngine(3));
    engines.push_back(MakeHostCopyEngine(5));
    return engines;
  }();
};

TEST_F(CompatBroadcastTest, APythonConsumerGetsTheBuffersThatItExpects) {
  std::mt19937_64 rng(1);
  for (int round = 0; round < 200; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    hub_.bytes.clear();
    const auto tensors = RandomTensors(&rng, 4000);
    const Job job(tensors, 256 + rng() % 2000);
    const std::vector<Buffer> expected = PythonBuffers(tensors, job.options.plan.buffer_bytes);
    ASSERT_EQ(job.plan.steps.size(), expected.size());
    std::vector<Buffer> received = expected;
    for (Buffer& buffer : received) buffer.assign(buffer.size(), std::byte{0x11});
    Post(&received, &hub_.received);
    const auto source = SourceOf(job);
    const auto result = Produce(job, source.get())->Run(Soon());
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_EQ(hub_.bytes, expected);
    ASSERT_EQ(received, expected);
    ASSERT_EQ(result->content_digest, Digest()) << "nobody could check it";
  }
}

TEST_F(CompatBroadcastTest, APythonProducerFeedsAConsumer) {
  std::mt19937_64 rng(2);
  for (int round = 0; round < 200; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    const auto tensors = RandomTensors(&rng, 4000);
    const Job job(tensors, 256 + rng() % 2000);
    std::vector<Buffer> sent = PythonBuffers(tensors, job.options.plan.buffer_bytes);
    Post(&sent, &hub_.sent);
    Landing landing(job);
    const auto result = Consume(job, &landing)->Run(Soon());
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_EQ(result->bytes, job.manifest.total_bytes());
    ASSERT_EQ(result->steps, sent.size());
    ASSERT_NO_FATAL_FAILURE(landing.Check(job));
    ASSERT_FALSE(HasFailure());
  }
}

TEST_F(CompatBroadcastTest, BothEndsOfPackcastUnderstandEachOther) {
  std::mt19937_64 rng(3);
  for (int round = 0; round < 200; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    const auto tensors = RandomTensors(&rng, 4000);
    Job job(tensors, 256 + rng() % 2000);
    job.options.buffer_count = 1 + rng() % 3;
    const auto source = SourceOf(job);
    const auto producer = Produce(job, source.get());
    job.options.buffer_count = 1 + rng() % 3;
    Landing landing(job);
    const auto consumer = Consume(job, &landing);
    const Status status =
        testing::DriveAll<DeviceConsumer>(ranks_, producer.get(), {consumer.get()});
    ASSERT_TRUE(status.ok()) << status;
    landing.Check(job);
    ASSERT_FALSE(HasFailure());
  }
}

// Twenty times the target, and copied in many pieces.
TEST_F(CompatBroadcastTest, ATensorLargerThanTheBufferIsNotSplit) {
  std::mt19937_64 rng(4);
  std::vector<TestTensor> tensors = {testing::MakeTensor("a", Dtype::kU8, {99}, &rng),
                                     testing::MakeTensor("b", Dtype::kBF16, {999999}, &rng),
                                     testing::MakeTensor("c", Dtype::kF32, {}, &rng)};
  const Job job(tensors, 100'000);
  ASSERT_EQ(job.plan.largest_step, 99u + 2 * 999999);
  const auto source = SourceOf(job);
  const auto producer = Produce(job, source.get());
  Landing landing(job);
  const auto consumer = Consume(job, &landing);
  const Status status = testing::DriveAll<DeviceConsumer>(ranks_, producer.get(), {consumer.get()});
  ASSERT_TRUE(status.ok()) << status;
  landing.Check(job);
}

TEST_F(CompatBroadcastTest, ChecksumsAreRefusedInWords) {
  std::mt19937_64 rng(5);
  const std::vector<TestTensor> tensors = {testing::MakeTensor("a", Dtype::kU8, {99}, &rng)};
  Job job(tensors, 1000);
  job.options.hash = true;
  const auto source = SourceOf(job);
  const Status sent = Produce(job, source.get())->Run(Soon()).status();
  EXPECT_EQ(sent.code(), StatusCode::kInvalidArgument) << sent;
  EXPECT_NE(sent.message().find("hash must be off"), std::string::npos) << sent;
  Landing landing(job);
  const Status received = Consume(job, &landing)->Run(Soon()).status();
  EXPECT_EQ(received.code(), StatusCode::kInvalidArgument) << received;
}

// Nothing but a deadline tells that the others do something else.
TEST_F(CompatBroadcastTest, APeerThatDoesNotComeIsPastTheDeadline) {
  std::mt19937_64 rng(6);
  const std::vector<TestTensor> tensors = {testing::MakeTensor("a", Dtype::kU8, {99}, &rng)};
  const Job job(tensors, 1000);
  Landing landing(job);
  const Status status = Consume(job, &landing)->Run(testing::In(Milliseconds(50))).status();
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
  EXPECT_NE(status.message().find("step 0 to be on all ranks"), std::string::npos) << status;
  EXPECT_EQ(hub_.aborts.load(), 1);
}

}  // namespace
}  // namespace packcast
