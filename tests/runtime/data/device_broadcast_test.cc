// The device's producer and consumer on the host: a CPU copy engine stands in for the kernels.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "runtime/data/device_consumer.h"
#include "runtime/data/device_producer.h"
#include "tests/runtime/data/broadcast_cases.h"
#include "tests/runtime/data/late_engine.h"

namespace packcast {
namespace {

using testing::BeginAll;
using testing::Case;
using testing::CaseMaker;
using testing::CountingAllocator;
using testing::FromEnvironment;
using testing::kCases;
using testing::LateEngine;
using testing::Receiver;
using testing::TestTensor;

// Unlike on the host, a direct row arrives in one piece.
void TakeDirectRowsWhole(const Case& c, Receiver* receiver) {
  for (uint32_t row : c.options.plan.direct_rows) {
    receiver->targets.SetRow(
        row, MemoryTarget(receiver->memory[row].data(), receiver->memory[row].size()));
  }
}

BatchTensor BatchTensorOf(const TestTensor& tensor) {
  const NamedTensor view = testing::ViewOf(tensor);
  return {view.data, view.source_dtype.value_or(view.dtype), view.strides};
}

std::unique_ptr<BatchSource> OneBatchOf(const std::vector<TestTensor>& tensors) {
  TensorBatch batch;
  for (const TestTensor& tensor : tensors) batch.tensors.push_back(BatchTensorOf(tensor));
  return BatchesOf({batch});
}

// Cut anywhere; each counts its release.
std::vector<TensorBatch> BatchesIn(const std::vector<TestTensor>& tensors, CaseMaker* maker,
                                   uint64_t* releases) {
  std::vector<TensorBatch> batches;
  for (const TestTensor& tensor : tensors) {
    if (batches.empty() || maker->Below(3) == 0) {
      batches.emplace_back().release = [releases] { ++*releases; };
      // An event of its own, sometimes: only to be told apart, on the host.
      if (maker->Below(3) == 0) batches.back().ready = &batches.back();
    }
    batches.back().tensors.push_back(BatchTensorOf(tensor));
  }
  return batches;
}

void RunCase(uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  CaseMaker maker(seed);
  Case c = maker.Make();
  const auto manifest = Manifest::Make(testing::RowsIn(c.tensors));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const auto plan = MakePlan(*manifest, c.options.plan);
  ASSERT_TRUE(plan.ok()) << plan.status();
  c.options.manifest = &*manifest;
  c.options.expected = &*plan;

  auto transport = MakeLocalTransport();
  const auto ranks = testing::JoinAll(transport.get(), c.size, c.root);
  BeginAll(ranks, testing::TestStream());
  uint64_t releases = 0;
  std::vector<TensorBatch> batches = BatchesIn(c.tensors, &maker, &releases);
  const size_t batch_count = batches.size();
  const auto source = BatchesOf(std::move(batches));
  std::vector<std::unique_ptr<CopyEngine>> engines;
  for (uint32_t rank = 0; rank < c.size; ++rank) {
    engines.push_back(MakeHostCopyEngine(1 + maker.Below(40)));
  }
  BroadcastOptions options = c.options;
  options.buffer_count = c.counts[c.root];
  auto producer =
      DeviceProducer::Make(ranks[c.root].get(), source.get(), engines[c.root].get(), options);
  ASSERT_TRUE(producer.ok()) << producer.status();

  std::vector<std::unique_ptr<Receiver>> receivers;
  std::vector<std::unique_ptr<UnpackTable>> tables;
  std::vector<std::unique_ptr<DeviceConsumer>> consumers;
  std::vector<DeviceConsumer*> pointers;
  for (uint32_t rank = 0; rank < c.size; ++rank) {
    if (rank == c.root) continue;
    receivers.push_back(std::make_unique<Receiver>(c, &maker));
    TakeDirectRowsWhole(c, receivers.back().get());
    options.buffer_count = c.counts[rank];
    auto table = UnpackTable::Make(*manifest, *plan, receivers.back()->targets, c.options.hash);
    ASSERT_TRUE(table.ok()) << table.status();
    tables.push_back(std::make_unique<UnpackTable>(std::move(table).value()));
    auto consumer =
        DeviceConsumer::Make(ranks[rank].get(), engines[rank].get(), options, tables.back().get(),
                             receivers.back()->collector.callback());
    ASSERT_TRUE(consumer.ok()) << consumer.status();
    pointers.push_back(consumer->get());
    consumers.push_back(std::move(consumer).value());
  }

  const Status status = testing::DriveAll<DeviceConsumer>(ranks, producer->get(), pointers);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(releases, batch_count);
  ContentHash whole;
  for (uint32_t row = 0; row < c.tensors.size(); ++row) whole.Add(row, 0, c.tensors[row].wire);
  const BroadcastResult& sent = (*producer)->result();
  ASSERT_EQ(sent.content_digest, c.options.hash ? whole.digest() : Digest());
  ASSERT_EQ(sent.steps, plan->steps.size());
  ASSERT_EQ(sent.wire_bytes, plan->wire_bytes);
  ASSERT_EQ(sent.bytes, manifest->total_bytes());
  ASSERT_EQ(sent.rows, manifest->size());
  for (size_t k = 0; k < consumers.size(); ++k) {
    ASSERT_NO_FATAL_FAILURE(receivers[k]->Check(c));
    const BroadcastResult& got = consumers[k]->result();
    ASSERT_EQ(got.content_digest, sent.content_digest);
    ASSERT_EQ(got.bytes, sent.bytes);
    ASSERT_EQ(got.steps, sent.steps);
  }
}

TEST(DeviceBroadcastProperty, EveryByteArrivesWhateverTheManifestAndTheSettings) {
  const uint64_t first = FromEnvironment("PACKCAST_PROPERTY_SEED", 1);
  const uint64_t cases = FromEnvironment("PACKCAST_PROPERTY_CASES", kCases / 4);
  for (uint64_t seed = first; seed < first + cases && !HasFatalFailure(); ++seed) RunCase(seed);
}

// ---- one small broadcast, looked at closely -----------------------------------------------------

struct Pair {
  std::vector<TestTensor> tensors;
  Manifest manifest;
  Plan plan;
  BroadcastOptions options;
  std::unique_ptr<Transport> transport = MakeLocalTransport();
  std::vector<std::unique_ptr<Collective>> ranks;
  std::unique_ptr<CopyEngine> root_engine = MakeHostCopyEngine();
  std::unique_ptr<CopyEngine> member_engine = MakeHostCopyEngine();
  std::vector<std::vector<std::byte>> memory;
  TargetMap targets;
};

void Fill(Pair* pair, uint32_t rows, int64_t elements, PlanOptions plan_options) {
  std::mt19937_64 rng(7);
  for (uint32_t row = 0; row < rows; ++row) {
    pair->tensors.push_back(
        testing::MakeTensor("tensor." + std::to_string(row), Dtype::kF32, {elements}, &rng));
  }
  pair->manifest = Manifest::Make(testing::RowsIn(pair->tensors)).value();
  pair->plan = MakePlan(pair->manifest, plan_options).value();
  pair->options.plan = plan_options;
  pair->options.manifest = &pair->manifest;
  pair->options.expected = &pair->plan;
  pair->ranks = testing::JoinAll(pair->transport.get(), 2, 0);
  BeginAll(pair->ranks, testing::TestStream());
  pair->memory.resize(rows);
  for (uint32_t row = 0; row < rows; ++row) {
    pair->memory[row].resize(pair->tensors[row].wire.size());
    pair->targets.SetRow(row, MemoryTarget(pair->memory[row].data(), pair->memory[row].size()));
  }
}

// Sends `source` from rank 0 to rank 1, and looks at every byte.
void SendAll(Pair* pair, BatchSource* source) {
  auto producer =
      DeviceProducer::Make(pair->ranks[0].get(), source, pair->root_engine.get(), pair->options);
  ASSERT_TRUE(producer.ok()) << producer.status();
  const auto table = UnpackTable::Make(pair->manifest, pair->plan, pair->targets, true);
  ASSERT_TRUE(table.ok()) << table.status();
  auto consumer =
      DeviceConsumer::Make(pair->ranks[1].get(), pair->member_engine.get(), pair->options, &*table);
  ASSERT_TRUE(consumer.ok()) << consumer.status();
  const Status status =
      testing::DriveAll<DeviceConsumer>(pair->ranks, producer->get(), {consumer->get()});
  ASSERT_TRUE(status.ok()) << status;
  for (size_t row = 0; row < pair->memory.size(); ++row) {
    EXPECT_TRUE(pair->memory[row] == pair->tensors[row].wire) << row;
  }
}

// The bytes change between the checksum and the wire: what a broken link or a source that writes
// too early looks like.
TEST(DeviceBroadcast, AFlippedBitIsNamedByTensorBytesAndRank) {
  Pair pair;
  // Rows of 1 MiB: four pieces each. All direct.
  Fill(&pair, 3, 262144,
       {.buffer_bytes = 1 << 20, .direct_bytes_min = 1, .direct_rows = {0, 1, 2}});
  class FlippingEngine final : public CopyEngine {
   public:
    FlippingEngine(CopyEngine* inner, std::byte* at) : inner_(inner), at_(at) {}
    Allocator* allocator() override { return inner_->allocator(); }
    uint32_t pieces_max() const override { return inner_->pieces_max(); }
    uint32_t layouts_max() const override { return inner_->layouts_max(); }
    bool HasRoom() const override { return inner_->HasRoom(); }
    StatusOr<Ticket> Submit(std::span<const CopyPiece> pieces, std::span<const PieceLayout> layouts,
                            void* ready, bool alone) override {
      *at_ ^= std::byte{1};
      return inner_->Submit(pieces, layouts, ready, alone);
    }
    StatusOr<bool> Done(Ticket ticket) override { return inner_->Done(ticket); }
    StatusOr<bool> HasFired(void* event) override { return inner_->HasFired(event); }
    std::span<const Digest> digests(Ticket ticket) const override {
      return inner_->digests(ticket);
    }
    void Forget(Ticket ticket) override { inner_->Forget(ticket); }
    Status Drain(Duration timeout) override { return inner_->Drain(timeout); }

   private:
    CopyEngine* inner_;
    std::byte* at_;
  };
  FlippingEngine engine(pair.member_engine.get(), pair.memory[1].data() + 600000);
  const auto source = OneBatchOf(pair.tensors);
  auto producer =
      DeviceProducer::Make(pair.ranks[0].get(), source.get(), pair.root_engine.get(), pair.options);
  ASSERT_TRUE(producer.ok()) << producer.status();
  const auto table = UnpackTable::Make(pair.manifest, pair.plan, pair.targets, true);
  ASSERT_TRUE(table.ok()) << table.status();
  auto consumer = DeviceConsumer::Make(pair.ranks[1].get(), &engine, pair.options, &*table);
  ASSERT_TRUE(consumer.ok()) << consumer.status();
  const Status status =
      testing::DriveAll<DeviceConsumer>(pair.ranks, producer->get(), {consumer->get()});
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_NE(status.message().find("rank 1"), std::string::npos) << status;
  EXPECT_NE(status.message().find("tensor \"tensor.1\", bytes 524288 to 786432"), std::string::npos)
      << status;
}

// A lazy source that holds one tensor at a time would wait for ever for a step to fill up.
TEST(DeviceBroadcast, ASourceOfOneTensorAtATimeGetsItBackBeforeTheStepIsFull) {
  Pair pair;
  Fill(&pair, 40, 100, {.buffer_bytes = 1 << 20});
  class OneAtATime final : public BatchSource {
   public:
    explicit OneAtATime(const std::vector<TestTensor>& tensors) : tensors_(tensors) {}
    bool Ready() override { return !held_; }
    StatusOr<std::optional<TensorBatch>> Next() override {
      if (next_ == tensors_.size()) return std::optional<TensorBatch>();
      held_ = true;
      TensorBatch batch;
      batch.tensors.push_back(BatchTensorOf(tensors_[next_++]));
      batch.release = [this] { held_ = false; };
      return std::optional<TensorBatch>(std::move(batch));
    }

   private:
    const std::vector<TestTensor>& tensors_;
    size_t next_ = 0;
    bool held_ = false;
  };
  OneAtATime source(pair.tensors);
  SendAll(&pair, &source);
}

// Each event makes a Submit of its own. The direct step is through with its rows before the packed
// one that comes first in the plan, and what it has with the engine must not keep that one out.
TEST(DeviceBroadcast, AnEarlyStepGivesTheEngineBack) {
  Pair pair;
  std::vector<uint32_t> direct;
  for (uint32_t row = 1; row <= 24; ++row) direct.push_back(row);
  // Rows of 400 bytes: buffers of two, all but row 0 and the last two direct. Three times what the
  // engine has room for, so that it is full when the direct step has its last row.
  Fill(&pair, 27, 100, {.buffer_bytes = 1024, .direct_bytes_min = 1, .direct_rows = direct});
  ASSERT_FALSE(pair.plan.steps.front().direct);
  std::vector<int> events(pair.tensors.size());
  std::vector<TensorBatch> batches;
  for (size_t row = 0; row < pair.tensors.size(); ++row) {
    batches.emplace_back().tensors.push_back(BatchTensorOf(pair.tensors[row]));
    batches.back().ready = &events[row];
  }
  const auto source = BatchesOf(std::move(batches));
  SendAll(&pair, source.get());
}

TEST(DeviceBroadcast, ADirectRowNeedsOnePieceOfMemory) {
  Pair pair;
  Fill(&pair, 1, 1000, {.buffer_bytes = 1 << 20, .direct_bytes_min = 1, .direct_rows = {0}});
  pair.targets.SetRow(0, {.kind = RowTarget::Kind::kMemory,
                          .pieces = {{0, 2000, pair.memory[0].data()},
                                     {2000, 2000, pair.memory[0].data() + 2000}}});
  const auto table = UnpackTable::Make(pair.manifest, pair.plan, pair.targets, true);
  EXPECT_EQ(table.status().code(), StatusCode::kFailedPrecondition) << table.status();
  EXPECT_NE(table.status().message().find("tensor.0"), std::string::npos) << table.status();
}

// ---- what is read and written when --------------------------------------------------------------

// One tensor a batch, each with an event of its own, and counted when it is given back.
std::unique_ptr<BatchSource> LateBatchesOf(std::vector<TestTensor>* tensors, size_t* releases) {
  std::vector<TensorBatch> batches;
  for (TestTensor& tensor : *tensors) {
    TensorBatch& batch = batches.emplace_back();
    batch.tensors.push_back(BatchTensorOf(tensor));
    batch.ready = &tensor;
    batch.release = [releases] { ++*releases; };
  }
  return BatchesOf(std::move(batches));
}

// vllm-ascend#12713: packing did not wait for the stream that produced the weights.
TEST(DeviceBroadcast, NothingIsReadBeforeTheEventOfItsTensorHasFired) {
  for (const bool hash : {true, false}) {
    Pair pair;
    Fill(&pair, 8, 1000, {.buffer_bytes = 8192});
    pair.options.hash = hash;
    pair.root_engine = std::make_unique<LateEngine>(&pair.tensors);
    size_t releases = 0;
    const auto source = LateBatchesOf(&pair.tensors, &releases);
    SendAll(&pair, source.get());
    EXPECT_EQ(releases, 8u);
  }
}

// A producer and a consumer that a test moves by hand.
struct Ends {
  std::unique_ptr<DeviceProducer> producer;
  std::unique_ptr<UnpackTable> table;
  std::unique_ptr<DeviceConsumer> consumer;
};

Ends EndsOf(Pair* pair, BatchSource* source) {
  Ends ends;
  ends.producer =
      DeviceProducer::Make(pair->ranks[0].get(), source, pair->root_engine.get(), pair->options)
          .value();
  ends.table = std::make_unique<UnpackTable>(
      UnpackTable::Make(pair->manifest, pair->plan, pair->targets, pair->options.hash).value());
  ends.consumer = DeviceConsumer::Make(pair->ranks[1].get(), pair->member_engine.get(),
                                       pair->options, ends.table.get())
                      .value();
  return ends;
}

// Far more turns than all of it takes. Whether one of the two says that it is finished.
bool IsFinishedAfterManyTurns(Pair* pair, Ends* ends) {
  bool is_finished = false;
  for (int turn = 0; turn < 1000; ++turn) {
    is_finished = ends->producer->Advance().value() || is_finished;
    is_finished = ends->consumer->Advance().value() || is_finished;
    for (const auto& rank : pair->ranks) EXPECT_TRUE(rank->Poll(Duration::zero()).ok());
  }
  return is_finished;
}

// NeMo-RL#3055: the copies on a side stream had not ended when "done" was said.
TEST(DeviceBroadcast, IsNotFinishedBeforeTheMembersCopiesHaveEnded) {
  for (const bool hash : {true, false}) {
    Pair pair;
    Fill(&pair, 4, 100, {.buffer_bytes = 4096});
    pair.options.hash = hash;
    auto engine = std::make_unique<LateEngine>();
    LateEngine* const late = engine.get();
    late->may_work = false;
    pair.member_engine = std::move(engine);
    const auto source = OneBatchOf(pair.tensors);
    Ends ends = EndsOf(&pair, source.get());
    EXPECT_FALSE(IsFinishedAfterManyTurns(&pair, &ends));
    EXPECT_GT(late->submits, 0) << "the bytes have arrived";
    late->may_work = true;
    const Status status =
        testing::DriveAll<DeviceConsumer>(pair.ranks, ends.producer.get(), {ends.consumer.get()});
    ASSERT_TRUE(status.ok()) << status;
    for (size_t row = 0; row < pair.memory.size(); ++row) {
      EXPECT_TRUE(pair.memory[row] == pair.tensors[row].wire) << row;
    }
  }
}

// Has nothing to give after so many batches, until it goes on.
class PausingSource final : public BatchSource {
 public:
  PausingSource(std::unique_ptr<BatchSource> inner, size_t before_pause)
      : inner_(std::move(inner)), left_(before_pause) {}
  bool Ready() override { return left_ > 0 && inner_->Ready(); }
  StatusOr<std::optional<TensorBatch>> Next() override {
    --left_;
    return inner_->Next();
  }
  void GoOn() { left_ = SIZE_MAX; }

 private:
  const std::unique_ptr<BatchSource> inner_;
  size_t left_;
};

// The same of the root: the next training step would write what is still read.
TEST(DeviceBroadcast, ATensorIsGivenBackOnlyWhenNothingReadsItAnyMore) {
  for (const size_t before_pause : {2u, 100u}) {  // the step is open, or all are in it
    Pair pair;
    Fill(&pair, 4, 100, {.buffer_bytes = 4096});
    auto engine = std::make_unique<LateEngine>(&pair.tensors);
    LateEngine* const late = engine.get();
    late->may_work = false;
    pair.root_engine = std::move(engine);
    size_t releases = 0;
    PausingSource source(LateBatchesOf(&pair.tensors, &releases), before_pause);
    Ends ends = EndsOf(&pair, &source);
    EXPECT_FALSE(IsFinishedAfterManyTurns(&pair, &ends));
    EXPECT_GT(late->submits, 0);
    EXPECT_EQ(releases, 0u);
    late->may_work = true;
    source.GoOn();
    const Status status =
        testing::DriveAll<DeviceConsumer>(pair.ranks, ends.producer.get(), {ends.consumer.get()});
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(releases, 4u);
  }
}

}  // namespace
}  // namespace packcast
