// A collective that is a wire and nothing else: everything counts as granted, nothing is sealed.

#include "runtime/data/silent_collective.h"

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "tests/runtime/data/hub_wire.h"

namespace packcast {
namespace {

using testing::Hub;
using testing::HubWire;

class SilentCollectiveTest : public ::testing::Test {
 protected:
  SilentCollectiveTest() {
    JoinOptions join;
    join.size = 2;
    join.names = {"trainer", "worker"};
    for (join.rank = 0; join.rank < 2; ++join.rank) {
      ranks_.push_back(
          MakeSilentCollective(join, std::make_unique<HubWire>(&hub_, join.rank == 0)));
    }
  }

  void JoinBoth() {
    for (const auto& rank : ranks_) {
      ASSERT_TRUE(*rank->Joined());
      ASSERT_TRUE(rank->Begin({}).ok());
    }
  }
  Operation Step(uint64_t sequence, std::vector<std::byte>* bytes) {
    return {.sequence = Sequence(sequence),
            .spans = {{bytes->data(), bytes->size()}},
            .regions = 1,
            .sealed = false};
  }
  Collective& root() { return *ranks_[0]; }
  Collective& member() { return *ranks_[1]; }

  Hub hub_;
  std::vector<std::unique_ptr<Collective>> ranks_;
  std::vector<std::byte> from_ = std::vector<std::byte>(1000, std::byte{7});
  std::vector<std::byte> to_ = std::vector<std::byte>(1000);
};

TEST_F(SilentCollectiveTest, JoinsWithTheWire) {
  hub_.up = false;
  EXPECT_FALSE(*root().Joined());
  EXPECT_EQ(root().WaitingFor(), "all ranks to connect");
  hub_.up = true;
  EXPECT_TRUE(*root().Joined());
}

TEST_F(SilentCollectiveTest, AWireThatDoesNotComeUpIsPastItsDeadline) {
  hub_.up = false;
  const auto late = MakeSilentCollective({.rank = 1, .size = 2, .deadline = Time{}},
                                         std::make_unique<HubWire>(&hub_, false));
  EXPECT_EQ(late->Joined().status().code(), StatusCode::kDeadlineExceeded);
}

TEST_F(SilentCollectiveTest, NobodyWaitsForWords) {
  JoinBoth();
  EXPECT_TRUE(*root().Ready(Sequence(0))) << "nobody need grant it";
  EXPECT_FALSE(*member().Ready(Sequence(0))) << "its own buffer must be free";
  ASSERT_TRUE(member().Grant(Sequence(0)).ok());
  EXPECT_TRUE(*member().Ready(Sequence(0))) << "before the root has launched it";
  ASSERT_TRUE(member().Launch(Step(0, &to_)).ok());
  ASSERT_TRUE(root().Launch(Step(0, &from_)).ok());
  EXPECT_FALSE(*root().Done(Sequence(0)));
  EXPECT_FALSE(*member().Done(Sequence(0)));
  EXPECT_EQ(member().WaitingFor(), "step 0 to be on all ranks");
  EXPECT_EQ(member().Begin({}).code(), StatusCode::kFailedPrecondition);

  hub_.allowed = 1;
  EXPECT_TRUE(*member().Done(Sequence(0)));
  EXPECT_TRUE(*root().Done(Sequence(0)));
  EXPECT_EQ(to_, from_);
  EXPECT_EQ(member().progress().bytes.load(), 1000u);
  EXPECT_EQ(member().progress().completed.load(), 1u);
  EXPECT_TRUE(*root().Flushed());
}

TEST_F(SilentCollectiveTest, AMemberSaysItselfHowManyStepsThereAre) {
  JoinBoth();
  hub_.allowed = 1;
  EXPECT_FALSE(member().EndOf()->has_value());
  EXPECT_NE(member().WaitingFor().find("End"), std::string::npos);
  ASSERT_TRUE(member().End(1).ok());
  EXPECT_EQ(**member().EndOf(), 1u);
  EXPECT_FALSE(member().Finish().ok()) << "it is not here yet";
  ASSERT_TRUE(member().Grant(Sequence(0)).ok());
  ASSERT_TRUE(member().Launch(Step(0, &to_)).ok());
  ASSERT_TRUE(member().Grant(Sequence(1)).ok());
  EXPECT_FALSE(*member().Ready(Sequence(1))) << "there is none";
  ASSERT_TRUE(root().Launch(Step(0, &from_)).ok());
  EXPECT_EQ(root().End(2).code(), StatusCode::kFailedPrecondition) << "one is launched";
  EXPECT_FALSE(*root().Finished());
  ASSERT_TRUE(root().End(1).ok());
  ASSERT_TRUE(*member().Done(Sequence(0)));
  EXPECT_EQ(root().Launch(Step(1, &from_)).code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(*root().Finished()) << "as far as it can know";
  EXPECT_TRUE(member().Finish().ok());

  // The wire goes on counting over streams; sequences begin anew.
  ASSERT_TRUE(root().Begin({}).ok());
  ASSERT_TRUE(member().Begin({}).ok());
  EXPECT_FALSE(*root().Done(Sequence(0)));
  EXPECT_FALSE(member().EndOf()->has_value());
  ASSERT_TRUE(root().Launch(Step(0, &from_)).ok());
  ASSERT_TRUE(member().Grant(Sequence(0)).ok());
  ASSERT_TRUE(member().Launch(Step(0, &to_)).ok());
  hub_.allowed = 2;
  EXPECT_TRUE(*root().Done(Sequence(0)));
  EXPECT_TRUE(*member().Done(Sequence(0)));
}

TEST_F(SilentCollectiveTest, AStreamMustBeFinishedBeforeTheNext) {
  JoinBoth();
  hub_.allowed = 1;
  ASSERT_TRUE(member().Begin({}).ok()) << "nothing was launched in it";
  ASSERT_TRUE(member().Grant(Sequence(0)).ok());
  ASSERT_TRUE(member().Launch(Step(0, &to_)).ok());
  ASSERT_TRUE(root().Launch(Step(0, &from_)).ok());
  ASSERT_TRUE(member().End(1).ok());
  ASSERT_TRUE(*member().Done(Sequence(0)));
  EXPECT_EQ(member().Begin({}).code(), StatusCode::kFailedPrecondition);
  ASSERT_TRUE(member().Finish().ok());
  EXPECT_TRUE(member().Begin({}).ok());
  EXPECT_EQ(root().Begin({}).code(), StatusCode::kFailedPrecondition);
}

TEST_F(SilentCollectiveTest, ChecksumsAreRefused) {
  JoinBoth();
  Operation sealed = Step(0, &from_);
  sealed.sealed = true;
  const Status refused = root().Launch(sealed);
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument) << refused;
  EXPECT_NE(refused.message().find("hash must be off"), std::string::npos) << refused;
  EXPECT_EQ(root().Seal(Sequence(0), Digest{1, 2}).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(root().Launch(Step(0, &from_)).ok()) << "it is not sticky";
}

TEST_F(SilentCollectiveTest, OrderAndWindowAreChecked) {
  JoinBoth();
  EXPECT_EQ(root().Grant(Sequence(0)).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(root().Launch(Step(1, &from_)).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(member().Launch(Step(0, &to_)).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(member().Grant(Sequence(1)).code(), StatusCode::kFailedPrecondition);
  std::vector<std::byte> nothing;
  EXPECT_EQ(root().Launch(Step(0, &nothing)).code(), StatusCode::kInvalidArgument);
  for (uint64_t k = 0; k < kStepsInFlightMax; ++k) {
    ASSERT_TRUE(member().Grant(Sequence(k)).ok());
  }
  EXPECT_EQ(member().Grant(Sequence(kStepsInFlightMax)).code(), StatusCode::kResourceExhausted);
}

TEST_F(SilentCollectiveTest, TheWiresErrorIsTheCollectives) {
  JoinBoth();
  ASSERT_TRUE(root().Launch(Step(0, &from_)).ok());
  hub_.error = Internal("the cable is cut");
  EXPECT_EQ(root().Done(Sequence(0)).status().message(), "the cable is cut");
  EXPECT_EQ(root().Poll(Milliseconds(1)).message(), "the cable is cut");
  EXPECT_EQ(root().culprit(), std::nullopt);
}

TEST_F(SilentCollectiveTest, AbortStopsThisRankOnly) {
  JoinBoth();
  ASSERT_TRUE(member().Grant(Sequence(0)).ok());
  ASSERT_TRUE(member().Launch(Step(0, &to_)).ok());
  member().BeginAbort("out of memory");
  EXPECT_EQ(hub_.begun_aborts.load(), 1);
  EXPECT_EQ(hub_.aborts.load(), 0) << "it does not wait";
  EXPECT_TRUE(member().Abort("too late to be the reason").ok());
  EXPECT_EQ(hub_.aborts.load(), 1);
  const Status status = member().Poll(Milliseconds(1));
  EXPECT_EQ(status.code(), StatusCode::kAborted) << status;
  EXPECT_NE(status.message().find("out of memory"), std::string::npos) << status;
  EXPECT_TRUE(root().Poll(Milliseconds(1)).ok()) << "nobody tells the others";
}

TEST_F(SilentCollectiveTest, WakeAndAbortEndAPoll) {
  JoinBoth();
  const auto polled = [this](auto end) {
    std::thread other(end);
    const Status status = member().Poll(Seconds(60));
    other.join();
    return status;
  };
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(polled([this] { member().Wake(); }).ok());
  EXPECT_EQ(polled([this] { (void)member().Abort("enough"); }).code(), StatusCode::kAborted);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, Seconds(30));
}

}  // namespace
}  // namespace packcast
