// How a runtime ends.
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/clock.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::Gate;
using testing::kPatience;
using testing::OnMessages;

constexpr int kQueued = 100;

class ShutdownTest : public ::testing::Test {
 protected:
  struct Shared {
    Gate is_held;
    Gate goes_on;
    std::atomic<int> handled{0};
  };
  ~ShutdownTest() override { shared_->goes_on.Open(); }
  // Its first handler waits, and the rest is queued.
  void SpawnHeld() {
    const ActorRef ref = runtime_
                             ->Spawn("held", OnMessages([shared = shared_](Context&, Message) {
                                       shared->is_held.Open();
                                       shared->goes_on.Wait();
                                       ++shared->handled;
                                     }))
                             .value();
    for (int k = 0; k <= kQueued; ++k) EXPECT_TRUE(ref.Tell("m", Value()).ok());
    shared_->is_held.Wait();
  }
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::unique_ptr<Runtime> runtime_ = testing::StartRuntime("node");
};

TEST_F(ShutdownTest, HandlesWhatIsQueuedWithinItsDrain) {
  SpawnHeld();
  std::thread opening([this] {
    // Once nothing more is let in: it shuts down.
    while (true) {
      const StatusOr<ActorRef> probe = runtime_->Spawn("probe", testing::Echo());
      if (!probe.ok()) break;
      (void)runtime_->Kill(*probe);
      std::this_thread::yield();
    }
    shared_->goes_on.Open();
  });
  runtime_->Shutdown(kPatience);
  opening.join();
  EXPECT_EQ(shared_->handled, 1 + kQueued);
}

TEST_F(ShutdownTest, TheDestructorGivesHandlersASecond) {
  SpawnHeld();
  const Time begin = Now();
  runtime_.reset();  // although a handler is stuck
  EXPECT_GE(Now() - begin, Seconds(1));
  EXPECT_EQ(shared_->handled, 0);
}

TEST_F(ShutdownTest, AHandlerThatIsLeftBehindGoesOnWithItsRuntime) {
  const auto told = std::make_shared<testing::Record<StatusCode>>();
  const auto handler = [shared = shared_, told](Context& context, Message) {
    Runtime& runtime = context.runtime();
    shared->is_held.Open();
    shared->goes_on.Wait();
    EXPECT_EQ(&context.runtime(), &runtime);
    EXPECT_EQ(runtime.name(), "node");
    told->Add(runtime.Spawn("late", testing::Echo()).status().code());
    told->Add(runtime.Connect(runtime.endpoint(), "late", kPatience).status().code());
    told->Add(runtime.Busy(Seconds(1), "late").status().code());
    told->Add(runtime.Find("held").status().code());
  };
  // No reference is kept: only the handler is left.
  EXPECT_TRUE(runtime_->Spawn("held", OnMessages(handler)).value().Tell("m", Value()).ok());
  shared_->is_held.Wait();
  runtime_.reset();
  shared_->goes_on.Open();
  ASSERT_TRUE(told->WaitForCount(4));
  EXPECT_EQ(told->items(),
            (std::vector<StatusCode>{StatusCode::kCancelled, StatusCode::kCancelled,
                                     StatusCode::kCancelled, StatusCode::kNotFound}));
}

TEST_F(ShutdownTest, CallbacksOfWhatItCancelsRun) {
  constexpr int kCalls = 200;
  auto results = std::make_shared<testing::Record<StatusCode>>();
  for (int k = 0; k < kCalls; ++k) {
    // Nothing listens there: the end of the runtime resolves it.
    runtime_->ConnectAsync("tcp://127.0.0.1:1", "nobody", kPatience)
        .Then([results](const StatusOr<ActorRef>& ref) { results->Add(ref.status().code()); });
  }
  runtime_.reset();
  EXPECT_EQ(results->items(), std::vector<StatusCode>(kCalls, StatusCode::kCancelled));
}

}  // namespace
}  // namespace packcast
