// TRL#6796, NeMo-RL#2694: a sync whose peer is silent waited for ever, or until somebody had set a
// watchdog. Nobody sets anything here.
#include <gtest/gtest.h>

#include "tests/actors/coordinator_kit.h"

namespace packcast {
namespace {

// More than any run of phases and attempts of this small model takes.
constexpr Duration kBound = Seconds(20 * 60);

// What becomes of an epoch once `silent` say nothing any more, from `phase` on. All others answer.
void GoSilent(CoordinatorKit* c, EpochPhase phase, const std::vector<MemberId>& silent) {
  SCOPED_TRACE(std::string(EpochPhaseName(phase)));
  c->AnswerUntil(phase);
  ASSERT_TRUE(c->runs());
  ASSERT_EQ(c->phase(), phase);
  for (int turn = 0; turn < 100 && c->runs(); ++turn) {
    for (auto before = EpochPhase::kWaitReplicas; c->runs() && c->phase() != before;) {
      before = c->phase();
      c->Answer(silent);
    }
    if (!c->runs()) break;
    ASSERT_TRUE(c->machine.NextDeadline()) << "nothing wakes it";
    ASSERT_LE(*c->machine.NextDeadline(), c->machine.epoch()->deadline);
    c->WaitPastDeadline();
    ASSERT_EQ(c->invariants, OkStatus());
  }
  EXPECT_FALSE(c->runs()) << "for ever in " << EpochPhaseName(c->phase());
  EXPECT_LT(c->now - Time(), kBound);
}

class CoordinatorDeadlinesTest : public ::testing::TestWithParam<EpochPhase> {};

TEST_P(CoordinatorDeadlinesTest, NoPhaseWaitsForEverForASilentWorker) {
  CoordinatorKit c(InstallMode::kInPlace);
  const MemberId trainer = c.JoinTrainer();
  const MemberId worker = c.JoinWorker(0);
  c.JoinWorker(1);
  c.Sync(trainer, 5);
  GoSilent(&c, GetParam(), {worker});
  ASSERT_NE(c.To<SyncDone>("trainer-0"), nullptr);
  EXPECT_NE(c.To<Expelled>("worker-0"), nullptr);
  EXPECT_EQ(c.To<Expelled>("worker-1"), nullptr);
  EXPECT_EQ(c.To<SyncDone>("trainer-0")->status.ToStatus(), OkStatus()) << "the other one is well";
}

TEST_P(CoordinatorDeadlinesTest, NorForASilentTrainer) {
  CoordinatorKit c(InstallMode::kInPlace);
  const MemberId trainer = c.JoinTrainer();
  c.JoinWorker(0);
  c.Sync(trainer, 5);
  GoSilent(&c, GetParam(), {trainer});
  EXPECT_EQ(c.Events("epoch.end").size(), 1u);
}

TEST_P(CoordinatorDeadlinesTest, NorWhenNobodyAnswers) {
  CoordinatorKit c(InstallMode::kInPlace);
  const MemberId trainer = c.JoinTrainer();
  const MemberId worker = c.JoinWorker(0);
  c.Sync(trainer, 5);
  GoSilent(&c, GetParam(), {trainer, worker});
  EXPECT_EQ(c.Events("epoch.end").size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Phases, CoordinatorDeadlinesTest,
                         ::testing::Values(EpochPhase::kOffers, EpochPhase::kPreparing,
                                           EpochPhase::kJoining, EpochPhase::kQuiescing,
                                           EpochPhase::kStreaming, EpochPhase::kCommitting),
                         [](const auto& phase) {
                           return std::string(EpochPhaseName(phase.param));
                         });

}  // namespace
}  // namespace packcast
