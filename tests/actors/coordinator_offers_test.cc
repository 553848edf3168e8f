// What the coordinator keeps of offers and contracts from epoch to epoch, and when it asks anew.
#include "gtest/gtest.h"

#include "actors/coordinator_machine.h"
#include "protocol/codec.h"
#include "protocol/frame.h"
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
  const GenerationId generation = c.To<Prepare>("worker-0")->generations.front().id;
  c.Forget();
  c.Sync(trainer, 6);
  // One question instead of two: who holds all that it names is prepared at once.
  const auto* propose = c.To<Propose>("worker-0");
  ASSERT_NE(propose, nullptr);
  EXPECT_TRUE(propose->contract_digest.has_value());
  EXPECT_EQ(propose->generations, std::vector<GenerationId>{generation});
  c.Answer();
  EXPECT_EQ(c.phase(), EpochPhase::kStreaming);
  EXPECT_EQ(c.To<Prepare>("worker-0"), nullptr);
  EXPECT_EQ(c.To<ManifestPart>("worker-0"), nullptr);
  c.AnswerAll();
  EXPECT_EQ(c.machine.last_committed()->epoch, EpochId(2));
}

TEST_F(CoordinatorOffersTest, WhoIsThroughBeforeAllArePreparedIsNotAskedAgain) {
  Assemble();
  c.Sync(trainer, 5);
  c.AnswerAll();
  c.Forget();
  c.Sync(trainer, 6);
  const EpochKey key = c.key();
  const Staged staged{key, Digest{3, 4}, 1024, {}, std::nullopt};
  c.From(worker[0], staged);  // before it is prepared: made up
  EXPECT_FALSE(c.machine.epoch()->FindName("worker-0")->staged);
  c.From(trainer, Prepared{key, Digest{1, 2}, {}});
  c.From(worker[0], Prepared{key, Digest{1, 2}, {}});
  c.From(worker[0], staged);
  c.From(trainer, staged);
  EXPECT_EQ(c.phase(), EpochPhase::kOffers);
  c.From(worker[1], Prepared{key, Digest{1, 2}, {}});
  ASSERT_EQ(c.phase(), EpochPhase::kStreaming);
  EXPECT_EQ(c.To<Start>("trainer-0"), nullptr) << "all have begun by themselves";
  EXPECT_EQ(c.To<Start>("worker-1"), nullptr);
  c.From(worker[1], staged);
  EXPECT_EQ(c.phase(), EpochPhase::kCommitting);
  c.AnswerAll();
  EXPECT_EQ(c.machine.last_committed()->epoch, EpochId(2));
}

TEST_F(CoordinatorOffersTest, AllMayBeThroughWhenTheLastIsPrepared) {
  Assemble(1);
  c.Sync(trainer, 5);
  c.AnswerAll();
  c.Sync(trainer, 6);
  const Staged staged{c.key(), Digest{3, 4}, 1024, {}, std::nullopt};
  c.From(worker[0], Prepared{c.key(), Digest{1, 2}, {}});
  c.From(worker[0], staged);
  c.From(trainer, Prepared{c.key(), Digest{1, 2}, {}});
  EXPECT_EQ(c.phase(), EpochPhase::kCommitting);
  c.AnswerAll();
  EXPECT_EQ(c.machine.last_committed()->epoch, EpochId(2));
}

TEST_F(CoordinatorOffersTest, RanksOfATrainerBeginTogether) {
  trainer = c.JoinTrainer(0, 2);
  const MemberId other = c.JoinTrainer(1, 2);
  worker.push_back(c.JoinWorker(0));
  for (uint64_t label = 5; label <= 6; ++label) {
    c.Sync(trainer, label);
    c.Sync(other, label);
    c.Forget();
    c.AnswerUntil(EpochPhase::kStreaming);
    EXPECT_NE(c.To<Start>("trainer-0"), nullptr);
    EXPECT_NE(c.To<Start>("trainer-1"), nullptr);
    EXPECT_EQ(c.To<Start>("worker-0") == nullptr, label == 6);
    c.AnswerAll();
  }
}

// A message to or from a worker as it travels, envelope included.
template <class Message>
size_t BytesOf(const Message& message) {
  constexpr Incarnation kLife(0x1234567890abcdef);  // real ones have nine bytes
  Envelope envelope;
  envelope.from = {"coordinator", kLife};
  envelope.to = {"worker-0", kLife};
  envelope.method = std::string(MessageName(message));
  return EncodeEnvelope(envelope).size() + Encode(MessageBody(message)).size();
}

