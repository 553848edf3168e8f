// Calls between two runtimes over loopback TCP.
#include <barrier>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "protocol/limits.h"
#include "runtime/base/clock.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::Echo;
using testing::Gate;
using testing::kPatience;
using testing::OnMessages;
using testing::Patient;
using testing::Record;
using testing::StartRuntime;

// Keeps the calls it gets without answering them.
struct Held {
  std::unique_ptr<packcast::Actor> Actor() {
    return OnMessages([calls = responders](Context&, Message message) {
      calls->Add(std::make_shared<Responder>(std::move(message.responder)));
    });
  }
  bool WaitForCount(size_t count) { return responders->WaitForCount(count); }
  // Shared: the actor outlives the test's body.
  using Calls = Record<std::shared_ptr<Responder>>;
  std::shared_ptr<Calls> responders = std::make_shared<Calls>();
};

class RemoteCallTest : public ::testing::Test {
 protected:
  ActorRef Reach(std::unique_ptr<Actor> actor, SpawnOptions options = {}) {
    EXPECT_TRUE(server_->Spawn("callee", std::move(actor), options).ok());
    return client_->Connect(server_->endpoint(), "callee", kPatience).value();
  }
  std::unique_ptr<Runtime> server_ = StartRuntime("server", Patient());
  std::unique_ptr<Runtime> client_ = StartRuntime("client", Patient());
};

TEST_F(RemoteCallTest, ReturnsTheReply) {
  const ActorRef ref = Reach(Echo());
  EXPECT_FALSE(ref.local());
  EXPECT_EQ(ref.node(), "server");
  EXPECT_EQ(ref.incarnation(), server_->incarnation());
  const Value body = ValueArray{Value(1), Value("two"), Value(3.5)};
  const StatusOr<Value> reply = ref.Call("echo", body).Get(kPatience);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(*reply, body);
}

TEST_F(RemoteCallTest, CarriesErrorsWithTheirOutcome) {
  const ActorRef ref = Reach(OnMessages(
      [](Context&, Message message) { message.responder.Fail(DataLoss("row 7 is torn")); }));
  const StatusOr<Value> reply = ref.Call("read", Value()).Get(kPatience);
  EXPECT_EQ(reply.status(), DataLoss("row 7 is torn"));
  EXPECT_EQ(reply.status().outcome(), Outcome::kExecuted);
}

TEST_F(RemoteCallTest, DroppedCallIsAnErrorNotAHang) {
  const ActorRef ref = Reach(OnMessages([](Context&, Message) {}));
  const StatusOr<Value> reply = ref.Call("forget", Value()).Get(kPatience);
  EXPECT_EQ(reply.status().code(), StatusCode::kInternal);
  EXPECT_EQ(reply.status().outcome(), Outcome::kExecuted);
}

