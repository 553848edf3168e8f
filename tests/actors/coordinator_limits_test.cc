// What an operator sets while the cluster runs, and what becomes of an epoch with too few replicas.
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "actors/coordinator_machine.h"
#include "tests/actors/coordinator_kit.h"

namespace packcast {
namespace {

using testing::HasSubstr;

class CoordinatorLimitsTest : public testing::Test {
 protected:
  CoordinatorLimitsTest() {
    trainer = c.JoinTrainer();
    for (uint32_t k = 0; k < 2; ++k) worker.push_back(c.JoinWorker(k));
  }
  void TearDown() override { EXPECT_EQ(c.invariants, OkStatus()); }

  const ReplyControl& Limits(ValueMap body) {
    c.On(ControlCall{1, "limits", std::move(body)});
    return c.replies.back();
  }
  void BothAreNeeded(const std::string& below_min) {
    EXPECT_EQ(Limits({{"min_replicas", 2}, {"below_min", below_min}}).status, OkStatus());
  }
  void LoseWorkerInTransfer() {
    c.Sync(trainer, 5);
    c.AnswerUntil(EpochPhase::kStreaming);
    c.On(MemberLost{worker[1], PeerDied("killed")});
    c.Answer();  // gives the attempt up
  }
  Status Ended() { return c.To<SyncDone>("trainer-0")->status.ToStatus(); }

  CoordinatorKit c;
  MemberId trainer;
  std::vector<MemberId> worker;
};

TEST_F(CoordinatorLimitsTest, WhoOnlyLooksChangesNothing) {
  c.Sync(trainer, 5);
  c.AnswerAll();
  EXPECT_EQ(*Limits({}).body.Find("below_min")->AsString(), "fail");
  EXPECT_EQ(Limits({{"buffer_count", 2}}).status, OkStatus());  // as it is
  EXPECT_TRUE(c.Events("limits").empty());
  c.Forget();
  c.Sync(trainer, 6);
  EXPECT_TRUE(c.To<Propose>("worker-0")->contract_digest.has_value());  // agreed on still
  EXPECT_EQ(Limits({{"buffer_count", 3}}).status, OkStatus());
  EXPECT_EQ(c.Events("limits").size(), 1u);
}

TEST_F(CoordinatorLimitsTest, WhatIsNoChoiceIsRefusedAndNothingChanges) {
  EXPECT_THAT(Limits({{"below_min", "hope"}, {"min_replicas", 2}}).status.message(),
              HasSubstr("can \"fail\" or \"wait\", not \"hope\""));
  uint64_t least = 0;
  Limits({}).body.Find("min_replicas")->GetUint(&least);
  EXPECT_EQ(least, 1u);
}

TEST_F(CoordinatorLimitsTest, TooFewAreLeftAndItFailsAtOnce) {
  BothAreNeeded("fail");
  LoseWorkerInTransfer();
  EXPECT_THAT(Ended().message(), HasSubstr("1 of at least 2 replicas are left"));
}

TEST_F(CoordinatorLimitsTest, TooFewAreLeftAndItWaitsForTheOneThatComesBack) {
  BothAreNeeded("wait");
  LoseWorkerInTransfer();
  ASSERT_TRUE(c.runs());
  EXPECT_EQ(c.phase(), EpochPhase::kWaitReplicas);
  EXPECT_EQ(c.To<SyncDone>("trainer-0"), nullptr);
  c.JoinWorker(1, 1, 2);
  EXPECT_EQ(c.phase(), EpochPhase::kOffers);
  EXPECT_EQ(c.key().attempt, Attempt(2));
  c.AnswerAll();
  EXPECT_EQ(Ended(), OkStatus());
  EXPECT_EQ(c.machine.membership().all().at("worker-1").serving, c.machine.last_committed());
}

TEST_F(CoordinatorLimitsTest, TheWaitEndsAndSaysWhyItBegan) {
  BothAreNeeded("wait");
  LoseWorkerInTransfer();
  c.WaitPastDeadline();
  EXPECT_FALSE(c.runs());
  EXPECT_THAT(Ended().message(), HasSubstr("only 1 of at least 2 complete replicas"));
  EXPECT_THAT(Ended().message(), HasSubstr("the last attempt: "));
  EXPECT_THAT(Ended().message(), HasSubstr("killed"));
}

// One that fails again and again does not make it wait for ever.
TEST_F(CoordinatorLimitsTest, AttemptsAreCountedOverWaits) {
  BothAreNeeded("wait");
  LoseWorkerInTransfer();
  for (uint64_t life = 2; c.runs() && life < 20; ++life) {
    const MemberId again = c.JoinWorker(1, 1, life);
    c.AnswerUntil(EpochPhase::kStreaming);
    c.On(MemberLost{again, PeerDied("killed")});
    c.Answer();
  }
  EXPECT_THAT(Ended().message(), HasSubstr("gave up after 5 attempts"));
}

}  // namespace
}  // namespace packcast
