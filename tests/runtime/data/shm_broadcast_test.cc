#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "protocol/codec.h"
#include "runtime/data/shm_transport.h"
#include "tests/runtime/data/broadcast_cases.h"
#include "tests/runtime/data/shm_left.h"

namespace packcast {
namespace {

using testing::CountShm;
using ::testing::HasSubstr;
using testing::In;
using testing::ShmLeft;

constexpr Duration kIdleWait = Milliseconds(1);

TEST(ShmProperty, EveryByteArrivesWhateverTheManifestAndTheSettings) {
  const auto transport = MakeShmTransport().value();
  const uint64_t first = testing::FromEnvironment("PACKCAST_PROPERTY_SEED", 1);
  // Each has sockets to open, unlike the cases of one process.
  const uint64_t cases = testing::FromEnvironment("PACKCAST_PROPERTY_CASES", testing::kCases / 20);
  for (uint64_t seed = first; seed < first + cases && !HasFatalFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    testing::CaseMaker maker(seed);
    testing::Case c = maker.Make();
    c.options.plan.direct_rows.clear();  // the transport has none
    testing::RunCase(&c, &maker, transport.get(), seed, kIdleWait);
  }
  EXPECT_EQ(CountShm(), ShmLeft());
}

// A broadcast of a few rows from rank 0 to rank 1, both of this thread.
class ShmBroadcast : public ::testing::Test {
 protected:
  ShmBroadcast() {
    for (int row = 0; row < 5; ++row) {
      const std::string name = "t" + std::to_string(row);
      tensors_.push_back(testing::MakeTensor(name, Dtype::kU8, {10'000}, &rng_));
    }
    options_.plan.buffer_bytes = 16'384;
  }
  void Join(uint64_t generation = 1) {
    ranks_ = testing::JoinAll(transport_.get(), 2, 0, generation);
    testing::BeginAll(ranks_, testing::TestStream());
  }
  void MakeProducer() {
    BroadcastOptions options = options_;
    options.allocator = transport_->allocator();
    source_ = SourceOf(testing::ViewsOf(tensors_));
    producer_ = PackedProducer::Make(ranks_[0].get(), source_.get(), options).value();
  }
  void MakeConsumer() {
    rows_ = RowsOf(testing::RowsIn(tensors_));
    targets_ = TargetMap();
    memory_.assign(tensors_.size(), {});
    for (uint32_t row = 0; row < tensors_.size(); ++row) {
      memory_[row].resize(tensors_[row].wire.size());
      targets_.SetRow(row, MemoryTarget(memory_[row].data(), memory_[row].size()));
    }
    BroadcastOptions options = options_;
    options.allocator = &member_allocator_;
    consumer_ =
        PackedConsumer::Make(ranks_[1].get(), rows_.get(), options, nullptr, &targets_).value();
  }
  Status Drive() {
    return testing::DriveAll(ranks_, producer_.get(), {consumer_.get()}, kIdleWait);
  }
  void Close() {
    consumer_.reset();
    producer_.reset();
    ranks_.clear();
  }

  std::mt19937_64 rng_{3};
  std::unique_ptr<Transport> transport_ = MakeShmTransport().value();
  std::vector<testing::TestTensor> tensors_;
  BroadcastOptions options_;
  testing::CountingAllocator member_allocator_;
  std::unique_ptr<BufferRing> ring_;  // one that is lent
  std::vector<std::unique_ptr<Collective>> ranks_;
  std::unique_ptr<TensorSource> source_;
  std::unique_ptr<RowSource> rows_;
  TargetMap targets_;
  std::vector<std::vector<std::byte>> memory_;
  std::unique_ptr<PackedProducer> producer_;
  std::unique_ptr<PackedConsumer> consumer_;
};

TEST_F(ShmBroadcast, MembersHaveNoBuffers) {
  Join();
  MakeProducer();
  MakeConsumer();
  const Status status = Drive();
  ASSERT_TRUE(status.ok()) << status;
  for (size_t row = 0; row < tensors_.size(); ++row) EXPECT_EQ(memory_[row], tensors_[row].wire);
  EXPECT_EQ(member_allocator_.peak(), 0u);
  EXPECT_EQ(ranks_[1]->progress().bytes, ranks_[0]->progress().bytes);
}

TEST_F(ShmBroadcast, StreamsFollowOneAnother) {
  Join();
  for (uint64_t epoch = 2; epoch < 10; ++epoch) {
    MakeProducer();
    MakeConsumer();
    const Status status = Drive();
    ASSERT_TRUE(status.ok()) << status;
    // The board, the ring of now, and what is left of the last one.
    EXPECT_LE(CountShm().mappings, 2 * (1 + 2) + 2);
    testing::BeginAll(ranks_, testing::TestStream(epoch));
  }
}

TEST_F(ShmBroadcast, NothingIsLeftOfAnyOf200Generations) {
  for (uint64_t generation = 1; generation <= 200; ++generation) {
    Join(generation);
    MakeProducer();
    MakeConsumer();
    const Status status = Drive();
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_NE(CountShm(), ShmLeft());
    Close();
    ASSERT_EQ(CountShm(), ShmLeft()) << generation;
  }
}

TEST_F(ShmBroadcast, AForgottenGenerationLeavesNothing) {
  ASSERT_TRUE(transport_->MakeRendezvous(GenerationId(1)).ok());
  transport_->Forget(GenerationId(1));
  EXPECT_EQ(CountShm(), ShmLeft());
}

// What is verified is what was copied: the root's memory changes after it was sealed.
TEST_F(ShmBroadcast, MemoryThatTheRootChangesIsNoticed) {
  Join();
  ring_ = BufferRing::Make(16'384, 2, transport_->allocator()).value();
  options_.ring = ring_.get();
  MakeProducer();
  options_.ring = nullptr;
  MakeConsumer();
  while (ranks_[0]->progress().launched == 0) {
    ASSERT_TRUE(producer_->Advance().ok());
    ASSERT_TRUE(consumer_->Advance().ok());
    for (const auto& rank : ranks_) ASSERT_TRUE(rank->Poll(kIdleWait).ok());
  }
  ASSERT_EQ(ranks_[1]->progress().launched, 0u) << "the member has read it already";
  ring_->data(0)[5'000] ^= std::byte{1};
  const Status status = Drive();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
  EXPECT_THAT(status.message(), HasSubstr("rank 0 (node-0) sealed"));
}

TEST_F(ShmBroadcast, OtherMemoryThanTheTransportsIsRefused) {
  Join();
  ASSERT_TRUE(ranks_[1]->Grant(Sequence(0)).ok());
  while (!ranks_[0]->Ready(Sequence(0)).value()) {
    for (const auto& rank : ranks_) ASSERT_TRUE(rank->Poll(kIdleWait).ok());
  }
  std::vector<std::byte> own(100);
  Operation operation{.spans = {{own.data(), own.size()}}, .regions = 1, .sealed = false};
  const Status refused = ranks_[0]->Launch(operation);
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(refused.message(), HasSubstr("Transport::allocator()"));
  // Not sticky, and nothing was said.
  operation.spans[0].data = transport_->allocator()->Allocate(100).value();
  EXPECT_TRUE(ranks_[0]->Launch(operation).ok());
  while (!ranks_[1]->Ready(Sequence(0)).value()) {
    for (const auto& rank : ranks_) ASSERT_TRUE(rank->Poll(kIdleWait).ok());
  }
  std::byte* const roots = operation.spans[0].data;
  operation.spans[0].data = own.data();
  EXPECT_EQ(ranks_[1]->Launch(operation).code(), StatusCode::kInvalidArgument);
  operation.spans[0].data = nullptr;
  EXPECT_EQ(ranks_[1]->Landed(Sequence(0)).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(ranks_[1]->Launch(operation).ok());
  EXPECT_EQ(ranks_[1]->Landed(Sequence(0)).value().size(), 100u);
  EXPECT_EQ(ranks_[1]->Release(Sequence(1)).code(), StatusCode::kFailedPrecondition);
  EXPECT_FALSE(ranks_[0]->Done(Sequence(0)).value());
  EXPECT_EQ(ranks_[0]->WaitingFor(), "step 0 to be read by rank 1 (node-1)");
  EXPECT_EQ(ranks_[0]->Late(), std::vector<uint32_t>{1});
  EXPECT_TRUE(ranks_[1]->Release(Sequence(0)).ok());
  while (!ranks_[0]->Done(Sequence(0)).value()) {
    for (const auto& rank : ranks_) ASSERT_TRUE(rank->Poll(kIdleWait).ok());
  }
  ranks_.clear();
  transport_->allocator()->Free(roots, 100);
}

TEST_F(ShmBroadcast, AnAbortOfAMemberReachesTheRoot) {
  Join();
  MakeProducer();
  MakeConsumer();
  ASSERT_TRUE(consumer_->Advance().ok());
  while (!ranks_[0]->Joined().value() || !ranks_[1]->Joined().value()) {
    for (const auto& rank : ranks_) ASSERT_TRUE(rank->Poll(kIdleWait).ok());
  }
  consumer_->Abort(DataLoss("its disk is full"));
  const Status status = producer_->Run(In(Seconds(60))).status();
  EXPECT_EQ(status.code(), StatusCode::kAborted) << status;
  EXPECT_THAT(status.message(), HasSubstr("rank 1 (node-1) aborted the collective: its disk"));
  Close();
  EXPECT_EQ(CountShm(), ShmLeft());
}

JoinOptions MemberOptions(const Rendezvous& rendezvous) {
  return {.rendezvous = rendezvous,
          .rank = 1,
          .size = 2,
          .generation = GenerationId(1),
          .deadline = In(Seconds(60))};
}

TEST(ShmJoin, MalformedBlobsAreRefused) {
  const auto transport = MakeShmTransport().value();
  const Rendezvous good = transport->MakeRendezvous(GenerationId(1)).value();
  EXPECT_EQ(good.kind, "shm");
  for (size_t size = 0; size < good.blob.size(); ++size) {
    Rendezvous cut = good;
    cut.blob.resize(size);
    const Status status = transport->Join(MemberOptions(cut)).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << size;
  }
  std::mt19937_64 rng(1);
  for (int k = 0; k < 1000; ++k) {
    Rendezvous wrong = good;
    wrong.blob[rng() % wrong.blob.size()] ^= std::byte{static_cast<uint8_t>(1 + rng() % 255)};
    (void)transport->Join(MemberOptions(wrong));  // whatever it says, it lives
  }
  EXPECT_EQ(transport->Join(MemberOptions({"zmq", good.blob})).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(ShmJoin, AnotherTokenOrGenerationIsRefused) {
  const auto transport = MakeShmTransport().value();
  Rendezvous rendezvous = transport->MakeRendezvous(GenerationId(1)).value();
  JoinOptions options = MemberOptions(rendezvous);
  options.generation = GenerationId(2);
  EXPECT_EQ(transport->Join(options).status().code(), StatusCode::kInvalidArgument);

  Value map = Decode(std::span<const std::byte>(rendezvous.blob)).value();
  for (auto& [key, value] : *map.AsMap()) {
    if (key == "token") value = Bytes(16, std::byte{7});
  }
  const std::string text = Encode(map);
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  rendezvous.blob.assign(data, data + text.size());
  const Status status = transport->Join(MemberOptions(rendezvous)).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("is not that of generation 1"));
}

TEST(ShmJoin, ARootThatHasGoneIsNamedWithTheRemedy) {
  auto transport = MakeShmTransport().value();
  const Rendezvous rendezvous = transport->MakeRendezvous(GenerationId(1)).value();
  transport->Forget(GenerationId(1));
  const Status status = transport->Join(MemberOptions(rendezvous)).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("\"zmq\" is the transport"));
}

}  // namespace
}  // namespace packcast
