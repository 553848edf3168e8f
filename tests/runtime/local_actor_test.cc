// Actors of one runtime: calls without a wire, timers, mailboxes, typed methods, stopping.
#include <stdexcept>
#include <thread>

#include <gtest/gtest.h>

#include "protocol/limits.h"
#include "runtime/base/clock.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::Echo;
using testing::FunctionActor;
using testing::Gate;
using testing::kPatience;
using testing::OnMessages;
using testing::Record;
using testing::StartRuntime;

struct Point {
  int x = 0;
  std::optional<std::string> label;
  template <class V>
  void Fields(V& v) {
    v("x", x);
    v("label", label);
  }
};

class Counter {
 public:
  int64_t Add(int32_t amount) { return total_ += amount; }
  void Reset() { total_ = 0; }
  Status Check(bool good) { return good ? OkStatus() : FailedPrecondition("not good"); }
  StatusOr<Point> Move(Context&, const Point& from, const std::vector<int>& steps) const {
    Point to = from;
    for (int step : steps) to.x += step;
    return to;
  }
  void Throw() { throw std::runtime_error("boom"); }
  Future<int> Later() { return MakeReady<int>(5); }

  static void Methods(MethodTable<Counter>& table) {
    table.Add("add", &Counter::Add)
        .Add("reset", &Counter::Reset)
        .Add("check", &Counter::Check)
        .Add("move", &Counter::Move)
        .Add("throw", &Counter::Throw)
        .Add("later", &Counter::Later);
  }

 private:
  int64_t total_ = 0;
};

class LocalActorTest : public ::testing::Test {
 protected:
  ActorRef Spawn(std::unique_ptr<Actor> actor) {
    return runtime_->Spawn("actor", std::move(actor)).value();
  }
  std::unique_ptr<Runtime> runtime_ = StartRuntime("node");
};

TEST_F(LocalActorTest, TypedCallsConvertBothWays) {
  const TypedRef<Counter> counter(Spawn(std::make_unique<Hosted<Counter>>()));
  EXPECT_EQ(*counter.Call(&Counter::Add, 3).Get(kPatience), 3);
  EXPECT_EQ(*counter.Call(&Counter::Add, 4).Get(kPatience), 7);
  EXPECT_TRUE(counter.Call(&Counter::Reset).Get(kPatience).ok());
  EXPECT_TRUE(counter.Call(&Counter::Check, true).Get(kPatience).ok());
  const Status bad = counter.Call(&Counter::Check, false).Get(kPatience).status();
  EXPECT_EQ(bad, FailedPrecondition("not good"));
  EXPECT_EQ(bad.outcome(), Outcome::kExecuted);
  const auto moved =
      counter.Call(&Counter::Move, Point{1, "p"}, std::vector<int>{2, 3}).Get(kPatience);
  EXPECT_EQ(moved->x, 6);
  EXPECT_EQ(moved->label, "p");
  EXPECT_EQ(*counter.Call(&Counter::Later).Get(kPatience), 5);
  EXPECT_EQ(*CallMethod<int64_t>(counter.ref(), "add", {}, 1).Get(kPatience), 1);
}

TEST_F(LocalActorTest, WrongArgumentsAreNamed) {
  const ActorRef ref = Spawn(std::make_unique<Hosted<Counter>>());
  const auto error = [&](const std::string& method, Value body) {
    const Status status = ref.Call(method, std::move(body)).Get(kPatience).status();
    EXPECT_EQ(status.outcome(), Outcome::kNotExecuted);
    return status.message();
  };
  EXPECT_EQ(error("add", ValueArray{}), "method \"add\" takes 1 argument, got 0");
  EXPECT_EQ(error("add", ValueArray{Value("3")}),
            "method \"add\", argument 0: expected an integer of 32 bits, got string \"3\"");
  EXPECT_EQ(
      error("add", ValueArray{Value(int64_t{1} << 40)}),
      "method \"add\", argument 0: expected an integer of 32 bits, got integer 1099511627776");
  EXPECT_EQ(error("move", ValueArray{Value(ValueMap{{"x", "a"}}), Value(ValueArray{})}),
            "method \"move\", argument 0: x: expected an integer of 32 bits, got string \"a\"");
  EXPECT_EQ(error("fly", Value()),
            "no method \"fly\"; there are: add, reset, check, move, throw, later");
}

