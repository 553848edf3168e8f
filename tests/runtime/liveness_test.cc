// What becomes of peers: killed, frozen, thawed, replaced, gone in good order.
#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/clock.h"
#include "tests/runtime/child_process.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::ChildProcess;
using testing::FunctionActor;
using testing::kPatience;
using testing::Record;
using testing::StartRuntime;
using Kind = PeerEvent::Kind;

constexpr char kAnyPort[] = "tcp://127.0.0.1:*";

// An actor that watches what it is told to, and whoever says "here".
class Watcher {
 public:
  explicit Watcher(Runtime& runtime) : runtime_(runtime) {
    auto actor = std::make_unique<FunctionActor>();
    actor->on_message = [this](Context& context, Message message) {
      context.Monitor(message.method == "watch" ? target_ : message.from);
      if (message.method == "here") callers.Add(message.from);
      message.responder.Reply(Value());
    };
    actor->on_peer = [this](Context&, const PeerEvent& event) {
      times.Add(Now());
      events.Add(event);
    };
    self_ = runtime.Spawn("listener", std::move(actor)).value();
  }
  ~Watcher() { EXPECT_TRUE(runtime_.Stop(self_, kPatience).ok()); }
  void Watch(const ActorRef& target) {
    target_ = target;
    ASSERT_TRUE(self_.Call("watch", Value()).Get(kPatience).ok());
    // Messages to the reactor keep their order: once this is answered, the watch is in place.
    ASSERT_TRUE(target.Call("ping", Value()).Get(kPatience).ok());
  }
  ::testing::AssertionResult Sees(Kind kind) {
    if (events.WaitFor([&](const PeerEvent& event) { return event.kind == kind; })) {
      return ::testing::AssertionSuccess();
    }
    auto failure = ::testing::AssertionFailure() << "no " << PeerEventKindName(kind) << "; but:";
    for (const PeerEvent& event : events.items()) {
      failure << " " << PeerEventKindName(event.kind) << " (" << event.cause << ")";
    }
    return failure;
  }
  Record<PeerEvent> events;
  Record<Time> times;  // of the events
  Record<ActorRef> callers;

 private:
  Runtime& runtime_;
  ActorRef target_;
  ActorRef self_;
};

TEST(LivenessTest, KilledServerIsDeadAtOnceAndItsCallsFail) {
  auto runtime = StartRuntime("client");
  ChildProcess child({"server", kAnyPort});
  const ActorRef ref = runtime->Connect(child.ReadLine(), "callee", kPatience).value();
  Watcher watcher(*runtime);
  watcher.Watch(ref);
  const Future<Value> call = ref.Call("hold", Value());
  ASSERT_TRUE(ref.Call("ping", Value()).Get(kPatience).ok());
  const Time start = Now();
  child.Signal(SIGKILL);
  ASSERT_TRUE(watcher.Sees(Kind::kDied));
  RecordProperty("detected_us", static_cast<int>((Now() - start).count() / 1000));
  const Status status = call.Get(kPatience).status();
  EXPECT_EQ(status.code(), StatusCode::kPeerDied) << status;
  EXPECT_EQ(status.outcome(), Outcome::kMaybeExecuted);
  EXPECT_NE(watcher.events.items()[0].cause.find("without a goodbye"), std::string::npos);
  EXPECT_EQ(ref.Call("ping", Value()).Get(kPatience).status().outcome(), Outcome::kNotExecuted);
  EXPECT_FALSE(ref.Tell("ping", Value()).ok());
}

TEST(LivenessTest, KilledClientIsDeadAtOnce) {
  auto runtime = StartRuntime("server");
  Watcher watcher(*runtime);
  ChildProcess child({"client", "-", runtime->endpoint()});
  ASSERT_TRUE(watcher.callers.WaitForCount(1));
  const ActorRef caller = watcher.callers.items()[0];
  EXPECT_EQ(caller.node(), "client");
  ASSERT_TRUE(caller.Call("ping", Value()).Get(kPatience).ok());
  const Future<Value> call = caller.Call("hold", Value());
  ASSERT_TRUE(caller.Call("ping", Value()).Get(kPatience).ok());
  const Time start = Now();
  child.Signal(SIGKILL);
  ASSERT_TRUE(watcher.Sees(Kind::kDied));
  RecordProperty("detected_us", static_cast<int>((Now() - start).count() / 1000));
  EXPECT_EQ(call.Get(kPatience).status().code(), StatusCode::kPeerDied);
}

