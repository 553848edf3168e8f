// What the coordinator keeps of offers and contracts from epoch to epoch, and when it asks anew.
#include "gtest/gtest.h"

#include "actors/coordinator_machine.h"
#include "tests/actors/coordinator_kit.h"

namespace packcast {
namespace {

class CoordinatorOffersTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(c.invariants, OkStatus()); }

  void Assemble(uint32_t workers = 2) {
    trainer = c.JoinTrainer();
    for (uint32_t k = 0; k < workers; ++k) worker.push_back(c.JoinWorker(k));
  }

  CoordinatorKit c;
  MemberId trainer;
  std::vector<MemberId> worker;
};

TEST_F(CoordinatorOffersTest, TheSecondEpochNeedsNoContractNoRowsAndNoRendezvous) {
  Assemble();
  c.Sync(trainer, 5);
  c.AnswerAll();
  const GenerationId generation = c.To<Prepare>("worker-0")->generation;
  c.Forget();
  c.Sync(trainer, 6);
  // One question instead of two: who holds all that it names is prepared at once.
  const auto* propose = c.To<Propose>("worker-0");
  ASSERT_NE(propose, nullptr);
  EXPECT_TRUE(propose->contract_digest.has_value());
  EXPECT_EQ(propose->generation, generation);
  c.Answer();
  EXPECT_EQ(c.phase(), EpochPhase::kStreaming);
  EXPECT_EQ(c.To<Prepare>("worker-0"), nullptr);
  EXPECT_EQ(c.To<ManifestPart>("worker-0"), nullptr);
  c.AnswerAll();
  EXPECT_EQ(c.machine.last_committed()->epoch, EpochId(2));
}

TEST_F(CoordinatorOffersTest, AnOfferThatChangesNothingInTheContractLeavesItSettled) {
  Assemble();
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  Offer offer = SmallOffer(Role::kWorker);
  offer.memory_held = uint64_t{64} << 30;
  c.From(worker[0], Staged{c.key(), Digest{3, 4}, 1024, {}, offer});
  c.AnswerAll();
  c.Forget();
  c.Sync(trainer, 6);
  EXPECT_TRUE(c.To<Propose>("worker-0")->contract_digest.has_value());
}

TEST_F(CoordinatorOffersTest, AnOfferThatChangesTheContractMakesANewOne) {
  Assemble();
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  Offer offer = SmallOffer(Role::kWorker);
  offer.buffer_bytes_max = 512;
  c.From(worker[0], Staged{c.key(), Digest{3, 4}, 1024, {}, offer});
  c.AnswerAll();
  c.Forget();
  c.Sync(trainer, 6);
  EXPECT_FALSE(c.To<Propose>("worker-0")->contract_digest.has_value());
  c.AnswerAll();
  EXPECT_EQ(c.machine.last_committed()->epoch, EpochId(2));
}

// It lost its communicator, say, and the coordinator does not know yet.
TEST_F(CoordinatorOffersTest, WhoCannotGoAheadIsAskedAnew) {
  Assemble();
  c.Sync(trainer, 5);
  c.AnswerAll();
  c.Sync(trainer, 6);
  c.From(trainer, Prepared{c.key(), Digest{1, 2}, "", {}});
  c.From(worker[0], OfferReply{c.key(), SmallOffer(Role::kWorker)});
  EXPECT_EQ(c.phase(), EpochPhase::kOffers);
  c.From(worker[1], Prepared{c.key(), Digest{1, 2}, "", {}});
  EXPECT_EQ(c.phase(), EpochPhase::kAborting);
  c.AnswerAll();
  EXPECT_EQ(c.machine.last_committed()->epoch, EpochId(3));
}

TEST_F(CoordinatorOffersTest, LimitsThatComeWhileAnEpochRunsHoldForTheNext) {
  Assemble();
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  c.On(ControlCall{1, "limits", ValueMap{{"buffer_bytes", 512}}});
  c.AnswerAll();
  c.Forget();
  c.Sync(trainer, 6);
  EXPECT_FALSE(c.To<Propose>("worker-0")->contract_digest.has_value());
  c.Answer();
  EXPECT_EQ(c.To<Prepare>("worker-0")->contract->buffer_bytes, 512u);
}

// Its member takes it for told.
TEST_F(CoordinatorOffersTest, AnOfferOfAnAttemptThatWasGivenUpCountsAllTheSame) {
  Assemble();
  c.Sync(trainer, 5);
  c.AnswerUntil(EpochPhase::kStreaming);
  c.From(worker[1], Failed{c.key(), "transfer", WireStatus::From(Unavailable("a test")), ""});
  EXPECT_EQ(c.phase(), EpochPhase::kAborting);
  Offer offer = SmallOffer(Role::kWorker);
  offer.buffer_bytes_max = 512;
  c.From(worker[0], Staged{c.key(), Digest{3, 4}, 1024, {}, offer});
  c.AnswerAll();
  EXPECT_EQ(c.machine.last_committed()->epoch, EpochId(1));
  c.Forget();
  c.Sync(trainer, 6);
  EXPECT_FALSE(c.To<Propose>("worker-0")->contract_digest.has_value());
}

TEST_F(CoordinatorOffersTest, WhoIsLostWhileOffersAreAskedAnewIsBlamed) {
  Assemble(1);
  c.Sync(trainer, 5);
  c.AnswerAll();
  c.Sync(trainer, 6);
  c.From(trainer, Prepared{c.key(), Digest{1, 2}, "", {}});
  c.From(worker[0], OfferReply{c.key(), SmallOffer(Role::kWorker)});
  EXPECT_EQ(c.phase(), EpochPhase::kAborting);
  c.On(MemberLost{worker[0], PeerDied("killed")});
  c.Answer();
  EXPECT_FALSE(c.runs());
  const Value report = *c.Events("epoch.end").back().Find("report");
  EXPECT_EQ(*report.Find("culprit")->AsString(), "worker-0");
}

// Who cannot use it finds that out there, and does not offer it again.
TEST_F(CoordinatorOffersTest, ATransportThatDoesNotComeUpIsNotTakenAgain) {
  Assemble(1);
  c.Sync(trainer, 5);
  Offer both = SmallOffer(Role::kTrainer);
  both.transports.insert(both.transports.begin(), {.kind = "peer"});
  Offer before = SmallOffer(Role::kWorker);
  before.transports = both.transports;
  c.From(trainer, OfferReply{c.key(), both});
  c.From(worker[0], OfferReply{c.key(), before});
  EXPECT_EQ(c.To<Prepare>("worker-0")->contract->flows.front().transport, "peer");
  c.AnswerUntil(EpochPhase::kJoining);
  c.From(worker[0], Failed{c.key(), "rendezvous",
                           WireStatus::From(Unavailable("it cannot read the root's memory")), ""});
  c.Answer();
  ASSERT_EQ(c.phase(), EpochPhase::kOffers);
  c.From(trainer, OfferReply{c.key(), both});
  c.From(worker[0], OfferReply{c.key(), SmallOffer(Role::kWorker)});
  EXPECT_EQ(c.To<Prepare>("worker-0")->contract->flows.front().transport, "zmq");
  EXPECT_NE(c.To<ManifestPart>("worker-0"), nullptr);
  c.AnswerAll();
  EXPECT_EQ(c.To<SyncDone>("trainer-0")->status.ToStatus(), OkStatus());
}

}  // namespace
}  // namespace packcast
