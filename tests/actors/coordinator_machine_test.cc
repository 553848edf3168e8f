// The coordinator's way through an epoch, message by message, and who gets in.
#include "actors/coordinator_machine.h"

#include "gtest/gtest.h"

#include "tests/actors/coordinator_kit.h"

namespace packcast {
namespace {

class CoordinatorMachineTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(c.invariants, OkStatus()); }

  void Assemble(uint32_t workers = 2) {
    trainer = c.JoinTrainer();
    for (uint32_t k = 0; k < workers; ++k) worker.push_back(c.JoinWorker(k));
  }
  Status SyncStatus(const std::string& name = "trainer-0") {
    const auto* done = c.To<SyncDone>(name);
    return done == nullptr ? Internal("no answer") : done->status.ToStatus();
  }

  CoordinatorKit c;
  MemberId trainer;
  std::vector<MemberId> worker;
};

TEST_F(CoordinatorMachineTest, RunsAnEpoch) {
  Assemble();
  c.Sync(trainer, 5);
  EXPECT_EQ(c.phase(), EpochPhase::kOffers);
  EXPECT_EQ(c.To<Propose>("worker-1")->label, 5u);
  c.Answer();
  EXPECT_EQ(c.phase(), EpochPhase::kPreparing);
  ASSERT_TRUE(c.To<Prepare>("worker-0")->contract.has_value());
  EXPECT_EQ(c.To<Prepare>("worker-0")->contract->flows.front().members.size(), 3u);
  EXPECT_NE(c.To<ManifestPart>("worker-0"), nullptr);
  c.Answer();
  EXPECT_EQ(c.phase(), EpochPhase::kJoining);
  EXPECT_EQ(c.To<RendezvousBlob>("worker-1")->flows.front().blob, Bytes(8));
  c.Answer();
  EXPECT_EQ(c.phase(), EpochPhase::kStreaming);
  EXPECT_NE(c.To<Start>("trainer-0"), nullptr);
  c.From(worker[0], Staged{c.key(), Digest{3, 4}, 1024, {}});
  EXPECT_EQ(c.To<Commit>("worker-0"), nullptr);  // S5: one is missing
  c.From(worker[1], Staged{c.key(), Digest{3, 4}, 1024, {}});
  EXPECT_NE(c.To<Commit>("worker-0"), nullptr);  // the trainer has no vote
  EXPECT_NE(c.To<Commit>("trainer-0"), nullptr);
  EXPECT_EQ(c.To<SyncDone>("trainer-0"), nullptr);
  c.Answer();
  EXPECT_FALSE(c.runs());
  EXPECT_EQ(SyncStatus(), OkStatus());
}

TEST_F(CoordinatorMachineTest, QuiescesWorkersOnlyWhenTheirMemoryIsWritten) {
  c = CoordinatorKit(InstallMode::kInPlace);
  Assemble();
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kQuiescing);
  ASSERT_EQ(c.phase(), EpochPhase::kQuiescing);
  EXPECT_EQ(c.To<Quiesce>("trainer-0"), nullptr);
  c.From(worker[0], Quiesced{c.key()});
  EXPECT_EQ(c.To<Start>("worker-0"), nullptr);
  c.From(worker[1], Quiesced{c.key()});
  EXPECT_NE(c.To<Start>("worker-0"), nullptr);
}

TEST_F(CoordinatorMachineTest, ALateJoinerWaitsForTheNextEpoch) {
  Assemble(1);
  c.Sync(trainer, 5);
  c.Answer();
  const MemberId late = c.JoinWorker(1);
  c.AnswerAll();
  EXPECT_EQ(c.To<Propose>("worker-1"), nullptr);
  c.Sync(trainer, 6);
  EXPECT_NE(c.To<Propose>("worker-1"), nullptr);
  EXPECT_EQ(c.machine.epoch()->participants.back().id, late);
}

TEST_F(CoordinatorMachineTest, AnEpochWaitsForItsReplicas) {
  trainer = c.JoinTrainer();
  c.Sync(trainer, 5);
  EXPECT_EQ(c.phase(), EpochPhase::kWaitReplicas);
  c.JoinWorker(0, 2);
  EXPECT_EQ(c.phase(), EpochPhase::kWaitReplicas);  // half a replica is none
  c.JoinWorker(1, 2);
  EXPECT_EQ(c.phase(), EpochPhase::kOffers);
}

