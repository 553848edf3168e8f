// A worker's (and where it differs, a trainer rank's) way through epochs, message by message.
#include "actors/member_machine.h"

#include "gtest/gtest.h"

#include "protocol/limits.h"
#include "tests/actors/machine_kit.h"

namespace packcast {
namespace {

TEST(MemberMachine, JoinsWhenASessionExists) {
  MemberKit worker(Role::kWorker);
  const MemberEffects effects = worker.On(CoordinatorUp{});
  const auto* join = Sent<JoinCluster>(effects);
  ASSERT_NE(join, nullptr);
  EXPECT_EQ(join->unit, "replica-0");
  EXPECT_TRUE(join->serving.IsZero());
  EXPECT_FALSE(worker.machine.joined());
  worker.On(CoordinatorMessage(Welcome{"default", Term{1, 7}}));
  EXPECT_TRUE(worker.machine.joined());
}

TEST(MemberMachine, GoesThroughAStagedEpoch) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  const EpochKey key = Key(1);
  for (ManifestPart& part : ManifestParts(*worker.manifest)) {
    worker.On(CoordinatorMessage(std::move(part)));
  }
  MemberEffects effects = worker.On(CoordinatorMessage(
      Propose{key, 5, SyncKind::kFull, std::nullopt, worker.manifest->digest()}));
  ASSERT_NE(Sent<OfferReply>(effects), nullptr);
  EXPECT_EQ(Sent<OfferReply>(effects)->offer.manifests.size(), 1u);

  effects = worker.On(
      CoordinatorMessage(Prepare{key, 5, worker.manifest->digest(), ContractDigest(worker.contract),
                                 worker.contract, Generations(1, false)}));
  ASSERT_NE(Effect<PrepareAttempt>(effects), nullptr);
  effects = worker.On(PrepareDone{key, OkStatus(), Digest{1, 2}, {}, ""});
  EXPECT_EQ(Sent<Prepared>(effects)->plan_digest, (Digest{1, 2}));

  effects = worker.On(CoordinatorMessage(RendezvousBlob{key, {Found()}}));
  EXPECT_NE(Effect<JoinGenerations>(effects), nullptr);
  EXPECT_NE(Sent<GenerationJoined>(worker.On(GenerationsReady{key, OkStatus()})), nullptr);

  EXPECT_NE(Effect<StartStream>(worker.On(CoordinatorMessage(Start{key}))), nullptr);
  EXPECT_TRUE(worker.machine.in_service());  // the old version serves on
  effects = worker.On(StreamDone{key, OkStatus(), Digest{3, 4}, 1024, {}, ""});
  EXPECT_EQ(Sent<Staged>(effects)->content_digest, (Digest{3, 4}));

  EXPECT_NE(Effect<InstallVersion>(worker.On(CoordinatorMessage(Commit{key}))), nullptr);
  EXPECT_TRUE(worker.machine.serving().IsZero());
  effects = worker.On(InstallDone{key, OkStatus()});
  EXPECT_EQ(Sent<Installed>(effects)->install_count, 1u);
  EXPECT_EQ(worker.machine.serving(), key.version());
  EXPECT_EQ(worker.machine.phase(), MemberPhase::kIdle);
}

// The second epoch's proposal, as a coordinator makes it where nothing has changed.
Propose Again(const MemberKit& kit, const EpochKey& key) {
  return Propose{key,
                 key.epoch.value,
                 SyncKind::kFull,
                 std::nullopt,
                 kit.manifest->digest(),
                 ContractDigest(kit.contract),
                 std::vector<GenerationId>{GenerationId(1)}};
}

TEST(MemberMachine, PreparesAndGrantsAtOnceWhenTheProposalHoldsHere) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToServing(Key(1));
  MemberEffects effects = worker.On(CoordinatorMessage(Again(worker, Key(2))));
  EXPECT_EQ(Sent<OfferReply>(effects), nullptr);
  ASSERT_NE(Effect<PrepareAttempt>(effects), nullptr);
  effects = worker.On(PrepareDone{Key(2), OkStatus(), Digest{1, 2}, {}, ""});
  EXPECT_NE(Sent<Prepared>(effects), nullptr);
  ASSERT_NE(Effect<StartStream>(effects), nullptr);
  EXPECT_TRUE(Effect<StartStream>(effects)->early);
  EXPECT_EQ(Effect<StartStream>(worker.On(CoordinatorMessage(Start{Key(2)}))), nullptr);
  worker.On(StreamDone{Key(2), OkStatus(), Digest{3, 4}, 1024, {}, ""});
  EXPECT_NE(Effect<InstallVersion>(worker.On(CoordinatorMessage(Commit{Key(2)}))), nullptr);
}

