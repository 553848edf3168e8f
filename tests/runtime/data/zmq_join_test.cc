#include <zmq.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "runtime/data/zmq_collective.h"
#include "runtime/data/zmq_wire.h"
#include "runtime/net/zmq_socket.h"
#include "tests/runtime/data/broadcast_fixture.h"

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
