#include "runtime/data/data_thread.h"

#include <future>
#include <vector>

#include "gtest/gtest.h"

namespace packcast {
namespace {

TEST(DataThread, RunsJobsOneAfterTheOtherInOrder) {
  std::vector<int> ran;
  std::promise<void> last;
  DataThread thread("data");
  for (int k = 0; k < 10; ++k) {
    ASSERT_TRUE(thread
                    .Submit([&, k](const DataThread::Context&) {
                      ran.push_back(k);
                      if (k == 9) last.set_value();
                    })
                    .ok());
  }
  last.get_future().wait();
  EXPECT_EQ(ran, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(DataThread, QueueIsBoundedAndBeatsGrow) {
  std::promise<void> started;
  std::promise<void> go;
  std::future<void> gate = go.get_future();
  DataThread thread("data", 1);
  ASSERT_TRUE(thread
                  .Submit([&](const DataThread::Context& context) {
                    context.Beat();
                    started.set_value();
                    gate.wait();
                  })
                  .ok());
  started.get_future().wait();
  EXPECT_TRUE(thread.busy());
  EXPECT_GE(thread.beats(), 2u);
  EXPECT_TRUE(thread.Submit([](const DataThread::Context&) {}).ok());
  EXPECT_EQ(thread.Submit([](const DataThread::Context&) {}).status().code(),
            StatusCode::kResourceExhausted);
  go.set_value();
}

TEST(DataThread, DestructionCancelsWhatRunsAndWhatWaitsAndRunsBoth) {
  Status first;
  Status second;
  {
    std::promise<void> started;
    DataThread thread("data");
    ASSERT_TRUE(thread
                    .Submit([&](const DataThread::Context& context) {
                      std::promise<void> cancelled;
                      ScopedWake wake(context.cancel, [&] { cancelled.set_value(); });
                      started.set_value();
                      cancelled.get_future().wait();
                      first = context.cancel->status();
                    })
                    .ok());
    ASSERT_TRUE(
        thread
            .Submit([&](const DataThread::Context& context) { second = context.cancel->status(); })
            .ok());
    started.get_future().wait();
  }
  EXPECT_EQ(first.code(), StatusCode::kCancelled);
  EXPECT_EQ(second.code(), StatusCode::kCancelled);
}

TEST(CancelToken, FirstReasonWinsAndLateWakesRunAtOnce) {
  CancelToken token;
  EXPECT_TRUE(token.status().ok());
  token.Cancel(Aborted("first"));
  token.Cancel(Aborted("second"));
  EXPECT_EQ(token.status(), Aborted("first"));
  int woken = 0;
  ScopedWake wake(&token, [&] { ++woken; });
  EXPECT_EQ(woken, 1);
}

TEST(CancelToken, RemovedWakesDoNotRun) {
  CancelToken token;
  int woken = 0;
  {
    ScopedWake wake(&token, [&] { ++woken; });
  }
  token.Cancel(Status());
  EXPECT_EQ(woken, 0);
  EXPECT_EQ(token.status().code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace packcast