TEST_F(LocalActorTest, WhatAMethodThrowsIsTheCallsError) {
  const TypedRef<Counter> counter(Spawn(std::make_unique<Hosted<Counter>>()));
  const Status status = counter.Call(&Counter::Throw).Get(kPatience).status();
  EXPECT_EQ(status.code(), StatusCode::kInternal);
  EXPECT_NE(status.message().find("boom"), std::string::npos);
  EXPECT_EQ(*counter.Call(&Counter::Add, 1).Get(kPatience), 1);
}

TEST_F(LocalActorTest, WhatAHandlerThrowsEndsNothingButTheHandler) {
  const ActorRef mortal =
      runtime_
          ->Spawn("mortal",
                  OnMessages([](Context& context, Message) { context.Fail(Internal("told to")); }))
          .value();
  // Shared: the actors outlive the test's body.
  const auto thrown = std::make_shared<Record<std::string>>();
  const auto fail = [thrown](const std::string& what) {
    thrown->Add(what);
    throw std::runtime_error(what);
  };
  auto actor = OnMessages([fail](Context& context, Message message) {
    if (message.responder.valid()) return message.responder.Reply(int64_t{context.life()});
    context.SetTimer(context.now());
    context.Post([fail](Context&) { fail("posted"); });
    context.Post([fail](Context&) { fail("posted control"); }, /*control=*/true);
    context.Await<int>(MakeReady<int>(1),
                       [fail](Context&, const StatusOr<int>&) { fail("awaited"); });
    fail("tell");
  });
  actor->on_start = [mortal](Context& context) { context.Monitor(mortal); };
  actor->on_timer = [fail](Context&, TimerId) { fail("timer"); };
  actor->on_peer = [fail](Context&, const PeerEvent&) { fail("peer"); };
  const ActorRef ref = Spawn(std::move(actor));
  const auto events = std::make_shared<Record<PeerEvent>>();
  auto watcher = OnMessages([](Context&, Message message) { message.responder.Reply(Value()); });
  watcher->on_start = [ref](Context& context) { context.Monitor(ref); };
  watcher->on_peer = [events](Context&, const PeerEvent& event) { events->Add(event); };
  const ActorRef watching = runtime_->Spawn("watcher", std::move(watcher)).value();
  ASSERT_TRUE(watching.Call("ready", Value()).Get(kPatience).ok());
  ASSERT_TRUE(ref.Call("ready", Value()).Get(kPatience).ok());
  ASSERT_TRUE(ref.Tell("throw", Value()).ok());
  ASSERT_TRUE(mortal.Tell("fail", Value()).ok());
  ASSERT_TRUE(thrown->WaitForCount(6));
  const StatusOr<Value> life = ref.Call("life", Value()).Get(kPatience);
  ASSERT_TRUE(life.ok()) << life.status();
  EXPECT_EQ(*life, Value(1));
  EXPECT_EQ(events->items().size(), 0u);
}

TEST_F(LocalActorTest, WhatATypedTellThrowsEndsNothing) {
  const TypedRef<Counter> counter(Spawn(std::make_unique<Hosted<Counter>>()));
  ASSERT_EQ(*counter.Call(&Counter::Add, 1).Get(kPatience), 1);
  ASSERT_TRUE(counter.Tell(&Counter::Throw).ok());
  EXPECT_EQ(*counter.Call(&Counter::Add, 1).Get(kPatience), 2) << "it is the same object";
}

TEST_F(LocalActorTest, TimersFireOnceAndCancelledOnesNever) {
  Record<TimerId> fired;
  std::vector<TimerId> set;
  auto actor = std::make_unique<FunctionActor>();
  actor->on_start = [&](Context& context) {
    set.push_back(context.SetTimer(context.now() + Milliseconds(20)));
    set.push_back(context.SetTimer(context.now() + Milliseconds(1)));
    set.push_back(context.SetTimer(context.now()));
    context.Cancel(set[1]);
  };
  actor->on_timer = [&](Context& context, TimerId timer) {
    EXPECT_GE(context.now().time_since_epoch().count(), 0);
    fired.Add(timer);
  };
  Spawn(std::move(actor));
  ASSERT_TRUE(fired.WaitForCount(2));
  EXPECT_EQ(fired.items(), (std::vector<TimerId>{set[2], set[0]}));
}

