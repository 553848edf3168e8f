#include "runtime/base/seqlock.h"

#include <atomic>
#include <thread>

#include <gtest/gtest.h>

namespace packcast {
namespace {

TEST(SeqlockTest, BeginsWithZerosAndKeepsWhatWasStored) {
  Seqlock<2> cell;
  EXPECT_EQ(cell.Load(), (Seqlock<2>::Words{0, 0}));
  cell.Store({1, 2});
  EXPECT_EQ(cell.Load(), (Seqlock<2>::Words{1, 2}));
}

TEST(SeqlockTest, AReaderNeverSeesTwoMomentsMixed) {
  Seqlock<3> cell;
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (uint64_t k = 1; k <= 100'000; ++k) cell.Store({k, 2 * k, 3 * k});
    done = true;
  });
  uint64_t last = 0;
  while (!done) {
    const auto words = cell.Load();
    ASSERT_EQ(words[1], 2 * words[0]);
    ASSERT_EQ(words[2], 3 * words[0]);
    ASSERT_GE(words[0], last);
    last = words[0];
  }
  writer.join();
  EXPECT_EQ(cell.Load()[0], 100'000u);
}

}  // namespace
}  // namespace packcast
