#include "runtime/net/connection_probe.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/net/listener.h"
#include "runtime/net/zmq_socket.h"
#include "tests/runtime/raw_client.h"

namespace packcast::net {
namespace {

using testing::RawClient;

constexpr uint64_t kUnknown = 1;  // no socket of a test has this id

// A listener of libzmq, and a probe of it.
class ConnectionProbeTest : public ::testing::Test {
 protected:
  void Listen(const std::string& bind) {
    router_ = ZmqSocket::Open(context_, SocketType::kRouter, {}).value();
    monitor_ = router_.OpenMonitor(context_).value();
    endpoint_ = router_.Bind(bind).value();
    probe_.emplace(ConnectionProbe::Open(endpoint_).value());
  }
  // The next descriptor that is told of.
  int Await(MonitorEvent::Kind kind) {
    const auto give_up = std::chrono::steady_clock::now() + testing::kPatience;
    MonitorEvent event;
    while (std::chrono::steady_clock::now() < give_up) {
      if (NextMonitorEvent(&monitor_, &event)) {
        if (event.kind == kind) return event.value;
        continue;
      }
      zmq_pollitem_t item = {monitor_.handle(), 0, ZMQ_POLLIN, 0};
      zmq_poll(&item, 1, 100);
    }
    ADD_FAILURE() << "no such event";
    return -1;
  }
  int Accepted() { return Await(MonitorEvent::Kind::kAccepted); }