TEST(MemberMachine, ATrainerBeginsByItselfUnlessItsSourceGathersWithOthers) {
  for (const uint32_t ranks : {1u, 2u}) {
    MemberKit trainer(Role::kTrainer);
    trainer.machine = MemberMachine(MemberKit::Config(Role::kTrainer, 0, ranks));
    trainer.Join();
    trainer.ToStaged(Key(1));
    trainer.On(CoordinatorMessage(Commit{Key(1)}));
    trainer.On(CoordinatorMessage(Again(trainer, Key(2))));
    const MemberEffects effects = trainer.On(PrepareDone{Key(2), OkStatus(), Digest{1, 2}, {}, ""});
    EXPECT_EQ(Effect<StartStream>(effects) != nullptr, ranks == 1);
    // Its cursor may have been opened: it stops where the coordinator says.
    EXPECT_EQ(Effect<HaltSource>(trainer.Abort(Key(2))) != nullptr, ranks == 1);
  }
}

TEST(MemberMachine, WaitsForQuiesceAndStartWhereItsMemoryIsInService) {
  MemberKit worker(Role::kWorker, InstallMode::kInPlace);
  worker.Join();
  worker.ToServing(Key(1));
  worker.On(CoordinatorMessage(Again(worker, Key(2))));
  const MemberEffects effects = worker.On(PrepareDone{Key(2), OkStatus(), Digest{1, 2}, {}, ""});
  EXPECT_NE(Sent<Prepared>(effects), nullptr);
  EXPECT_EQ(Effect<StartStream>(effects), nullptr);
  EXPECT_TRUE(worker.machine.in_service());
}

TEST(MemberMachine, OffersWhereTheProposalDoesNotHold) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToServing(Key(1));
  const auto answers_with_offer = [](MemberKit kit, const Propose& propose) {
    return Sent<OfferReply>(kit.On(CoordinatorMessage(propose))) != nullptr;
  };
  Propose propose = Again(worker, Key(2));
  EXPECT_FALSE(answers_with_offer(worker, propose));
  propose.contract_digest = Digest{7, 7};
  EXPECT_TRUE(answers_with_offer(worker, propose));
  propose = Again(worker, Key(2));
  propose.generations = std::vector<GenerationId>{GenerationId(9)};
  EXPECT_TRUE(answers_with_offer(worker, propose));
  propose = Again(worker, Key(2));
  propose.manifest_digest = Digest{7, 7};
  EXPECT_TRUE(answers_with_offer(worker, propose));
  MemberKit changed = worker;
  changed.On(OfferChanged{{{.kind = "zmq"}}, 1000, 0});
  EXPECT_TRUE(answers_with_offer(changed, Again(worker, Key(2))));
}

TEST(MemberMachine, TellsAnOfferThatHasChangedWithItsLastWord) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToStreaming(Key(1));
  worker.On(OfferChanged{{{.kind = "zmq"}}, 1000, 64});
  const MemberEffects effects =
      worker.On(StreamDone{Key(1), OkStatus(), Digest{3, 4}, 1024, {}, ""});
  ASSERT_TRUE(Sent<Staged>(effects)->offer.has_value());
  EXPECT_EQ(Sent<Staged>(effects)->offer->memory_held, 64u);
  worker.On(CoordinatorMessage(Commit{Key(1)}));
  worker.On(InstallDone{Key(1), OkStatus()});
  worker.On(CoordinatorMessage(Again(worker, Key(2))));
  worker.On(PrepareDone{Key(2), OkStatus(), Digest{1, 2}, {}, ""});
  const MemberEffects again = worker.On(StreamDone{Key(2), OkStatus(), Digest{3, 4}, 1024, {}, ""});
  EXPECT_FALSE(Sent<Staged>(again)->offer.has_value());
}

