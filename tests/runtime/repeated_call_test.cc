// Calls that come again: the callee runs each once, whatever becomes of the connection; and what is
// not to be repeated never is.
#include <atomic>
#include <future>
#include <memory>
#include <thread>

#include <gtest/gtest.h>

#include "protocol/frame.h"
#include "runtime/actor/link.h"
#include "runtime/actor/node.h"
#include "tests/runtime/refusal_fixture.h"
#include "tests/runtime/test_util.h"
#include "tests/runtime/wire_fixture.h"

namespace packcast {
namespace {

using testing::CallOf;
using testing::Gate;
using testing::kPatience;
using testing::OnMessages;
using testing::Patient;
using testing::Script;
using Kind = PeerEvent::Kind;

constexpr uint64_t kRepeated = 5;  // the id of the call that comes again

struct Shared {
  std::atomic<int> runs{0};
  Gate is_held;
  Gate goes_on;
};

// What the callee says of calls from one life of a peer.
class RepeatedCallTest : public testing::WireFixture {
 protected:
  RepeatedCallTest() {
    // Holds each call until it may go on, and answers how many it has run.
    EXPECT_TRUE(node_
                    ->Spawn("callee", OnMessages([shared = shared_](Context&, Message message) {
                              const int run = ++shared->runs;
                              shared->is_held.Open();
                              shared->goes_on.Wait();
                              message.responder.Reply(Value(run));
                            }))
                    .ok());
    EXPECT_TRUE(node_
                    ->Spawn("filler", OnMessages([](Context&, Message message) {
                              // As if that much waited for the caller to read.
                              for (const size_t bytes : {size_t{1} << 20, size_t{1}}) {
                                while (message.from.state()->link->Reserve(bytes)) {
                                }
                              }
                              message.responder.Reply(Value());
                            }))
                    .ok());
  }
  static void Greet(Script& script) {
    script.SendHello("callee");
    script.Expect(FrameKind::kWelcome);
  }
  static void SendCall(Script& script) {
    Envelope call = CallOf("callee", "work", kRepeated);
    call.idempotent = true;
    script.Send(call, Value());
  }
  // All that the script has sent has been taken by the node.
  static void Settle(Script& script) {
    script.Send(CallOf("echo", "echo", 100), Value());
    EXPECT_EQ(script.Expect(FrameKind::kReply).call_id, CallId(100));
  }
  // The call is answered there, once, with its one and only run. `next`: the number of the run that
  // is the callee's next one.
  void ExpectAnsweredOnce(Script& script, int next = 2) {
    Value body;
    EXPECT_EQ(script.Expect(FrameKind::kReply, &body).call_id, CallId(kRepeated));
    EXPECT_EQ(body, Value(1));
    // Comes after a second answer, and runs after a second run.
    script.Send(CallOf("callee", "work", 101), Value());
    EXPECT_EQ(script.Expect(FrameKind::kReply, &body).call_id, CallId(101));
    EXPECT_EQ(body, Value(next));
    EXPECT_EQ(Metric("repeated_calls_total"), 1);
  }
  // The node gives the script up, which has to say hello again.
  void Shun(Script& script) {
    script.Send(CallOf("filler", "fill", 102), Value());
    const Time give_up = Now() + kPatience;
    while (Metric("shunned_peers_total") == 0 && Now() < give_up) std::this_thread::yield();
    ASSERT_EQ(Metric("shunned_peers_total"), 1);
  }
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

TEST_F(RepeatedCallTest, OneThatStillRunsIsNotRunBesideItself) {
  Script script(node_->endpoint());
  Greet(script);
  SendCall(script);
  shared_->is_held.Wait();
  SendCall(script);
  Settle(script);
  shared_->goes_on.Open();
  ExpectAnsweredOnce(script);
}

// The caller may have been told already that it did not run, and will not.
TEST_F(RepeatedCallTest, OneThatWasRefusedIsRefusedAgain) {
  Script script(node_->endpoint());
  Greet(script);
  Envelope call = CallOf("late", "work", kRepeated);
  call.idempotent = true;
  script.Send(call, Value());
  const Envelope refused = script.Expect(FrameKind::kReply);
  EXPECT_EQ(refused.status.code(), StatusCode::kNotFound);
  EXPECT_EQ(refused.status.outcome(), Outcome::kNotExecuted);
  std::atomic<int> runs{0};
  EXPECT_TRUE(node_
                  ->Spawn("late", OnMessages([&runs](Context&, Message message) {
                            message.responder.Reply(Value(++runs));
                          }))
                  .ok());
  script.Send(call, Value());
  const Envelope again = script.Expect(FrameKind::kReply);
  EXPECT_EQ(again.call_id, CallId(kRepeated));
  EXPECT_EQ(again.status, refused.status);
  Value body;
  script.Send(CallOf("late", "work", 101), Value());
  EXPECT_EQ(script.Expect(FrameKind::kReply, &body).call_id, CallId(101));
  EXPECT_EQ(body, Value(1));
  node_->Shutdown(kPatience);
}

TEST_F(RepeatedCallTest, OverANewConnectionTheAnswerComesAgain) {
  shared_->goes_on.Open();
  {
    Script script(node_->endpoint());
    Greet(script);
    SendCall(script);
    EXPECT_EQ(script.Expect(FrameKind::kReply).call_id, CallId(kRepeated));
  }
  Script again(node_->endpoint());
  Greet(again);
  SendCall(again);
  ExpectAnsweredOnce(again);
}

TEST_F(RepeatedCallTest, OverANewConnectionOneThatStillRunsIsAnsweredThere) {
  {
    Script script(node_->endpoint());
    Greet(script);
    SendCall(script);
    shared_->is_held.Wait();
  }
  Script again(node_->endpoint());
  Greet(again);
  SendCall(again);
  Settle(again);
  shared_->goes_on.Open();
  ExpectAnsweredOnce(again);
}

TEST_F(RepeatedCallTest, AnAnswerThatFoundNoConnectionWaitsForTheRepetition) {
  {
    Script script(node_->endpoint());
    Greet(script);
    SendCall(script);
    shared_->is_held.Wait();
  }
  shared_->goes_on.Open();
  {
    // Is answered after the first one was.
    Script other(node_->endpoint(), "other");
    Greet(other);
    other.Send(CallOf("callee", "work", 1), Value());
    EXPECT_EQ(other.Expect(FrameKind::kReply).call_id, CallId(1));
  }
  Script again(node_->endpoint());
  Greet(again);
  SendCall(again);
  ExpectAnsweredOnce(again, 3);
}

TEST_F(RepeatedCallTest, WhoWasGivenUpAndIsBackGetsTheAnswerAgain) {
  shared_->goes_on.Open();
  Script script(node_->endpoint());
  Greet(script);
  SendCall(script);
  EXPECT_EQ(script.Expect(FrameKind::kReply).call_id, CallId(kRepeated));
  Shun(script);
  Greet(script);
  SendCall(script);
  ExpectAnsweredOnce(script);
}

TEST_F(RepeatedCallTest, WhoWasGivenUpAndIsBackGetsTheAnswerOfOneThatStillRuns) {
  Script script(node_->endpoint());
  Greet(script);
  SendCall(script);
  shared_->is_held.Wait();
  Shun(script);
  Greet(script);
  SendCall(script);
  Settle(script);
  shared_->goes_on.Open();
  ExpectAnsweredOnce(script);
}

// The same for who is reached by a connection that the node has made.
class CalledBackTest : public testing::RefusalFixture {
 protected:
  CalledBackTest() {
    Start(Patient());
    EXPECT_TRUE(client_
                    ->Spawn("answerer", OnMessages([shared = shared_](Context&, Message message) {
                              ++shared->runs;
                              shared->is_held.Open();
                              shared->goes_on.Wait();
                              message.responder.Reply(Value());
                            }))
                    .ok());
    EXPECT_TRUE(client_
                    ->Spawn("filler", OnMessages([](Context&, Message message) {
                              for (const size_t bytes : {size_t{1} << 20, size_t{1}}) {
                                while (message.from.state()->link->Reserve(bytes)) {
                                }
                              }
                              message.responder.Reply(Value());
                            }))
                    .ok());
    Reach();
  }
  void SendCall() {
    Envelope call = CallOf("answerer", "work", kRepeated);
    call.idempotent = true;
    server_.Send(call);
  }
  // The server is given up, and is welcome again as the same life.
  void GiveUpAndMeetAgain() {
    server_.Send(CallOf("filler", "fill", 102));
    server_.Expect(FrameKind::kHello);
    server_.Welcome("");
  }
  void ExpectAnsweredAfterOneRun() {
    const Envelope reply = server_.Expect(FrameKind::kReply);
    EXPECT_EQ(reply.call_id, CallId(kRepeated));
    EXPECT_TRUE(reply.status.ok()) << reply.status;
    EXPECT_EQ(shared_->runs, 1);
  }
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

TEST_F(CalledBackTest, WhoWasGivenUpAndIsBackGetsTheAnswerAgain) {
  shared_->goes_on.Open();
  SendCall();
  EXPECT_EQ(server_.Expect(FrameKind::kReply).call_id, CallId(kRepeated));
  GiveUpAndMeetAgain();
  SendCall();
  ExpectAnsweredAfterOneRun();
}

TEST_F(CalledBackTest, WhoWasGivenUpAndIsBackGetsTheAnswerOfOneThatStillRuns) {
  SendCall();
  shared_->is_held.Wait();
  GiveUpAndMeetAgain();
  SendCall();
  // Is answered after the repetition has come.
  server_.Send(CallOf("nobody", "m", 100));
  EXPECT_EQ(server_.Expect(FrameKind::kReply).call_id, CallId(100));
  shared_->goes_on.Open();
  ExpectAnsweredAfterOneRun();
}

// What the caller sends, and what it says of what it did not.
using AtMostOnceTest = testing::RefusalFixture;

TEST_F(AtMostOnceTest, WhatIsNotIdempotentIsNeverSentAgainAndItsOutcomeSaysWhetherItWas) {
  Start(Patient());
  const ActorRef ref = Reach();
  Watch(ref);
  // Its deadline has no part in this.
  const Future<Value> sent = ref.Call("sent", Value(), {.deadline = 10 * kPatience});
  EXPECT_EQ(server_.Expect(FrameKind::kCall).method, "sent");
  server_.DropConnections();
  ASSERT_TRUE(Sees(Kind::kDied));
  const Status lost = sent.Get(kPatience).status();
  EXPECT_EQ(lost.code(), StatusCode::kPeerDied) << lost;
  EXPECT_EQ(lost.outcome(), Outcome::kMaybeExecuted);
  const Future<Value> unsent = ref.Call("unsent", Value(), {.deadline = 10 * kPatience});
  EXPECT_EQ(unsent.Get(kPatience).status().outcome(), Outcome::kNotExecuted);
  EXPECT_EQ(ref.Tell("unsent", Value()).outcome(), Outcome::kNotExecuted);
  server_.Expect(FrameKind::kHello);
  server_.Welcome("");
  ASSERT_TRUE(Sees(Kind::kRecovered));
  const Future<Value> next = ref.Call("next", Value());
  const Envelope call = server_.Expect(FrameKind::kCall);
  EXPECT_EQ(call.method, "next");
  server_.Reply(call);
  EXPECT_TRUE(next.Get(kPatience).ok()) << next.Get(kPatience).status();
}

// The callee remembers a caller that is away for a minute. One that was frozen has not noticed that
// it was.
TEST_F(AtMostOnceTest, WhoWasFrozenForLongerThanItIsRememberedRepeatsNothing) {
  Start(Patient());
  const ActorRef ref = Reach();
  const Future<Value> call = ref.Call("work", Value(), {.deadline = kPatience, .idempotent = true});
  server_.Expect(FrameKind::kCall);
  std::promise<void> is_set;
  const std::shared_ptr<internal::Link> link = ref.state()->link;
  ASSERT_TRUE(ref.state()->owner->reactor().Post([&](internal::Peers&) {
    link->heard_at -= Seconds(61);  // as if it had been frozen since, and were noticing now
    is_set.set_value();
  }));
  is_set.get_future().wait();
  server_.DropConnections();
  server_.Expect(FrameKind::kHello);
  server_.Welcome("");
  const Status status = call.Get(kPatience).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
  EXPECT_EQ(status.outcome(), Outcome::kMaybeExecuted);
  EXPECT_NE(status.message().find("away for too long"), std::string::npos) << status;
}

TEST_F(AtMostOnceTest, OneThatIsCancelledBeforeItWasSentNeverIs) {
  Start(Patient());
  const ActorRef ref = Reach();
  Watch(ref);
  server_.DropConnections();
  ASSERT_TRUE(Sees(Kind::kDied));
  CallOptions again;
  again.idempotent = true;
  again.deadline = kPatience;
  const Future<Value> waits = ref.Call("cancelled", Value(), again);
  EXPECT_FALSE(waits.ready());
  waits.Cancel();
  const Status status = waits.Get(kPatience).status();
  EXPECT_EQ(status.code(), StatusCode::kCancelled) << status;
  EXPECT_EQ(status.outcome(), Outcome::kNotExecuted);
  const Future<Value> other = ref.Call("other", Value(), again);
  server_.Expect(FrameKind::kHello);
  server_.Welcome("");
  const Envelope call = server_.Expect(FrameKind::kCall);
  EXPECT_EQ(call.method, "other");
  server_.Reply(call);
  EXPECT_TRUE(other.Get(kPatience).ok()) << other.Get(kPatience).status();
}

}  // namespace
}  // namespace packcast
