// What the coordinator does when something fails, in each phase.
#include "gtest/gtest.h"

#include "actors/coordinator_machine.h"
#include "tests/actors/coordinator_kit.h"

namespace packcast {
namespace {

class CoordinatorAbortTest : public testing::Test {
 protected:
  void SetUp() override {
    trainer = c.JoinTrainer();
    for (uint32_t k = 0; k < 4; ++k) worker.push_back(c.JoinWorker(k, 2));  // two replicas
  }
  void TearDown() override { EXPECT_EQ(c.invariants, OkStatus()); }

  const Value& Report() { return c.machine.reports().back(); }
  std::string Text(std::string_view key) {
    const Value* value = Report().Find(key);
    return value == nullptr || value->AsString() == nullptr ? "" : *value->AsString();
  }
  void FailsByTheWire(const MemberId& member, const std::string& culprit = "") {
    c.From(member, Failed{c.key(), "transfer", WireStatus::From(Unavailable("cut")), culprit});
  }
  void AssembleSingles(uint32_t workers) {
    c = CoordinatorKit();
    worker.clear();
    trainer = c.JoinTrainer();
    for (uint32_t k = 0; k < workers; ++k) worker.push_back(c.JoinWorker(k));
  }
  size_t Workers() { return Report().Find("workers")->AsArray()->size(); }
  // The attempt that runs now ends well, with so many workers.
  void CommitsWith(size_t workers) {
    c.AnswerAll();
    EXPECT_EQ(SyncStatus(), OkStatus());
    EXPECT_EQ(Workers(), workers);
  }
  Status SyncStatus() { return c.To<SyncDone>("trainer-0")->status.ToStatus(); }

  CoordinatorKit c;
  MemberId trainer;
  std::vector<MemberId> worker;
};

TEST_F(CoordinatorAbortTest, ARefusalEndsTheEpochAndNamesTheTensor) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kPreparing);
  c.From(worker[1], Refused{c.key(), WireStatus::From(InvalidArgument("shapes differ")), "layer.0",
                            "[4]", "[8]"});
  EXPECT_EQ(c.phase(), EpochPhase::kAborting);
  EXPECT_EQ(c.To<AbortAttempt>("worker-3")->culprit, "worker-1");
  c.AnswerAll();
  EXPECT_EQ(SyncStatus().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(SyncStatus().message().find("layer.0"), std::string::npos);
}

// The root gives the stream up, and one that has only seen that tells of it first.
TEST_F(CoordinatorAbortTest, WhomTheRootNamesIsNamedThoughAWorkerToldOfItsAbortBefore) {
  AssembleSingles(2);
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  FailsByTheWire(worker[0]);
  ASSERT_EQ(c.phase(), EpochPhase::kAborting);
  FailsByTheWire(trainer, "worker-1");
  EXPECT_EQ(c.machine.epoch()->culprit, "worker-1");
  FailsByTheWire(trainer, "worker-0");  // the first word counts
  EXPECT_EQ(c.machine.epoch()->culprit, "worker-1");
  c.Answer();
  c.AnswerUntil(EpochPhase::kStreaming);
  // Suspected for the second time, whatever the others say.
  FailsByTheWire(trainer, "worker-1");
  c.Answer();
  CommitsWith(1);
  EXPECT_EQ(Text("culprit"), "worker-1");
}

// Before the decision, wherever it happens: the replica is out, the others try again.
TEST_F(CoordinatorAbortTest, AWorkerLostInAnyPhaseBeforeTheDecisionIsDoneWithout) {
  for (const EpochPhase phase : {EpochPhase::kOffers, EpochPhase::kPreparing, EpochPhase::kJoining,
                                 EpochPhase::kQuiescing, EpochPhase::kStreaming}) {
    SCOPED_TRACE(EpochPhaseName(phase));
    c = CoordinatorKit(InstallMode::kInPlace);
    worker.clear();
    SetUp();
    c.Sync(trainer, 5);
    c.AnswerUntil(phase);
    ASSERT_EQ(c.phase(), phase);
    const EpochKey first = c.key();
    c.On(MemberLost{worker[3], PeerDied("killed")});
    EXPECT_EQ(c.phase(), EpochPhase::kAborting);
    c.Answer();
    ASSERT_TRUE(c.runs());
    EXPECT_GT(c.key(), first);
    c.AnswerAll();
    EXPECT_EQ(SyncStatus(), OkStatus());
    EXPECT_EQ(Text("culprit"), "worker-3");
    EXPECT_EQ(Report().Find("workers")->AsArray()->size(), 2u);
    EXPECT_EQ(*Report().Find("expelled")->AsArray()->front().Find("replica")->AsString(),
              "replica-1");
  }
}

TEST_F(CoordinatorAbortTest, ARetryHasANewGenerationAndNotTheLostReplica) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  const GenerationId first = c.machine.epoch()->generations.front().id;
  c.On(MemberLost{worker[0], PeerDied("killed")});
  c.Forget();
  c.Answer();
  EXPECT_EQ(c.phase(), EpochPhase::kPreparing);
  EXPECT_EQ(c.key().attempt, Attempt(2));
  EXPECT_GT(c.machine.epoch()->generations.front().id, first);
  EXPECT_EQ(c.To<Prepare>("worker-1"), nullptr);  // the sibling
  EXPECT_TRUE(c.To<Prepare>("worker-2")->contract.has_value());
}

