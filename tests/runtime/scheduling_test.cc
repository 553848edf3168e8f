// Control work never queues behind the user code of default work: who gets which thread.
#include <gtest/gtest.h>

#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::Echo;
using testing::FunctionActor;
using testing::Gate;
using testing::OnMessages;
using testing::Record;

// Less than what a gate that stays shut takes, so that a wait for it shows.
constexpr Duration kSoon = Seconds(10);

class SchedulingTest : public ::testing::Test {
 protected:
  // The gates outlive the handlers that wait at them.
  ~SchedulingTest() override {
    for (Gate* gate : {&first_, &second_, &third_}) gate->Open();
    runtime_->Shutdown(kSoon);
  }
  ActorRef Spawn(const std::string& name, std::unique_ptr<Actor> actor) {
    return runtime_->Spawn(name, std::move(actor)).value();
  }
  static Status ControlCall(const ActorRef& ref) {
    return ref.Call("q", Value(), {.control = true}).Get(kSoon).status();
  }

  Gate first_;
  Gate second_;
  Gate third_;
  Record<std::string> seen_;
  std::unique_ptr<Runtime> runtime_ = [] {
    RuntimeOptions options;
    options.executor_threads = 2;
    return testing::StartRuntime("node", options);
  }();
};

TEST_F(SchedulingTest, DefaultItemsOfAControlTurnLeaveTheControlThread) {
  auto actor = std::make_unique<FunctionActor>();
  actor->on_start = [&](Context&) {
    seen_.Add("start");
    first_.Wait();
  };
  actor->on_message = [&](Context&, Message message) {
    seen_.Add(message.method);
    second_.Wait();
  };
  const ActorRef slow = Spawn("slow", std::move(actor));
  const ActorRef quick = Spawn("quick", Echo());
  ASSERT_TRUE(seen_.WaitForCount(1));
  ASSERT_TRUE(slow.Tell("default", Value()).ok());  // while a control item of it runs
  first_.Open();
  ASSERT_TRUE(seen_.WaitForCount(2));
  EXPECT_TRUE(ControlCall(quick).ok());
}

TEST_F(SchedulingTest, AnIdleDefaultThreadTakesControlWork) {
  const ActorRef slow = Spawn("slow", OnMessages([&](Context&, Message message) {
                                seen_.Add(message.method);
                                first_.Wait();
                              }));
  const ActorRef quick = Spawn("quick", Echo());
  ASSERT_TRUE(ControlCall(quick).ok());
  ASSERT_TRUE(slow.Tell("control", Value(), {.control = true}).ok());
  ASSERT_TRUE(seen_.WaitForCount(1));
  EXPECT_TRUE(ControlCall(quick).ok());
}

// A default turn ends after 64 items; the control item that came during the last one must not wait
// for the next default turn.
TEST_F(SchedulingTest, ControlThatComesDuringADefaultTurnGoesBackToItsThread) {
  const ActorRef busy = Spawn("busy", OnMessages([&](Context&, Message message) {
                                if (message.responder.valid()) return message.responder.Reply({});
                                seen_.Add(message.method);
                                if (message.method == "first") first_.Wait();
                                if (message.method == "last") second_.Wait();
                              }));
  const auto block = [&](Context&, Message message) {
    seen_.Add(message.method);
    third_.Wait();
  };
  const ActorRef other = Spawn("other", OnMessages(block));
  const ActorRef another = Spawn("another", OnMessages(block));
  ASSERT_TRUE(ControlCall(busy).ok());  // it has started, and its next turn is a new one
  ASSERT_TRUE(busy.Tell("first", Value()).ok());
  ASSERT_TRUE(seen_.WaitForCount(1));
  for (int k = 0; k < 62; ++k) ASSERT_TRUE(busy.Tell("more", Value()).ok());
  ASSERT_TRUE(busy.Tell("last", Value()).ok());
  first_.Open();
  ASSERT_TRUE(seen_.WaitForCount(64));
  // One has the second default thread, one waits for the next that is free.
  ASSERT_TRUE(other.Tell("other", Value()).ok());
  ASSERT_TRUE(seen_.WaitForCount(65));
  ASSERT_TRUE(another.Tell("another", Value()).ok());
  const Future<Value> urgent = busy.Call("urgent", Value(), {.control = true});
  // Its control turn has found the actor busy when the control thread has gone on.
  ASSERT_TRUE(ControlCall(Spawn("quick", Echo())).ok());
  second_.Open();
  EXPECT_TRUE(urgent.Get(kSoon).ok());
}

}  // namespace
}  // namespace packcast