TEST(LivenessTest, FrozenPeerIsSuspectThenUnreachableThenRecovers) {
  auto runtime = StartRuntime("client");
  ChildProcess child({"server", kAnyPort});
  const ActorRef ref = runtime->Connect(child.ReadLine(), "callee", kPatience).value();
  Watcher watcher(*runtime);
  watcher.Watch(ref);
  child.Freeze();
  const Future<Value> call = ref.Call("ping", Value());
  ASSERT_TRUE(watcher.Sees(Kind::kSuspect));
  ASSERT_TRUE(watcher.Sees(Kind::kUnreachable));
  const Status status = call.Get(kPatience).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
  EXPECT_EQ(status.outcome(), Outcome::kMaybeExecuted);
  CallOptions again;
  again.idempotent = true;
  again.deadline = kPatience;
  const Future<Value> patient = ref.Call("ping", Value(), again);
  child.Signal(SIGCONT);
  ASSERT_TRUE(watcher.Sees(Kind::kRecovered));
  EXPECT_TRUE(patient.Get(kPatience).ok()) << patient.Get(kPatience).status();
  for (const PeerEvent& event : watcher.events.items()) EXPECT_NE(event.kind, Kind::kDied);
}

TEST(LivenessTest, SilenceIsSuspectAfter450MillisecondsAndUnreachableAfter900) {
  EXPECT_EQ(RuntimeOptions().suspect_after, Milliseconds(450));
  EXPECT_EQ(RuntimeOptions().unreachable_after, Milliseconds(900));
  auto runtime = StartRuntime("client");
  ChildProcess child({"server", kAnyPort});
  const ActorRef ref = runtime->Connect(child.ReadLine(), "callee", kPatience).value();
  const Time before = Now();
  // By its answer it is heard after `before`. Who watches from then on is told of no other silence.
  ASSERT_TRUE(ref.Call("ping", Value()).Get(kPatience).ok());
  Watcher watcher(*runtime);
  watcher.Watch(ref);
  child.Freeze();
  ASSERT_TRUE(watcher.Sees(Kind::kUnreachable));
  const std::vector<PeerEvent> events = watcher.events.items();
  const std::vector<Time> times = watcher.times.items();
  size_t suspect = 0;
  while (suspect < events.size() && events[suspect].kind != Kind::kSuspect) ++suspect;
  size_t unreachable = 0;
  while (events[unreachable].kind != Kind::kUnreachable) ++unreachable;
  ASSERT_LT(suspect, unreachable);
  EXPECT_GE(times[suspect] - before, Milliseconds(450));
  EXPECT_GE(times[unreachable] - before, Milliseconds(900));
}

TEST(LivenessTest, OrderlyEndIsLeftNotDied) {
  auto runtime = StartRuntime("client");
  ChildProcess child({"server", kAnyPort});
  const ActorRef ref = runtime->Connect(child.ReadLine(), "callee", kPatience).value();
  Watcher watcher(*runtime);
  watcher.Watch(ref);
  child.CloseInput();
  ASSERT_TRUE(watcher.Sees(Kind::kLeft));
  child.Wait();
  EXPECT_EQ(watcher.events.items().size(), 1u);
}