TEST_F(CoordinatorAbortTest, AWorkerLostAfterTheDecisionDoesNotUndoIt) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kCommitting);
  c.On(MemberLost{worker[0], PeerDied("killed")});
  EXPECT_EQ(c.To<AbortAttempt>("worker-1"), nullptr);
  c.AnswerAll();
  EXPECT_EQ(SyncStatus(), OkStatus());
  EXPECT_EQ(Text("culprit"), "worker-0");
}

TEST_F(CoordinatorAbortTest, ACancelAfterTheDecisionComesTooLate) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kCommitting);
  c.From(trainer, SyncCancel{"default", 5});
  c.On(ControlCall{1, "cancel", {}});
  EXPECT_EQ(c.replies.back().status.code(), StatusCode::kFailedPrecondition);
  c.AnswerAll();
  EXPECT_EQ(SyncStatus(), OkStatus());
}

TEST_F(CoordinatorAbortTest, ACancelBeforeTheDecisionEndsTheEpoch) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  c.From(trainer, SyncCancel{"default", 5});
  c.AnswerAll();
  EXPECT_EQ(SyncStatus().code(), StatusCode::kCancelled);
}

TEST_F(CoordinatorAbortTest, AnInstallThatFailsExpelsTheReplicaOnly) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kCommitting);
  c.From(worker[2], Installed{c.key(), WireStatus::From(Internal("copy failed")), {}, 0, 0});
  c.AnswerAll();
  EXPECT_EQ(SyncStatus(), OkStatus());
  EXPECT_EQ(Report().Find("workers")->AsArray()->size(), 2u);
}

TEST_F(CoordinatorAbortTest, ALostTrainerEndsTheEpoch) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  c.On(MemberLost{trainer, PeerDied("killed")});
  c.AnswerAll();
  EXPECT_FALSE(c.runs());
  EXPECT_FALSE(*Report().Find("committed")->AsBool());
  EXPECT_EQ(Text("culprit"), "trainer-0");
}

// The same trainer joined again and called again: the old epoch's end says nothing to the new call.
TEST_F(CoordinatorAbortTest, TheEndOfAnEpochDoesNotAnswerALaterCallOfItsLabel) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  c.JoinTrainer();
  c.Sync(trainer, 5);
  c.Forget();
  c.Answer();  // of the abort: the old epoch is over
  EXPECT_EQ(c.To<SyncDone>("trainer-0"), nullptr);
  c.AnswerAll();
  EXPECT_EQ(SyncStatus(), OkStatus());
}