TEST(MemberMachine, IsOutOfServiceWhileItIsWrittenInPlace) {
  MemberKit worker(Role::kWorker, InstallMode::kInPlace);
  worker.Join();
  const EpochKey key = Key(1);
  worker.ToPrepared(key);
  worker.On(CoordinatorMessage(RendezvousBlob{key, {Found()}}));
  worker.On(GenerationsReady{key, OkStatus()});
  EXPECT_NE(Effect<QuiesceEngine>(worker.On(CoordinatorMessage(Quiesce{key}))), nullptr);
  EXPECT_FALSE(worker.machine.in_service());
  EXPECT_NE(Sent<Quiesced>(worker.On(QuiesceDone{key, OkStatus()})), nullptr);
  worker.On(CoordinatorMessage(Start{key}));
  EXPECT_TRUE(worker.machine.dirty());
  worker.On(StreamDone{key, OkStatus(), Digest{3, 4}, 1024, {}, ""});
  worker.On(CoordinatorMessage(Commit{key}));
  const MemberEffects effects = worker.On(InstallDone{key, OkStatus()});
  ASSERT_NE(Effect<ResumeEngine>(effects), nullptr);
  EXPECT_TRUE(Effect<ResumeEngine>(effects)->committed);
  EXPECT_TRUE(worker.machine.in_service());
}

TEST(MemberMachine, WritesNothingInPlaceBeforeItsEngineIsQuiet) {
  MemberKit worker(Role::kWorker, InstallMode::kInPlace);
  worker.Join();
  worker.ToPrepared(Key(1));
  const MemberEffects effects = worker.On(CoordinatorMessage(Start{Key(1)}));
  EXPECT_EQ(Effect<StartStream>(effects), nullptr);
  EXPECT_NE(Sent<Failed>(effects), nullptr);
  EXPECT_FALSE(worker.machine.dirty());
}

TEST(MemberMachine, ResumesAfterAnAbortBeforeTheFirstByte) {
  MemberKit worker(Role::kWorker, InstallMode::kInPlace);
  worker.Join();
  worker.ToJoined(Key(1));
  EXPECT_NE(Effect<AbortLocal>(worker.Abort(Key(1))), nullptr);
  const MemberEffects effects = worker.On(AbortDone{Key(1)});
  ASSERT_NE(Effect<ResumeEngine>(effects), nullptr);
  EXPECT_FALSE(Effect<ResumeEngine>(effects)->committed);
  EXPECT_FALSE(Sent<AttemptAborted>(effects)->dirty);
  EXPECT_TRUE(worker.machine.in_service());
}

TEST(MemberMachine, StaysOutOfServiceAfterAnAbortInPlaceUntilAGoodEpoch) {
  MemberKit worker(Role::kWorker, InstallMode::kInPlace);
  worker.Join();
  worker.ToStreaming(Key(1));
  worker.Abort(Key(1));
  MemberEffects effects = worker.On(AbortDone{Key(1)});
  EXPECT_EQ(Effect<ResumeEngine>(effects), nullptr);
  EXPECT_TRUE(Sent<AttemptAborted>(effects)->dirty);
  EXPECT_FALSE(worker.machine.in_service());
  worker.ToServing(Key(2));
  EXPECT_TRUE(worker.machine.in_service());
}

// Found by seed 25709: dirty after a failed install, its engine running, a quiesce that was given
// up half-way counted as done and the next epoch wrote under the running engine.
TEST(MemberMachine, AQuiesceThatWasGivenUpIsAskedForAgain) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToStaged(Key(1));
  worker.On(CoordinatorMessage(Commit{Key(1)}));
  worker.On(InstallDone{Key(1), Internal("half copied")});
  worker.contract = SmallContract(InstallMode::kInPlace);
  worker.ToPrepared(Key(2));
  worker.On(CoordinatorMessage(Quiesce{Key(2)}));
  worker.Abort(Key(2));
  worker.On(AbortDone{Key(2)});
  worker.ToPrepared(Key(3));
  const MemberEffects effects = worker.On(CoordinatorMessage(Quiesce{Key(3)}));
  EXPECT_NE(Effect<QuiesceEngine>(effects), nullptr);
  EXPECT_EQ(Sent<Quiesced>(effects), nullptr);
}