TEST_F(CoordinatorMachineTest, TheWaitForReplicasEnds) {
  trainer = c.JoinTrainer();
  c.Sync(trainer, 5);
  c.WaitPastDeadline();
  EXPECT_EQ(SyncStatus().code(), StatusCode::kFailedPrecondition);
}

TEST_F(CoordinatorMachineTest, NothingIsProposedForACallerThatDiedWhileReplicasWereAwaited) {
  trainer = c.JoinTrainer();
  c.Sync(trainer, 5);
  c.On(MemberLost{trainer, PeerDied("killed")});
  c.JoinTrainer(0, 1, 2);  // its next life has promised nothing
  c.JoinWorker(0);
  EXPECT_FALSE(c.runs());
}

TEST_F(CoordinatorMachineTest, ItsTermIsAboveWhatMembersPromised) {
  c.JoinWorker(0, 1, 1, Term{4, 99});
  EXPECT_EQ(c.machine.term(), (Term{5, 7}));
  EXPECT_EQ(c.To<Welcome>("worker-0")->term.counter, 5u);
  c.JoinWorker(1, 1, 1, Term{5, 98});  // the same counter, of a rival
  EXPECT_EQ(c.machine.term(), (Term{6, 7}));
  EXPECT_EQ(c.To<Welcome>("worker-0")->term.counter, 6u);
}

TEST_F(CoordinatorMachineTest, TheTermRisesWhileAnEpochWaitsForReplicas) {
  trainer = c.JoinTrainer();
  c.Sync(trainer, 5);
  c.JoinWorker(0, 1, 1, Term{4, 99});  // the only replica: waiting for the end would be in vain
  ASSERT_EQ(c.phase(), EpochPhase::kOffers);
  EXPECT_EQ(c.To<Propose>("worker-0")->key.term, (Term{5, 7}));
}

TEST_F(CoordinatorMachineTest, AHigherPromiseWaitsForTheRunningEpoch) {
  Assemble();
  c.Sync(trainer, 5);
  c.JoinWorker(2, 1, 1, Term{4, 99});
  EXPECT_EQ(c.To<Welcome>("worker-2"), nullptr);
  c.AnswerAll();
  EXPECT_EQ(SyncStatus(), OkStatus());
  EXPECT_EQ(c.To<Welcome>("worker-2")->term, (Term{5, 7}));
}

TEST_F(CoordinatorMachineTest, RefusesASecondTrainerUnitAndATakenRank) {
  Assemble();
  c.JoinTrainer(0, 1, 1, "other");
  EXPECT_FALSE(c.To<Expelled>("other-0")->may_rejoin);
  c.Join(Role::kWorker, "stranger", "replica-0", 0, 1, 1, {});
  EXPECT_EQ(c.To<Expelled>("stranger")->reason.ToStatus().code(), StatusCode::kAlreadyExists);
}

