// How actors fail, live again, and are killed, with their children; here and over loopback TCP.
#include <atomic>
#include <iterator>
#include <stdexcept>
#include <thread>

#include <gtest/gtest.h>

#include "runtime/actor/link.h"
#include "runtime/actor/node.h"
#include "runtime/base/clock.h"
#include "tests/runtime/lives_fixture.h"

namespace packcast {
namespace {

using testing::Echo;
using testing::FunctionActor;
using testing::Gate;
using testing::Gates;
using testing::kPatience;
using testing::Mortal;
using testing::Patient;
using testing::Record;
using testing::Restarts;
using testing::StartRuntime;
using Kind = PeerEvent::Kind;

class LivesTest : public testing::LivesFixture {
 protected:
  using Spawned = std::shared_ptr<Record<Status>>;

  // An actor whose lives each spawn a "child", and note what became of that.
  ActorFactory ParentFactory(const Spawned& spawned) {
    return [gates = gates_, spawned] {
      auto actor = std::make_unique<FunctionActor>();
      actor->on_start = [gates, spawned](Context& context) {
        auto child = std::make_unique<Mortal>(gates);
        spawned->Add(context.runtime().Spawn("child", std::move(child)).status());
      };
      actor->on_message = [](Context& context, Message message) {
        context.Fail(Internal("told to"));
        message.responder.Reply(int64_t{context.life()});
      };
      return actor;
    };
  }
  // The timers that were due before have reached their actors.
  void AwaitTimers() {
    const auto is_over = std::make_shared<Gate>();
    auto clock = std::make_unique<FunctionActor>();
    clock->on_start = [](Context& context) { context.SetTimer(context.now()); };
    clock->on_timer = [is_over](Context&, TimerId) { is_over->Open(); };
    EXPECT_TRUE(server_->Spawn("clock", std::move(clock)).ok());
    is_over->Wait();
  }
};

TEST_F(LivesTest, AFailedActorLivesAgainAndReferencesFollow) {
  const ActorRef ref = SpawnMortal("mortal", Restarts(1));
  const ActorRef far = client_->Connect(server_->endpoint(), "mortal", kPatience).value();
  const auto near_events = Watch(*server_, ref);
  const auto far_events = Watch(*client_, far);
  // A monitor of another process is in place once a later message from there has been answered.
  ASSERT_EQ(Life(far), 1);
  const Future<Value> held = ref.Call("hold", Value());
  const Future<Value> failing = ref.Call("fail", Value());
  const Future<Value> queued = ref.Call("life", Value());
  gates_->goes_on.Open();
  EXPECT_TRUE(held.Get(kPatience).ok());
  EXPECT_TRUE(failing.Get(kPatience).ok()) << "its handler went on and answered";
  const Status dropped = queued.Get(kPatience).status();
  EXPECT_EQ(dropped, Internal("told to"));
  EXPECT_EQ(dropped.outcome(), Outcome::kNotExecuted);
  for (const auto& events : {near_events, far_events}) {
    ASSERT_TRUE(Saw(*events, Kind::kRestarted));
    EXPECT_EQ(events->items()[0].cause, "told to");
    EXPECT_NE(events->items()[0].incarnation, ref.incarnation());
    EXPECT_EQ(events->items()[0].incarnation, server_->Find("mortal")->incarnation());
  }
  EXPECT_EQ(Life(ref), 2);
  EXPECT_EQ(Life(far), 2);
  // It has no further life.
  EXPECT_TRUE(far.Call("fail", Value()).Get(kPatience).ok());
  EXPECT_TRUE(Saw(*near_events, Kind::kDied));
  EXPECT_TRUE(Saw(*far_events, Kind::kDied));
  EXPECT_EQ(ref.Tell("life", Value()).code(), StatusCode::kInternal);
  EXPECT_EQ(server_->Find("mortal").status().code(), StatusCode::kNotFound);
}

TEST_F(LivesTest, WhatComesDuringTheBackoffWaits) {
  const ActorRef ref = SpawnMortal("mortal", Restarts(-1, Milliseconds(50)));
  ASSERT_TRUE(ref.Call("fail", Value()).Get(kPatience).ok());
  // Sent after the failure: it reaches the next life.
  EXPECT_EQ(Life(ref), 2);
}

TEST_F(LivesTest, ABackoffMayBeForEver) {
  auto lives = std::make_shared<Record<std::string>>();
  for (const bool is_patient : {true, false}) {
    const std::string name = is_patient ? "patient" : "quick";
    const ActorFactory factory = [lives, name] {
      auto actor = std::make_unique<FunctionActor>();
      actor->on_start = [lives, name](Context& context) {
        if (context.life() > 1) lives->Add(name);
      };
      actor->on_message = [](Context& context, Message) { context.Fail(Internal("told to")); };
      return actor;
    };
    SpawnOptions options = Restarts(2, is_patient ? Duration::max() : Milliseconds(1));
    options.restart.backoff_max = Duration::max();
    EXPECT_TRUE(server_->Spawn(name, factory, options)->Tell("fail", Value()).ok());
    // Its back-off has begun.
    const Time give_up = Now() + kPatience;
    const auto state = [&] {
      return *server_->Find(name)->Call("$describe", Value()).Get(kPatience)->Find("state");
    };
    while (is_patient && state() != Value("restarting") && Now() < give_up) {
      std::this_thread::yield();
    }
  }
  // The timer of the other would have come first.
  ASSERT_TRUE(lives->WaitForCount(1));
  EXPECT_EQ(lives->items(), std::vector<std::string>{"quick"});
}

TEST_F(LivesTest, ACrashLoopEndsWithItsCause) {
  auto made = std::make_shared<std::atomic<int>>(0);
  const ActorFactory factory = [made]() -> std::unique_ptr<Actor> {
    if (++*made == 3) throw std::runtime_error("no more");
    auto actor = std::make_unique<FunctionActor>();
    const bool is_good = *made == 1;
    actor->on_start = [is_good](Context&) {
      if (!is_good) throw std::runtime_error("bad start");
    };
    actor->on_message = [](Context& context, Message) { context.Fail(Aborted("first")); };
    return actor;
  };
  const ActorRef ref = server_->Spawn("looping", factory, Restarts(2)).value();
  const auto events = Watch(*server_, ref);
  ASSERT_TRUE(ref.Tell("go", Value()).ok());
  ASSERT_TRUE(Saw(*events, Kind::kDied));
  EXPECT_EQ(events->items().size(), 1u) << "a life that never began is no restart";
  EXPECT_EQ(events->items()[0].cause, "actor \"looping\": factory threw: no more");
  EXPECT_EQ(made->load(), 3);
}

TEST_F(LivesTest, TheFirstLifeThatCannotBeMadeIsAnError) {
  const ActorFactory throws = []() -> std::unique_ptr<Actor> { throw std::runtime_error("no"); };
  EXPECT_EQ(server_->Spawn("never", throws).status(),
            Internal("actor \"never\": factory threw: no"));
  const ActorFactory nothing = []() -> std::unique_ptr<Actor> { return nullptr; };
  EXPECT_EQ(server_->Spawn("never", nothing).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(LivesTest, KillDropsWhatIsQueued) {
  const ActorRef ref = SpawnMortal("mortal", Restarts(5));
  const ActorRef far = client_->Connect(server_->endpoint(), "mortal", kPatience).value();
  const auto events = Watch(*server_, ref);
  const Future<Value> held = far.Call("hold", Value());
  const Future<Value> queued = far.Call("life", Value());
  gates_->is_held.Wait();
  ASSERT_TRUE(client_->Kill(far).ok());
  EXPECT_EQ(queued.Get(kPatience).status().code(), StatusCode::kPeerDied);
  EXPECT_EQ(queued.Get(kPatience).status().outcome(), Outcome::kNotExecuted);
  gates_->goes_on.Open();
  EXPECT_TRUE(held.Get(kPatience).ok());
  EXPECT_TRUE(Saw(*events, Kind::kDied));
}

TEST_F(LivesTest, WhatAKillFromAfarDropsGoesOnAnotherThreadThanTheReactors) {
  auto dropped_at = std::make_shared<Record<std::thread::id>>();
  auto actor = std::make_unique<FunctionActor>();
  actor->on_message = [gates = gates_, dropped_at](Context& context, Message) {
    const auto note = [dropped_at](int*) { dropped_at->Add(std::this_thread::get_id()); };
    context.Post([users = std::shared_ptr<int>(nullptr, note)](Context&) {});
    gates->is_held.Open();
    gates->goes_on.Wait();
  };
  const ActorRef ref = server_->Spawn("held", std::move(actor)).value();
  Record<std::thread::id> reactor;
  ref.state()->owner->reactor().Post(
      [&](internal::Peers&) { reactor.Add(std::this_thread::get_id()); });
  ASSERT_TRUE(reactor.WaitForCount(1));
  const ActorRef far = client_->Connect(server_->endpoint(), "held", kPatience).value();
  ASSERT_TRUE(far.Tell("hold", Value()).ok());
  gates_->is_held.Wait();
  ASSERT_TRUE(client_->Kill(far).ok());
  ASSERT_TRUE(dropped_at->WaitForCount(1));
  EXPECT_NE(dropped_at->items()[0], reactor.items()[0]);
  gates_->goes_on.Open();
}

TEST_F(LivesTest, KillWithARestartBeginsANewLife) {
  const ActorRef ref = SpawnMortal("mortal", Restarts(1));
  ASSERT_TRUE(server_->Kill(ref, /*restart=*/true).ok());
  EXPECT_EQ(Life(ref), 2);
}

TEST_F(LivesTest, StopDuringTheBackoffIsFinal) {
  const ActorRef ref = SpawnMortal("mortal", Restarts(-1, std::chrono::hours(1)));
  ASSERT_TRUE(ref.Call("fail", Value()).Get(kPatience).ok());
  const auto events = Watch(*server_, ref);
  const Future<Value> waiting = ref.Call("life", Value());
  EXPECT_TRUE(server_->Stop(ref, kPatience).ok());
  EXPECT_TRUE(Saw(*events, Kind::kLeft)) << "a stop is no death, even between two lives";
  EXPECT_EQ(waiting.Get(kPatience).status().outcome(), Outcome::kNotExecuted);
}

TEST_F(LivesTest, AShutdownIsNoDeathEvenOfABusyActor) {
  const ActorRef ref = SpawnMortal("mortal", {});
  const ActorRef far = client_->Connect(server_->endpoint(), "mortal", kPatience).value();
  const auto events = Watch(*client_, far, /*link=*/true);
  ASSERT_EQ(Life(far), 1);
  const Future<Value> held = ref.Call("hold", Value());
  gates_->is_held.Wait();
  const Future<Value> queued = ref.Call("life", Value());
  server_->Shutdown(Duration(0));
  EXPECT_EQ(queued.Get(kPatience).status().outcome(), Outcome::kNotExecuted);
  EXPECT_TRUE(Saw(*events, Kind::kLeft));
  EXPECT_EQ(events->items().size(), 1u);
  EXPECT_TRUE(last_watcher_.Call("ready", Value()).Get(kPatience).ok());
  gates_->goes_on.Open();
}

TEST_F(LivesTest, OneThatNeverBeganIsNotStopped) {
  RuntimeOptions options = Patient();
  options.executor_threads = 1;
  const auto runtime = StartRuntime("busy", options);
  // One handler for each thread, so that nothing else begins.
  std::vector<Future<Value>> busy;
  std::vector<std::shared_ptr<Gates>> gates;
  for (int k = 0; k < 2; ++k) {
    gates.push_back(std::make_shared<Gates>());
    auto actor = std::make_unique<Mortal>(gates.back());
    const ActorRef ref = runtime->Spawn("busy-" + std::to_string(k), std::move(actor)).value();
    CallOptions control;
    control.control = true;
    busy.push_back(ref.Call("hold", Value(), control));
    gates.back()->is_held.Wait();
  }
  std::atomic<bool> was_called{false};
  auto actor = std::make_unique<FunctionActor>();
  actor->on_start = [&](Context&) { was_called = true; };
  actor->on_stop = [&](Context&) { was_called = true; };
  const ActorRef ref = runtime->Spawn("late", std::move(actor)).value();
  ASSERT_TRUE(runtime->Kill(ref).ok());
  for (const auto& gate : gates) gate->goes_on.Open();
  for (const Future<Value>& future : busy) EXPECT_TRUE(future.Get(kPatience).ok());
  EXPECT_TRUE(runtime->Stop(ref, kPatience).ok());
  EXPECT_FALSE(was_called);
}

TEST_F(LivesTest, ANextLifeFindsTheNamesOfItsChildrenFree) {
  const auto spawned = std::make_shared<Record<Status>>();
  const ActorRef parent = server_->Spawn("parent", ParentFactory(spawned), Restarts(1)).value();
  ASSERT_TRUE(spawned->WaitForCount(1));
  const ActorRef child = server_->Find("child").value();
  const Future<Value> held = child.Call("hold", Value());
  gates_->is_held.Wait();
  ASSERT_TRUE(parent.Call("fail", Value()).Get(kPatience).ok());
  const Future<Value> next = parent.Call("fail", Value());
  // The back-off of a millisecond is over long before, but the child is still there.
  EXPECT_FALSE(next.Get(Milliseconds(50)).ok());
  gates_->goes_on.Open();
  EXPECT_TRUE(held.Get(kPatience).ok());
  EXPECT_TRUE(next.Get(kPatience).ok());
  for (const Status& status : spawned->items()) EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(spawned->items().size(), 2u);
}

TEST_F(LivesTest, ANextLifeWaitsForChildrenNoLongerThanTheMostBackoff) {
  const auto spawned = std::make_shared<Record<Status>>();
  SpawnOptions options = Restarts(1);
  options.restart.backoff_max = Milliseconds(20);
  const ActorRef parent = server_->Spawn("parent", ParentFactory(spawned), options).value();
  ASSERT_TRUE(spawned->WaitForCount(1));
  const Future<Value> held = server_->Find("child").value().Call("hold", Value());
  gates_->is_held.Wait();
  ASSERT_TRUE(parent.Call("fail", Value()).Get(kPatience).ok());
  EXPECT_EQ(Life(parent), 2);
  EXPECT_FALSE(held.ready()) << "the child does not end";
  ASSERT_TRUE(spawned->WaitForCount(2));
  EXPECT_EQ(spawned->items()[1].code(), StatusCode::kAlreadyExists);
  gates_->goes_on.Open();
  EXPECT_TRUE(held.Get(kPatience).ok());
}

TEST_F(LivesTest, ChildrenStopWithTheirParentUnlessDetached) {
  auto parent = std::make_unique<FunctionActor>();
  Gate parent_ready;
  parent->on_start = [&parent_ready](Context& context) {
    SpawnOptions detached;
    detached.detached = true;
    ASSERT_TRUE(context.runtime().Spawn("child", Echo()).ok());
    ASSERT_TRUE(context.runtime().Spawn("detached", Echo(), detached).ok());
    parent_ready.Open();
  };
  const ActorRef ref = server_->Spawn("parent", std::move(parent)).value();
  parent_ready.Wait();
  const auto child = Watch(*server_, server_->Find("child").value());
  ASSERT_TRUE(server_->Stop(ref, kPatience).ok());
  EXPECT_TRUE(Saw(*child, Kind::kLeft));
  EXPECT_TRUE(server_->Find("detached").ok());
}

TEST_F(LivesTest, WhatAPastLifeWaitsForDoesNotReachTheNext) {
  const Promise<Value> late;
  auto reached = std::make_shared<std::atomic<int>>(0);
  const ActorFactory factory = [late, reached] {
    auto actor = std::make_unique<FunctionActor>();
    actor->on_message = [late, reached](Context& context, Message message) {
      if (message.method == "fail") {
        context.Await<Value>(late.future(),
                             [reached](Context&, const StatusOr<Value>&) { ++*reached; });
        context.Fail(Internal("told to"));
      }
      message.responder.Reply(int64_t{context.life()});
    };
    return actor;
  };
  const ActorRef ref = server_->Spawn("awaiting", factory, Restarts(1)).value();
  ASSERT_TRUE(ref.Call("fail", Value()).Get(kPatience).ok());
  EXPECT_EQ(Life(ref), 2);
  late.Set(Value());
  EXPECT_EQ(Life(ref), 2);  // what the promise brought would have come before
  EXPECT_EQ(reached->load(), 0);
}

TEST_F(LivesTest, TimersOfAPastLifeDoNotReachTheNext) {
  const auto gates = gates_;
  const auto set = std::make_shared<Record<TimerId>>();
  const auto fired = std::make_shared<Record<TimerId>>();
  const ActorFactory factory = [gates, set, fired] {
    auto actor = std::make_unique<FunctionActor>();
    actor->on_start = [set](Context& context) {
      if (context.life() == 2) set->Add(context.SetTimer(context.now() + Milliseconds(100)));
    };
    actor->on_message = [gates](Context& context, Message message) {
      context.SetTimer(context.now());                     // it waits when this life ends
      context.SetTimer(context.now() + Milliseconds(50));  // due before the next life's
      gates->is_held.Open();
      gates->goes_on.Wait();
      context.Fail(Internal("told to"));
      message.responder.Reply(Value());
    };
    actor->on_timer = [fired](Context&, TimerId timer) { fired->Add(timer); };
    return actor;
  };
  const ActorRef ref = server_->Spawn("timed", factory, Restarts(1)).value();
  const Future<Value> failing = ref.Call("fail", Value());
  gates_->is_held.Wait();
  AwaitTimers();
  gates_->goes_on.Open();
  ASSERT_TRUE(failing.Get(kPatience).ok());
  ASSERT_TRUE(fired->WaitForCount(1));
  EXPECT_EQ(fired->items(), set->items()) << "what is left of the first life would come before";
}

TEST_F(LivesTest, WorkThatAPastLifeHasPostedDoesNotReachTheNext) {
  const auto reached = std::make_shared<std::atomic<int>>(0);
  const ActorFactory factory = [reached] {
    const auto post = [reached](Context& context) {
      for (const bool control : {false, true}) {
        context.Post([reached](Context&) { ++*reached; }, control);
      }
    };
    auto actor = std::make_unique<FunctionActor>();
    actor->on_message = [post](Context& context, Message message) {
      if (message.method == "fail") {
        post(context);
        context.Fail(Internal("told to"));
        post(context);
      }
      message.responder.Reply(int64_t{context.life()});
    };
    actor->on_stop = post;
    return actor;
  };
  const ActorRef ref = server_->Spawn("posting", factory, Restarts(1)).value();
  ASSERT_TRUE(ref.Call("fail", Value()).Get(kPatience).ok());
  // The second one comes after all that was posted before the first.
  for (int k = 0; k < 2; ++k) EXPECT_EQ(Life(ref), 2);
  EXPECT_EQ(reached->load(), 0);
}

TEST_F(LivesTest, TheBackoffDoublesEachTime) {
  // When each life began and failed.
  const auto times = std::make_shared<Record<Time>>();
  const ActorFactory factory = [times] {
    auto actor = std::make_unique<FunctionActor>();
    actor->on_start = [times](Context& context) { times->Add(context.now()); };
    actor->on_message = [times](Context& context, Message) {
      times->Add(context.now());
      context.Fail(Internal("told to"));
    };
    return actor;
  };
  SpawnOptions options = Restarts(-1, Milliseconds(40));
  options.restart.backoff_max = Milliseconds(100);
  const ActorRef ref = server_->Spawn("looping", factory, options).value();
  const Duration expected[] = {Milliseconds(40), Milliseconds(80), options.restart.backoff_max,
                               options.restart.backoff_max};
  ASSERT_TRUE(times->WaitForCount(1));
  for (size_t k = 0; k < std::size(expected); ++k) {
    ASSERT_TRUE(ref.Tell("fail", Value()).ok());
    ASSERT_TRUE(times->WaitForCount(2 * k + 3));
    const std::vector<Time> items = times->items();
    EXPECT_GE(ToSeconds(items[2 * k + 2] - items[2 * k + 1]), ToSeconds(expected[k])) << k;
  }
}

TEST_F(LivesTest, TheBackoffHasAMost) {
  SpawnOptions options = Restarts(-1, std::chrono::hours(1));
  options.restart.backoff_max = Milliseconds(1);
  const ActorRef first = SpawnMortal("first", options);
  ASSERT_TRUE(first.Call("fail", Value()).Get(kPatience).ok());
  EXPECT_EQ(Life(first), 2);
  // Doubled so often it would be an hour, too.
  options.restart.backoff = Milliseconds(1);
  options.restart.backoff_max = Milliseconds(2);
  const ActorRef later = SpawnMortal("later", options);
  constexpr int kRestarts = 22;
  for (int k = 0; k < kRestarts; ++k) {
    ASSERT_TRUE(later.Call("fail", Value()).Get(kPatience).ok());
  }
  EXPECT_EQ(Life(later), kRestarts + 1);
}

TEST_F(LivesTest, AHealthyLifeClearsTheRecordOfRestarts) {
  SpawnOptions options = Restarts(1);
  options.restart.healthy_after = Milliseconds(1);
  const ActorFactory factory = [age = options.restart.healthy_after] {
    auto actor = std::make_unique<FunctionActor>();
    actor->on_message = [age](Context& context, Message message) {
      if (message.method == "fail") {
        std::this_thread::sleep_for(age);  // this life is at least so old then
        context.Fail(Internal("told to"));
      }
      message.responder.Reply(int64_t{context.life()});
    };
    return actor;
  };
  const ActorRef ref = server_->Spawn("healthy", factory, options).value();
  for (int k = 0; k < 5; ++k) ASSERT_TRUE(ref.Call("fail", Value()).Get(kPatience).ok());
  EXPECT_EQ(Life(ref), 6);
  EXPECT_EQ(RestartOptions().healthy_after, Seconds(60));
}

TEST_F(LivesTest, DescribeTellsWhatRuns) {
  SpawnOptions options = Restarts(1);
  options.labels = {{"gpu", "0"}};
  SpawnMortal("mortal", options);
  const ActorRef far = client_->Connect(server_->endpoint(), "mortal", kPatience).value();
  const StatusOr<Value> told = far.Call("$describe", Value()).Get(kPatience);
  ASSERT_TRUE(told.ok()) << told.status();
  EXPECT_EQ(*told->Find("state"), Value("running"));
  EXPECT_EQ(*told->Find("labels"), Value(ValueMap{{"gpu", "0"}}));
  EXPECT_EQ(far.Call("$dance", Value()).Get(kPatience).status().code(), StatusCode::kUnimplemented);
}

TEST_F(LivesTest, BadSpawnOptionsAreNamed) {
  const auto spawn = [&](SpawnOptions options) {
    return server_->Spawn("odd", Echo(), std::move(options)).status();
  };
  EXPECT_NE(spawn(Restarts(1)).message().find("factory"), std::string::npos);
  EXPECT_EQ(spawn({.concurrency = 0}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(spawn({.groups = {{"io", 0}}}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(spawn({.groups = {{"io", 1}, {"io", 2}}}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(spawn({.groups = {{"control", 1}}}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(spawn({.mailbox_messages = 0}).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace packcast