TEST_F(LocalActorTest, ControlOvertakesQueuedMessages) {
  Gate gate;
  Record<std::string> seen;
  const ActorRef ref = Spawn(OnMessages([&](Context&, Message message) {
    if (message.method == "first") gate.Wait();
    seen.Add(message.method);
  }));
  ASSERT_TRUE(ref.Tell("first", Value()).ok());
  for (int k = 0; k < 100; ++k) ASSERT_TRUE(ref.Tell("normal", Value()).ok());
  ASSERT_TRUE(ref.Tell("urgent", Value(), {.control = true}).ok());
  gate.Open();
  ASSERT_TRUE(seen.WaitForCount(102));
  const auto items = seen.items();
  EXPECT_TRUE(items[0] == "urgent" || items[1] == "urgent");
}

TEST_F(LocalActorTest, FullMailboxFailsAtOnce) {
  Gate gate;
  const ActorRef ref = Spawn(OnMessages([&](Context&, Message) { gate.Wait(); }));
  Status status;
  size_t accepted = 0;
  // A few more than the limit: those that a turn has taken already.
  while (accepted <= limits::kMailboxMessages + 100) {
    status = ref.Tell("x", Value());
    if (!status.ok()) break;
    ++accepted;
  }
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(status.outcome(), Outcome::kNotExecuted);
  EXPECT_GE(accepted, limits::kMailboxMessages);
  gate.Open();
  runtime_->Shutdown(kPatience);  // its handlers use the gate
}

TEST_F(LocalActorTest, NamesAreUniqueAndFreeAfterStop) {
  Record<std::string> steps;
  auto actor = std::make_unique<FunctionActor>();
  actor->on_message = [&](Context&, Message message) { steps.Add(message.method); };
  actor->on_stop = [&](Context&) { steps.Add("stop"); };
  const ActorRef ref = Spawn(std::move(actor));
  EXPECT_EQ(runtime_->Spawn("actor", Echo()).status().code(), StatusCode::kAlreadyExists);
  ASSERT_TRUE(ref.Tell("queued", Value()).ok());
  ASSERT_TRUE(runtime_->Stop(ref).ok());
  EXPECT_EQ(steps.items(), (std::vector<std::string>{"queued", "stop"}));
  EXPECT_EQ(ref.Tell("late", Value()).code(), StatusCode::kNotFound);
  EXPECT_EQ(ref.Call("late", Value()).Get(kPatience).status().outcome(), Outcome::kNotExecuted);
  EXPECT_NE(Spawn(Echo()).incarnation(), ref.incarnation());
}

TEST_F(LocalActorTest, AwaitRunsInTheActor) {
  Record<int> got;
  const ActorRef echo = runtime_->Spawn("echo", Echo()).value();
  auto actor = std::make_unique<FunctionActor>();
  actor->on_start = [&](Context& context) {
    context.Await<Value>(echo.Call("e", Value(4)), [&](Context& inner, const auto& reply) {
      EXPECT_EQ(inner.self().actor(), "actor");
      EXPECT_EQ(*reply, Value(4));
      got.Add(1);
    });
  };
  Spawn(std::move(actor));
  EXPECT_TRUE(got.WaitForCount(1));
}

TEST_F(LocalActorTest, AnActorWhoseStartThrowsDies) {
  Gate gate;
  Record<std::string> steps;
  auto actor = std::make_unique<FunctionActor>();
  actor->on_start = [&](Context&) {
    gate.Wait();
    throw std::runtime_error("boom");
  };
  actor->on_message = [&](Context&, Message message) { steps.Add(message.method); };
  actor->on_stop = [&](Context&) { steps.Add("stop"); };
  const ActorRef ref = Spawn(std::move(actor));
  Record<PeerEvent> events;
  auto watcher = std::make_unique<FunctionActor>();
  watcher->on_start = [&](Context& context) {
    context.Monitor(ref);
    gate.Open();
  };
  watcher->on_peer = [&](Context&, const PeerEvent& event) { events.Add(event); };
  const Future<Value> queued = ref.Call("queued", Value());
  ASSERT_TRUE(runtime_->Spawn("watcher", std::move(watcher)).ok());

  const Status failed = queued.Get(kPatience).status();
  EXPECT_EQ(failed, Internal("actor \"actor\": OnStart threw: boom"));
  EXPECT_EQ(failed.outcome(), Outcome::kNotExecuted);
  ASSERT_TRUE(steps.WaitForCount(1));
  EXPECT_TRUE(runtime_->Stop(ref).ok());
  EXPECT_EQ(ref.Call("late", Value()).Get(kPatience).status(), failed);
  ASSERT_TRUE(events.WaitForCount(1));
  EXPECT_EQ(events.items()[0].kind, PeerEvent::Kind::kDied);
  EXPECT_EQ(events.items()[0].cause, failed.message());
  EXPECT_EQ(steps.items(), std::vector<std::string>{"stop"});
  EXPECT_NE(Spawn(Echo()).incarnation(), ref.incarnation());
}

