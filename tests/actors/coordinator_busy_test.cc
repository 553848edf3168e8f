// Members that say that they will not answer for a while.
#include <gtest/gtest.h>

#include "protocol/limits.h"
#include "tests/actors/coordinator_kit.h"

namespace packcast {
namespace {

class CoordinatorBusyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    trainer = c.JoinTrainer();
    for (uint32_t k = 0; k < 2; ++k) worker.push_back(c.JoinWorker(k));
  }
  void TearDown() override { EXPECT_EQ(c.invariants, OkStatus()); }
  void Busy(const MemberId& member, Duration time) {
    c.On(MemberBusy{member, c.now + time, "its interpreter is locked"});
  }
  void PassTo(Time time) {
    c.now = time;
    c.On(Tick{});
  }
  // All but worker-1 answer up to `phase`, which waits for that one.
  Time WaitForOneIn(EpochPhase phase) {
    c.Sync(trainer, 5);
    c.AnswerUntil(phase);
    EXPECT_EQ(c.phase(), phase);
    c.Answer({worker[1]});
    EXPECT_EQ(c.phase(), phase);
    return c.machine.epoch()->deadline;
  }
  size_t Workers() { return c.machine.reports().back().Find("workers")->AsArray()->size(); }
  Status SyncStatus() { return c.To<SyncDone>("trainer-0")->status.ToStatus(); }

  CoordinatorKit c{InstallMode::kInPlace};
  MemberId trainer;
  std::vector<MemberId> worker;
};

TEST_F(CoordinatorBusyTest, APhaseBeginsAnewWhenItsBusyMemberIsFree) {
  for (const EpochPhase phase :
       {EpochPhase::kOffers, EpochPhase::kPreparing, EpochPhase::kJoining, EpochPhase::kQuiescing,
        EpochPhase::kStreaming, EpochPhase::kCommitting}) {
    SCOPED_TRACE(EpochPhaseName(phase));
    c = CoordinatorKit(InstallMode::kInPlace);
    worker.clear();
    SetUp();
    const Time deadline = WaitForOneIn(phase);
    const Duration limit = deadline - c.now;
    Busy(worker[1], Seconds(200));
    const Time free = c.now + Seconds(200);
    EXPECT_EQ(c.machine.epoch()->deadline, free + limit);
    PassTo(deadline);
    PassTo(free + limit - Nanoseconds(1));
    ASSERT_TRUE(c.runs());
    EXPECT_EQ(c.phase(), phase);
    c.AnswerAll();
    EXPECT_EQ(SyncStatus(), OkStatus());
    EXPECT_EQ(Workers(), 2u);
  }
}

TEST_F(CoordinatorBusyTest, WhoIsFreeEarlierIsWaitedForNoLonger) {
  const Duration limit = WaitForOneIn(EpochPhase::kQuiescing) - c.now;
  Busy(worker[1], Seconds(600));
  c.now += Seconds(100);
  Busy(worker[1], Seconds(0));
  EXPECT_EQ(c.machine.epoch()->deadline, c.now + limit);
  PassTo(c.now + limit);
  EXPECT_EQ(c.phase(), EpochPhase::kAborting);  // it never answered
  c.AnswerAll();
  EXPECT_EQ(Workers(), 1u);
}

TEST_F(CoordinatorBusyTest, WhoHasAnsweredPutsNothingOff) {
  const Time deadline = WaitForOneIn(EpochPhase::kQuiescing);
  Busy(worker[0], Seconds(500));
  EXPECT_EQ(c.machine.epoch()->deadline, deadline);
  PassTo(deadline);
  EXPECT_EQ(c.phase(), EpochPhase::kAborting);
}

// The one that was waited for has answered, and the deadline is seen to be long past for the rest.
TEST_F(CoordinatorBusyTest, WhoWasNeverBusyIsLateWhenTheBusyOneHasAnswered) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kQuiescing);
  Busy(worker[1], Seconds(200));
  const Time put_off = c.machine.epoch()->deadline;
  c.Answer({worker[0]});
  ASSERT_EQ(c.phase(), EpochPhase::kQuiescing);
  PassTo(put_off);
  EXPECT_EQ(c.phase(), EpochPhase::kAborting);
}