TEST_F(RemoteCallTest, DeadlinePassesAndTheLateReplyIsDropped) {
  Held held;
  const ActorRef ref = Reach(held.Actor());
  CallOptions options;
  options.deadline = Milliseconds(50);
  const StatusOr<Value> reply = ref.Call("slow", Value(), options).Get(kPatience);
  EXPECT_EQ(reply.status().code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(reply.status().outcome(), Outcome::kMaybeExecuted);
}

TEST_F(RemoteCallTest, CalleeTellsTheCallerBack) {
  Record<Status> results;
  const ActorRef ref = Reach(OnMessages([&](Context&, Message message) {
    results.Add(message.from.Tell("event", Value(1)));
    message.responder.Reply(Value());
  }));
  auto starter = std::make_unique<testing::FunctionActor>();
  Record<std::string> events;
  starter->on_start = [&](Context& context) {
    context.Await<Value>(ref.Call("subscribe", Value()),
                         [&](Context&, const StatusOr<Value>& reply) {
                           events.Add(reply.ok() ? "subscribed" : "failed");
                         });
  };
  starter->on_message = [&](Context&, Message message) { events.Add(message.method); };
  ASSERT_TRUE(client_->Spawn("subscriber", std::move(starter)).ok());
  ASSERT_TRUE(results.WaitForCount(1));
  EXPECT_EQ(results.items()[0], OkStatus());
  EXPECT_TRUE(events.WaitFor([](const std::string& e) { return e == "event"; }));
  EXPECT_TRUE(events.WaitFor([](const std::string& e) { return e == "subscribed"; }));
}

TEST_F(RemoteCallTest, KeepsTheOrderOfOneCaller) {
  constexpr int kMessages = 5000;
  Record<int64_t> seen;
  const ActorRef ref = Reach(OnMessages([&](Context&, Message message) {
    int64_t n = 0;
    message.body.GetInt(&n);
    seen.Add(n);
  }));
  for (int k = 0; k < kMessages; ++k) ASSERT_TRUE(ref.Tell("n", Value(k)).ok());
  ASSERT_TRUE(seen.WaitForCount(kMessages));
  const std::vector<int64_t> items = seen.items();
  for (int k = 0; k < kMessages; ++k) ASSERT_EQ(items[k], k);
}

TEST_F(RemoteCallTest, FullWindowFailsAtOnce) {
  // Shared: ThreadSanitizer does not see the order that a connection makes.
  const auto gate = std::make_shared<Gate>();
  const ActorRef ref = Reach(OnMessages([gate](Context&, Message message) {
    gate->Wait();
    message.responder.Reply(Value());
  }));
  std::vector<Future<Value>> calls;
  for (size_t k = 0; k < limits::kCallsInFlight; ++k) calls.push_back(ref.Call("hold", Value()));
  const Future<Value> extra = ref.Call("hold", Value());
  ASSERT_TRUE(extra.ready());
  EXPECT_EQ(extra.Get(Duration(0)).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(extra.Get(Duration(0)).status().outcome(), Outcome::kNotExecuted);
  gate->Open();
  const auto results = WhenAll(calls).Get(kPatience);
  for (const auto& result : *results) EXPECT_TRUE(result.ok());
  EXPECT_TRUE(ref.Call("hold", Value()).Get(kPatience).ok());
}

TEST_F(RemoteCallTest, ControlAnswersWhileDefaultWorkBlocks) {
  // Shared: ThreadSanitizer does not see the order that a connection makes.
  const auto gate = std::make_shared<Gate>();
  SpawnOptions options;
  options.concurrent_control = true;
  const ActorRef ref = Reach(OnMessages([gate](Context&, Message message) {
                               if (!message.control) gate->Wait();
                               message.responder.Reply(Value(message.control));
                             }),
                             options);
  const Future<Value> slow = ref.Call("work", Value());
  CallOptions control;
  control.control = true;
  EXPECT_EQ(*ref.Call("ping", Value(), control).Get(kPatience), Value(true));
  EXPECT_FALSE(slow.ready());
  gate->Open();
  EXPECT_EQ(*slow.Get(kPatience), Value(false));
}

TEST_F(RemoteCallTest, UnknownActorIsNamed) {
  Reach(Echo());
  const StatusOr<ActorRef> ref = client_->Connect(server_->endpoint(), "nobody", Milliseconds(200));
  EXPECT_EQ(ref.status().code(), StatusCode::kNotFound);
  EXPECT_NE(ref.status().message().find("callee"), std::string::npos) << ref.status();
}

TEST_F(RemoteCallTest, RestartedActorAnswersStale) {
  const ActorRef old = Reach(Echo());
  ASSERT_TRUE(server_->Stop(server_->Find("callee").value()).ok());
  ASSERT_TRUE(server_->Spawn("callee", Echo()).ok());
  const StatusOr<Value> reply = old.Call("echo", Value()).Get(kPatience);
  EXPECT_EQ(reply.status().code(), StatusCode::kStale);
  EXPECT_EQ(reply.status().outcome(), Outcome::kNotExecuted);
  const ActorRef fresh = client_->Connect(server_->endpoint(), "callee", kPatience).value();
  EXPECT_TRUE(fresh.Call("echo", Value()).Get(kPatience).ok());
}

TEST_F(RemoteCallTest, StoppedActorIsReportedAsLeft) {
  const ActorRef ref = Reach(Echo());
  Record<PeerEvent> events;
  auto watcher = std::make_unique<testing::FunctionActor>();
  Gate watching;
  watcher->on_start = [&](Context& context) {
    context.Monitor(ref);
    watching.Open();
  };
  watcher->on_peer = [&](Context&, const PeerEvent& event) { events.Add(event); };
  ASSERT_TRUE(client_->Spawn("watcher", std::move(watcher)).ok());
  watching.Wait();
  ASSERT_TRUE(ref.Call("echo", Value()).Get(kPatience).ok());  // the watch was posted before
  ASSERT_TRUE(server_->Stop(server_->Find("callee").value()).ok());
  EXPECT_TRUE(events.WaitFor(
      [&](const PeerEvent& e) { return e.kind == PeerEvent::Kind::kLeft && e.ref == ref; }));
}

TEST_F(RemoteCallTest, ShutdownCancelsCallsOfThisSideAndEndsTheOthers) {
  Held held;
  const ActorRef ref = Reach(held.Actor());
  const Future<Value> mine = ref.Call("hold", Value());
  ASSERT_TRUE(held.WaitForCount(1));
  client_->Shutdown(Duration(0));
  EXPECT_EQ(mine.Get(kPatience).status().code(), StatusCode::kCancelled);
  EXPECT_EQ(ref.Call("hold", Value()).Get(kPatience).status().code(), StatusCode::kCancelled);
}

TEST_F(RemoteCallTest, GoodbyeComesAfterAllThatWasSaid) {
  constexpr size_t kMessages = 1'500;  // more than a pipe holds
  // Shared: the actor outlives the test's body.
  const auto seen = std::make_shared<Record<int>>();
  const ActorRef ref = Reach(OnMessages([seen](Context&, Message) { seen->Add(0); }));
  const Value body(std::string(1000, 'x'));
  for (size_t k = 0; k < kMessages; ++k) ASSERT_TRUE(ref.Tell("note", body).ok());
  client_->Shutdown(Duration(0));
  EXPECT_TRUE(seen->WaitForCount(kMessages)) << seen->items().size();
}

TEST_F(RemoteCallTest, GoodbyeFailsTheCallersCalls) {
  Held held;
  const ActorRef ref = Reach(held.Actor());
  const Future<Value> call = ref.Call("hold", Value());
  ASSERT_TRUE(held.WaitForCount(1));
  server_->Shutdown(Milliseconds(10));
  const Status status = call.Get(kPatience).status();
  EXPECT_EQ(status.code(), StatusCode::kPeerDied) << status;
  EXPECT_EQ(status.outcome(), Outcome::kMaybeExecuted);
}

// One that is alone leaves on its caller's thread, which must not take from the reactor the news of
// what came meanwhile: without beats, nothing else would wake it in time.
TEST(SendNowTest, NoReplyWaitsForTheNextBeat) {
  RuntimeOptions quiet;
  quiet.beat_interval = 100 * kPatience;
  quiet.suspect_after = quiet.unreachable_after = 1000 * kPatience;
  auto server = StartRuntime("server", quiet);
  ASSERT_TRUE(server->Spawn("callee", Echo()).ok());
  // Two in step, at one socket of the server's: when the call of one comes while the other's reply
  // is sent, nothing follows it.
  constexpr int kClients = 2;
  std::barrier<> both(kClients);
  std::vector<std::thread> callers;
  for (int k = 0; k < kClients; ++k) {
    callers.emplace_back([&, name = "client-" + std::to_string(k)] {
      auto client = StartRuntime(name, quiet);
      const ActorRef ref = client->Connect(server->endpoint(), "callee", kPatience).value();
      for (int call = 0; call < 5000; ++call) {
        both.arrive_and_wait();
        const Status status = ref.Call("echo", Value(call)).Get(kPatience).status();
        EXPECT_TRUE(status.ok()) << status;
        if (!status.ok()) return both.arrive_and_drop();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

// A message that comes while another thread takes the reactor's turn to send something is found as
// well. Else it would wait for the next beat, or a second: most rounds do when the news is lost.
TEST(WakeTest, WhatComesWhileAnotherIsSentIsFoundAtOnce) {
  RuntimeOptions options = Patient();
  options.beat_interval = Seconds(10);
  const auto server = StartRuntime("server", options);
  ASSERT_TRUE(server->Spawn("echo", Echo()).ok());
  std::vector<std::unique_ptr<Runtime>> clients;
  std::vector<ActorRef> refs;
  for (const char* name : {"a", "b", "c"}) {
    clients.push_back(StartRuntime(name, options));
    refs.push_back(clients.back()->Connect(server->endpoint(), "echo", kPatience).value());
  }
  const Time give_up = Now() + kPatience;
  for (int round = 0; round < 400; ++round) {
    std::vector<Future<Value>> calls;
    for (const ActorRef& ref : refs) calls.push_back(ref.Call("echo", Value(round)));
    for (const Future<Value>& call : calls) {
      ASSERT_TRUE(call.Get(give_up - Now()).ok()) << "in round " << round;
    }
  }
}

}  // namespace
}  // namespace packcast
