// The commit policy "each": replicas that are decided before the others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/actors/coordinator_kit.h"

namespace packcast {
namespace {

using ::testing::HasSubstr;

class CoordinatorEachTest : public ::testing::Test {
 protected:
  void Assemble(uint32_t workers, uint32_t size = 1) {
    c.On(ControlCall{1, "limits", ValueMap{{"commit", "each"}}});
    ASSERT_EQ(c.replies.back().status, OkStatus());
    trainer = c.JoinTrainer();
    for (uint32_t k = 0; k < workers; ++k) worker.push_back(c.JoinWorker(k, size));
    c.Sync(trainer, 5);
    c.AnswerUntil(EpochPhase::kStreaming);
    c.Forget();
  }
  void TearDown() override { EXPECT_EQ(c.invariants, OkStatus()); }
  void Stage(size_t k, Digest content = {3, 4}) {
    c.From(worker[k], Staged{c.key(), content, 1024, {}});
    EXPECT_EQ(c.invariants, OkStatus());
  }
  void Install(size_t k, const EpochKey& key, const Status& status = OkStatus()) {
    Installed installed{key, WireStatus::From(status), std::nullopt, 0.0, 1};
    c.From(worker[k], installed);
  }
  bool IsCommitted(size_t k) { return c.To<Commit>("worker-" + std::to_string(k)) != nullptr; }
  bool IsAborted(size_t k) { return c.To<AbortAttempt>("worker-" + std::to_string(k)) != nullptr; }
  const Value& Report() { return c.machine.reports().back(); }
  // Those that serve the version, by the report.
  std::vector<std::string> Serving() {
    std::vector<std::string> out;
    for (const Value& one : *Report().Find("workers")->AsArray()) {
      if (one.Find("version")->AsString() != nullptr) out.push_back(*one.Find("name")->AsString());
    }
    return out;
  }
  size_t Expelled() {
    const Value* expelled = Report().Find("expelled");
    return expelled == nullptr ? 0 : expelled->AsArray()->size();
  }
  bool Committed() { return *Report().Find("committed") == Value(true); }
  Status SyncStatus() { return c.To<SyncDone>("trainer-0")->status.ToStatus(); }
  using Names = std::vector<std::string>;

