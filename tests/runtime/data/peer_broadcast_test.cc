// The device's broadcast over peer copies, on the host: twins stand for kernels and copy engines.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "protocol/limits.h"
#include "runtime/data/device_consumer.h"
#include "runtime/data/device_producer.h"
#include "runtime/data/peer_transport.h"
#include "tests/runtime/data/broadcast_fixture.h"
#include "tests/runtime/data/host_peer_memory.h"
#include "tests/runtime/data/late_engine.h"

namespace packcast {
namespace {

using testing::HostPeerMemory;
using testing::In;
using testing::PeerHub;
using testing::TestTensor;

class PeerBroadcast : public ::testing::Test {
 protected:
  PeerBroadcast() {
    hub_.shares_all = true;
    MakeTransports(false);
    for (const int64_t bytes : {100'000, 3, 70'000, 1, 40'000, 0, 257}) {
      tensors_.push_back(
          testing::MakeTensor("t" + std::to_string(tensors_.size()), Dtype::kU8, {bytes}, &rng_));
    }
    options_.plan.buffer_bytes = 16'384;
    options_.plan.direct_bytes_min = 50'000;
    options_.plan.direct_rows = {0, 2};
    options_.plan.direct_bytes_per_step = 120'000;
    manifest_ = std::make_unique<Manifest>(Manifest::Make(testing::RowsIn(tensors_)).value());
    plan_ = MakePlan(*manifest_, options_.plan).value();
    options_.manifest = manifest_.get();
    options_.expected = &plan_;
  }

  void MakeTransports(bool in_place, std::unique_ptr<CopyEngine> root_engine = nullptr) {
    transports_.clear();
    for (int rank = 0; rank < 2; ++rank) {
      std::unique_ptr<CopyEngine> engine = std::exchange(root_engine, nullptr);
      if (engine == nullptr) engine = MakeHostCopyEngine();
      transports_.push_back(MakePeerTransport({.in_place = in_place},
                                              std::make_unique<HostPeerMemory>(&hub_),
                                              std::move(engine))
                                .value());
    }
  }

  void Join() {
    JoinOptions join;
    join.size = 2;
    join.generation = GenerationId(1);
    join.names = {"trainer", "worker"};
    join.rendezvous = transports_[0]->MakeRendezvous(join.generation).value();
    for (join.rank = 0; join.rank < 2; ++join.rank) {
      ranks_.push_back(transports_[join.rank]->Join(join).value());
    }
    while (!(*ranks_[0]->Joined() & *ranks_[1]->Joined())) {
      for (const auto& rank : ranks_) ASSERT_TRUE(rank->Poll(Milliseconds(1)).ok());
    }
  }

  void MakeProducer() {
    TensorBatch batch;
    for (const TestTensor& tensor : tensors_) {
      const NamedTensor view = testing::ViewOf(tensor);
      batch.tensors.push_back({view.data, view.dtype, view.strides});
    }
    batch.ready = &batch;  // an event, which has fired on the host
    MakeProducer({std::move(batch)});
  }
  void MakeProducer(std::vector<TensorBatch> batches) {
    source_ = BatchesOf(std::move(batches));
    producer_ = DeviceProducer::Make(ranks_[0].get(), source_.get(),
                                     transports_[0]->device()->engine, options_)
                    .value();
  }
  void MakeConsumer() {
    memory_.assign(tensors_.size(), {});
    targets_ = TargetMap();
    for (uint32_t row = 0; row < tensors_.size(); ++row) {
      memory_[row].resize(tensors_[row].wire.size());
      targets_.SetRow(row, MemoryTarget(memory_[row].data(), memory_[row].size()));
    }
    table_ = std::make_unique<UnpackTable>(
        UnpackTable::Make(*manifest_, plan_, targets_, options_.hash).value());
    consumer_ = DeviceConsumer::Make(ranks_[1].get(), transports_[1]->device()->engine, options_,
                                     table_.get())
                    .value();
  }
  Status Stream(uint64_t epoch) {
    testing::BeginAll(ranks_, testing::TestStream(epoch));
    MakeProducer();
    MakeConsumer();
    return Drive();
  }
  Status Drive() {
    return testing::DriveAll<DeviceConsumer>(ranks_, producer_.get(), {consumer_.get()},
                                             Milliseconds(1));
  }
  void ExpectAllBytes() {
    for (uint32_t row = 0; row < tensors_.size(); ++row) {
      EXPECT_EQ(memory_[row], tensors_[row].wire) << "row " << row;
    }
  }

  std::mt19937_64 rng_{5};
  PeerHub hub_;
  std::vector<std::unique_ptr<Transport>> transports_;
  std::vector<TestTensor> tensors_;
  std::unique_ptr<Manifest> manifest_;
  Plan plan_;
  BroadcastOptions options_;
  std::vector<std::unique_ptr<Collective>> ranks_;
  std::unique_ptr<BatchSource> source_;
  TargetMap targets_;
  std::vector<std::vector<std::byte>> memory_;
  std::unique_ptr<UnpackTable> table_;
  std::unique_ptr<DeviceProducer> producer_;
  std::unique_ptr<DeviceConsumer> consumer_;
};

// vllm-ascend#12713, of rows that are sent from where they are.
TEST_F(PeerBroadcast, NoRowIsReadBeforeItsEventHasFired) {
  for (const bool hash : {true, false}) {
    producer_.reset();
    consumer_.reset();
    ranks_.clear();
    options_.hash = hash;
    MakeTransports(false, std::make_unique<testing::LateEngine>(&tensors_));
    Join();
    testing::BeginAll(ranks_, testing::TestStream(1));
    std::vector<TensorBatch> batches;
    for (TestTensor& tensor : tensors_) {
      batches.emplace_back().tensors.push_back(
          {testing::ViewOf(tensor).data, tensor.row.dtype, {}});
      batches.back().ready = &tensor;
    }
    MakeProducer(std::move(batches));
    MakeConsumer();
    const Status status = Drive();
    ASSERT_TRUE(status.ok()) << status;
    ExpectAllBytes();
  }
}

TEST_F(PeerBroadcast, EveryByteArrivesStreamAfterStream) {
  Join();
  for (uint64_t epoch = 1; epoch <= 3; ++epoch) {
    const Status status = Stream(epoch);
    ASSERT_TRUE(status.ok()) << status;
    ExpectAllBytes();
    for (TestTensor& tensor : tensors_) {
      tensor.wire = testing::RandomBytes(tensor.wire.size(), &rng_);
    }
  }
}

TEST_F(PeerBroadcast, InPlaceNothingIsCopiedBeforeItIsUnpacked) {
  MakeTransports(true);
  EXPECT_FALSE(transports_[1]->members_need_buffers());
  EXPECT_EQ(transports_[1]->offer().direct_bytes_min, 0u);
  options_.plan.direct_rows.clear();
  plan_ = MakePlan(*manifest_, options_.plan).value();
  Join();
  for (uint64_t epoch = 1; epoch <= 3; ++epoch) {
    const Status status = Stream(epoch);
    ASSERT_TRUE(status.ok()) << status;
    ExpectAllBytes();
    for (TestTensor& tensor : tensors_) {
      tensor.wire = testing::RandomBytes(tensor.wire.size(), &rng_);
    }
  }
}

TEST_F(PeerBroadcast, WithoutChecksumsToo) {
  options_.hash = false;
  Join();
  const Status status = Stream(1);
  ASSERT_TRUE(status.ok()) << status;
  ExpectAllBytes();
}

TEST_F(PeerBroadcast, ARootThatGoesAwayInTheMiddleLeavesTheMemberWithAnErrorAboutIt) {
  Join();
  testing::BeginAll(ranks_, testing::TestStream(1));
  MakeProducer();
  MakeConsumer();
  while (consumer_->result().steps == 0) {
    ASSERT_TRUE(producer_->Advance().ok());
    ASSERT_TRUE(consumer_->Advance().ok());
    for (const auto& rank : ranks_) ASSERT_TRUE(rank->Poll(Milliseconds(1)).ok());
  }
  producer_->Abort(Aborted("the trainer has changed its mind"));
  Status status;
  for (const Time end = In(Seconds(30)); status.ok() && In(Duration::zero()) < end;) {
    status = consumer_->Advance().status();
    if (status.ok()) status = ranks_[1]->Poll(Milliseconds(1));
  }
  // With its reason, or as a connection that was closed.
  EXPECT_NE(status.message().find("rank 0 (trainer)"), std::string::npos) << status;
}

TEST_F(PeerBroadcast, WhoCannotReadTheRootsMemoryDoesNotOfferItAgain) {
  JoinOptions join;
  join.rank = 1;
  join.size = 2;
  join.generation = GenerationId(1);
  join.rendezvous = transports_[0]->MakeRendezvous(join.generation).value();
  hub_.reachable = false;
  EXPECT_TRUE(transports_[1]->is_usable());
  EXPECT_EQ(transports_[1]->Join(join).status().code(), StatusCode::kUnimplemented);
  EXPECT_FALSE(transports_[1]->is_usable());
  EXPECT_TRUE(transports_[0]->is_usable());
}

TEST_F(PeerBroadcast, ARootThatDiesBeforeItIsReadIsNoReasonToGiveUp) {
  JoinOptions join;
  join.rank = 1;
  join.size = 2;
  join.generation = GenerationId(1);
  join.rendezvous = transports_[0]->MakeRendezvous(join.generation).value();
  hub_.owner_died = true;
  EXPECT_EQ(transports_[1]->Join(join).status().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(transports_[1]->is_usable());
  EXPECT_EQ(transports_[1]->Join(join).status().code(), StatusCode::kUnavailable);
  EXPECT_FALSE(transports_[1]->is_usable());
}

TEST_F(PeerBroadcast, IsNotOfferedWhereMemoryCannotBeShared) {
  hub_.shares_all = false;
  const auto made =
      MakePeerTransport({}, std::make_unique<HostPeerMemory>(&hub_), MakeHostCopyEngine());
  EXPECT_EQ(made.status().code(), StatusCode::kInvalidArgument);
}

TEST_F(PeerBroadcast, WhoHasNoBuffersDoesNotOfferToPassThemOn) {
  EXPECT_EQ(transports_[0]->offer().kind, "peer");
  EXPECT_TRUE(transports_[0]->offer().relays);
  EXPECT_EQ(transports_[0]->offer().receivers_max, limits::kChainReceivers);
  MakeTransports(true);
  EXPECT_FALSE(transports_[1]->offer().relays);
  EXPECT_EQ(transports_[1]->offer().receivers_max, 1u);
}

}  // namespace
}  // namespace packcast