TEST_F(CoordinatorAbortTest, ADeadlineExpelsTheSilentOneAndItsSibling) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kPreparing);
  c.Answer({worker[1]});
  EXPECT_EQ(c.phase(), EpochPhase::kPreparing);
  c.WaitPastDeadline();
  EXPECT_TRUE(c.To<Expelled>("worker-1")->may_rejoin);
  c.AnswerAll();
  EXPECT_EQ(SyncStatus(), OkStatus());
  EXPECT_EQ(Text("culprit"), "worker-1");
  EXPECT_EQ(Report().Find("workers")->AsArray()->size(), 2u);
}

TEST_F(CoordinatorAbortTest, AStuckTransferIsBlamedOnWhoIsFurthestBehind) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  for (uint64_t k = 0; k < 4; ++k) {
    c.From(worker[k], Progress{c.key(), "streaming", 9, 8, k == 2 ? 1u : 100u});
  }
  c.WaitPastDeadline();
  EXPECT_NE(c.To<Expelled>("worker-2"), nullptr);
  EXPECT_EQ(c.To<Expelled>("worker-0"), nullptr);
}

TEST_F(CoordinatorAbortTest, AWedgedAbortExpelsItsProcess) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  c.From(worker[0], Failed{c.key(), "transfer", WireStatus::From(Unavailable("stuck")), ""});
  c.From(worker[0], AttemptAborted{c.key(), AbortOutcome::kWedged, true});
  EXPECT_NE(c.To<Expelled>("worker-0"), nullptr);
  c.AnswerAll();
  EXPECT_EQ(SyncStatus(), OkStatus());
  EXPECT_EQ(Report().Find("workers")->AsArray()->size(), 2u);
}

TEST_F(CoordinatorAbortTest, AMissingGenerationIsMadeAnewEvenIfTheTrainerMissesIt) {
  c.Sync(trainer, 5);
  c.AnswerAll();
  c.Sync(trainer, 6);
  EXPECT_TRUE(c.To<Propose>("trainer-0")->generations.has_value());
  c.From(trainer, Failed{c.key(), "prepare",
                         WireStatus::From(FailedPrecondition("it does not live here")), ""});
  c.Answer();
  EXPECT_FALSE(c.To<Propose>("trainer-0")->generations.has_value());
  c.AnswerUntil(EpochPhase::kPreparing);
  EXPECT_FALSE(c.To<Prepare>("trainer-0")->generations.front().reuse);
  EXPECT_TRUE(c.To<Prepare>("trainer-0")->contract.has_value());
  c.AnswerAll();
  EXPECT_EQ(SyncStatus(), OkStatus());
}

TEST_F(CoordinatorAbortTest, AGenerationEndsWithTheSessionOfAMember) {
  c.Sync(trainer, 5);
  c.AnswerAll();
  c.JoinWorker(0, 2);  // the same life in a new session: it may have given its end up
  c.Sync(trainer, 6);
  c.AnswerUntil(EpochPhase::kPreparing);
  EXPECT_FALSE(c.To<Prepare>("worker-1")->generations.front().reuse);
}

