// A member's session with its coordinator, over losses and finds of it.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "actors/worker_shell.h"
#include "runtime/testing/stage.h"

namespace packcast {
namespace {

class MemberShellTest : public ::testing::Test {
 protected:
  MemberShellTest() {
    shared_->search = [this] { ++searches_; };
    shared_->inbox.Bind(stage_.ref());
  }

  static std::unique_ptr<Actor> Shell(const std::shared_ptr<MemberShell::Shared>& shared) {
    MemberConfig config;
    config.unit = "replica-0";
    return std::make_unique<WorkerShell>(std::move(config), shared, std::vector<Transport*>(),
                                         std::make_shared<WorkerShell::SinkSide>(),
                                         std::make_shared<ServingCell>());
  }

  void Find() {
    shared_->inbox.Post(LinkUp{stage_.Peer("coordinator")});
    stage_.RunAll();
  }
  void Happen(PeerEvent::Kind kind) {
    EXPECT_TRUE(stage_.Happen(kind, "coordinator", "its connection was reset"));
    stage_.RunAll();
  }
  // Since the last time.
  ptrdiff_t Joins() {
    const std::vector<Sent> sent = stage_.TakeSent();
    return std::count_if(sent.begin(), sent.end(),
                         [](const Sent& message) { return message.method == "join"; });
  }

  const std::shared_ptr<MemberShell::Shared> shared_ = std::make_shared<MemberShell::Shared>();
  Stage stage_{Shell(shared_)};
  int searches_ = 0;
};

TEST_F(MemberShellTest, ALossAndAFindAreOneNewSession) {
  Find();
  EXPECT_EQ(Joins(), 1);
  Happen(PeerEvent::Kind::kDied);
  EXPECT_EQ(searches_, 1);
  Find();
  EXPECT_EQ(Joins(), 1);
}

// Its connection ended, so it is looked for and counts as dead; then it is heard again, and found.
TEST_F(MemberShellTest, WhoIsHeardAgainAndFoundAsWellIsJoinedOnce) {
  Find();
  EXPECT_EQ(Joins(), 1);
  Happen(PeerEvent::Kind::kDied);
  Happen(PeerEvent::Kind::kRecovered);
  EXPECT_EQ(Joins(), 1);
  Find();
  EXPECT_EQ(Joins(), 0);  // this would end what runs in the session that has begun
  // Found first, heard then: the same.
  Happen(PeerEvent::Kind::kDied);
  Find();
  EXPECT_EQ(Joins(), 1);
  Happen(PeerEvent::Kind::kRecovered);
  EXPECT_EQ(Joins(), 0);
}

}  // namespace
}  // namespace packcast