TEST(MemberMachine, DoesNotServeMemoryWhoseInstallFailed) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToServing(Key(1));
  worker.ToStaged(Key(2));
  worker.On(CoordinatorMessage(Commit{Key(2)}));
  const MemberEffects effects = worker.On(InstallDone{Key(2), Internal("the copy failed")});
  EXPECT_FALSE(Sent<Installed>(effects)->status.ToStatus().ok());
  EXPECT_EQ(worker.machine.serving(), Key(1).version());
  EXPECT_FALSE(worker.machine.in_service());
  worker.ToServing(Key(3));
  EXPECT_TRUE(worker.machine.in_service());
}

// Found by the storm: the sink had installed it and failed later. It was not told when a catch-up
// with the same version wrote there again, and took the end of that for the end of what it served.
TEST(MemberMachine, AfterAnInstallThatFailedInPlaceTheEngineIsQuiescedAgain) {
  MemberKit worker(Role::kWorker, InstallMode::kInPlace);
  worker.Join();
  worker.ToStaged(Key(1));
  worker.On(CoordinatorMessage(Commit{Key(1)}));
  EXPECT_EQ(Effect<ResumeEngine>(worker.On(InstallDone{Key(1), Internal("not verified")})),
            nullptr);
  worker.ToPrepared(Key(2));
  const MemberEffects effects = worker.On(CoordinatorMessage(Quiesce{Key(2)}));
  EXPECT_NE(Effect<QuiesceEngine>(effects), nullptr);
  EXPECT_EQ(Sent<Quiesced>(effects), nullptr);
  // Once is enough: it is quiet until the next install.
  worker.On(QuiesceDone{Key(2), OkStatus()});
  worker.Abort(Key(2));
  EXPECT_EQ(Effect<ResumeEngine>(worker.On(AbortDone{Key(2)})), nullptr);
  worker.ToPrepared(Key(3));
  const MemberEffects again = worker.On(CoordinatorMessage(Quiesce{Key(3)}));
  EXPECT_EQ(Effect<QuiesceEngine>(again), nullptr);
  EXPECT_NE(Sent<Quiesced>(again), nullptr);
}

TEST(MemberMachine, RefusesAndWaitsForTheAbort) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  for (ManifestPart& part : ManifestParts(*worker.manifest)) {
    worker.On(CoordinatorMessage(std::move(part)));
  }
  worker.On(CoordinatorMessage(
      Propose{Key(1), 5, SyncKind::kFull, std::nullopt, worker.manifest->digest()}));
  worker.On(CoordinatorMessage(Prepare{Key(1), 5, worker.manifest->digest(),
                                       ContractDigest(worker.contract), worker.contract,
                                       Generations(1, false)}));
  const MemberEffects effects =
      worker.On(PrepareDone{Key(1), InvalidArgument("shape differs"), {}, {}, "layer.0"});
  EXPECT_EQ(Sent<Refused>(effects)->row, "layer.0");
  EXPECT_EQ(worker.machine.phase(), MemberPhase::kBroken);
  worker.Abort(Key(1));
  EXPECT_NE(Sent<AttemptAborted>(worker.On(AbortDone{Key(1)})), nullptr);
}

TEST(MemberMachine, IgnoresWhatIsOfAnotherAttempt) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToStaged(Key(2));
  EXPECT_TRUE(worker.On(CoordinatorMessage(Commit{Key(1)})).empty());
  EXPECT_TRUE(worker.On(CoordinatorMessage(Commit{Key(2, 2)})).empty());
  EXPECT_TRUE(worker.On(CoordinatorMessage(Commit{Key(2, 1, Term{1, 8})})).empty());
  EXPECT_TRUE(worker.On(InstallDone{Key(2), OkStatus()}).empty());
  EXPECT_EQ(worker.machine.phase(), MemberPhase::kStaged);
  worker.On(CoordinatorMessage(
      Propose{Key(1), 5, SyncKind::kFull, std::nullopt, worker.manifest->digest()}));
  EXPECT_EQ(worker.machine.phase(), MemberPhase::kStaged);
}