  CoordinatorKit c;
  MemberId trainer;
  std::vector<MemberId> worker;
};

TEST_F(CoordinatorEachTest, AReplicaIsDecidedWhenItHoldsAllBytes) {
  Assemble(2);
  Stage(0);
  EXPECT_TRUE(IsCommitted(0));
  EXPECT_FALSE(IsCommitted(1));
  EXPECT_EQ(c.phase(), EpochPhase::kStreaming);
  EXPECT_EQ(c.machine.last_committed(), c.key().version());
  Install(0, c.key());
  EXPECT_EQ(c.machine.membership().all().at("worker-0").serving, c.key().version());
  EXPECT_EQ(c.Events("replica.committed").size(), 1u);
  c.Forget();
  Stage(1);
  EXPECT_TRUE(IsCommitted(1));
  EXPECT_FALSE(IsCommitted(0)) << "once is enough";
  Install(1, c.key());
  ASSERT_TRUE(c.runs());
  c.From(trainer, Staged{c.key(), {3, 4}, 1024, {}});
  ASSERT_FALSE(c.runs());
  EXPECT_EQ(SyncStatus(), OkStatus());
  EXPECT_EQ(Serving(), (Names{"worker-0", "worker-1"}));
  c.Sync(trainer, 6);
  EXPECT_TRUE(c.machine.epoch()->ahead) << "nothing has changed";
}

TEST_F(CoordinatorEachTest, WithAllNobodyIsDecidedAlone) {
  Assemble(2);
  c.On(ControlCall{2, "limits", ValueMap{{"commit", "all"}}});
  Stage(0);
  EXPECT_FALSE(IsCommitted(0));
  Stage(1);
  EXPECT_TRUE(IsCommitted(0));
  EXPECT_TRUE(IsCommitted(1));
}

TEST_F(CoordinatorEachTest, AReplicaIsDecidedWithAllOfItsRanks) {
  Assemble(4, 2);
  Stage(0);
  Stage(2);
  EXPECT_FALSE(IsCommitted(0) || IsCommitted(2));
  Stage(3);
  EXPECT_TRUE(IsCommitted(2) && IsCommitted(3));
  EXPECT_FALSE(IsCommitted(0) || IsCommitted(1));
}

TEST_F(CoordinatorEachTest, WhatIsDecidedIsNotAbortedAndTheOthersTryAgain) {
  Assemble(3);
  const EpochKey first = c.key();
  Stage(0);
  c.On(MemberLost{worker[1], PeerDied("killed")});
  EXPECT_EQ(c.phase(), EpochPhase::kAborting);
  EXPECT_FALSE(IsAborted(0));
  EXPECT_TRUE(IsAborted(2));
  c.Forget();
  c.From(trainer, AttemptAborted{first, AbortOutcome::kClean, false});
  c.From(worker[2], AttemptAborted{first, AbortOutcome::kClean, false});
  ASSERT_TRUE(c.runs());
  EXPECT_EQ(c.key(), (EpochKey{first.model, first.term, first.epoch, Attempt(2)}));
  // Of the two that are left; the first is done, but for its word.
  EXPECT_EQ(c.machine.epoch()->contract->flows[0].members.size(), 2u);
  EXPECT_EQ(c.To<Prepare>("worker-0"), nullptr);
  EXPECT_NE(c.To<Prepare>("worker-2"), nullptr);
  c.AnswerUntil(EpochPhase::kStreaming);
  Install(0, first);
  Stage(2);
  c.From(trainer, Staged{c.key(), {3, 4}, 1024, {}});
  Install(2, c.key());
  ASSERT_FALSE(c.runs());
  EXPECT_EQ(SyncStatus(), OkStatus());
  EXPECT_EQ(Serving(), (Names{"worker-0", "worker-2"}));
  EXPECT_EQ(Expelled(), 1u);
  EXPECT_EQ(*Report().Find("culprit")->AsString(), "worker-1");
  c.Sync(trainer, 6);
  EXPECT_FALSE(c.machine.epoch()->ahead) << "the last contract was not of all";
}

TEST_F(CoordinatorEachTest, ASecondAttemptWaitsForTheInstallOfTheFirst) {
  Assemble(3);
  const EpochKey first = c.key();
  Stage(0);
  c.On(MemberLost{worker[1], PeerDied("killed")});
  c.From(trainer, AttemptAborted{first, AbortOutcome::kClean, false});
  c.From(worker[2], AttemptAborted{first, AbortOutcome::kClean, false});
  c.AnswerUntil(EpochPhase::kStreaming);
  Stage(2);
  c.From(trainer, Staged{c.key(), {3, 4}, 1024, {}});
  Install(2, c.key());
  ASSERT_TRUE(c.runs());
  ASSERT_EQ(c.machine.epoch()->Waiting().size(), 1u);
  EXPECT_EQ(c.machine.epoch()->Waiting()[0]->id, worker[0]);
  c.WaitPastDeadline();
  ASSERT_FALSE(c.runs());
  EXPECT_EQ(Serving(), Names{"worker-2"});
}

TEST_F(CoordinatorEachTest, WhenNobodyElseIsLeftItEndsAsCommitted) {
  Assemble(2);
  const EpochKey key = c.key();
  Stage(0);
  Install(0, key);
  c.On(MemberLost{worker[1], PeerDied("killed")});
  c.From(trainer, AttemptAborted{key, AbortOutcome::kClean, false});
  ASSERT_FALSE(c.runs());
  EXPECT_EQ(SyncStatus(), OkStatus());
  EXPECT_TRUE(Committed());
  EXPECT_EQ(Serving(), Names{"worker-0"});
}

TEST_F(CoordinatorEachTest, ACancelEndsItForTheOthers) {
  Assemble(2);
  const EpochKey key = c.key();
  Stage(0);
  c.On(ControlCall{3, "cancel", Value()});
  EXPECT_EQ(c.replies.back().status, OkStatus());
  EXPECT_FALSE(IsAborted(0));
  c.From(trainer, AttemptAborted{key, AbortOutcome::kClean, false});
  c.From(worker[1], AttemptAborted{key, AbortOutcome::kClean, false});
  ASSERT_TRUE(c.runs());
  Install(0, key);
  ASSERT_FALSE(c.runs());
  EXPECT_TRUE(Committed());
  EXPECT_EQ(Serving(), Names{"worker-0"});
  EXPECT_EQ(Expelled(), 1u);
  EXPECT_THAT(*Report().Find("error")->AsString(), HasSubstr("cancelled"));
}

TEST_F(CoordinatorEachTest, TheTrainersEndIsThatOfTheOthers) {
  Assemble(2);
  const EpochKey key = c.key();
  Stage(0);
  c.On(MemberLost{trainer, PeerDied("killed")});
  EXPECT_FALSE(IsAborted(0));
  c.From(worker[1], AttemptAborted{key, AbortOutcome::kClean, false});
  Install(0, key);
  ASSERT_FALSE(c.runs());
  EXPECT_TRUE(Committed());
  EXPECT_EQ(Serving(), Names{"worker-0"});
}

TEST_F(CoordinatorEachTest, OtherBytesThanThoseThatAreDecidedAreNot) {
  Assemble(2);
  const EpochKey key = c.key();
  Stage(0);
  Stage(1, Digest{5, 6});
  EXPECT_FALSE(IsCommitted(1));
  EXPECT_TRUE(IsAborted(1));
  c.From(trainer, AttemptAborted{key, AbortOutcome::kClean, false});
  c.From(worker[1], AttemptAborted{key, AbortOutcome::kClean, false});
  Install(0, key);
  ASSERT_FALSE(c.runs());
  EXPECT_EQ(Serving(), Names{"worker-0"});
  EXPECT_THAT(*Report().Find("error")->AsString(), HasSubstr("content differs"));
}

TEST_F(CoordinatorEachTest, NorAreOthersThanThoseThatWereSent) {
  Assemble(2);
  c.From(trainer, Staged{c.key(), {3, 4}, 1024, {}});
  Stage(0, Digest{5, 6});
  EXPECT_FALSE(IsCommitted(0));
  Stage(1);
  EXPECT_TRUE(IsCommitted(1));
}

TEST_F(CoordinatorEachTest, AFailedInstallIsThatReplicasOwn) {
  Assemble(2);
  const EpochKey key = c.key();
  Stage(0);
  Install(0, key, Internal("the engine would not"));
  EXPECT_EQ(c.phase(), EpochPhase::kStreaming);
  Install(0, key);  // said twice
  Stage(1);
  c.From(trainer, Staged{key, {3, 4}, 1024, {}});
  Install(1, key);
  ASSERT_FALSE(c.runs());
  EXPECT_EQ(Serving(), Names{"worker-1"});
  EXPECT_EQ(Expelled(), 1u);
}

TEST_F(CoordinatorEachTest, LimitsShowsAndChecksIt) {
  c.On(ControlCall{1, "limits", Value()});
  EXPECT_EQ(*c.replies.back().body.Find("commit")->AsString(), "all");
  c.On(ControlCall{2, "limits", ValueMap{{"commit", "some"}}});
  EXPECT_EQ(c.replies.back().status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(c.replies.back().status.message(), HasSubstr("\"all\" or \"each\""));
  c.On(ControlCall{3, "limits", ValueMap{{"commit", 7}}});
  EXPECT_EQ(c.replies.back().status.code(), StatusCode::kInvalidArgument);
  c.On(ControlCall{4, "limits", ValueMap{{"commit", "each"}}});
  EXPECT_EQ(*c.replies.back().body.Find("commit")->AsString(), "each");
}

}  // namespace
}  // namespace packcast
