#include <zmq.h>

#include <atomic>
#include <chrono>
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

}  // namespace
}  // namespace packcast
