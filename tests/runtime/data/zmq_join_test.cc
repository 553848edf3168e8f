#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "runtime/data/zmq_collective.h"
#include "runtime/data/zmq_wire.h"
#include "runtime/net/listener.h"
#include "runtime/net/zmq_socket.h"
#include "tests/runtime/data/broadcast_fixture.h"
#include "tests/runtime/raw_client.h"

namespace packcast {
namespace {

using testing::In;

bool HasJoined(Collective* rank) {
  const StatusOr<bool> joined = rank->Joined();
  EXPECT_TRUE(joined.ok()) << joined.status().ToString();
  return joined.ok() && *joined;
}

// A data thread polls until its rank has joined, and then not again before a stream begins.
TEST(ZmqJoin, MembersJoinThoughTheRootStopsPollingOnceItHas) {
  const auto transport = MakeZmqTransport({}).value();
  for (uint64_t generation = 1; generation <= 300; ++generation) {
    const auto ranks = testing::JoinAll(transport.get(), 4, 0, generation);
    std::atomic<int> joined{0};
    const Time limit = In(Seconds(20));
    std::vector<std::thread> threads;
    for (const auto& rank : ranks) {
      threads.emplace_back([&joined, limit, rank = rank.get()] {
        while (!HasJoined(rank)) {
          if (std::chrono::steady_clock::now() > limit) return;
          (void)rank->Poll(Milliseconds(20));
        }
        ++joined;
      });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(joined, 4) << "in round " << generation;
  }
}

// Waits for something to read, or for room to write.
void PollSocket(net::ZmqSocket* socket, short events) {
  zmq_pollitem_t item = {socket->handle(), 0, events, 0};
  zmq_poll(&item, 1, 100);
}

// ZeroMQ's own default lets anybody make the other side allocate what its frame's length says.
TEST(ZmqJoin, AFrameBeyondTheLimitCostsAStrangerItsConnectionAndNobodyElse) {
  const auto transport = MakeZmqTransport({}).value();
  const GenerationId generation(1);
  JoinOptions options{.rendezvous = transport->MakeRendezvous(generation).value(),
                      .size = 2,
                      .generation = generation};
  const zmq_bulk::Blob blob = zmq_bulk::DecodeBlob(options.rendezvous.blob).value();

  net::ZmqContext context;
  net::ZmqSocket monitor;  // outlives whom it watches
  net::ZmqSocket stranger = net::ZmqSocket::Open(context, net::SocketType::kDealer, {}).value();
  monitor = stranger.OpenMonitor(context).value();
  ASSERT_TRUE(stranger.Connect(blob.endpoint).ok());
  const Time limit = In(Seconds(20));
  net::Frames frames;
  frames.emplace_back(std::string_view(std::string(zmq_bulk::kReasonBytesMax + 1, 'x')));
  while (stranger.Send(&frames) != net::SendResult::kSent) {
    ASSERT_LT(std::chrono::steady_clock::now(), limit);
    PollSocket(&stranger, ZMQ_POLLOUT);
  }
  for (net::MonitorEvent event; event.kind != net::MonitorEvent::Kind::kDisconnected;) {
    ASSERT_LT(std::chrono::steady_clock::now(), limit) << "it is still connected";
    if (!net::NextMonitorEvent(&monitor, &event)) PollSocket(&monitor, ZMQ_POLLIN);
  }

  const auto root = transport->Join(options).value();
  options.rank = 1;
  const auto member = transport->Join(options).value();
  while (!(HasJoined(root.get()) & HasJoined(member.get()))) {
    ASSERT_LT(std::chrono::steady_clock::now(), limit);
    (void)root->Poll(Milliseconds(1));
    (void)member->Poll(Milliseconds(1));
  }
}

bool CanConnect(const std::string& endpoint) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port =
      htons(static_cast<uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1))));
  // On this host the first packet is answered before connect looks at its clock.
  const timeval patience = {.tv_sec = 0, .tv_usec = 100'000};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const bool is_connected = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return is_connected;
}