TEST_F(CoordinatorOffersTest, ASettledEpochCostsAWorkerLessThanAKibibyteOfControl) {
  CoordinatorConfig config = CoordinatorKit::Config(InstallMode::kStaged);
  config.term.nonce = 0x1234567890abcdef;
  c.machine = CoordinatorMachine(config);
  Assemble(1);
  c.Sync(trainer, 5);
  c.AnswerAll();
  c.Forget();
  c.Sync(trainer, 6);
  const EpochKey key = c.key();
  c.AnswerAll();
  size_t bytes = 0;
  for (const CoordinatorMessage& message : c.sent["worker-0"]) bytes += BytesOf(message);
  EXPECT_EQ(c.sent["worker-0"].size(), 2u) << "propose and commit";
  const std::vector<Phase> phases = {{"receive", 0.1}, {"unpack", 0.2}, {"hash", 0.3}};
  const Digest digest{0x1234567890abcdef, 0x1234567890abcdef};
  bytes += BytesOf(MemberMessage(Prepared{key, digest, {}}));
  bytes += BytesOf(MemberMessage(Staged{key, digest, uint64_t{1} << 34, phases, std::nullopt}));
  bytes += BytesOf(MemberMessage(Installed{key, {}, digest, 0.1, 2}));
  EXPECT_LE(bytes, 1024u);
  RecordProperty("bytes", static_cast<int>(bytes));
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
  c.From(trainer, Prepared{c.key(), Digest{1, 2}, {}});
  c.From(worker[0], OfferReply{c.key(), SmallOffer(Role::kWorker)});
  EXPECT_EQ(c.phase(), EpochPhase::kOffers);
  c.From(worker[1], Prepared{c.key(), Digest{1, 2}, {}});
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
  c.Forget();
  c.AnswerAll();
  EXPECT_EQ(c.machine.last_committed()->epoch, EpochId(1));
  // The next attempt keeps to it, so the next epoch can go ahead.
  EXPECT_EQ(c.To<Prepare>("worker-0")->contract->buffer_bytes, 512u);
  c.Forget();
  c.Sync(trainer, 6);
  EXPECT_TRUE(c.To<Propose>("worker-0")->contract_digest.has_value());
}

TEST_F(CoordinatorOffersTest, WhoIsLostWhileOffersAreAskedAnewIsBlamed) {
  Assemble(1);
  c.Sync(trainer, 5);
  c.AnswerAll();
  c.Sync(trainer, 6);
  c.From(trainer, Prepared{c.key(), Digest{1, 2}, {}});
  c.From(worker[0], OfferReply{c.key(), SmallOffer(Role::kWorker)});
  EXPECT_EQ(c.phase(), EpochPhase::kAborting);
  c.On(MemberLost{worker[0], PeerDied("killed")});
  c.Answer();
  EXPECT_FALSE(c.runs());
  const Value report = *c.Events("epoch.end").back().Find("report");
  EXPECT_EQ(*report.Find("culprit")->AsString(), "worker-0");
}

// Workers 0 and 1 share memory with the trainer, worker 2 does not.
class CoordinatorFlowsTest : public CoordinatorOffersTest {
 protected:
  void ToPreparing() {
    Assemble(3);
    c.Sync(trainer, 5);
    Offer both = SmallOffer(Role::kWorker);
    both.transports.insert(both.transports.begin(), {.kind = "shm"});
    for (const MemberId& member : {trainer, worker[0], worker[1]}) {
      c.From(member, OfferReply{c.key(), both});
    }
    c.From(worker[2], OfferReply{c.key(), SmallOffer(Role::kWorker)});
    ASSERT_EQ(c.phase(), EpochPhase::kPreparing);
  }
  std::vector<FlowGeneration> GenerationsOf(const std::string& member) {
    return c.To<Prepare>(member)->generations;
  }
};