TEST(MemberMachine, CannotBeAbortedOnceItWasDecided) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToStaged(Key(1));
  worker.On(CoordinatorMessage(Commit{Key(1)}));
  EXPECT_TRUE(worker.Abort(Key(1)).empty());
  worker.On(InstallDone{Key(1), OkStatus()});
  EXPECT_EQ(worker.machine.serving(), Key(1).version());
}

TEST(MemberMachine, KeepsTheOldVersionWhenTheCoordinatorIsLostInMidEpoch) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToServing(Key(1));
  worker.ToStaged(Key(2));
  EXPECT_NE(Effect<AbortLocal>(worker.On(CoordinatorLost{"reset"})), nullptr);
  worker.On(CoordinatorUp{});
  const MemberEffects effects = worker.On(AbortDone{Key(2)});
  EXPECT_EQ(Sent<AttemptAborted>(effects), nullptr);  // nobody asks any more
  ASSERT_NE(Sent<JoinCluster>(effects), nullptr);     // now that it is idle
  EXPECT_EQ(Sent<JoinCluster>(effects)->serving, Key(1).version());
  EXPECT_TRUE(worker.machine.in_service());
}

TEST(MemberMachine, RefusesATermBelowItsPromiseAndARivalOfTheSameCounter) {
  MemberKit worker(Role::kWorker);
  worker.On(CoordinatorUp{});
  worker.On(CoordinatorMessage(Welcome{"default", Term{4, 7}}));
  worker.On(CoordinatorLost{"restarted"});
  EXPECT_EQ(Sent<JoinCluster>(worker.On(CoordinatorUp{}))->promised, (Term{4, 7}));
  worker.On(CoordinatorMessage(Welcome{"default", Term{3, 9}}));
  EXPECT_FALSE(worker.machine.joined());
  worker.On(CoordinatorMessage(Welcome{"default", Term{4, 9}}));
  EXPECT_FALSE(worker.machine.joined());
  worker.On(CoordinatorMessage(Welcome{"default", Term{5, 9}}));
  EXPECT_TRUE(worker.machine.joined());
}

TEST(MemberMachine, JoinsAgainWhenItIsExpelled) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToStreaming(Key(1));
  const Expelled expelled{"default", WireStatus::From(DeadlineExceeded("silent")), true};
  EXPECT_NE(Effect<AbortLocal>(worker.On(CoordinatorMessage(expelled))), nullptr);
  EXPECT_NE(Sent<JoinCluster>(worker.On(AbortDone{Key(1)})), nullptr);
}

// An Expelled crossed the join, so it joined twice; what came between the two welcomes is of a
// membership that is over.
TEST(MemberMachine, ASecondWelcomeVoidsWhatCameBeforeIt) {
  MemberKit worker(Role::kWorker);
  worker.On(CoordinatorUp{});
  const Expelled expelled{"default", WireStatus::From(Unavailable("not reachable")), true};
  EXPECT_NE(Sent<JoinCluster>(worker.On(CoordinatorMessage(expelled))), nullptr);
  worker.On(CoordinatorMessage(Welcome{"default", Term{1, 7}}));
  worker.On(CoordinatorMessage(
      Propose{Key(1), 5, SyncKind::kFull, std::nullopt, worker.manifest->digest()}));
  EXPECT_EQ(worker.machine.phase(), MemberPhase::kProposed);
  worker.On(CoordinatorMessage(Welcome{"default", Term{1, 7}}));
  EXPECT_EQ(worker.machine.phase(), MemberPhase::kIdle);
}

TEST(MemberMachine, TakesPartInNothingOnceItsAbortIsWedged) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToStreaming(Key(1));
  worker.Abort(Key(1));
  const MemberEffects effects = worker.On(AbortDone{Key(1), AbortOutcome::kWedged});
  EXPECT_EQ(Sent<AttemptAborted>(effects)->outcome, AbortOutcome::kWedged);
  ASSERT_NE(Effect<StopMember>(effects), nullptr);
  EXPECT_EQ(Effect<StopMember>(effects)->status.code(), StatusCode::kInternal);
  EXPECT_TRUE(worker.On(CoordinatorLost{"reset"}).empty());
  EXPECT_TRUE(worker.On(CoordinatorUp{}).empty());
}

