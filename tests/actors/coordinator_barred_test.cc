// Who is out of an epoch, where its next attempt asks anew who is there.
#include "gtest/gtest.h"

#include "actors/coordinator_machine.h"
#include "tests/actors/coordinator_kit.h"

namespace packcast {
namespace {

class CoordinatorBarredTest : public testing::Test {
 protected:
  void SetUp() override {
    trainer_ = c_.JoinTrainer();
    for (uint32_t k = 0; k < 3; ++k) worker_.push_back(c_.JoinWorker(k));
  }
  void TearDown() override { EXPECT_EQ(c_.invariants, OkStatus()); }

  // The transport does not come up: the next attempt asks anew.
  void NobodyCame(const std::string& culprit) {
    c_.AnswerUntil(EpochPhase::kJoining);
    c_.From(trainer_,
            Failed{c_.key(), "rendezvous", WireStatus::From(DeadlineExceeded("late")), culprit});
    c_.Answer();
  }
  void CommitsWith(size_t workers) {
    c_.AnswerAll();
    EXPECT_EQ(c_.To<SyncDone>("trainer-0")->status.ToStatus(), OkStatus());
    EXPECT_EQ(c_.machine.reports().back().Find("workers")->AsArray()->size(), workers);
  }

  CoordinatorKit c_;
  MemberId trainer_;
  std::vector<MemberId> worker_;
};

// A link between the trainer and one worker is cut: were that worker asked in each attempt, the
// epoch would end with the last one it has.
TEST_F(CoordinatorBarredTest, WhoIsOutStaysOutUntilTheNextEpoch) {
  c_.Sync(trainer_, 5);
  NobodyCame("worker-0");
  NobodyCame("worker-0");
  CommitsWith(2);
  c_.Sync(trainer_, 6);
  CommitsWith(3);
}

TEST_F(CoordinatorBarredTest, ItsNextLifeMayTry) {
  c_.Sync(trainer_, 5);
  NobodyCame("worker-0");
  NobodyCame("worker-0");
  c_.AnswerUntil(EpochPhase::kJoining);
  c_.On(MemberLost{worker_[0], PeerDied("killed")});
  c_.JoinWorker(0, 1, 2);
  NobodyCame("worker-1");
  CommitsWith(3);
}

}  // namespace
}  // namespace packcast
