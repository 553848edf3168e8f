#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "runtime/data/zmq_collective.h"
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

}  // namespace
}  // namespace packcast