TEST_F(CoordinatorMachineTest, ATermThatCannotBeExceededIsRefusedByName) {
  Assemble();
  for (const uint64_t counter : {~uint64_t{0}, uint64_t{1} << 62}) {
    c.JoinWorker(2, 1, 1, Term{counter, 1});
    const Status reason = c.To<Expelled>("worker-2")->reason.ToStatus();
    EXPECT_EQ(reason.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(reason.message().find(std::to_string(counter)), std::string::npos);
    EXPECT_EQ(c.machine.term(), (Term{1, 7}));
  }
  c.Sync(trainer, 5);
  c.AnswerAll();
  EXPECT_EQ(SyncStatus(), OkStatus());
}

TEST_F(CoordinatorMachineTest, ANewcomerThatMayNotComeInDoesNotEndTheEarlierLife) {
  Assemble();
  c.Join(Role::kWorker, "worker-0", "replica-0", 3, 2, 2, {});  // rank 3 of 2
  EXPECT_FALSE(c.To<Expelled>("worker-0")->may_rejoin);
  EXPECT_TRUE(c.machine.membership().Has(worker[0]));
  c.Sync(trainer, 5);
  c.AnswerAll();
  EXPECT_EQ(SyncStatus(), OkStatus());
  c.Join(Role::kWorker, "worker-0", "replica-0", 3, 2, 1, {});  // the same life: it will end
  EXPECT_FALSE(c.machine.membership().Has(worker[0]));
}

TEST_F(CoordinatorMachineTest, AWorkerCannotCancelASync) {
  Assemble();
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  c.From(worker[0], SyncCancel{"default", 5, std::nullopt});
  EXPECT_EQ(c.phase(), EpochPhase::kStreaming);
}

TEST_F(CoordinatorMachineTest, ALaterStartEndsAnEarlierLifeForGood) {
  Assemble();
  c.On(MemberLost{worker[0], Unavailable("frozen")});
  c.JoinWorker(0, 1, 2);
  EXPECT_FALSE(c.To<Expelled>("worker-0")->may_rejoin);
  c.Forget();
  c.JoinWorker(0, 1, 1);  // thawed
  EXPECT_EQ(c.To<Welcome>("worker-0"), nullptr);
  EXPECT_FALSE(c.To<Expelled>("worker-0")->may_rejoin);
  EXPECT_TRUE(c.machine.membership().Has(Id("worker-0", 2)));
}

TEST_F(CoordinatorMachineTest, WhoWasThoughtLostIsToldToJoinAgain) {
  Assemble();
  c.On(MemberLost{worker[0], Unavailable("silent")});
  c.On(MemberBack{worker[0]});
  EXPECT_TRUE(c.To<Expelled>("worker-0")->may_rejoin);
  c.Forget();
  c.JoinWorker(0);
  c.On(MemberBack{worker[0]});
  EXPECT_EQ(c.To<Expelled>("worker-0"), nullptr);
}

TEST_F(CoordinatorMachineTest, IgnoresWhatIsStale) {
  Assemble();
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  EpochKey old = c.key();
  old.attempt = Attempt(0);
  c.From(worker[0], Staged{old, Digest{3, 4}, 1024, {}});
  c.From(Id("worker-1", 9), Staged{c.key(), Digest{3, 4}, 1024, {}});
  c.From(worker[1], Staged{c.key(), Digest{3, 4}, 1024, {}});
  EXPECT_EQ(c.phase(), EpochPhase::kStreaming);
}

TEST_F(CoordinatorMachineTest, OnlyAnAnswerThatIsAskedForChangesAnything) {
  Assemble();
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kPreparing);
  const std::vector<FlowRendezvous> own = {{FlowId(0), "zmq", Bytes(3)}};
  c.From(worker[0], Prepared{c.key(), Digest{1, 2}, own});  // not the root
  c.From(worker[0], Prepared{c.key(), Digest{9, 9}, {}});   // has answered
  c.Answer({worker[0]});
  ASSERT_EQ(c.phase(), EpochPhase::kJoining);
  EXPECT_EQ(c.To<RendezvousBlob>("worker-1")->flows.front().blob, Bytes(8));
  c.From(worker[0], Staged{c.key(), Digest{9, 9}, 1024, {}});
  c.From(worker[0], Prepared{c.key(), Digest{9, 9}, own});
  c.AnswerUntil(EpochPhase::kStreaming);
  EXPECT_FALSE(c.machine.epoch()->participants.back().staged);
  c.AnswerUntil(EpochPhase::kCommitting);
  c.From(worker[0], Staged{c.key(), Digest{9, 9}, 1024, {}});  // S5: was staged, and still is
  EXPECT_EQ(c.invariants, OkStatus());
  c.From(worker[1], Failed{c.key(), "transfer", WireStatus::From(Internal("made up")), ""});
  c.AnswerAll();
  EXPECT_EQ(SyncStatus(), OkStatus());
  EXPECT_EQ(c.machine.reports().back().Find("workers")->AsArray()->size(), 2u);
}