// For ever busy is not for ever waited for.
TEST_F(CoordinatorBusyTest, APhaseIsPutOffForTenMinutesAtMost) {
  const Time deadline = WaitForOneIn(EpochPhase::kPreparing);
  for (int k = 0; k < 100 && c.runs() && c.phase() == EpochPhase::kPreparing; ++k) {
    Busy(worker[1], limits::kBusyTime);
    PassTo(c.machine.epoch()->deadline);
  }
  ASSERT_TRUE(c.runs());
  EXPECT_NE(c.phase(), EpochPhase::kPreparing);
  EXPECT_LE(c.now, deadline + limits::kBusyTime);
}

TEST_F(CoordinatorBusyTest, AnAbortWaitsForNobody) {
  WaitForOneIn(EpochPhase::kQuiescing);
  c.On(MemberLost{worker[0], PeerDied("killed")});
  ASSERT_EQ(c.phase(), EpochPhase::kAborting);
  const Time deadline = c.machine.epoch()->deadline;
  Busy(worker[1], Seconds(300));
  EXPECT_EQ(c.machine.epoch()->deadline, deadline);
  c.Answer({worker[1]});
  PassTo(deadline);
  EXPECT_FALSE(c.runs());
}

TEST_F(CoordinatorBusyTest, TheOthersOfTheAttemptAreTold) {
  WaitForOneIn(EpochPhase::kStreaming);
  c.Forget();
  Busy(worker[1], Seconds(30));
  const PeerBusy* told = c.To<PeerBusy>("trainer-0");
  ASSERT_NE(told, nullptr);
  EXPECT_EQ(told->key, c.key());
  EXPECT_EQ(told->member, "worker-1");
  EXPECT_EQ(told->ms, 30001u);
  EXPECT_EQ(told->why, "its interpreter is locked");
  EXPECT_NE(c.To<PeerBusy>("worker-0"), nullptr);
  EXPECT_EQ(c.To<PeerBusy>("worker-1"), nullptr);
  Busy(worker[1], Seconds(0));
  EXPECT_EQ(c.To<PeerBusy>("trainer-0")->ms, 0u);
}

TEST_F(CoordinatorBusyTest, ThoseOfALaterAttemptAreToldWithIt) {
  Busy(worker[1], Seconds(30));
  c.Sync(trainer, 5);
  EXPECT_EQ(c.To<PeerBusy>("trainer-0"), nullptr);  // nothing is under way yet
  c.AnswerUntil(EpochPhase::kPreparing);
  EXPECT_NE(c.To<PeerBusy>("trainer-0"), nullptr);
  c.AnswerAll();
  c.Forget();
  c.Sync(trainer, 6);  // goes ahead: the streams may begin at once
  ASSERT_TRUE(c.machine.epoch()->ahead);
  EXPECT_NE(c.To<PeerBusy>("trainer-0"), nullptr);
  c.AnswerAll();
}

TEST_F(CoordinatorBusyTest, MembersAndEventsShowIt) {
  Busy(worker[1], Seconds(30));
  ASSERT_EQ(c.Events("member.busy").size(), 1u);
  EXPECT_EQ(*c.Events("member.busy")[0].Find("why")->AsString(), "its interpreter is locked");
  const auto shown = [&] {
    c.On(ControlCall{1, "members", Value()});
    for (const Value& member : *c.replies.back().body.AsArray()) {
      if (member.Find("busy_ms") != nullptr) return *member.Find("name")->AsString();
    }
    return std::string();
  };
  EXPECT_EQ(shown(), "worker-1");
  c.now += Seconds(31);
  EXPECT_EQ(shown(), "");
  c.On(MemberBusy{MemberId{"nobody", Incarnation(1)}, c.now + Seconds(1), ""});
  EXPECT_EQ(c.Events("member.busy").size(), 1u);
}

}  // namespace
}  // namespace packcast