  ZmqContext context_;
  ZmqSocket monitor_;
  ZmqSocket router_;
  std::string endpoint_;
  std::optional<ConnectionProbe> probe_;
};

TEST_F(ConnectionProbeTest, SeesFromWhereAConnectionComesAndEndsIt) {
  Listen("tcp://127.0.0.1:*");
  RawClient first(endpoint_);
  const int first_fd = Accepted();
  RawClient second(endpoint_);
  const int second_fd = Accepted();
  const auto peer = probe_->Look(first_fd);
  ASSERT_TRUE(peer);
  EXPECT_EQ(peer->address, "127.0.0.1");
  EXPECT_EQ(probe_->Look(first_fd)->id, peer->id);
  ASSERT_TRUE(probe_->Look(second_fd));
  EXPECT_NE(probe_->Look(second_fd)->id, peer->id);
  EXPECT_TRUE(probe_->End(first_fd, peer->id));
  EXPECT_TRUE(first.Ends());
  EXPECT_EQ(Await(MonitorEvent::Kind::kDisconnected), first_fd);
  EXPECT_FALSE(second.HasEnded());
}

TEST_F(ConnectionProbeTest, KnowsConnectionsThatAreNotByTcp) {
  // One by a file, one by a name without a file.
  for (const std::string& bind :
       {std::string("ipc://*"), "ipc://@probe-" + std::to_string(getpid())}) {
    Listen(bind);
    RawClient client(endpoint_);
    const int fd = Accepted();
    const auto peer = probe_->Look(fd);
    ASSERT_TRUE(peer) << endpoint_;
    EXPECT_EQ(peer->address, "");
    EXPECT_TRUE(probe_->End(fd, peer->id));
    EXPECT_TRUE(client.Ends());
  }
}

TEST_F(ConnectionProbeTest, WhatHasTheDescriptorLaterIsLeftAlone) {
  Listen("tcp://127.0.0.1:*");
  uint64_t old_id = 0;
  int old_fd = -1;
  {
    RawClient gone(endpoint_);
    old_fd = Accepted();
    old_id = probe_->Look(old_fd)->id;
  }
  ASSERT_EQ(Await(MonitorEvent::Kind::kDisconnected), old_fd);
  // Its number is free, or will be in a moment: the next ones that libzmq accepts get it.
  std::vector<RawClient> clients;
  int fd = -1;
  while (fd != old_fd && clients.size() < 100) {
    clients.emplace_back(endpoint_);
    fd = Accepted();
  }
  ASSERT_EQ(fd, old_fd);
  EXPECT_FALSE(probe_->End(fd, old_id));
  EXPECT_FALSE(clients.back().HasEnded());
  EXPECT_TRUE(probe_->End(fd, probe_->Look(fd)->id));
  EXPECT_TRUE(clients.back().Ends());
}

TEST_F(ConnectionProbeTest, SeesNothingButConnectionsOfItsListener) {
  Listen("tcp://127.0.0.1:*");
  const std::string own = endpoint_;
  ConnectionProbe other_probe = std::move(*probe_);
  Listen("tcp://127.0.0.1:*");
  RawClient client(endpoint_);
  const int accepted = Accepted();
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_TRUE(probe_->Look(accepted));
  EXPECT_FALSE(other_probe.Look(accepted)) << "of " << endpoint_ << ", not of " << own;
  int found = 0;
  for (int fd = -1; fd < 200; ++fd) found += probe_->Look(fd) ? 1 : 0;
  EXPECT_EQ(found, 1) << "the client's end, listeners, pairs, files, and what is not open";
  for (const int fd : {pair[0], pair[1], file}) {
    struct stat info {};
    ASSERT_EQ(fstat(fd, &info), 0);
    EXPECT_FALSE(probe_->End(fd, info.st_ino));
  }
  EXPECT_EQ(send(pair[0], "x", 1, MSG_NOSIGNAL), 1);
  EXPECT_FALSE(probe_->End(accepted, kUnknown));
  EXPECT_FALSE(client.HasEnded());
  for (const int fd : {pair[0], pair[1], file}) close(fd);
}

// What was looked at is not held: libzmq's close is the end of it.
TEST_F(ConnectionProbeTest, HoldsNothing) {
  Listen("tcp://127.0.0.1:*");
  RawClient client(endpoint_);
  ASSERT_TRUE(probe_->Look(Accepted()));
  router_.Close();
  EXPECT_TRUE(client.Ends());
}

TEST_F(ConnectionProbeTest, LendsADescriptorWhereThereIsNone) {
  Listen("tcp://127.0.0.1:*");
  int before = dup(STDERR_FILENO);
  close(before);
  const testing::DescriptorLimit none(static_cast<rlim_t>(before));
  EXPECT_EQ(dup(STDERR_FILENO), -1);
  EXPECT_TRUE(probe_->Lend());
  EXPECT_TRUE(probe_->is_lent());
  EXPECT_FALSE(probe_->Lend()) << "there is one only";
  const int lent = dup(STDERR_FILENO);
  ASSERT_NE(lent, -1);
  EXPECT_FALSE(probe_->TakeBack()) << "somebody has it";
  close(lent);
  EXPECT_TRUE(probe_->TakeBack());
  EXPECT_FALSE(probe_->is_lent());
  EXPECT_EQ(dup(STDERR_FILENO), -1);
}

// libzmq closes what is looked at while it is, and others get the numbers at once: nothing of
// theirs may end.
TEST_F(ConnectionProbeTest, NothingElseEndsWhateverBecomesOfADescriptor) {
  constexpr int kConnections = 2000;
  Listen("tcp://127.0.0.1:*");
  std::atomic<bool> is_over{false};
  std::atomic<int> hurt{0};
  std::thread others([&] {
    while (!is_over) {
      int pair[2];
      if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) continue;
      char byte = 0;
      for (int k = 0; k < 10; ++k) {
        const bool is_whole =
            send(pair[0], "x", 1, MSG_NOSIGNAL) == 1 && recv(pair[1], &byte, 1, MSG_DONTWAIT) == 1;
        hurt += is_whole ? 0 : 1;
      }
      close(pair[0]);
      close(pair[1]);
    }
  });
  std::thread clients([&] {
    for (int k = 0; k < kConnections; ++k) RawClient(endpoint_).Send("x");
  });
  int ended = 0;
  for (int k = 0; k < kConnections; ++k) {
    const int fd = Accepted();
    const auto peer = probe_->Look(fd);
    if (peer && probe_->End(fd, peer->id)) ++ended;
  }
  clients.join();
  is_over = true;
  others.join();
  EXPECT_EQ(hurt, 0);
  RawClient last(endpoint_);
  const int fd = Accepted();
  EXPECT_TRUE(probe_->End(fd, probe_->Look(fd)->id)) << "after " << ended;
}

TEST_F(ConnectionProbeTest, WhereAcceptsAreDeferredWhoSpeaksComesFirst) {
  Listen("tcp://127.0.0.1:*");
  ASSERT_TRUE(DeferAccept(endpoint_, Seconds(60)).ok());
  RawClient silent(endpoint_);
  RawClient speaking(endpoint_);
  ASSERT_TRUE(speaking.Send("\xff"));
  const int fd = Accepted();
  ASSERT_TRUE(probe_->End(fd, probe_->Look(fd).value().id));
  EXPECT_TRUE(speaking.Ends());
  EXPECT_FALSE(silent.HasEnded());
  ASSERT_TRUE(silent.Send("\xff"));
  Accepted();
  ASSERT_TRUE(DeferAccept(endpoint_, Seconds(0)).ok());
  RawClient at_once(endpoint_);
  Accepted();
}

}  // namespace
}  // namespace packcast::net