// Any message at any time, from any role, twice: no invariant breaks and the epoch comes to an end.
TEST_F(CoordinatorMachineTest, NoMessageInAnyPhaseBreaksAnInvariant) {
  const EpochPhase phases[] = {
      EpochPhase::kOffers,    EpochPhase::kPreparing,  EpochPhase::kJoining, EpochPhase::kQuiescing,
      EpochPhase::kStreaming, EpochPhase::kCommitting, EpochPhase::kAborting};
  const size_t kinds = 12;
  for (size_t phase = 0; phase < std::size(phases); ++phase) {
    for (size_t sent = 0; sent < 2 * kinds; ++sent) {
      SCOPED_TRACE(std::string(EpochPhaseName(phases[phase])) + ", " + std::to_string(sent));
      c = CoordinatorKit(InstallMode::kInPlace);
      worker.clear();
      Assemble();
      c.Sync(trainer, 5);
      const bool aborting = phases[phase] == EpochPhase::kAborting;
      c.AnswerUntil(aborting ? EpochPhase::kStreaming : phases[phase]);
      if (aborting) c.On(MemberLost{worker[1], PeerDied("killed")});
      ASSERT_EQ(c.phase(), phases[phase]);
      const EpochKey key = c.key();
      const WireStatus none;
      const MemberMessage messages[kinds] = {
          OfferReply{key, {}},
          Prepared{key, Digest{9, 9}, std::vector<FlowRendezvous>{Found(99)}},
          Refused{key, none, "", "", ""},
          GenerationJoined{key},
          Quiesced{key},
          Progress{key, "", ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}},
          Staged{key, Digest{9, 9}, 0, {}},
          Failed{key, "", none, "nobody"},
          Installed{key, none, std::nullopt, 0.0, 0},
          Halted{key, ~uint64_t{0}},
          AttemptAborted{key, AbortOutcome::kClean, true},
          AttemptAborted{key, AbortOutcome::kDeviceLost, true}};
      const MemberId& from = sent < kinds ? worker[0] : trainer;
      for (int twice = 0; twice < 2; ++twice) {
        c.From(from, messages[sent % kinds]);
        EXPECT_EQ(c.invariants, OkStatus());
      }
      c.AnswerAll();
      EXPECT_EQ(c.invariants, OkStatus());
      EXPECT_FALSE(c.runs());
      const Value& report = c.machine.reports().back();
      const bool serves = !report.Find("workers")->AsArray()->empty();
      EXPECT_TRUE(serves || !*report.Find("committed")->AsBool());
    }
  }
}

TEST_F(CoordinatorMachineTest, TrainerRanksCallTogether) {
  trainer = c.JoinTrainer(0, 2);
  const MemberId second = c.JoinTrainer(1, 2);
  c.JoinWorker(0);
  c.Sync(trainer, 5);
  EXPECT_FALSE(c.runs());
  c.Sync(second, 5);
  c.AnswerAll();
  EXPECT_EQ(SyncStatus("trainer-0"), OkStatus());
  EXPECT_EQ(SyncStatus("trainer-1"), OkStatus());
}

TEST_F(CoordinatorMachineTest, ASyncDoesNotWaitForARankThatIsLost) {
  trainer = c.JoinTrainer(0, 2);
  const MemberId second = c.JoinTrainer(1, 2);
  c.JoinWorker(0);
  c.On(ControlCall{1, "sync", ValueMap{{"label", uint64_t{5}}}});
  c.Sync(trainer, 5);
  c.On(MemberLost{second, PeerDied("killed")});  // before it has called
  EXPECT_EQ(SyncStatus("trainer-0").code(), StatusCode::kAborted);
  EXPECT_NE(SyncStatus("trainer-0").message().find("trainer-1: killed"), std::string::npos);
  ASSERT_EQ(c.replies.size(), 1u);
  EXPECT_EQ(c.replies[0].status.code(), StatusCode::kAborted);
  c.Sync(trainer, 6);  // this one knows, and waits for the next life
  EXPECT_FALSE(c.runs());
  c.Sync(c.JoinTrainer(1, 2, 2), 6);
  c.AnswerAll();
  EXPECT_EQ(SyncStatus("trainer-0"), OkStatus());
}

