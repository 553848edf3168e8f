// A worker's part in a catch-up, on both sides.
#include "gtest/gtest.h"

#include "tests/actors/machine_kit.h"

namespace packcast {
namespace {

// worker-1 sends, worker-0 receives.
Contract CatchUpContract(InstallMode install) {
  Contract contract = SmallContract(install);
  contract.flows.front().members.front() = {Id("worker-1"), Role::kTrainer, "replica-1"};
  return contract;
}

class MemberCatchUpTest : public testing::Test {
 protected:
  // What `kit` is asked in a catch-up with `base` until it is prepared.
  MemberEffects ToPrepared(MemberKit* kit, const EpochKey& key, const Version& base) {
    for (ManifestPart& part : ManifestParts(*kit->manifest)) {
      kit->On(CoordinatorMessage(std::move(part)));
    }
    kit->On(CoordinatorMessage(
        Propose{key, 5, SyncKind::kCatchUp, base, kit->manifest->digest(), {}, {}}));
    const Contract contract = CatchUpContract(kit->contract.install);
    return kit->On(CoordinatorMessage(Prepare{key, 5, kit->manifest->digest(),
                                              ContractDigest(contract), contract, Generations(8)}));
  }
  void ToJoined(MemberKit* kit, const EpochKey& key, const Version& base) {
    ToPrepared(kit, key, base);
    kit->On(PrepareDone{key, OkStatus(), Digest{1, 2}, {}, "", true});
    kit->On(CoordinatorMessage(RendezvousBlob{key, {Found()}}));
    kit->On(GenerationsReady{key, OkStatus()});
  }
  static MemberKit Provider(InstallMode install = InstallMode::kStaged) {
    MemberKit kit(Role::kWorker, install);
    kit.machine = MemberMachine(MemberKit::Config(Role::kWorker, 1, 2));
    kit.contract.flows.front().members.back().member = Id("worker-1");
    kit.Join();
    kit.ToServing(Key(1));
    return kit;
  }
};

TEST_F(MemberCatchUpTest, WhoReceivesServesTheVersionThatItWasBrought) {
  MemberKit kit(Role::kWorker);
  kit.Join();
  ToJoined(&kit, Key(6), Key(4).version());
  kit.On(CoordinatorMessage(Start{Key(6)}));
  kit.On(StreamDone{Key(6), OkStatus(), Digest{3, 4}, 1024, {}, ""});
  ASSERT_NE(Effect<InstallVersion>(kit.On(CoordinatorMessage(Commit{Key(6)}))), nullptr);
  kit.On(InstallDone{Key(6), OkStatus()});
  EXPECT_EQ(kit.machine.serving(), Key(4).version());
  EXPECT_TRUE(kit.machine.in_service());
  EXPECT_TRUE(kit.invariants.ok()) << kit.invariants.ToString();
  // And says so when it joins again, with what is known of it.
  kit.On(CoordinatorLost{"a test"});
  const MemberEffects effects = kit.On(CoordinatorUp{});
  const auto* join = Sent<JoinCluster>(effects);
  ASSERT_NE(join, nullptr);
  EXPECT_EQ(join->serving, Key(4).version());
  ASSERT_TRUE(join->weights.has_value());
  EXPECT_EQ(join->weights->manifest_digest, kit.manifest->digest());
  EXPECT_EQ(join->weights->content_digest, (Digest{3, 4}));
  EXPECT_EQ(join->weights->label, 5u);
}

// Whoever says that it serves such a version does not bring it to others, which could take no newer
// one any more.
TEST_F(MemberCatchUpTest, AVersionThatIsNewerThanTheCatchUpIsRefused) {
  MemberKit kit(Role::kWorker);
  kit.Join();
  const Version future{Term{3, 0}, EpochId(1)};
  const MemberEffects effects = kit.On(CoordinatorMessage(
      Propose{Key(6), 5, SyncKind::kCatchUp, future, kit.manifest->digest(), {}, {}}));
  const auto* refused = Sent<Refused>(effects);
  ASSERT_NE(refused, nullptr);
  EXPECT_EQ(refused->status.ToStatus().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(refused->status.message.find("3.1"), std::string::npos) << refused->status.message;
  EXPECT_TRUE(kit.invariants.ok()) << kit.invariants.ToString();
}

TEST_F(MemberCatchUpTest, WhoSendsServesOnAndInstallsNothing) {
  MemberKit kit = Provider(InstallMode::kInPlace);
  const MemberEffects prepared = ToPrepared(&kit, Key(6), Key(1).version());
  const auto* prepare = Effect<PrepareAttempt>(prepared);
  ASSERT_NE(prepare, nullptr);
  EXPECT_TRUE(prepare->sends);
  EXPECT_EQ(prepare->version, Key(1).version());
  kit.On(PrepareDone{Key(6), OkStatus(), Digest{1, 2}, {Found()}, ""});
  kit.On(CoordinatorMessage(RendezvousBlob{Key(6), {Found()}}));
  kit.On(GenerationsReady{Key(6), OkStatus()});
  ASSERT_NE(Effect<StartStream>(kit.On(CoordinatorMessage(Start{Key(6)}))), nullptr)
      << "in place, and it is not quiesced";
  EXPECT_TRUE(kit.machine.in_service());
  kit.On(StreamDone{Key(6), OkStatus(), Digest{3, 4}, 1024, {}, ""});
  EXPECT_EQ(kit.machine.phase(), MemberPhase::kStreamed);
  const MemberEffects committed = kit.On(CoordinatorMessage(Commit{Key(6)}));
  EXPECT_EQ(Effect<InstallVersion>(committed), nullptr);
  EXPECT_NE(Effect<SourceFree>(committed), nullptr);
  EXPECT_EQ(kit.machine.serving(), Key(1).version());
  EXPECT_EQ(kit.machine.install_count(), 1u);
  EXPECT_TRUE(kit.machine.in_service());
  EXPECT_EQ(kit.machine.phase(), MemberPhase::kIdle);
}

TEST_F(MemberCatchUpTest, WhoSendsGivesUpWithoutAWordAboutGroups) {
  MemberKit kit = Provider();
  ToPrepared(&kit, Key(6), Key(1).version());
  kit.On(PrepareDone{Key(6), OkStatus(), Digest{1, 2}, {Found()}, ""});
  kit.On(CoordinatorMessage(RendezvousBlob{Key(6), {Found()}}));
  kit.On(GenerationsReady{Key(6), OkStatus()});
  kit.On(CoordinatorMessage(Start{Key(6)}));
  const MemberEffects effects = kit.Abort(Key(6));
  EXPECT_EQ(Effect<HaltSource>(effects), nullptr);
  EXPECT_NE(Effect<AbortLocal>(effects), nullptr);
  EXPECT_NE(Sent<AttemptAborted>(kit.On(AbortDone{Key(6), AbortOutcome::kClean})), nullptr);
  EXPECT_TRUE(kit.machine.in_service());
  EXPECT_EQ(kit.machine.serving(), Key(1).version());
}

TEST_F(MemberCatchUpTest, DecidedBeforeItsOwnStreamEnds) {
  MemberKit kit = Provider();
  ToPrepared(&kit, Key(6), Key(1).version());
  kit.On(PrepareDone{Key(6), OkStatus(), Digest{1, 2}, {Found()}, ""});
  kit.On(CoordinatorMessage(RendezvousBlob{Key(6), {Found()}}));
  kit.On(GenerationsReady{Key(6), OkStatus()});
  kit.On(CoordinatorMessage(Start{Key(6)}));
  EXPECT_EQ(Effect<InstallVersion>(kit.On(CoordinatorMessage(Commit{Key(6)}))), nullptr);
  const MemberEffects done = kit.On(StreamDone{Key(6), OkStatus(), Digest{3, 4}, 9, {}, ""});
  EXPECT_NE(Effect<SourceFree>(done), nullptr);
  EXPECT_EQ(kit.machine.phase(), MemberPhase::kIdle);
}

TEST_F(MemberCatchUpTest, ASyncIsAnsweredAsSoonAsItIsGivenUp) {
  MemberKit kit = Provider();
  ToJoined(&kit, Key(6), Key(1).version());
  kit.On(CoordinatorMessage(Start{Key(6)}));
  kit.Abort(Key(6));
  kit.On(CoordinatorMessage(
      Propose{Key(7), 6, SyncKind::kFull, std::nullopt, kit.manifest->digest()}));
  const MemberEffects effects = kit.On(AbortDone{Key(6), AbortOutcome::kClean});
  ASSERT_NE(Sent<OfferReply>(effects), nullptr);
  EXPECT_EQ(Sent<OfferReply>(effects)->key, Key(7));
}

TEST_F(MemberCatchUpTest, WhatCannotBeRightIsRefused) {
  {  // it serves a newer one
    MemberKit kit(Role::kWorker);
    kit.Join();
    kit.ToServing(Key(4));
    const MemberEffects effects = kit.On(CoordinatorMessage(
        Propose{Key(6), 5, SyncKind::kCatchUp, Key(3).version(), kit.manifest->digest()}));
    EXPECT_NE(Sent<Refused>(effects), nullptr);
  }
  {  // it serves that one, and is not the one who sends
    MemberKit kit(Role::kWorker);
    kit.Join();
    kit.ToServing(Key(4));
    EXPECT_NE(Sent<Refused>(ToPrepared(&kit, Key(6), Key(4).version())), nullptr);
  }
  {  // it is to send what it does not have
    MemberKit kit = Provider();
    EXPECT_NE(Sent<Refused>(ToPrepared(&kit, Key(6), Key(4).version())), nullptr);
  }
  {  // no version, or a trainer
    for (const Role role : {Role::kTrainer, Role::kWorker}) {
      MemberKit kit(role);
      kit.Join();
      std::optional<Version> base;
      if (role == Role::kTrainer) base = Key(1).version();
      const MemberEffects effects = kit.On(
          CoordinatorMessage(Propose{Key(6), 5, SyncKind::kCatchUp, base, kit.manifest->digest()}));
      EXPECT_NE(Sent<Refused>(effects), nullptr);
    }
  }
}

TEST_F(MemberCatchUpTest, ADirtyRankMayGetAgainWhatItServed) {
  MemberKit kit(Role::kWorker, InstallMode::kInPlace);
  kit.Join();
  kit.ToServing(Key(4));
  kit.ToStreaming(Key(5));
  kit.Abort(Key(5));
  kit.On(AbortDone{Key(5), AbortOutcome::kClean});
  ASSERT_TRUE(kit.machine.dirty());
  kit.On(CoordinatorLost{"a test"});
  const MemberEffects effects = kit.On(CoordinatorUp{});
  EXPECT_FALSE(Sent<JoinCluster>(effects)->weights.has_value());
  kit.On(CoordinatorMessage(Welcome{"default", Term{1, 7}}));
  ToJoined(&kit, Key(6), Key(4).version());
  EXPECT_NE(Sent<Quiesced>(kit.On(CoordinatorMessage(Quiesce{Key(6)}))), nullptr);
  kit.On(CoordinatorMessage(Start{Key(6)}));
  kit.On(StreamDone{Key(6), OkStatus(), Digest{3, 4}, 1024, {}, ""});
  kit.On(CoordinatorMessage(Commit{Key(6)}));
  EXPECT_NE(Effect<ResumeEngine>(kit.On(InstallDone{Key(6), OkStatus()})), nullptr);
  EXPECT_EQ(kit.machine.serving(), Key(4).version());
  EXPECT_TRUE(kit.machine.in_service());
}

TEST_F(MemberCatchUpTest, ItsRowsAreThereForACoordinatorThatAsks) {
  MemberKit kit = Provider();
  const auto ask = [&](const Digest& digest) {
    return kit.On(CoordinatorMessage(ManifestWanted{"default", digest}));
  };
  EXPECT_NE(Sent<ManifestPart>(ask(kit.manifest->digest())), nullptr);
  EXPECT_EQ(Sent<ManifestPart>(ask(Digest{1, 1})), nullptr);
}

TEST_F(MemberCatchUpTest, WhetherItCanServeIsToldWithStagedOnceItIsNews) {
  MemberKit kit(Role::kWorker);
  MemberConfig config = MemberKit::Config(Role::kWorker);
  config.offer.can_serve = true;  // as its sink says; its binding of this manifest cannot
  kit.machine = MemberMachine(config);
  kit.Join();
  const MemberEffects staged = kit.ToStaged(Key(1));
  ASSERT_TRUE(Sent<Staged>(staged)->offer.has_value());
  EXPECT_FALSE(Sent<Staged>(staged)->offer->can_serve);
  kit.On(CoordinatorMessage(Commit{Key(1)}));
  kit.On(InstallDone{Key(1), OkStatus()});
  EXPECT_FALSE(Sent<Staged>(kit.ToStaged(Key(2)))->offer.has_value());
}

}  // namespace
}  // namespace packcast
