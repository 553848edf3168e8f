#include "runtime/actor/connections.h"

#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace packcast::internal {
namespace {

constexpr Time kStart = Time() + Seconds(100);

class ConnectionsTest : public ::testing::Test {
 protected:
  ConnectionsTest() {
    connections_.set_limits({.all = 4, .per_address = 3, .stranger_time = Seconds(10)});
  }
  // Who must go; -1: nobody.
  int Accept(int fd, const std::string& address, Time now = kStart) {
    ids_[fd] = ++last_id_;
    const auto* leaving = connections_.Accept(fd, last_id_, address, now);
    return leaving == nullptr ? -1 : leaving->fd;
  }
  void Welcome(int fd) { connections_.Welcome(fd, ids_.at(fd)); }
  std::vector<int> Overdue(Time now) const {
    std::vector<int> fds;
    for (const auto* one : connections_.Overdue(now)) fds.push_back(one->fd);
    return fds;
  }

  Connections connections_;
  uint64_t last_id_ = 0;
  std::map<int, uint64_t> ids_;
};

TEST_F(ConnectionsTest, TheFirstStrangerOfACrowdedAddressMakesRoom) {
  EXPECT_EQ(Accept(9, "b"), -1);
  EXPECT_EQ(Accept(1, "a"), -1);
  EXPECT_EQ(Accept(2, "a"), -1);
  Welcome(1);
  EXPECT_EQ(Accept(3, "a"), -1);
  EXPECT_EQ(Accept(4, "a"), 2) << "not 1, which is welcome, and not 9, which is from elsewhere";
}

TEST_F(ConnectionsTest, TheFirstStrangerOfAllMakesRoomWhereAllAreTooMany) {
  for (int fd : {1, 2, 3, 4}) EXPECT_EQ(Accept(fd, std::string(1, static_cast<char>(fd))), -1);
  Welcome(1);
  EXPECT_EQ(Accept(5, "e"), 2);
  connections_.Ending(2);
  EXPECT_EQ(connections_.size(), 4u) << "who was told to go does not count";
  EXPECT_EQ(Accept(6, "f"), 3) << "once for each that comes";
}

TEST_F(ConnectionsTest, WhoComesIsSentAwayWhereAllOthersAreWelcome) {
  for (int fd : {1, 2, 3, 4}) {
    EXPECT_EQ(Accept(fd, std::string(1, static_cast<char>(fd))), -1);
    Welcome(fd);
  }
  EXPECT_EQ(Accept(5, "e"), 5);
}

// Of one host no address is known: processes by ipc:// are not strangers from one place.
TEST_F(ConnectionsTest, NoAddressIsNotOneAddress) {
  for (int fd : {1, 2, 3, 4}) EXPECT_EQ(Accept(fd, ""), -1);
  EXPECT_EQ(Accept(5, ""), 1);
}

TEST_F(ConnectionsTest, AnEndMakesRoom) {
  for (int fd : {1, 2, 3}) EXPECT_EQ(Accept(fd, "a"), -1);
  connections_.Close(2);
  EXPECT_EQ(Accept(4, "a"), -1);
  EXPECT_EQ(Accept(2, "a"), 1) << "a descriptor that is used again is another connection";
}

TEST_F(ConnectionsTest, AnEndThatNobodyToldIsKnownWhenItsDescriptorIsUsedAgain) {
  for (int fd : {1, 2, 3}) EXPECT_EQ(Accept(fd, "a"), -1);
  Welcome(1);
  EXPECT_EQ(Accept(1, "a"), -1);
  EXPECT_EQ(connections_.size(), 3u);
  EXPECT_EQ(connections_.Find(1)->id, 4u);
  EXPECT_FALSE(connections_.Find(1)->is_welcome);
}

TEST_F(ConnectionsTest, OnlyAStrangerIsNotMissed) {
  Accept(1, "a");
  Accept(2, "a");
  Accept(3, "a");
  Welcome(2);
  connections_.Ending(3);
  Welcome(3);  // its hello had come before it was told to go
  EXPECT_FALSE(connections_.Close(1));
  EXPECT_TRUE(connections_.Close(2));
  EXPECT_TRUE(connections_.Close(3));
  EXPECT_TRUE(connections_.Close(4)) << "not known";
  EXPECT_EQ(connections_.size(), 0u);
}

// What one has left behind that had the descriptor before is not laid at its door.
TEST_F(ConnectionsTest, BadMessagesOfOneThatIsOverDoNotCountForTheNext) {
  Accept(1, "a");
  for (int k = 0; k < Connections::kBadMessages; ++k) {
    ASSERT_FALSE(connections_.NoteBad(1, "before", kStart));
    if (k == 10) Accept(1, "a");
  }
  for (int k = 0; k < Connections::kBadMessages; ++k) {
    ASSERT_FALSE(connections_.NoteBad(1, "after", kStart)) << k;
  }
  EXPECT_TRUE(connections_.NoteBad(1, "after", kStart));
}

// What it says comes before the news of it, or of the end of the one before it.
TEST_F(ConnectionsTest, WhoIsWelcomeBeforeItIsTakenInIsNoStranger) {
  connections_.Welcome(1, 7);
  connections_.Accept(1, 7, "a", kStart);
  EXPECT_TRUE(connections_.Find(1)->is_welcome);
  EXPECT_EQ(Overdue(kStart + Seconds(20)), std::vector<int>());

  connections_.Accept(2, 8, "a", kStart);
  connections_.Welcome(2, 9);
  EXPECT_TRUE(connections_.Close(2)) << "of whatever it was that was welcome";
  connections_.Accept(2, 9, "a", kStart);
  EXPECT_TRUE(connections_.Find(2)->is_welcome);

  connections_.Welcome(3, 10);
  connections_.Accept(3, 11, "a", kStart);
  EXPECT_FALSE(connections_.Find(3)->is_welcome) << "which is another one";
  connections_.Close(3);
  connections_.Accept(3, 10, "a", kStart);
  EXPECT_FALSE(connections_.Find(3)->is_welcome) << "it is forgotten";

  connections_.Welcome(4, 12);
  connections_.Accept(4, 0, "", kStart);
  EXPECT_TRUE(connections_.Close(4)) << "it has come, was welcome, and has gone";

  connections_.Welcome(5, 13);
  // Strangers that had come and gone before it, and were looked at when it was there.
  for (int k = 0; k < 3; ++k) {
    connections_.Accept(5, 13, "a", kStart);
    connections_.Close(5);
  }
  connections_.Accept(5, 13, "a", kStart);
  EXPECT_TRUE(connections_.Find(5)->is_welcome);
}

TEST_F(ConnectionsTest, WhoIsWelcomeMakesNoRoomInACrowdOfWelcomeOnes) {
  for (int fd : {1, 2, 3}) {
    connections_.Welcome(fd, static_cast<uint64_t>(fd));
    EXPECT_EQ(Accept(fd, "a"), -1);
  }
  connections_.Welcome(4, 4);
  EXPECT_EQ(Accept(4, "a"), -1);
  EXPECT_EQ(Accept(5, "a"), 5);
}

TEST_F(ConnectionsTest, ManyStrangersThatComeAndGoAreAScan) {
  const auto pass = [&](int count) {
    for (int k = 0; k < count; ++k) {
      Accept(1, "a");
      connections_.Close(1);
    }
  };
  EXPECT_FALSE(connections_.IsScanned(kStart));
  pass(25);
  EXPECT_FALSE(connections_.IsScanned(kStart + Milliseconds(50))) << "500 a second";
  for (int k = 0; k < 100; ++k) {
    Accept(1, "a");
    k % 2 == 0 ? Welcome(1) : connections_.Ending(1);
    connections_.Close(1);
  }
  EXPECT_FALSE(connections_.IsScanned(kStart + Milliseconds(100))) << "peers, and sent away by us";
  pass(26);
  EXPECT_FALSE(connections_.IsScanned(kStart + Milliseconds(149))) << "not counted yet";
  EXPECT_TRUE(connections_.IsScanned(kStart + Milliseconds(150)));
  EXPECT_EQ(connections_.passers_per_second(), 520);
  EXPECT_TRUE(connections_.IsScanned(kStart + Milliseconds(10'149)));
  EXPECT_FALSE(connections_.IsScanned(kStart + Milliseconds(10'150)));
}

TEST_F(ConnectionsTest, StrangersHaveTheirTime) {
  Accept(1, "a", kStart);
  Accept(2, "a", kStart + Seconds(1));
  Accept(3, "b", kStart + Seconds(2));
  Welcome(2);
  EXPECT_EQ(Overdue(kStart + Seconds(10) - Milliseconds(1)), std::vector<int>());
  EXPECT_EQ(Overdue(kStart + Seconds(12)), (std::vector<int>{1, 3}));
  connections_.Ending(1);
  EXPECT_EQ(Overdue(kStart + Seconds(12)), (std::vector<int>{3})) << "it is told once";
  connections_.Forgive(Seconds(5));
  EXPECT_EQ(Overdue(kStart + Seconds(12)), std::vector<int>());
  EXPECT_EQ(Overdue(kStart + Seconds(17)), (std::vector<int>{3}));
}

TEST_F(ConnectionsTest, BadMessagesAreForgottenWithTime) {
  Accept(1, "a");
  for (int round = 0; round < 2; ++round) {
    const Time now = kStart + round * Connections::kBadTime;
    for (int k = 0; k < Connections::kBadMessages; ++k)
      ASSERT_FALSE(connections_.NoteBad(1, "a", now));
  }
  EXPECT_TRUE(connections_.NoteBad(1, "a", kStart + Connections::kBadTime));
  connections_.Ending(1);
  EXPECT_FALSE(connections_.NoteBad(1, "a", kStart + Connections::kBadTime)) << "it is told once";
  EXPECT_FALSE(connections_.NoteBad(2, "a", kStart)) << "not known";
}

TEST_F(ConnectionsTest, SomeAreAllInTurns) {
  for (int fd : {1, 5, 7}) Accept(fd, "a");
  std::vector<int> seen;
  for (int k = 0; k < 3; ++k) {
    for (const auto* one : connections_.Some(2)) seen.push_back(one->fd);
  }
  EXPECT_EQ(seen, (std::vector<int>{1, 5, 7, 1, 5}));
}

TEST_F(ConnectionsTest, TheFirstStrangerIsKnown) {
  EXPECT_EQ(connections_.FirstStranger(), nullptr);
  Accept(8, "a");
  Accept(2, "a");
  EXPECT_EQ(connections_.FirstStranger()->fd, 8);
  Welcome(8);
  EXPECT_EQ(connections_.FirstStranger()->fd, 2);
}

}  // namespace
}  // namespace packcast::internal