TEST_F(CoordinatorMachineTest, ARankThatWasAskedLateIsNotForEverOneLabelBehind) {
  trainer = c.JoinTrainer(0, 2);
  const MemberId second = c.JoinTrainer(1, 2);
  c.JoinWorker(0);
  c.Sync(second, 5);  // the script that had asked for it has its answer
  c.On(ControlCall{1, "sync", ValueMap{{"label", uint64_t{6}}}});
  c.Sync(trainer, 6);  // stands, as a script waits for it
  EXPECT_EQ(SyncStatus("trainer-1").code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(c.replies.empty());
  c.Sync(second, 6);
  c.AnswerAll();
  EXPECT_EQ(SyncStatus("trainer-0"), OkStatus());
  ASSERT_EQ(c.replies.size(), 1u);
  EXPECT_EQ(c.replies[0].status, OkStatus());
  // The other way about: what is called late is refused, and what is there stands.
  c.On(ControlCall{2, "sync", ValueMap{{"label", uint64_t{8}}}});
  c.Sync(trainer, 8);
  c.Sync(second, 7);
  EXPECT_EQ(SyncStatus("trainer-1").code(), StatusCode::kInvalidArgument);
  c.Sync(second, 8);
  EXPECT_TRUE(c.runs());
}

TEST_F(CoordinatorMachineTest, LabelsOfTrainerRanksMustMatch) {
  trainer = c.JoinTrainer(0, 2);
  const MemberId second = c.JoinTrainer(1, 2);
  c.JoinWorker(0);
  c.Sync(trainer, 5);
  c.Sync(second, 6);
  EXPECT_FALSE(c.runs());
  EXPECT_EQ(SyncStatus("trainer-0").code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(SyncStatus("trainer-1").code(), StatusCode::kInvalidArgument);
}

TEST_F(CoordinatorMachineTest, OneRunsOneIsQueuedAndAThirdIsBusyOrSupersedes) {
  Assemble();
  c.Sync(trainer, 5);
  c.Sync(trainer, 6);
  c.Sync(trainer, 7);
  EXPECT_EQ(c.To<SyncDone>("trainer-0")->label, 7u);
  EXPECT_EQ(SyncStatus().code(), StatusCode::kBusy);
  c.Sync(trainer, 8, true);
  EXPECT_EQ(c.To<SyncDone>("trainer-0")->label, 6u);
  EXPECT_EQ(SyncStatus().code(), StatusCode::kCancelled);
  c.AnswerAll();
  EXPECT_EQ(c.machine.last_committed()->epoch, EpochId(2));
  EXPECT_EQ(c.To<SyncDone>("trainer-0")->label, 8u);
}

TEST_F(CoordinatorMachineTest, ADrainedReplicaIsLeftOutUntilItIsReadmitted) {
  Assemble();
  c.On(ControlCall{1, "drain", ValueMap{{"replica", "replica-1"}}});
  EXPECT_EQ(c.replies.back().status, OkStatus());
  c.Sync(trainer, 5);
  EXPECT_EQ(c.To<Propose>("worker-1"), nullptr);
  c.AnswerAll();
  c.On(ControlCall{2, "readmit", ValueMap{{"replica", "replica-1"}}});
  c.Sync(trainer, 6);
  EXPECT_NE(c.To<Propose>("worker-1"), nullptr);
}

TEST_F(CoordinatorMachineTest, AScriptCanAskForASyncAndGetsItsReport) {
  Assemble();
  c.On(ControlCall{1, "sync", ValueMap{{"label", 9}}});
  EXPECT_EQ(c.To<SyncWanted>("trainer-0")->label, 9u);
  EXPECT_TRUE(c.replies.empty());
  c.Sync(trainer, 9);
  c.AnswerAll();
  ASSERT_EQ(c.replies.size(), 1u);
  EXPECT_EQ(c.replies[0].status, OkStatus());
}

TEST_F(CoordinatorMachineTest, ScriptsOfOneLabelShareASyncAndAThirdLabelIsBusy) {
  Assemble();
  c.Sync(trainer, 1);
  for (uint64_t k = 1; k <= 22; ++k) c.On(ControlCall{k, "sync", ValueMap{{"label", 2 + k % 2}}});
  ASSERT_EQ(c.replies.size(), 11u);  // all of label 2: label 3 came first
  for (const ReplyControl& reply : c.replies) {
    EXPECT_EQ(reply.status.code(), StatusCode::kBusy);
  }
  size_t wanted = 0;
  for (const CoordinatorMessage& message : c.sent["trainer-0"]) {
    wanted += std::holds_alternative<SyncWanted>(message);
  }
  EXPECT_EQ(wanted, 1u);
  c.replies.clear();
  c.On(ControlCall{30, "sync", ValueMap{{"label", 1}}});  // the one that runs
  c.AnswerAll();
  ASSERT_EQ(c.replies.size(), 1u);
  EXPECT_EQ(c.replies[0].token, 30u);
  c.Sync(trainer, 3);
  c.On(ControlCall{31, "sync", ValueMap{{"label", 3}}});  // what runs needs no sync.wanted
  c.AnswerAll();
  EXPECT_EQ(c.replies.size(), 13u);
  EXPECT_EQ(c.machine.last_committed()->epoch, EpochId(2));
}

TEST_F(CoordinatorMachineTest, ASyncWithoutALabelIsANewOneAndCanBeCancelledBeforeItIsCalled) {
  Assemble();
  c.On(ControlCall{1, "sync", ValueMap{{"label", 1}}});
  c.On(ControlCall{2, "sync", {}});
  EXPECT_EQ(c.To<SyncWanted>("trainer-0")->label, 2u);
  c.On(ControlCall{3, "sync", {}});
  EXPECT_EQ(c.replies.back().status.code(), StatusCode::kBusy);
  c.On(ControlCall{4, "cancel", ValueMap{{"label", 2}}});
  ASSERT_EQ(c.replies.size(), 3u);
  EXPECT_EQ(c.replies[1].status.code(), StatusCode::kCancelled);
  EXPECT_EQ(c.replies[2].status, OkStatus());
  c.On(ControlCall{5, "sync", {}});
  EXPECT_EQ(c.To<SyncWanted>("trainer-0")->label, 3u);
}

TEST_F(CoordinatorMachineTest, AScriptDoesNotWaitForATrainerThatIsGone) {
  Assemble();
  c.On(ControlCall{1, "sync", ValueMap{}});
  c.On(MemberLost{trainer, PeerDied("killed")});
  ASSERT_EQ(c.replies.size(), 1u);
  EXPECT_EQ(c.replies[0].status.code(), StatusCode::kPeerDied);
}

TEST_F(CoordinatorMachineTest, ShutdownAnswersEverybodyAndBeginsNothing) {
  Assemble();
  c.Sync(trainer, 5);
  c.Sync(trainer, 6);
  c.On(ControlCall{1, "sync", ValueMap{{"label", 6}}});
  c.replies.clear();
  c.On(ControlCall{2, "shutdown", {}});
  c.AnswerAll();
  EXPECT_FALSE(c.runs());
  EXPECT_NE(c.To<Shutdown>("worker-0"), nullptr);
  for (const MemberId& member : {trainer, worker[0], worker[1]}) {
    c.On(MemberLost{member, PeerDied("ended")});
  }
  EXPECT_TRUE(c.stopped);
  ASSERT_EQ(c.replies.size(), 2u);  // of the sync, and of the call that shut down
  EXPECT_EQ(c.replies[0].status.code(), StatusCode::kCancelled);
}

TEST_F(CoordinatorMachineTest, NobodyJoinsAndNothingIsCalledWhileTheClusterShutsDown) {
  Assemble();
  c.On(ControlCall{1, "shutdown", {}});
  c.JoinWorker(2);
  EXPECT_FALSE(c.To<Expelled>("worker-2")->may_rejoin);
  EXPECT_EQ(c.To<Welcome>("worker-2"), nullptr);
  c.Sync(trainer, 5);
  EXPECT_EQ(SyncStatus().code(), StatusCode::kCancelled);
  c.On(ControlCall{2, "sync", {}});
  EXPECT_EQ(c.replies.back().status.code(), StatusCode::kCancelled);
  for (const MemberId& member : {trainer, worker[0], worker[1]}) {
    EXPECT_FALSE(c.stopped);
    c.On(MemberLost{member, PeerDied("ended")});
  }
  EXPECT_TRUE(c.stopped);
}

}  // namespace
}  // namespace packcast
