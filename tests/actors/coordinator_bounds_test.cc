// Whatever members say, and however much of it, what the coordinator makes of it can travel.
#include "gtest/gtest.h"

#include "actors/coordinator_machine.h"
#include "protocol/codec.h"
#include "tests/actors/coordinator_kit.h"

namespace packcast {
namespace {

class CoordinatorBoundsTest : public testing::Test {
 protected:
  void SetUp() override {
    trainer = c.JoinTrainer();
    worker = c.JoinWorker(0);
    c.Sync(trainer, 5);
  }
  void TearDown() override { EXPECT_EQ(c.invariants, OkStatus()); }

  // The answer to the sync, and all events, within the bounds of a message.
  void ExpectAllTravels() {
    const auto* done = c.To<SyncDone>("trainer-0");
    ASSERT_NE(done, nullptr);
    const Value body = MessageBody(*done);
    EXPECT_EQ(CheckEncodable(body), OkStatus());
    EXPECT_LT(Encode(body).size(), limits::kControlFrameBytes);
    for (const Value& event : c.events) EXPECT_EQ(CheckEncodable(event), OkStatus());
  }

  // As long as a string on the wire can be.
  const std::string longest = std::string(limits::kStringBytes, 'x');
  const WireStatus reason{static_cast<int>(StatusCode::kInternal), longest};
  CoordinatorKit c;
  MemberId trainer;
  MemberId worker;
};

TEST_F(CoordinatorBoundsTest, ALongRefusal) {
  c.AnswerUntil(EpochPhase::kPreparing);
  c.From(worker, Refused{c.key(), reason, longest, "", ""});
  c.AnswerAll();
  ExpectAllTravels();
}

TEST_F(CoordinatorBoundsTest, ALongFailure) {
  c.AnswerUntil(EpochPhase::kStreaming);
  c.From(worker, Failed{c.key(), longest, reason, longest});
  c.AnswerAll();
  ExpectAllTravels();
}

TEST_F(CoordinatorBoundsTest, ALongReasonToCancel) {
  c.From(trainer, SyncCancel{"default", 5, reason});
  c.AnswerAll();
  ExpectAllTravels();
}

TEST_F(CoordinatorBoundsTest, ALongCauseOfALoss) {
  c.AnswerUntil(EpochPhase::kStreaming);
  c.On(MemberLost{worker, Unavailable(longest)});
  c.AnswerAll();
  ExpectAllTravels();
}

TEST_F(CoordinatorBoundsTest, ARowThatIsNone) {
  const Value row = ValueArray{longest, 999u, ValueArray{}, "", 0u, ValueArray{}};
  c.From(trainer, ManifestPart{Digest{1, 1}, 1, 0, {row}});
  EXPECT_EQ(c.Events("manifest.bad").size(), 1u);
  c.AnswerAll();
  ExpectAllTravels();
}

TEST_F(CoordinatorBoundsTest, ARowThatIsNoneOfWhatIsServed) {
  c.AnswerAll();
  const Digest unknown{7, 7};
  JoinCluster join = {.model = "default", .unit = "replica-1", .offer = SmallOffer(Role::kWorker)};
  join.offer.can_serve = true;
  join.serving = Version{c.machine.term(), EpochId(1000)};
  join.weights = ServedWeights{unknown, Digest{3, 4}, 1};
  c.From(Id("worker-1"), join);
  c.now += c.Config(InstallMode::kStaged).deadlines.catch_up_settle;
  c.On(Tick{});
  ASSERT_NE(c.To<ManifestWanted>("worker-1"), nullptr);
  const Value row = ValueArray{longest, 999u, ValueArray{}, "", 0u, ValueArray{}};
  c.From(Id("worker-1"), ManifestPart{unknown, 1, 0, {row}});
  EXPECT_EQ(c.Events("manifest.bad").size(), 1u);
  ExpectAllTravels();
}

TEST_F(CoordinatorBoundsTest, ManyPhases) {
  c.AnswerUntil(EpochPhase::kStreaming);
  Staged staged{c.key(), Digest{3, 4}, 1024, {}, std::nullopt};
  for (size_t k = 0; k < limits::kValueItems; ++k) {
    staged.phases.push_back({std::to_string(k) + std::string(100, 'p'), 1});
  }
  staged.phases.front().name = longest;
  c.From(worker, staged);
  c.AnswerAll();
  EXPECT_EQ(c.machine.epoch(), std::nullopt);
  ExpectAllTravels();
  const Value& first = c.machine.reports().back().Find("workers")->AsArray()->front();
  EXPECT_EQ(first.Find("phases")->AsMap()->size(), limits::kPhases);
  EXPECT_EQ(first.Find("phases")->AsMap()->front().first.size(), limits::kNameBytes);
}

TEST_F(CoordinatorBoundsTest, ManyTransports) {
  Offer offer = SmallOffer(Role::kWorker);
  for (size_t k = 0; k < 1000; ++k) offer.transports.push_back({.kind = std::to_string(k)});
  c.From(trainer, OfferReply{c.key(), SmallOffer(Role::kTrainer)});
  c.From(worker, OfferReply{c.key(), offer});
  c.AnswerAll();
  const Status status = c.To<SyncDone>("trainer-0")->status.ToStatus();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("worker-0 offers 1001 transports"), std::string::npos) << status;
  ExpectAllTravels();
}

TEST_F(CoordinatorBoundsTest, TransportsOfLongNames) {
  Offer offer = SmallOffer(Role::kWorker);
  offer.transports = {{.kind = longest}, {.kind = longest}};
  c.From(trainer, OfferReply{c.key(), SmallOffer(Role::kTrainer)});
  c.From(worker, OfferReply{c.key(), offer});
  c.AnswerAll();
  ExpectAllTravels();
}

}  // namespace
}  // namespace packcast