TEST(LivenessTest, NewLifeAtTheSameAddressEndsTheOldOne) {
  auto runtime = StartRuntime("client");
  auto child = std::make_unique<ChildProcess>(std::vector<std::string>{"server", kAnyPort});
  const std::string endpoint = child->ReadLine();
  const ActorRef old = runtime->Connect(endpoint, "callee", kPatience).value();
  Watcher watcher(*runtime);
  watcher.Watch(old);
  child->Signal(SIGKILL);
  ASSERT_TRUE(watcher.Sees(Kind::kDied));
  CallOptions again;
  again.idempotent = true;
  again.deadline = kPatience;
  // Waits for the same life, and fails as soon as it is known not to come back.
  const Future<Value> waiting = old.Call("ping", Value(), again);
  child = std::make_unique<ChildProcess>(std::vector<std::string>{"server", endpoint});
  ASSERT_EQ(child->ReadLine(), endpoint);
  const ActorRef fresh = runtime->Connect(endpoint, "callee", kPatience).value();
  EXPECT_NE(fresh.incarnation(), old.incarnation());
  EXPECT_TRUE(fresh.Call("ping", Value()).Get(kPatience).ok());
  const Status status = waiting.Get(kPatience).status();
  EXPECT_EQ(status.code(), StatusCode::kPeerDied) << status;
  EXPECT_EQ(status.outcome(), Outcome::kNotExecuted);
  size_t deaths = 0;
  for (const PeerEvent& event : watcher.events.items()) deaths += event.kind == Kind::kDied;
  EXPECT_EQ(deaths, 1u);
}

// The hello of a superseded life must not end the life that took its name.
TEST(LivenessTest, OfTwoProcessesWithOneNameTheLastCountsAndTheOtherIsTold) {
  auto server = StartRuntime("server");
  ASSERT_TRUE(server->Spawn("callee", testing::Echo()).ok());
  auto first = StartRuntime("twin");
  const ActorRef old = first->Connect(server->endpoint(), "callee", kPatience).value();
  Watcher watcher(*first);
  watcher.Watch(old);
  auto second = StartRuntime("twin");
  const ActorRef ref = second->Connect(server->endpoint(), "callee", kPatience).value();
  ASSERT_TRUE(watcher.Sees(Kind::kLeft));
  EXPECT_NE(watcher.events.items()[0].cause.find("\"twin\""), std::string::npos);
  EXPECT_EQ(old.Call("echo", Value()).Get(kPatience).status().code(), StatusCode::kPeerDied);
  const Status again = first->Connect(server->endpoint(), "callee", kPatience).status();
  EXPECT_EQ(again.code(), StatusCode::kStale) << again;
  EXPECT_NE(again.message().find("a name of its own"), std::string::npos) << again;
  EXPECT_TRUE(ref.Call("echo", Value()).Get(kPatience).ok());
}

TEST(LivenessTest, ThawedProcessDoesNotEvictItsSuccessor) {
  auto runtime = StartRuntime("server");
  Watcher watcher(*runtime);
  ChildProcess zombie({"client", "-", runtime->endpoint()});
  ASSERT_TRUE(watcher.callers.WaitForCount(1));
  EXPECT_EQ(zombie.ReadLine(), "");  // its endpoint: it does not listen
  zombie.Freeze();
  ASSERT_TRUE(watcher.Sees(Kind::kUnreachable));
  ChildProcess successor({"client", "-", runtime->endpoint()});
  ASSERT_TRUE(watcher.callers.WaitForCount(2));
  const ActorRef ref = watcher.callers.items()[1];
  ASSERT_TRUE(watcher.Sees(Kind::kDied));
  zombie.Signal(SIGCONT);
  EXPECT_NE(zombie.ReadLine().find("stale"), std::string::npos);
  EXPECT_TRUE(ref.Call("ping", Value()).Get(kPatience).ok());
  for (const PeerEvent& event : watcher.events.items()) EXPECT_FALSE(event.ref == ref);
}

TEST(LivenessTest, BeatsCarryProgress) {
  auto runtime = StartRuntime("client");
  ChildProcess child({"server", kAnyPort});
  const ActorRef ref = runtime->Connect(child.ReadLine(), "callee", kPatience).value();
  for (int k = 0; k < 3; ++k) ASSERT_TRUE(ref.Call("work", Value()).Get(kPatience).ok());
  const Time give_up = Now() + kPatience;
  while (runtime->PeerProgress(ref) != 3u && Now() < give_up) {
    ASSERT_TRUE(
        ref.Call("hold", Value(), {.deadline = Milliseconds(10)}).Get(kPatience).status().code() ==
        StatusCode::kDeadlineExceeded);
  }
  EXPECT_EQ(runtime->PeerProgress(ref), 3u);
}

}  // namespace
}  // namespace packcast
