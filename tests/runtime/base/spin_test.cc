#include "runtime/base/spin.h"

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace packcast {
namespace {

// Hands items on to threads that take one each time.
void HandOver(size_t consumers) {
  std::mutex mutex;
  SpinCondition changed;
  size_t queued = 0;
  bool done = false;
  constexpr int kItems = 20'000;
  std::vector<int> taken(consumers);
  std::vector<std::thread> threads;
  for (size_t k = 0; k < consumers; ++k) {
    threads.emplace_back([&, k] {
      std::unique_lock lock(mutex);
      while (true) {
        changed.Wait(lock, [&] { return queued > 0 || done; });
        if (queued == 0) return;
        --queued;
        ++taken[k];
      }
    });
  }
  for (int k = 0; k < kItems; ++k) {
    std::lock_guard lock(mutex);
    ++queued;
    changed.NotifyOne(queued);
  }
  {
    std::lock_guard lock(mutex);
    done = true;
    changed.NotifyAll();
  }
  for (std::thread& thread : threads) thread.join();
  int sum = 0;
  for (const int count : taken) sum += count;
  EXPECT_EQ(sum, kItems);
}

TEST(SpinBudget, ShrinksWhereOthersWantTheProcessorAndComesBack) {
  constexpr Duration kMost = Milliseconds(1);
  SpinBudget budget(kMost);
  EXPECT_EQ(budget.Next(), kMost);
  EXPECT_TRUE(budget.StoodAside(Microseconds(2)));
  EXPECT_EQ(budget.Next(), kMost);
  EXPECT_FALSE(budget.StoodAside(Microseconds(400)));
  EXPECT_EQ(budget.Next(), kMost / 2);
  for (int k = 0; k < 20; ++k) EXPECT_FALSE(budget.StoodAside(Milliseconds(3)));
  const Duration least = budget.Next();
  EXPECT_GT(least, Duration::zero()) << "or it would never come back";
  EXPECT_LT(least, kMost / 32);
  for (int k = 0; k < 60; ++k) budget.Next();
  EXPECT_EQ(budget.Next(), kMost);
}

TEST(SpinCondition, NoChangeIsMissed) {
  for (const size_t consumers : {1, 2, 5}) HandOver(consumers);
}

TEST(SpinCondition, WaitForEndsWithoutAChange) {
  std::mutex mutex;
  SpinCondition changed;
  std::unique_lock lock(mutex);
  EXPECT_FALSE(changed.WaitFor(lock, Milliseconds(2), [] { return false; }));
  EXPECT_FALSE(changed.WaitFor(lock, Duration::zero(), [] { return false; }));
  EXPECT_TRUE(changed.WaitFor(lock, Duration::zero(), [] { return true; }));
}

// The second comes before the waiter that the first one woke has taken it.
TEST(SpinCondition, TwoChangesWakeTwo) {
  std::mutex mutex;
  SpinCondition changed;
  SpinCondition ended;
  size_t queued = 0;
  int count = 0;
  const auto take = [&] {
    std::unique_lock lock(mutex);
    changed.Wait(lock, [&] { return queued > 0; });
    --queued;
    ++count;
    ended.NotifyAll();
  };
  std::thread first(take);
  std::thread second(take);
  for (int k = 0; k < 2; ++k) {
    std::lock_guard lock(mutex);
    ++queued;
    changed.NotifyOne(queued);
  }
  {
    std::unique_lock lock(mutex);
    ended.Wait(lock, [&] { return count == 2; });
  }
  first.join();
  second.join();
}

}  // namespace
}  // namespace packcast

// Twice: as on a machine of few processors, and as on one of many.
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (std::getenv("PACKCAST_SPIN_US") != nullptr) return RUN_ALL_TESTS();
  for (const char* us : {"0", "200"}) {
    const std::string command = std::string("PACKCAST_SPIN_US=") + us + " '" + argv[0] + "'";
    if (const int result = std::system(command.c_str()); result != 0) return 1;
  }
  return 0;
}
