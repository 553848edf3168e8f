// Control work never queues behind the user code of default work: who gets which thread.
#include <algorithm>
#include <string>
#include <vector>

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

// More messages than one turn handles.
constexpr int kMany = 2000;

// How many messages a default turn handles when it begins with one, and kMany come meanwhile: those
// before another actor has its turn on the only thread.
size_t TurnLength() {
  RuntimeOptions options;
  options.executor_threads = 1;
  const auto runtime = testing::StartRuntime("measured", options);
  // Shared: the actors outlive this function's body.
  const auto seen = std::make_shared<Record<std::string>>();
  const auto gate = std::make_shared<Gate>();
  const auto note = [seen, gate](Context&, Message message) {
    if (message.responder.valid()) return message.responder.Reply({});
    seen->Add(message.method);
    if (message.method == "first") gate->Wait();
  };
  const ActorRef busy = runtime->Spawn("busy", OnMessages(note)).value();
  const ActorRef other = runtime->Spawn("other", OnMessages(note)).value();
  for (const ActorRef& ref : {busy, other}) {  // they have started
    EXPECT_TRUE(ref.Call("q", Value(), {.control = true}).Get(kSoon).ok());
  }
  EXPECT_TRUE(busy.Tell("first", Value()).ok());
  EXPECT_TRUE(seen->WaitForCount(1));
  for (int k = 0; k < kMany; ++k) EXPECT_TRUE(busy.Tell("more", Value()).ok());
  EXPECT_TRUE(other.Tell("other", Value()).ok());
  gate->Open();
  EXPECT_TRUE(seen->WaitForCount(kMany + 2));
  const std::vector<std::string> items = seen->items();
  return std::find(items.begin(), items.end(), "other") - items.begin();
}

// The control item that came during the last item of a default turn must not wait for the next
// default turn.
TEST_F(SchedulingTest, ControlThatComesDuringADefaultTurnGoesBackToItsThread) {
  const int turn = static_cast<int>(TurnLength());
  ASSERT_GT(turn, 1);
  ASSERT_LT(turn, kMany);
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
  for (int k = 2; k < kMany; ++k) {
    ASSERT_TRUE(busy.Tell(k == turn ? "last" : "more", Value()).ok());
  }
  first_.Open();
  ASSERT_TRUE(seen_.WaitForCount(turn));
  // One has the second default thread, one waits for the next that is free.
  ASSERT_TRUE(other.Tell("other", Value()).ok());
  ASSERT_TRUE(seen_.WaitForCount(turn + 1));
  ASSERT_TRUE(another.Tell("another", Value()).ok());
  const Future<Value> urgent = busy.Call("urgent", Value(), {.control = true});
  // Its control turn has found the actor busy when the control thread has gone on.
  ASSERT_TRUE(ControlCall(Spawn("quick", Echo())).ok());
  second_.Open();
  EXPECT_TRUE(urgent.Get(kSoon).ok());
}

}  // namespace
}  // namespace packcast