// Whoever runs the process tells the two apart.
TEST(MemberMachine, ARefusalIsAnErrorAndAShutdownIsNot) {
  MemberKit refused(Role::kWorker);
  refused.Join();
  const WireStatus taken = WireStatus::From(AlreadyExists("rank 0 is taken"));
  MemberEffects effects = refused.On(CoordinatorMessage(Expelled{"default", taken, false}));
  ASSERT_NE(Effect<StopMember>(effects), nullptr);
  EXPECT_EQ(Effect<StopMember>(effects)->status, AlreadyExists("rank 0 is taken"));

  MemberKit nameless(Role::kWorker);
  nameless.Join();
  effects = nameless.On(CoordinatorMessage(Expelled{"default", {}, false}));
  ASSERT_NE(Effect<StopMember>(effects), nullptr);
  EXPECT_FALSE(Effect<StopMember>(effects)->status.ok());

  MemberKit ended(Role::kWorker);
  ended.Join();
  effects = ended.On(CoordinatorMessage(Shutdown{"the day is over"}));
  ASSERT_NE(Effect<StopMember>(effects), nullptr);
  EXPECT_EQ(Effect<StopMember>(effects)->status, Cancelled("the day is over"));
}

TEST(MemberMachine, AnswersTheAbortOfAnEpochThatItHadNotBegun) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToStreaming(Key(1));
  worker.Abort(Key(1));
  worker.On(CoordinatorMessage(
      Propose{Key(2), 6, SyncKind::kFull, std::nullopt, worker.manifest->digest()}));
  const MemberEffects effects = worker.Abort(Key(2));
  ASSERT_NE(Sent<AttemptAborted>(effects), nullptr);
  EXPECT_EQ(Sent<AttemptAborted>(effects)->key, Key(2));
}

TEST(MemberMachine, ANewSessionWithoutALossEndsTheAttemptToo) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToStreaming(Key(1));
  EXPECT_NE(Effect<AbortLocal>(worker.On(CoordinatorUp{})), nullptr);
  EXPECT_NE(Sent<JoinCluster>(worker.On(AbortDone{Key(1)})), nullptr);
}

// A second attempt comes after the proposal, in its session. What is still on its way from an
// earlier one finds a member that nobody counts in.
TEST(MemberMachine, ARetryOfAnEarlierSessionIsNotFollowed) {
  for (const bool lost : {false, true}) {
    MemberKit worker(Role::kWorker);
    worker.Join();
    worker.ToStreaming(Key(1));
    worker.Abort(Key(1));
    worker.On(AbortDone{Key(1)});
    if (lost) {
      worker.On(CoordinatorLost{"reset"});
      worker.Join();
    }
    ASSERT_TRUE(worker.machine.joined());
    const MemberEffects effects = worker.On(CoordinatorMessage(
        Prepare{Key(1, 2), 5, worker.manifest->digest(), ContractDigest(worker.contract),
                worker.contract, Generations(2)}));
    EXPECT_EQ(Effect<PrepareAttempt>(effects) == nullptr, lost);
  }
}

// Another member is not at fault for what it has said before.
TEST(MemberMachine, WaitsForAPeerThatIsBusy) {
  MemberKit worker(Role::kWorker);
  worker.Join();
  worker.ToStreaming(Key(1));
  const auto told = [&](const EpochKey& key, uint64_t ms) {
    return worker.On(CoordinatorMessage(PeerBusy{key, "trainer-0", ms, "it compiles"}));
  };
  const MemberEffects effects = told(Key(1), 2000);
  ASSERT_NE(Effect<WaitForPeer>(effects), nullptr);
  EXPECT_EQ(Effect<WaitForPeer>(effects)->member, "trainer-0");
  EXPECT_EQ(Effect<WaitForPeer>(effects)->time, Seconds(2));
  EXPECT_EQ(worker.machine.phase(), MemberPhase::kStreaming);
  EXPECT_EQ(Effect<WaitForPeer>(told(Key(1), 0))->time, Seconds(0));
  EXPECT_EQ(Effect<WaitForPeer>(told(Key(1), UINT64_MAX))->time, limits::kBusyTime);
  EXPECT_TRUE(told(Key(1, 2), 2000).empty());  // S6: another attempt's
  EXPECT_TRUE(told(Key(2), 2000).empty());
}

}  // namespace
}  // namespace packcast