TEST_F(CoordinatorFlowsTest, EachMemberIsToldTheRendezvousOfItsOwnFlows) {
  ToPreparing();
  ASSERT_EQ(c.To<Prepare>("worker-0")->contract->flows.size(), 2u);
  c.Answer();
  ASSERT_EQ(c.phase(), EpochPhase::kJoining);
  const auto flows = [&](const std::string& member) {
    std::vector<uint64_t> ids;
    for (const FlowRendezvous& flow : c.To<RendezvousBlob>(member)->flows) {
      ids.push_back(flow.flow.value);
    }
    return ids;
  };
  EXPECT_EQ(flows("trainer-0"), (std::vector<uint64_t>{0, 1}));
  EXPECT_EQ(flows("worker-0"), (std::vector<uint64_t>{0}));
  EXPECT_EQ(flows("worker-2"), (std::vector<uint64_t>{1}));
  c.AnswerAll();
  EXPECT_EQ(c.machine.last_committed()->epoch, EpochId(1));
}

TEST_F(CoordinatorFlowsTest, AFlowWhoseMembersStayKeepsItsGeneration) {
  ToPreparing();
  c.AnswerAll();
  const std::vector<FlowGeneration> before = GenerationsOf("trainer-0");
  c.On(MemberLost{worker[2], Cancelled("left")});
  c.Forget();
  c.Sync(trainer, 6);
  Offer both = SmallOffer(Role::kWorker);
  both.transports.insert(both.transports.begin(), {.kind = "shm"});
  for (const MemberId& member : {trainer, worker[0], worker[1]}) {
    c.From(member, OfferReply{c.key(), both});
  }
  ASSERT_EQ(GenerationsOf("trainer-0").size(), 1u);
  EXPECT_EQ(GenerationsOf("trainer-0").front().id, before.front().id);
  EXPECT_TRUE(GenerationsOf("trainer-0").front().reuse);
  c.Answer();
  EXPECT_EQ(c.phase(), EpochPhase::kStreaming) << "nobody joins anything";
}

TEST_F(CoordinatorFlowsTest, AnAbortRetiresTheGenerationsOfAllFlows) {
  ToPreparing();
  c.AnswerUntil(EpochPhase::kStreaming);
  const std::vector<FlowGeneration> before = GenerationsOf("trainer-0");
  c.On(MemberLost{worker[2], PeerDied("killed")});
  c.Answer();
  ASSERT_EQ(c.phase(), EpochPhase::kPreparing);
  EXPECT_FALSE(GenerationsOf("worker-0").front().reuse);
  EXPECT_GT(GenerationsOf("worker-0").front().id, before.back().id);
}

// All pass on what they have.
class CoordinatorChainTest : public CoordinatorOffersTest {
 protected:
  void ToPreparing() {
    Assemble(3);
    c.Sync(trainer, 5);
    Offer chain = SmallOffer(Role::kWorker);
    chain.transports = {{.kind = "peer", .relays = true}};
    c.From(trainer, OfferReply{c.key(), chain});
    for (const MemberId& member : worker) c.From(member, OfferReply{c.key(), chain});
    ASSERT_EQ(c.phase(), EpochPhase::kPreparing);
  }
};

TEST_F(CoordinatorChainTest, EachIsToldTheRendezvousOfTheOneBeforeIt) {
  ToPreparing();
  ASSERT_TRUE(c.To<Prepare>("worker-0")->contract->flows.front().relays);
  c.Answer();
  ASSERT_EQ(c.phase(), EpochPhase::kJoining);
  const auto feeder = [&](const std::string& member) {
    const auto* message = c.To<RendezvousBlob>(member);
    return message->flows.size() == 1 ? message->flows.front().rank : 99;
  };
  EXPECT_EQ(feeder("trainer-0"), 0u);
  EXPECT_EQ(feeder("worker-0"), 0u);
  EXPECT_EQ(feeder("worker-1"), 1u);
  EXPECT_EQ(feeder("worker-2"), 2u);
  c.AnswerAll();
  EXPECT_EQ(c.machine.last_committed()->epoch, EpochId(1));
}

TEST_F(CoordinatorChainTest, ARelayWithoutARendezvousIsNamedAndForgedOnesAreIgnored) {
  ToPreparing();
  using Made = std::vector<FlowRendezvous>;
  c.From(trainer, Prepared{c.key(), Digest{1, 2}, Made{Found(0, 0), Found(0, 2)}});
  c.From(worker[0], Prepared{c.key(), Digest{1, 2}, Made{Found(0, 1)}});
  c.From(worker[1], Prepared{c.key(), Digest{1, 2}, Made{Found(0, 0)}});
  c.From(worker[2], Prepared{c.key(), Digest{1, 2}, Made{Found(0, 3)}});
  c.AnswerAll();
  const Status status = c.To<SyncDone>("trainer-0")->status.ToStatus();
  EXPECT_NE(status.message().find("worker-1 made no rendezvous for flow 0"), std::string::npos)
      << status;
}