TEST_F(LocalActorTest, ForEverDoesNotOverflow) {
  const ActorRef ref = Spawn(Echo());
  const auto other = StartRuntime("other");
  const StatusOr<ActorRef> found = other->Connect(runtime_->endpoint(), "actor", Duration::max());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->Call("e", Value(), {.deadline = Duration::max()}).Get(Duration::max()).ok());
  EXPECT_TRUE(runtime_->Stop(ref, Duration::max()).ok());
  Record<int> handled;
  Gate gate;
  const ActorRef slow = Spawn(OnMessages([&](Context&, Message) {
    gate.Wait();
    handled.Add(1);
  }));
  ASSERT_TRUE(slow.Tell("x", Value()).ok());
  std::thread opener([&] { gate.Open(); });
  runtime_->Shutdown(Duration::max());  // waits for the handler
  opener.join();
  EXPECT_EQ(handled.items().size(), 1u);
}

TEST_F(LocalActorTest, ShutdownIsBoundedWhenUserCodeIsStuck) {
  auto gate = std::make_shared<Gate>();
  const ActorRef ref = Spawn(OnMessages([gate](Context&, Message) { gate->Wait(); }));
  const Future<Value> call = ref.Call("stick", Value());
  const Time start = Now();
  runtime_->Shutdown(Milliseconds(50));
  EXPECT_LT(ToSeconds(Now() - start), 5.0);
  EXPECT_TRUE(call.ready());
  gate->Open();
}

TEST_F(LocalActorTest, WhatACallbackThrowsEndsNothing) {
  const ActorRef echo = Spawn(Echo());
  for (int k = 0; k < 4; ++k) {  // more than there are threads
    echo.Call("e", Value()).Then([](const StatusOr<Value>&) { throw std::runtime_error("boom"); });
  }
  Record<int> got;
  echo.Call("e", Value()).Then([&](const StatusOr<Value>&) { got.Add(1); });
  EXPECT_TRUE(got.WaitForCount(1));
}

TEST_F(LocalActorTest, WhoAwaitsAFutureThatWasNeverMadeIsTold) {
  Record<StatusCode> got;
  auto actor = std::make_unique<FunctionActor>();
  actor->on_start = [&](Context& context) {
    context.Await<Value>(Future<Value>(), [&](Context&, const StatusOr<Value>& result) {
      got.Add(result.status().code());
    });
  };
  Spawn(std::move(actor));
  ASSERT_TRUE(got.WaitForCount(1));
  EXPECT_EQ(got.items()[0], StatusCode::kFailedPrecondition);
}

TEST_F(LocalActorTest, ACallOfARawHandlerThatThrowsSaysSo) {
  const ActorRef ref =
      Spawn(OnMessages([](Context&, Message) { throw std::runtime_error("boom"); }));
  const Status thrown = ref.Call("m", Value()).Get(kPatience).status();
  EXPECT_EQ(thrown.code(), StatusCode::kInternal);
  EXPECT_EQ(thrown.outcome(), Outcome::kExecuted);
  EXPECT_NE(thrown.message().find("threw"), std::string::npos) << thrown;
}

TEST_F(LocalActorTest, AMethodHasANameOfItsOwn) {
  const auto refused = [&](const std::vector<std::string>& names) {
    MethodTable<Counter> table;
    for (const std::string& name : names) table.Add(name, &Counter::Reset);
    auto actor = std::make_unique<FunctionActor>();
    actor->catalog = table.catalog();
    const Status status = runtime_->Spawn("named", std::move(actor)).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
    return status.message();
  };
  EXPECT_NE(refused({"get", "put", "get"}).find("\"get\""), std::string::npos);
  EXPECT_NE(refused({"$get"}).find("\"$get\""), std::string::npos);
  EXPECT_NE(refused({std::string(limits::kNameBytes + 1, 'x')}).find("1 to"), std::string::npos);
  refused({""});
}

}  // namespace
}  // namespace packcast