TEST_F(CoordinatorAbortTest, TrainerRanksDrainToTheFurthestGroup) {
  c = CoordinatorKit();
  worker.clear();
  trainer = c.JoinTrainer(0, 2);
  const MemberId second = c.JoinTrainer(1, 2);
  worker = {c.JoinWorker(0), c.JoinWorker(1)};
  c.Sync(trainer, 5);
  c.Sync(second, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  c.On(MemberLost{worker[0], PeerDied("killed")});
  c.From(trainer, Halted{c.key(), 4});
  EXPECT_EQ(c.To<Drain>("trainer-0"), nullptr);
  c.From(second, Halted{c.key(), 6});
  EXPECT_EQ(c.To<Drain>("trainer-0")->group, 6u);
  EXPECT_EQ(c.To<Drain>("trainer-1")->group, 6u);
}

// Found by seed 1320: the rank that had halted was expelled, and blamed, with the one it waited
// for.
TEST_F(CoordinatorAbortTest, ARankThatHasHaltedIsNotSilent) {
  c = CoordinatorKit();
  worker.clear();
  trainer = c.JoinTrainer(0, 2);
  const MemberId second = c.JoinTrainer(1, 2);
  worker = {c.JoinWorker(0), c.JoinWorker(1)};
  c.Sync(trainer, 5);
  c.Sync(second, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  FailsByTheWire(worker[0]);
  c.Answer({trainer, second});
  c.From(trainer, Halted{c.key(), 4});
  c.WaitPastDeadline();
  EXPECT_NE(c.To<Expelled>("trainer-1"), nullptr);
  EXPECT_EQ(c.To<Expelled>("trainer-0"), nullptr);
  EXPECT_EQ(c.To<Drain>("trainer-0")->group, kAllGroups);  // where the other goes
  EXPECT_GT(c.machine.epoch()->deadline, c.now);
  c.Answer();
  EXPECT_FALSE(c.runs());
  EXPECT_EQ(Text("culprit"), "trainer-1");
}

TEST_F(CoordinatorAbortTest, GivesUpAfterTooManyAttempts) {
  c.Sync(trainer, 5);
  for (int k = 0; k < 5; ++k) {
    c.AnswerUntil(EpochPhase::kStreaming);
    ASSERT_TRUE(c.runs());
    c.From(trainer, Failed{c.key(), "transfer", WireStatus::From(Unavailable("cut")), ""});
    c.Answer();
  }
  EXPECT_FALSE(c.runs());
  EXPECT_EQ(SyncStatus().code(), StatusCode::kAborted);
}

TEST_F(CoordinatorAbortTest, NoReplicaLeftEndsTheEpoch) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  c.On(MemberLost{worker[0], PeerDied("killed")});
  c.On(MemberLost{worker[2], PeerDied("killed")});
  c.AnswerAll();
  EXPECT_EQ(SyncStatus().code(), StatusCode::kAborted);
}

// Found by seed 3675: an epoch that began anew remembered the replica as expelled, so when it lost
// a rank again, its sibling stayed in and half a replica was committed.
TEST_F(CoordinatorAbortTest, AReplicaThatIsExpelledTwiceIsOutAsAWhole) {
  c.Sync(trainer, 5);
  c.JoinWorker(0, 2);  // while offers are made: the epoch begins anew, with everybody
  c.Answer();
  c.AnswerUntil(EpochPhase::kStreaming);
  ASSERT_EQ(c.machine.epoch()->participants.size(), 5u);
  c.On(MemberLost{worker[0], PeerDied("killed")});
  c.Answer();
  EXPECT_EQ(c.machine.epoch()->participants.size(), 3u);
  c.AnswerAll();
  EXPECT_EQ(SyncStatus(), OkStatus());
  EXPECT_EQ(Report().Find("workers")->AsArray()->size(), 2u);
}

TEST_F(CoordinatorAbortTest, DifferentContentIsNeverCommitted) {
  for (const char* culprit : {"", "worker-3", "worker-0"}) {
    SCOPED_TRACE(culprit);
    c = CoordinatorKit();
    worker.clear();
    SetUp();
    c.Sync(trainer, 5);
    c.AnswerUntil(EpochPhase::kStreaming);
    // What the root sent tells who is wrong, if it has said so by then.
    if (culprit == std::string("worker-3"))
      c.From(trainer, Staged{c.key(), Digest{3, 0}, 1024, {}});
    if (culprit == std::string("worker-0"))
      c.From(trainer, Staged{c.key(), Digest{3, 1}, 1024, {}});
    for (uint64_t k = 0; k < 4; ++k) c.From(worker[k], Staged{c.key(), Digest{3, k / 3}, 1024, {}});
    EXPECT_EQ(c.phase(), EpochPhase::kAborting);
    c.AnswerAll();
    EXPECT_EQ(SyncStatus().code(), StatusCode::kDataLoss);
    EXPECT_EQ(Text("culprit"), culprit);
  }
}

// ---- blame --------------------------------------------------------------------------------------

TEST_F(CoordinatorAbortTest, TroubleWithTheWireBlamesNobodyUntilTheLostOneIsKnown) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  FailsByTheWire(trainer);
  EXPECT_EQ(c.To<AbortAttempt>("worker-0")->culprit, "");
  c.On(MemberLost{worker[3], PeerDied("killed")});
  c.On(MemberLost{worker[0], Unavailable("silent")});  // of the same cause, perhaps
  c.Answer();
  EXPECT_EQ(Text("culprit"), "worker-3");
}

