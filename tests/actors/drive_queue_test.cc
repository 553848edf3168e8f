#include "actors/drive_queue.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace packcast {
namespace {

constexpr Duration kLong = Seconds(60);  // a wait that must be cut short

TEST(DriveQueue, RunsWorkInOrderOnTheDrivingThread) {
  DriveQueue queue;
  std::vector<int> ran;
  std::thread::id where;
  for (int k = 0; k < 3; ++k) {
    queue.Post([&, k] {
      ran.push_back(k);
      where = std::this_thread::get_id();
    });
  }
  EXPECT_EQ(queue.Drive(Duration::zero()), 3u);
  EXPECT_EQ(ran, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(where, std::this_thread::get_id());
  EXPECT_EQ(queue.Drive(Duration::zero()), 0u);
}

TEST(DriveQueue, WorkMayPostMoreWork) {
  DriveQueue queue;
  int ran = 0;
  queue.Post([&] { queue.Post([&] { ++ran; }); });
  EXPECT_EQ(queue.Drive(Duration::zero()), 2u);
  EXPECT_EQ(ran, 1);
}

TEST(DriveQueue, WaitsForTheFirstPieceOnly) {
  DriveQueue queue;
  std::thread poster([&] { queue.Post([] {}); });
  EXPECT_EQ(queue.Drive(kLong), 1u);
  poster.join();
}

TEST(DriveQueue, AWakeEndsOneWaitAndIsNotLostBeforeIt) {
  DriveQueue queue;
  queue.Wake();
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(queue.Drive(kLong), 0u);
  EXPECT_LT(std::chrono::steady_clock::now() - began, kLong / 2);
  EXPECT_EQ(queue.Drive(Milliseconds(1)), 0u) << "one wake, one wait";
  std::thread waker([&] { queue.Wake(); });
  EXPECT_EQ(queue.Drive(kLong), 0u);
  waker.join();
}

TEST(DriveQueue, CloseDropsWhatIsQueuedAndWhatComesLater) {
  DriveQueue queue;
  auto held = std::make_shared<int>(1);
  bool ran = false;
  queue.Post([&ran, held] { ran = true; });
  queue.Close();
  EXPECT_EQ(held.use_count(), 1) << "dropped work is destroyed";
  queue.Post([&ran, held] { ran = true; });
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(queue.Drive(kLong), 0u) << "a closed queue does not wait";
  EXPECT_FALSE(ran);
}

TEST(DriveQueue, CloseEndsAWait) {
  DriveQueue queue;
  std::thread closer([&] { queue.Close(); });
  EXPECT_EQ(queue.Drive(kLong), 0u);
  closer.join();
}

// Who closes destroys next what the pieces use.
TEST(DriveQueue, CloseWaitsForThePieceThatRuns) {
  DriveQueue queue;
  std::atomic<bool> began{false};
  std::atomic<bool> ended{false};
  queue.Post([&] {
    began = true;
    while (!queue.closed()) std::this_thread::yield();
    std::this_thread::sleep_for(Milliseconds(20));  // widens the window that must not be there
    ended = true;
  });
  std::thread driver([&] { queue.Drive(kLong); });
  while (!began) std::this_thread::yield();
  queue.Close();
  EXPECT_TRUE(ended);
  driver.join();
}

TEST(DriveQueue, APieceMayCloseItsOwnQueue) {
  DriveQueue queue;
  queue.Post([&] { queue.Close(); });
  bool ran = false;
  queue.Post([&ran] { ran = true; });
  EXPECT_EQ(queue.Drive(kLong), 1u);
  EXPECT_FALSE(ran);
}

// The piece that runs waits for what a dropped one would have done.
TEST(DriveQueue, CloseDropsBeforeItWaits) {
  DriveQueue queue;
  auto held = std::make_shared<int>(1);
  std::atomic<bool> began{false};
  queue.Post([&began, weak = std::weak_ptr<int>(held)] {
    began = true;
    while (!weak.expired()) std::this_thread::yield();
  });
  queue.Post([held = std::move(held)] {});
  std::thread driver([&] { queue.Drive(kLong); });
  while (!began) std::this_thread::yield();
  queue.Close();
  driver.join();
}

// A promise in dropped work may run callbacks that post again.
TEST(DriveQueue, DroppedWorkMayPostFromItsDestructor) {
  struct PostsAtTheEnd {
    DriveQueue* queue;
    ~PostsAtTheEnd() {
      queue->Post([] {});
    }
  };
  DriveQueue queue;
  queue.Post([last = std::make_shared<PostsAtTheEnd>(PostsAtTheEnd{&queue})] {});
  queue.Close();
  EXPECT_EQ(queue.Drive(Duration::zero()), 0u);
}

TEST(DriveQueue, ManyThreadsPost) {
  constexpr int kThreads = 4;
  constexpr int kEach = 500;
  DriveQueue queue;
  std::vector<int> last(kThreads, -1);
  size_t ran = 0;
  std::vector<std::thread> posters;
  for (int t = 0; t < kThreads; ++t) {
    posters.emplace_back([&, t] {
      for (int k = 0; k < kEach; ++k) {
        queue.Post([&last, t, k] {
          EXPECT_EQ(last[t] + 1, k) << "in order for each thread";
          last[t] = k;
        });
      }
    });
  }
  while (ran < kThreads * kEach) ran += queue.Drive(kLong);
  for (std::thread& poster : posters) poster.join();
  EXPECT_EQ(ran, static_cast<size_t>(kThreads * kEach));
}

}  // namespace
}  // namespace packcast
