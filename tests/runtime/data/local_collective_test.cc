#include "runtime/data/local_collective.h"

#include <future>
#include <random>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/runtime/data/broadcast_fixture.h"

namespace packcast {
namespace {

using ::testing::HasSubstr;
using testing::In;
using testing::TestStream;

class LocalCollectiveTest : public ::testing::Test {
 protected:
  LocalCollectiveTest()
      : transport_(MakeLocalTransport()), ranks_(testing::JoinAll(transport_.get(), 3, 1)) {
    testing::BeginAll(ranks_, TestStream());
  }
  Collective* root() { return ranks_[1].get(); }

  std::unique_ptr<Transport> transport_;
  std::vector<std::unique_ptr<Collective>> ranks_;
  std::vector<std::byte> from_ = std::vector<std::byte>(512, std::byte{5});
  std::vector<std::byte> to_ = std::vector<std::byte>(512);
};

TEST_F(LocalCollectiveTest, RootWaitsForEveryGrantAndMembersForTheGate) {
  ASSERT_TRUE(*root()->Joined());
  ASSERT_TRUE(ranks_[0]->Grant(Sequence(0)).ok());
  EXPECT_FALSE(*root()->Ready(Sequence(0)));
  EXPECT_EQ(root()->WaitingFor(), "a grant of step 0 by rank 2 (node-2)");
  EXPECT_EQ(root()->Launch({Sequence(0), {{from_.data(), 512}}, 0, 1}).code(),
            StatusCode::kFailedPrecondition);
  ASSERT_TRUE(ranks_[2]->Grant(Sequence(0)).ok());
  EXPECT_TRUE(*root()->Ready(Sequence(0)));
  EXPECT_FALSE(*ranks_[0]->Ready(Sequence(0)));
  ASSERT_TRUE(root()->Launch({Sequence(0), {{from_.data(), 512}}, 0, 1}).ok());
  EXPECT_TRUE(*ranks_[0]->Ready(Sequence(0)));
}

TEST_F(LocalCollectiveTest, SpansMayBeCutDifferentlyOnBothSides) {
  for (uint32_t rank : {0u, 2u}) ASSERT_TRUE(ranks_[rank]->Grant(Sequence(0)).ok());
  ASSERT_TRUE(
      root()->Launch({Sequence(0), {{from_.data(), 100}, {from_.data() + 100, 412}}, 0, 2}).ok());
  std::vector<std::byte> other(512);
  ASSERT_TRUE(ranks_[0]->Launch({Sequence(0), {{to_.data(), 512}}, 0, 2}).ok());
  ASSERT_TRUE(ranks_[0]->Poll(Duration::zero()).ok());
  EXPECT_FALSE(*root()->Done(Sequence(0)));
  ASSERT_TRUE(ranks_[2]
                  ->Launch({Sequence(0), {{other.data(), 500}, {}, {other.data() + 500, 12}}, 0, 2})
                  .ok());
  ASSERT_TRUE(ranks_[2]->Poll(Duration::zero()).ok());
  EXPECT_TRUE(*root()->Done(Sequence(0)));
  EXPECT_EQ(to_, from_);
  EXPECT_EQ(other, from_);
  EXPECT_EQ(root()->progress().completed.load(), 1u);
  EXPECT_EQ(root()->progress().bytes.load(), 512u);
}

TEST_F(LocalCollectiveTest, GrantsAreBounded) {
  for (uint64_t k = 0; k < kStepsInFlightMax; ++k) {
    ASSERT_TRUE(ranks_[0]->Grant(Sequence(k)).ok());
  }
  EXPECT_EQ(ranks_[0]->Grant(Sequence(kStepsInFlightMax)).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(ranks_[2]->Grant(Sequence(1)).code(), StatusCode::kFailedPrecondition);
}

TEST_F(LocalCollectiveTest, AbortIsForAllAndForEver) {
  ASSERT_TRUE(ranks_[2]->Abort("enough").ok());
  ASSERT_TRUE(ranks_[2]->Abort("again").ok());
  EXPECT_EQ(ranks_[2]->Grant(Sequence(0)).code(), StatusCode::kAborted);
  EXPECT_EQ(root()->Poll(Duration::zero()),
            Aborted("rank 2 (node-2) aborted the collective: enough"));
}

TEST_F(LocalCollectiveTest, RankThatLeavesIsNamed) {
  ASSERT_TRUE(ranks_[0]->Grant(Sequence(0)).ok());
  ranks_[0].reset();  // in the middle of a stream
  EXPECT_THAT(root()->Poll(Duration::zero()).message(), HasSubstr("rank 0 (node-0)"));
}

TEST_F(LocalCollectiveTest, PlansThatDifferAreRefusedOnAllRanks) {
  StreamId stream = TestStream(2);
  ASSERT_TRUE(root()->Begin(stream).ok());
  stream.plan_digest = {3, 4};
  EXPECT_EQ(ranks_[0]->Begin(stream).code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(root()->Poll(Duration::zero()).message(), HasSubstr("the plan of rank 0 (node-0)"));
}

TEST_F(LocalCollectiveTest, EmptyOperationIsRefused) {
  for (uint32_t rank : {0u, 2u}) ASSERT_TRUE(ranks_[rank]->Grant(Sequence(0)).ok());
  EXPECT_EQ(root()->Launch({Sequence(0), {{from_.data(), 0}}, 0, 1}).code(),
            StatusCode::kInvalidArgument);
  EXPECT_TRUE(root()->Launch({Sequence(0), {{from_.data(), 512}}, 0, 1}).ok());
}

TEST_F(LocalCollectiveTest, WhoLeavesIsTheCulpritAndWhoAbortsIsNot) {
  EXPECT_EQ(root()->culprit(), std::nullopt);
  const auto others = testing::JoinAll(transport_.get(), 2, 0, 2);
  ASSERT_TRUE(others[0]->Begin(TestStream()).ok());
  auto ranks = testing::JoinAll(transport_.get(), 2, 0, 3);
  ASSERT_TRUE(ranks[0]->Begin(TestStream()).ok());
  ranks[1].reset();  // not begun: leaves without a word
  EXPECT_EQ(ranks[0]->Poll(Duration::zero()).code(), StatusCode::kPeerDied);
  EXPECT_EQ(ranks[0]->culprit(), 1u);
  ASSERT_TRUE(others[1]->Abort("enough").ok());
  EXPECT_FALSE(others[0]->Poll(Duration::zero()).ok());
  EXPECT_EQ(others[0]->culprit(), std::nullopt);
}

TEST_F(LocalCollectiveTest, WakeEndsAPollOfAnotherThread) {
  auto polled = std::async(std::launch::async, [this] { return root()->Poll(Seconds(600)); });
  root()->Wake();
  EXPECT_TRUE(polled.get().ok());
}

TEST(LocalTransport, ThreadsBroadcastConcurrently) {
  const auto transport = MakeLocalTransport();
  const auto ranks = testing::JoinAll(transport.get(), 4, 0);
  std::mt19937_64 rng(1);
  std::vector<testing::TestTensor> tensors;
  for (int k = 0; k < 50; ++k) {
    tensors.push_back(
        testing::MakeTensor("t" + std::to_string(k), Dtype::kU8, {1 + 997 * k}, &rng));
  }
  BroadcastOptions options;
  options.plan.buffer_bytes = 8192;
  for (uint64_t epoch = 1; epoch <= 5; ++epoch) {
    testing::BeginAll(ranks, TestStream(epoch));
    std::vector<std::thread> threads;
    for (size_t rank = 1; rank < 4; ++rank) {
      threads.emplace_back([&, rank] {
        testing::Collector collector(tensors);
        const auto rows = RowsOf(testing::RowsIn(tensors));
        auto consumer =
            PackedConsumer::Make(ranks[rank].get(), rows.get(), options, collector.callback());
        const auto result = (*consumer)->Run(In(Seconds(60)));
        EXPECT_TRUE(result.ok()) << result.status();
        EXPECT_TRUE(collector.complete());
      });
    }
    const auto source = SourceOf(testing::ViewsOf(tensors));
    auto producer = PackedProducer::Make(ranks[0].get(), source.get(), options);
    const auto result = (*producer)->Run(In(Seconds(60)));
    EXPECT_TRUE(result.ok()) << result.status();
    for (std::thread& thread : threads) thread.join();
  }
}

// S9: when Abort has returned, nothing reads the root's memory, whatever the members do.
TEST(LocalTransport, AbortWaitsForCopiesOfOtherThreads) {
  for (int round = 0; round < 50; ++round) {
    const auto transport = MakeLocalTransport();
    const auto ranks = testing::JoinAll(transport.get(), 2, 0);
    testing::BeginAll(ranks, TestStream());
    std::vector<std::byte> from(4 << 20);
    std::vector<std::byte> to(4 << 20);
    ASSERT_TRUE(ranks[1]->Grant(Sequence(0)).ok());
    ASSERT_TRUE(ranks[0]->Launch({Sequence(0), {{from.data(), from.size()}}, 0, 1}).ok());
    ASSERT_TRUE(ranks[1]->Launch({Sequence(0), {{to.data(), to.size()}}, 0, 1}).ok());
    std::promise<void> started;
    std::thread member([&] {
      started.set_value();
      while (ranks[1]->Poll(Milliseconds(1)).ok()) {
      }
    });
    started.get_future().wait();
    ASSERT_TRUE(ranks[0]->Abort("now").ok());
    std::fill(from.begin(), from.end(), std::byte{1});  // a race, if anybody still read
    member.join();
  }
}

TEST(LocalTransport, JoinChecksItsOptions) {
  const auto transport = MakeLocalTransport();
  const Rendezvous rendezvous = transport->MakeRendezvous(GenerationId(1)).value();
  const auto code = [&](JoinOptions options) { return transport->Join(options).status().code(); };
  const GenerationId one(1);
  EXPECT_EQ(code({.rendezvous = {"zmq", {}}, .size = 1, .generation = one}),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.rendezvous = rendezvous, .rank = 2, .size = 2, .generation = one}),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.rendezvous = rendezvous, .size = 2, .generation = GenerationId(5)}),
            StatusCode::kNotFound);
  EXPECT_EQ(transport->MakeRendezvous(one).status().code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(code({.rendezvous = rendezvous, .size = 2, .generation = one}), StatusCode::kOk);
  EXPECT_EQ(code({.rendezvous = rendezvous, .size = 2, .generation = one}),
            StatusCode::kAlreadyExists);
  transport->Forget(one);
  EXPECT_EQ(code({.rendezvous = rendezvous, .rank = 1, .size = 2, .generation = one}),
            StatusCode::kNotFound);
}

}  // namespace
}  // namespace packcast