TEST_F(CoordinatorAbortTest, AVictimThatIsHeardFirstTwiceStaysIn) {
  AssembleSingles(3);
  c.Sync(trainer, 5);
  for (const uint32_t dies : {1u, 2u}) {
    c.AnswerUntil(EpochPhase::kStreaming);
    FailsByTheWire(worker[0]);
    c.On(MemberLost{worker[dies], PeerDied("killed")});
    c.Answer();
  }
  CommitsWith(1);
}

TEST_F(CoordinatorAbortTest, WhoFailsTwiceWhileNobodyIsLostIsOut) {
  AssembleSingles(2);
  c.Sync(trainer, 5);
  for (int k = 0; k < 2; ++k) {
    c.AnswerUntil(EpochPhase::kStreaming);
    FailsByTheWire(worker[0]);
    c.Answer();
  }
  CommitsWith(1);
  EXPECT_EQ(Text("culprit"), "worker-0");
}

TEST_F(CoordinatorAbortTest, WhomTheRootAccusesTwiceIsOut) {
  AssembleSingles(2);
  c.Sync(trainer, 5);
  for (int k = 0; k < 2; ++k) {
    c.AnswerUntil(EpochPhase::kStreaming);
    FailsByTheWire(trainer, "worker-0");
    FailsByTheWire(trainer, "worker-1");    // the abort makes peers go
    FailsByTheWire(worker[1], "worker-1");  // nobody accuses itself
    c.Answer();
  }
  CommitsWith(1);
  EXPECT_EQ(Text("culprit"), "worker-0");
  EXPECT_EQ(*c.Events("replica.expelled").front().Find("replica")->AsString(), "replica-0");
}

TEST_F(CoordinatorAbortTest, AWorkerThatAccusesAnotherCountsAgainstNobody) {
  AssembleSingles(2);
  c.Sync(trainer, 5);
  for (int k = 0; k < 3; ++k) {
    c.AnswerUntil(EpochPhase::kStreaming);
    FailsByTheWire(worker[1], "trainer-0");
    EXPECT_EQ(c.To<AbortAttempt>("worker-0")->culprit, "trainer-0");
    c.Answer();
  }
  CommitsWith(2);
}

TEST_F(CoordinatorAbortTest, OnesOwnFaultIsBetterEvidenceThanItsVictims) {
  AssembleSingles(2);
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  FailsByTheWire(worker[0]);
  c.From(worker[1], Failed{c.key(), "transfer", WireStatus::From(DataLoss("a wrong seal")), ""});
  CommitsWith(1);
  EXPECT_EQ(Text("culprit"), "worker-1");
}

TEST_F(CoordinatorAbortTest, ACancelIsTheReasonWhateverHappensBesides) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  FailsByTheWire(worker[0]);
  c.From(trainer, SyncCancel{"default", 5, std::nullopt});
  c.On(MemberLost{worker[3], PeerDied("killed")});
  c.AnswerAll();
  EXPECT_EQ(SyncStatus().code(), StatusCode::kCancelled);
  EXPECT_EQ(Text("culprit"), "");
}

