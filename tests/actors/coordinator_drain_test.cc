// Where trainer ranks of a lazy source stop when one of them goes its own way.
#include "gtest/gtest.h"

#include "actors/coordinator_machine.h"
#include "tests/actors/coordinator_kit.h"

namespace packcast {
namespace {

class CoordinatorDrainTest : public testing::Test {
 protected:
  // Two ranks of a trainer stream to a worker.
  void Stream() {
    c = CoordinatorKit();
    first = c.JoinTrainer(0, 2);
    second = c.JoinTrainer(1, 2);
    c.JoinWorker(0);
    c.Sync(first, 5);
    c.Sync(second, 5);
    c.AnswerUntil(EpochPhase::kStreaming);
  }
  void TearDown() override { EXPECT_EQ(c.invariants, OkStatus()); }

  CoordinatorKit c;
  MemberId first;
  MemberId second;
};

// Found by the simulation of lazy trainers: whoever is out of reach walks to the end by itself, and
// waits there for its siblings; a dead one waits for nobody.
TEST_F(CoordinatorDrainTest, TrainerRanksFollowOneThatIsOutOfReach) {
  for (const Status& cause : {Unavailable("silent"), PeerDied("reset")}) {
    Stream();
    c.On(MemberLost{second, cause});
    c.From(first, Halted{c.key(), 4});
    const bool astray = cause.code() == StatusCode::kUnavailable;
    EXPECT_EQ(c.To<Drain>("trainer-0")->group, astray ? kAllGroups : 4u) << cause;
  }
}

TEST_F(CoordinatorDrainTest, TrainerRanksFollowOneThatHasJoinedAgain) {
  Stream();
  EXPECT_EQ(c.JoinTrainer(1, 2), second);
  c.From(first, Halted{c.key(), 4});
  EXPECT_EQ(c.To<Drain>("trainer-0")->group, kAllGroups);
}

}  // namespace
}  // namespace packcast
