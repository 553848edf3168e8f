// A collective whose words travel over ZeroMQ and whose bytes travel over a wire of the test's own.

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "runtime/data/wire.h"
#include "runtime/data/zmq_collective.h"
#include "tests/runtime/data/broadcast_fixture.h"
#include "tests/runtime/data/hub_wire.h"

namespace packcast {
namespace {

using testing::BeginAll;
using testing::Hub;
using testing::HubWire;
using testing::In;
using testing::TestStream;

class WiredCollectiveTest : public ::testing::Test {
 protected:
  WiredCollectiveTest() {
    ZmqTransportOptions options;
    options.bytes_elsewhere = true;
    words_ = MakeZmqTransport(options).value();
    JoinOptions join;
    join.size = 2;
    join.generation = GenerationId(1);
    join.names = {"trainer", "worker"};
    join.rendezvous = words_->MakeRendezvous(join.generation).value();
    for (join.rank = 0; join.rank < 2; ++join.rank) {
      ranks_.push_back(MakeWiredCollective(join, words_->Join(join).value(),
                                           std::make_unique<HubWire>(&hub_, join.rank == 0)));
    }
  }

  // Polls both until `done` says so; false after a minute.
  template <class Done>
  bool Until(Done done) {
    const Time limit = In(Seconds(60));
    while (!done()) {
      if (std::chrono::steady_clock::now() > limit) return false;
      for (const auto& rank : ranks_) (void)rank->Poll(Milliseconds(1));
    }
    return true;
  }
  void JoinBoth() {
    ASSERT_TRUE(Until([&] { return *root().Joined() & *member().Joined(); }));
    BeginAll(ranks_, TestStream());
  }
  Collective& root() { return *ranks_[0]; }
  Collective& member() { return *ranks_[1]; }

  Hub hub_;
  std::unique_ptr<Transport> words_;
  std::vector<std::unique_ptr<Collective>> ranks_;
};

TEST_F(WiredCollectiveTest, JoinsWhenWordsAndWireAreThere) {
  hub_.up = false;
  EXPECT_FALSE(Until([&, rounds = 0]() mutable { return *root().Joined() || ++rounds > 200; }) &&
               *root().Joined());
  hub_.up = true;
  JoinBoth();
}

TEST_F(WiredCollectiveTest, AnOperationIsDoneWhenTheWireSaysSo) {
  JoinBoth();
  std::vector<std::byte> from(1000, std::byte{7});
  std::vector<std::byte> to(1000);
  ASSERT_TRUE(member().Grant(Sequence(0)).ok());
  ASSERT_TRUE(Until([&] { return *root().Ready(Sequence(0)); }));
  ASSERT_TRUE(
      root().Launch({.sequence = Sequence(0), .spans = {{from.data(), 1000}}, .regions = 1}).ok());
  StepSeal seal(Digest{1, 2});
  seal.pieces = {3, 4, 5};
  ASSERT_TRUE(root().Seal(Sequence(0), seal).ok());
  ASSERT_TRUE(Until([&] { return *member().Ready(Sequence(0)); }));
  ASSERT_TRUE(
      member().Launch({.sequence = Sequence(0), .spans = {{to.data(), 1000}}, .regions = 1}).ok());
  ASSERT_TRUE(Until([&] { return member().SealOf(Sequence(0))->has_value(); }));
  EXPECT_EQ(**member().SealOf(Sequence(0)), seal) << "its pieces too";
  EXPECT_FALSE(*root().Done(Sequence(0)));
  EXPECT_FALSE(*member().Done(Sequence(0)));
  EXPECT_EQ(root().WaitingFor(), "step 0 to be on all ranks");
  EXPECT_EQ(root().Begin(TestStream(2)).code(), StatusCode::kFailedPrecondition);

  hub_.allowed = 1;
  EXPECT_TRUE(*member().Done(Sequence(0)));
  EXPECT_TRUE(*root().Done(Sequence(0)));
  EXPECT_EQ(to, from);
  EXPECT_EQ(member().progress().bytes.load(), 1000u);
  ASSERT_TRUE(root().End(1).ok());
  ASSERT_TRUE(Until([&] { return member().EndOf()->has_value(); }));
  ASSERT_TRUE(member().Finish().ok());
  ASSERT_TRUE(Until([&] { return *root().Finished(); }));

  // The wire goes on counting over streams; sequences begin anew.
  BeginAll(ranks_, TestStream(2));
  EXPECT_FALSE(*root().Done(Sequence(0)));
}

// The pieces of a very long seal are left out; the seal itself counts.
TEST_F(WiredCollectiveTest, ASealOfTooManyPiecesGoesWithoutThem) {
  JoinBoth();
  std::byte byte{};
  ASSERT_TRUE(member().Grant(Sequence(0)).ok());
  ASSERT_TRUE(Until([&] { return *root().Ready(Sequence(0)); }));
  ASSERT_TRUE(root().Launch({.sequence = Sequence(0), .spans = {{&byte, 1}}, .regions = 1}).ok());
  StepSeal seal(Digest{1, 2});
  seal.pieces.resize(kSealPiecesMax + 1);
  ASSERT_TRUE(root().Seal(Sequence(0), seal).ok());
  ASSERT_TRUE(Until([&] { return member().SealOf(Sequence(0))->has_value(); }));
  EXPECT_EQ(**member().SealOf(Sequence(0)), StepSeal(Digest{1, 2}));
}

TEST_F(WiredCollectiveTest, TheWiresErrorIsTheCollectives) {
  JoinBoth();
  std::byte byte{};
  ASSERT_TRUE(member().Grant(Sequence(0)).ok());
  ASSERT_TRUE(Until([&] { return *root().Ready(Sequence(0)); }));
  ASSERT_TRUE(root().Launch({.sequence = Sequence(0), .spans = {{&byte, 1}}, .regions = 1}).ok());
  hub_.error = Internal("the cable is cut");
  EXPECT_EQ(root().Done(Sequence(0)).status().message(), "the cable is cut");
  EXPECT_EQ(root().Poll(Milliseconds(1)).message(), "the cable is cut");
}

TEST_F(WiredCollectiveTest, AbortStopsTheWireAndTellsTheOthers) {
  JoinBoth();
  member().BeginAbort("out of memory");
  EXPECT_EQ(hub_.begun_aborts.load(), 1);
  EXPECT_EQ(hub_.aborts.load(), 0) << "it does not wait";
  EXPECT_TRUE(member().Abort("out of memory").ok());
  EXPECT_EQ(hub_.aborts.load(), 1);
  ASSERT_TRUE(Until([&] { return !root().Poll(Milliseconds(1)).ok(); }));
  const Status heard = root().Poll(Milliseconds(1));
  EXPECT_EQ(heard.code(), StatusCode::kAborted) << heard;
  EXPECT_NE(heard.message().find("rank 1 (worker)"), std::string::npos) << heard;
  EXPECT_NE(heard.message().find("out of memory"), std::string::npos) << heard;
}

}  // namespace
}  // namespace packcast