// ---- reports ------------------------------------------------------------------------------------

TEST_F(CoordinatorAbortTest, AReplicaThatFailsAfterTheDecisionIsToldOf) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kCommitting);
  c.From(worker[2], Installed{c.key(), WireStatus::From(Internal("copy failed")), {}, 0, 0});
  c.AnswerAll();
  EXPECT_TRUE(*Report().Find("committed")->AsBool());
  EXPECT_EQ(Text("culprit"), "worker-2");
  EXPECT_NE(Text("error").find("copy failed"), std::string::npos);
  c.On(ControlCall{1, "members", {}});
  for (const Value& member : *c.replies.back().body.AsArray()) {
    EXPECT_EQ(*member.Find("dirty")->AsBool(), *member.Find("name")->AsString() == "worker-2");
  }
}

TEST_F(CoordinatorAbortTest, ACommitThatNobodyInstalledIsAnError) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kCommitting);
  for (const MemberId& id : worker) {
    c.From(id, Installed{c.key(), WireStatus::From(Internal("copy failed")), {}, 0, 0});
  }
  EXPECT_FALSE(c.runs());
  EXPECT_EQ(SyncStatus().code(), StatusCode::kUnavailable);
  EXPECT_NE(SyncStatus().message().find("no replica"), std::string::npos);
  EXPECT_TRUE(*Report().Find("committed")->AsBool());  // a rank that is lost may serve it
  EXPECT_EQ(Workers(), 0u);
  EXPECT_EQ(Text("culprit"), "worker-0");
}

TEST_F(CoordinatorAbortTest, TheReportOfAnAttemptKnowsNothingOfEarlierOnes) {
  AssembleSingles(3);
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  c.now += Seconds(1);
  c.From(worker[0], Staged{c.key(), Digest{3, 4}, 1024, {Phase{"receive", 1}}});
  c.On(MemberLost{worker[1], PeerDied("killed")});
  c.Answer();
  ASSERT_EQ(c.phase(), EpochPhase::kPreparing);
  c.From(worker[0], Refused{c.key(), WireStatus::From(InvalidArgument("shapes")), "", "", ""});
  c.AnswerAll();
  EXPECT_EQ(Report().Find("slowest"), nullptr);
  for (const Value& value : *Report().Find("workers")->AsArray()) {
    EXPECT_TRUE(value.Find("phases")->AsMap()->empty());
    EXPECT_EQ(*value.Find("seconds"), Value(0.0));
  }
}

// A member that joins over and over and never answers: each try expels it, and it is back.
TEST_F(CoordinatorAbortTest, AttemptsBeforeAContractAreBoundedToo) {
  AssembleSingles(2);
  c.Sync(trainer, 5);
  int tries = 0;
  for (; c.runs() && tries < 20; ++tries) {
    c.Answer({worker[1]});
    c.WaitPastDeadline();
    c.JoinWorker(1);
    c.Answer({worker[1]});
  }
  EXPECT_EQ(tries, 5);
  EXPECT_EQ(SyncStatus().code(), StatusCode::kAborted);
  EXPECT_EQ(Text("culprit"), "worker-1");
  EXPECT_EQ(c.Events("epoch.begin").size(), 1u);
  EXPECT_EQ(c.Events("epoch.end").size(), 1u);
  EXPECT_EQ(*Report().Find("seconds"), Value(25.0));
  EXPECT_EQ(*Report().Find("phases")->Find("offers"), Value(25.0));
}

// The blame of the slowest must come before everybody gives up by themselves.
TEST_F(CoordinatorAbortTest, MembersWaitLongerForATransferThanTheCoordinator) {
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  const Epoch& epoch = *c.machine.epoch();
  EXPECT_GE(epoch.contract->transfer_deadline, epoch.deadline - c.now + Seconds(5));
}

}  // namespace
}  // namespace packcast
