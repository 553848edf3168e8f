// Peer copies from rank to rank, on the host: twins stand for kernels and copy engines.

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "runtime/data/chain_collective.h"
#include "runtime/data/device_consumer.h"
#include "runtime/data/device_producer.h"
#include "runtime/data/peer_transport.h"
#include "tests/runtime/data/broadcast_fixture.h"
#include "tests/runtime/data/host_peer_memory.h"

namespace packcast {
namespace {

using testing::HostPeerMemory;
using testing::In;
using testing::PeerHub;
using testing::TestTensor;

// A rank that receives.
struct Receiver {
  std::vector<std::vector<std::byte>> memory;  // by row
  TargetMap targets;
  std::unique_ptr<UnpackTable> table;
  std::unique_ptr<DeviceConsumer> consumer;
};

class ChainBroadcast : public ::testing::Test {
 protected:
  ChainBroadcast() {
    hub_.shares_all = true;
    for (const int64_t bytes : {100'000, 3, 70'000, 1, 40'000, 0, 257}) {
      tensors_.push_back(
          testing::MakeTensor("t" + std::to_string(tensors_.size()), Dtype::kU8, {bytes}, &rng_));
    }
    options_.plan.buffer_bytes = 16'384;
    options_.buffer_count = 2;
    manifest_ = std::make_unique<Manifest>(Manifest::Make(testing::RowsIn(tensors_)).value());
    plan_ = MakePlan(*manifest_, options_.plan).value();
    options_.manifest = manifest_.get();
    options_.expected = &plan_;
  }

  void Join(uint32_t size, uint32_t root) {
    root_ = root;
    JoinOptions join;
    join.size = size;
    join.root = root;
    join.relays = true;
    join.generation = GenerationId(1);
    std::vector<Rendezvous> made;
    for (uint32_t rank = 0; rank < size; ++rank) {
      transports_.push_back(
          MakePeerTransport({}, std::make_unique<HostPeerMemory>(&hub_), MakeHostCopyEngine())
              .value());
      join.names.push_back("member-" + std::to_string(rank));
      made.push_back(transports_[rank]->MakeRendezvous(join.generation).value());
    }
    for (join.rank = 0; join.rank < size; ++join.rank) {
      join.rendezvous = made[join.rank == root ? root : FeederOf(join.rank, size)];
      ranks_.push_back(transports_[join.rank]->Join(join).value());
    }
    for (bool joined = false; !joined;) {
      joined = true;
      for (const auto& rank : ranks_) {
        ASSERT_TRUE(rank->Poll(Milliseconds(1)).ok());
        joined = joined & *rank->Joined();
      }
    }
  }

  void MakeProducer() {
    TensorBatch batch;
    for (const TestTensor& tensor : tensors_) {
      const NamedTensor view = testing::ViewOf(tensor);
      batch.tensors.push_back({view.data, view.dtype, view.strides});
    }
    source_ = BatchesOf({std::move(batch)});
    producer_ = DeviceProducer::Make(ranks_[root_].get(), source_.get(),
                                     transports_[root_]->device()->engine, options_)
                    .value();
  }
  void MakeConsumers() {
    receivers_.clear();
    for (uint32_t rank = 0; rank < ranks_.size(); ++rank) {
      receivers_.push_back(rank == root_ ? nullptr : MakeReceiver(rank));
    }
  }
  std::unique_ptr<Receiver> MakeReceiver(uint32_t rank) {
    auto receiver = std::make_unique<Receiver>();
    receiver->memory.resize(tensors_.size());
    for (uint32_t row = 0; row < tensors_.size(); ++row) {
      receiver->memory[row].resize(tensors_[row].wire.size());
      receiver->targets.SetRow(
          row, MemoryTarget(receiver->memory[row].data(), receiver->memory[row].size()));
    }
    receiver->table = std::make_unique<UnpackTable>(
        UnpackTable::Make(*manifest_, plan_, receiver->targets, options_.hash).value());
    receiver->consumer =
        DeviceConsumer::Make(ranks_[rank].get(), transports_[rank]->device()->engine, options_,
                             receiver->table.get())
            .value();
    return receiver;
  }
  std::vector<DeviceConsumer*> consumers() const {
    std::vector<DeviceConsumer*> all;
    for (const auto& receiver : receivers_) {
      if (receiver != nullptr) all.push_back(receiver->consumer.get());
    }
    return all;
  }
  void Begin(uint64_t epoch) {
    testing::BeginAll(ranks_, testing::TestStream(epoch));
    MakeProducer();
    MakeConsumers();
  }
  // Streams, and checks every byte at every rank.
  void Stream(uint64_t epoch) {
    Begin(epoch);
    const Status status =
        testing::DriveAll<DeviceConsumer>(ranks_, producer_.get(), consumers(), Milliseconds(1));
    ASSERT_TRUE(status.ok()) << status;
    for (uint32_t rank = 0; rank < ranks_.size(); ++rank) {
      if (rank == root_) continue;
      EXPECT_EQ(receivers_[rank]->consumer->result().content_digest,
                producer_->result().content_digest);
      for (uint32_t row = 0; row < tensors_.size(); ++row) {
        EXPECT_EQ(receivers_[rank]->memory[row], tensors_[row].wire)
            << "rank " << rank << ", row " << row;
      }
    }
  }
  void ChangeWeights() {
    for (TestTensor& tensor : tensors_) {
      tensor.wire = testing::RandomBytes(tensor.wire.size(), &rng_);
    }
  }
  Status Turn(DeviceConsumer* consumer, Collective* rank) {
    PC_RETURN_IF_ERROR(consumer->Advance().status());
    return rank->Poll(Milliseconds(1));
  }

  std::mt19937_64 rng_{5};
  PeerHub hub_;
  std::vector<std::unique_ptr<Transport>> transports_;
  std::vector<TestTensor> tensors_;
  std::unique_ptr<Manifest> manifest_;
  Plan plan_;
  BroadcastOptions options_;
  uint32_t root_ = 0;
  std::vector<std::unique_ptr<Collective>> ranks_;
  std::unique_ptr<BatchSource> source_;
  std::unique_ptr<DeviceProducer> producer_;
  std::vector<std::unique_ptr<Receiver>> receivers_;
};

TEST_F(ChainBroadcast, EveryByteReachesEveryRankStreamAfterStream) {
  Join(4, 0);
  for (uint64_t epoch = 1; epoch <= 3; ++epoch) {
    ASSERT_NO_FATAL_FAILURE(Stream(epoch));
    ChangeWeights();
  }
}

TEST_F(ChainBroadcast, FromARootInTheMiddle) {
  Join(3, 1);
  ASSERT_NO_FATAL_FAILURE(Stream(1));
  ChangeWeights();
  ASSERT_NO_FATAL_FAILURE(Stream(2));
}

TEST_F(ChainBroadcast, OfTwoRanks) {
  Join(2, 0);
  ASSERT_NO_FATAL_FAILURE(Stream(1));
}

TEST_F(ChainBroadcast, WithoutChecksums) {
  options_.hash = false;
  Join(3, 0);
  ASSERT_NO_FATAL_FAILURE(Stream(1));
}

// Each rank fills its buffers, whatever the ranks further on have room for: a chain of any length
// keeps all of its links busy.
TEST_F(ChainBroadcast, StepsComeAsFarAsThereIsRoom) {
  Join(4, 0);
  Begin(1);
  const uint64_t count = options_.buffer_count;
  int more = 200;  // turns, in which nothing comes
  for (const Time end = In(Seconds(30)); more > 0 && In(Duration::zero()) < end;) {
    ASSERT_TRUE(producer_->Advance().ok());
    for (const uint32_t rank : {1, 2}) ASSERT_TRUE(receivers_[rank]->consumer->Advance().ok());
    for (const auto& rank : ranks_) ASSERT_TRUE(rank->Poll(Duration::zero()).ok());
    if (ranks_[1]->progress().completed.load() >= 2 * count) --more;
  }
  EXPECT_EQ(ranks_[3]->progress().launched.load(), 0u) << "it has granted nothing";
  EXPECT_EQ(ranks_[2]->progress().launched.load(), count);
  EXPECT_EQ(ranks_[1]->progress().launched.load(), 2 * count);
  EXPECT_EQ(ranks_[0]->progress().launched.load(), 2 * count);
  for (const uint32_t rank : {1, 2}) {
    EXPECT_NE(ranks_[rank]->WaitingFor().find("rank " + std::to_string(rank + 1)),
              std::string::npos)
        << ranks_[rank]->WaitingFor();
  }
  for (const uint32_t rank : {0, 1, 2}) {
    EXPECT_EQ(ranks_[rank]->Late(), std::vector<uint32_t>{rank + 1});
  }
  EXPECT_EQ(ranks_[3]->Late(), std::vector<uint32_t>{});  // it feeds nobody
  ASSERT_TRUE(
      testing::DriveAll<DeviceConsumer>(ranks_, producer_.get(), consumers(), Milliseconds(1))
          .ok());
}

// A buffer that the next rank has not read is not written again, however fast this rank is.
TEST_F(ChainBroadcast, ASlowRankHoldsThoseBeforeItBack) {
  Join(3, 0);
  Begin(1);
  while (receivers_[1]->consumer->result().steps < 1) {
    ASSERT_TRUE(producer_->Advance().ok());
    for (const uint32_t rank : {1, 2}) ASSERT_TRUE(receivers_[rank]->consumer->Advance().ok());
    for (const auto& rank : ranks_) ASSERT_TRUE(rank->Poll(Duration::zero()).ok());
  }
  const uint64_t had = receivers_[2]->consumer->result().steps;
  for (int turn = 0; turn < 500; ++turn) {
    ASSERT_TRUE(producer_->Advance().ok());
    ASSERT_TRUE(receivers_[1]->consumer->Advance().ok());
    for (const uint32_t rank : {0, 1}) ASSERT_TRUE(ranks_[rank]->Poll(Duration::zero()).ok());
  }
  EXPECT_LE(receivers_[1]->consumer->result().steps, had + 2 * options_.buffer_count);
  EXPECT_LT(receivers_[1]->consumer->result().steps, plan_.steps.size());
  ASSERT_TRUE(
      testing::DriveAll<DeviceConsumer>(ranks_, producer_.get(), consumers(), Milliseconds(1))
          .ok());
}

TEST_F(ChainBroadcast, ARankThatGoesAwayIsNamedByTheOneBeforeIt) {
  Join(4, 0);
  Begin(1);
  while (receivers_[3]->consumer->result().steps == 0) {
    ASSERT_TRUE(producer_->Advance().ok());
    for (DeviceConsumer* consumer : consumers()) ASSERT_TRUE(consumer->Advance().ok());
    for (const auto& rank : ranks_) ASSERT_TRUE(rank->Poll(Duration::zero()).ok());
  }
  receivers_[2]->consumer->Abort(Aborted("its engine has failed"));
  Status before;
  Status after;
  for (const Time end = In(Seconds(30)); In(Duration::zero()) < end;) {
    if (before.ok()) before = Turn(receivers_[1]->consumer.get(), ranks_[1].get());
    if (after.ok()) after = Turn(receivers_[3]->consumer.get(), ranks_[3].get());
    if (!before.ok() && !after.ok()) break;
  }
  for (const Status& status : {before, after}) {
    EXPECT_NE(status.message().find("rank 2 (member-2)"), std::string::npos) << status;
  }
  EXPECT_EQ(ranks_[3]->culprit(), std::nullopt) << "the one before it may be a victim";
  // Sticky, and the root hears of it.
  EXPECT_FALSE(ranks_[1]->Ready(Sequence(0)).ok());
  receivers_[1]->consumer->Abort(before);
  Status root;
  for (const Time end = In(Seconds(30)); root.ok() && In(Duration::zero()) < end;) {
    root = producer_->Advance().status();
    if (root.ok()) root = ranks_[0]->Poll(Milliseconds(1));
  }
  EXPECT_NE(root.message().find("rank 1 (member-1)"), std::string::npos) << root;
}

TEST_F(ChainBroadcast, ARankThatDiesIsBlamedByTheOneBeforeIt) {
  Join(3, 0);
  ranks_[2].reset();  // before it has begun a stream: without a word
  for (const uint32_t rank : {0, 1}) {
    ASSERT_TRUE(ranks_[rank]->Begin(testing::TestStream(1)).ok());
  }
  receivers_.push_back(nullptr);
  receivers_.push_back(MakeReceiver(1));
  Status status;
  for (const Time end = In(Seconds(30)); status.ok() && In(Duration::zero()) < end;) {
    status = Turn(receivers_[1]->consumer.get(), ranks_[1].get());
  }
  EXPECT_EQ(ranks_[1]->culprit(), std::optional<uint32_t>(2)) << status;
}

}  // namespace
}  // namespace packcast