// Strangers take time of the thread that sends the bytes, so there is a door only while it is
// needed; and until then they harm nobody.
TEST(ZmqJoin, OnceAllHaveJoinedNobodyElseCanConnect) {
  const auto transport = MakeZmqTransport({}).value();
  constexpr GenerationId kGeneration(1);
  JoinOptions options{.rendezvous = transport->MakeRendezvous(kGeneration).value(),
                      .size = 3,
                      .generation = kGeneration};
  const std::string endpoint = zmq_bulk::DecodeBlob(options.rendezvous.blob).value().endpoint;
  std::vector<testing::RawClient> strangers;
  std::mt19937_64 random(7);
  for (int k = 0; k < 60; ++k) {
    testing::RawClient& stranger = strangers.emplace_back(endpoint);
    if (k % 3 == 1) stranger.Greet();
    std::string bytes(random() % 300, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    if (k % 3 != 0) stranger.Send(bytes);
  }
  std::vector<std::unique_ptr<Collective>> ranks;
  const Time limit = In(Seconds(20));
  const auto poll = [&](const std::function<bool()>& done) {
    while (!done() && std::chrono::steady_clock::now() < limit) {
      for (const auto& rank : ranks) (void)rank->Poll(Milliseconds(1));
    }
    ASSERT_TRUE(done());
  };
  for (options.rank = 0; options.rank < 2; ++options.rank) {
    ranks.push_back(transport->Join(options).value());
  }
  for (int k = 0; k < 100; ++k) {
    for (const auto& rank : ranks) ASSERT_FALSE(HasJoined(rank.get()) && rank == ranks[0]);
  }
  EXPECT_TRUE(CanConnect(endpoint)) << "one is missing";
  ranks.push_back(transport->Join(options).value());
  poll([&] {
    bool all = true;
    for (const auto& rank : ranks) all = HasJoined(rank.get()) && all;
    return all;
  });
  EXPECT_FALSE(CanConnect(endpoint));

  for (const auto& rank : ranks) ASSERT_TRUE(rank->Begin(testing::TestStream()).ok());
  std::vector<std::byte> sent(5 << 20), first(sent.size()), second(sent.size());
  for (std::byte& byte : sent) byte = static_cast<std::byte>(random());
  for (int k = 1; k <= 2; ++k) ASSERT_TRUE(ranks[k]->Grant(Sequence(0)).ok());
  for (int k = 0; k <= 2; ++k) {
    std::vector<std::byte>& bytes = k == 0 ? sent : k == 1 ? first : second;
    poll([&] { return ranks[k]->Ready(Sequence(0)).value(); });
    ASSERT_TRUE(ranks[k]->Launch({Sequence(0), {{bytes.data(), bytes.size()}}, 0, 1}).ok());
  }
  for (int k = 0; k <= 2; ++k) poll([&] { return ranks[k]->Done(Sequence(0)).value(); });
  EXPECT_EQ(first, sent);
  EXPECT_EQ(second, sent);
}

TEST(ZmqJoin, OnlyADoorOfThisProcessCanBeClosed) {
  EXPECT_EQ(net::CloseDoor("tcp://127.0.0.1:1").code(), StatusCode::kNotFound);
  EXPECT_EQ(net::CloseDoor("").code(), StatusCode::kNotFound);
}

// By default a socket that closes waits without end for what it has not sent yet. Of a frozen
// member on another host nothing else would tell.
TEST(ZmqJoin, ARootEndsThoughAMemberDoesNotReadWhatItIsSent) {
  auto roots = MakeZmqTransport({}).value();
  const auto members = MakeZmqTransport({}).value();  // a context of its own, as in its process
  JoinOptions options{.rendezvous = roots->MakeRendezvous(GenerationId(1)).value(),
                      .size = 2,
                      .generation = GenerationId(1)};
  auto root = roots->Join(options).value();
  options.rank = 1;
  auto member = members->Join(options).value();
  const Time limit = In(Seconds(20));
  const auto poll_until = [&](const std::function<bool()>& done) {
    while (!done() && std::chrono::steady_clock::now() < limit) {
      (void)root->Poll(Milliseconds(1));
      (void)member->Poll(Milliseconds(1));
    }
    ASSERT_TRUE(done());
  };
  poll_until([&] { return HasJoined(root.get()) && HasJoined(member.get()); });
  ASSERT_TRUE(root->Begin(testing::TestStream()).ok());
  ASSERT_TRUE(member->Begin(testing::TestStream()).ok());
  ASSERT_TRUE(member->Grant(Sequence(0)).ok());
  poll_until([&] { return root->Ready(Sequence(0)).value(); });
  std::vector<std::byte> bytes(64 << 20);  // far more than the kernel takes
  ASSERT_TRUE(root->Launch({Sequence(0), {{bytes.data(), bytes.size()}}, 0, 1}).ok());
  for (int k = 0; k < 200; ++k) ASSERT_TRUE(root->Poll(Milliseconds(1)).ok());
  ASSERT_FALSE(root->Done(Sequence(0)).value());

  std::promise<void> ended;
  const std::future<void> end = ended.get_future();
  std::thread ending([&] {
    root.reset();
    roots.reset();
    ended.set_value();
  });
  EXPECT_EQ(end.wait_for(Seconds(20)), std::future_status::ready);
  member.reset();  // lets it end in any case
  ending.join();
}

}  // namespace
}  // namespace packcast