TEST_F(CoordinatorFlowsTest, ARootThatMakesNoRendezvousIsNamed) {
  ToPreparing();
  c.From(trainer, Prepared{c.key(), Digest{1, 2}, std::vector<FlowRendezvous>{Found(0)}});
  for (const MemberId& member : worker) c.From(member, Prepared{c.key(), Digest{1, 2}, {}});
  c.AnswerAll();
  const Status status = c.To<SyncDone>("trainer-0")->status.ToStatus();
  EXPECT_NE(status.message().find("trainer-0 made no rendezvous for flow 1"), std::string::npos)
      << status;
}

TEST_F(CoordinatorOffersTest, RanksThatHoldOtherRowsThanBeforeMakeANewContract) {
  const std::vector<MemberId> ranks = {c.JoinTrainer(0, 2), c.JoinTrainer(1, 2)};
  worker.push_back(c.JoinWorker(0));
  Row row;
  row.dtype = Dtype::kF32;
  row.shape = {256};
  std::vector<Row> rows(4, row);
  for (size_t k = 0; k < rows.size(); ++k) rows[k].name = "layer." + std::to_string(k);
  c.manifest = std::make_shared<const Manifest>(Manifest::Make(rows).value());
  const auto sync = [&](uint64_t label, uint32_t cut) {
    for (ManifestPart& part : ManifestParts(*c.manifest)) c.From(ranks[0], std::move(part));
    for (uint32_t k = 0; k < 2; ++k) {
      SyncCall call{"default",
                    label,
                    SyncKind::kFull,
                    std::nullopt,
                    c.manifest->digest(),
                    false,
                    std::vector<RowRange>{k == 0 ? RowRange{0, cut} : RowRange{cut, 4}}};
      c.From(ranks[k], call);
    }
  };
  sync(5, 1);
  c.AnswerAll();
  ASSERT_EQ(c.machine.last_committed()->epoch, EpochId(1));
  const std::vector<Flow>& flows = c.To<Prepare>("worker-0")->contract->flows;
  ASSERT_EQ(flows.size(), 2u);
  EXPECT_EQ(flows[1].rows, (std::vector<RowRange>{{1, 4}}));
  sync(6, 1);
  EXPECT_TRUE(c.To<Propose>("worker-0")->contract_digest.has_value());
  c.AnswerAll();
  sync(7, 2);
  EXPECT_FALSE(c.To<Propose>("worker-0")->contract_digest.has_value());
  c.AnswerUntil(EpochPhase::kStreaming);
  EXPECT_EQ(c.To<Prepare>("worker-0")->contract->flows[1].rows, (std::vector<RowRange>{{2, 4}}));
  EXPECT_TRUE(c.To<Prepare>("worker-0")->generations[1].reuse) << "the members are the same";
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

// Its bulk lane does not reach the trainer, while its control lane reaches us. All wait for it, and
// only the root knows for whom.
TEST_F(CoordinatorOffersTest, AWorkerThatCannotReachTheRootIsOutAndTheOthersGoOn) {
  Assemble(3);
  c.Sync(trainer, 5);
  for (int attempt = 1; attempt <= 2; ++attempt) {
    c.AnswerUntil(EpochPhase::kJoining);
    const Duration told = c.machine.epoch()->contract->rendezvous_deadline;
    EXPECT_LT(told, c.machine.epoch()->deadline - c.now);
    EXPECT_GT(told, Duration::zero());
    c.From(trainer,
           Failed{c.key(), "rendezvous",
                  WireStatus::From(DeadlineExceeded("have not joined: worker-1")), "worker-1"});
  }
  c.AnswerAll();
  const auto* done = c.To<SyncDone>("trainer-0");
  ASSERT_NE(done, nullptr);
  EXPECT_EQ(done->status.ToStatus(), OkStatus());
  EXPECT_EQ(*done->report.Find("culprit")->AsString(), "worker-1");
  EXPECT_EQ(c.Events("replica.expelled").size(), 1u);
  EXPECT_EQ(c.machine.membership().all().at("worker-0").serving, c.machine.last_committed());
}

}  // namespace
}  // namespace packcast
