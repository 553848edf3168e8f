// A node as client of a server that forgets it, refuses it, or loses messages.
#include <gtest/gtest.h>

#include "protocol/frame.h"
#include "tests/runtime/refusal_fixture.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::kPatience;
using testing::Patient;
using Kind = PeerEvent::Kind;

using RefusalTest = testing::RefusalFixture;

TEST_F(RefusalTest, ForgottenSessionIsLostAndHelloIsSaidUntilWelcome) {
  Start(Patient());
  const ActorRef ref = Reach();
  Watch(ref);
  const Future<Value> call = ref.Call("work", Value());
  server_.SayHelloFirst(server_.Expect(FrameKind::kCall));
  const Status status = call.Get(kPatience).status();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
  EXPECT_EQ(status.outcome(), Outcome::kNotExecuted);
  ASSERT_TRUE(Sees(Kind::kDied));
  server_.Expect(FrameKind::kHello);  // whose welcome is lost
  server_.Expect(FrameKind::kHello);
  server_.Welcome("");
  ASSERT_TRUE(Sees(Kind::kRecovered));
  const Future<Value> again = ref.Call("work", Value());
  server_.Reply(server_.Expect(FrameKind::kCall));
  EXPECT_TRUE(again.Get(kPatience).ok()) << again.Get(kPatience).status();
}

// A server whose connection is full cannot send it.
TEST_F(RefusalTest, AWelcomeThatIsLostIsAskedForAgain) {
  Start(Patient());
  auto first = Connect("callee");
  server_.Expect(FrameKind::kHello);
  server_.Expect(FrameKind::kHello);
  server_.Welcome("callee");
  EXPECT_TRUE(first.get().ok());
  // So it is when there is a session.
  auto second = Connect("other");
  server_.Expect(FrameKind::kHello);
  server_.Expect(FrameKind::kHello);
  server_.Welcome("other");
  EXPECT_TRUE(second.get().ok());
}

TEST_F(RefusalTest, ASessionComesBackWhileAnActorIsAwaited) {
  Start(Patient());
  Watch(Reach());
  auto absent = Connect("absent");
  const auto refuse = [&](const Hello& hello) {
    Envelope refused;
    refused.kind = FrameKind::kRefused;
    refused.from.actor = hello.actor;
    refused.status = NotFound("no such actor");
    server_.Send(refused);
  };
  Hello hello;
  server_.Expect(FrameKind::kHello, &hello);
  refuse(hello);
  server_.DropConnections();
  ASSERT_TRUE(Sees(Kind::kDied));
  const Time give_up = Now() + kPatience;
  do {
    server_.Expect(FrameKind::kHello, &hello);
    if (hello.actor.empty()) break;
    refuse(hello);
  } while (Now() < give_up);
  server_.Welcome("");
  EXPECT_TRUE(Sees(Kind::kRecovered));
  client_->Shutdown(Duration(0));
  EXPECT_EQ(absent.get().status().code(), StatusCode::kCancelled);
}

// Another life of its name is there: it names that one, at once, and goes on doing so.
TEST_F(RefusalTest, WhoTakesAnothersPlaceNamesIt) {
  Start(Patient());
  auto ref = Connect("callee");
  const auto refuse = [&](const Hello& hello, uint64_t earlier) {
    Envelope refused;
    refused.kind = FrameKind::kRefused;
    refused.from.actor = hello.actor;
    refused.status = Unavailable("another process was here");
    Value body = ValueMap{};
    body.Put("earlier", earlier);
    server_.Send(refused, body);
  };
  Hello hello;
  const auto expect = [&](const std::string& actor, uint64_t earlier) {
    const Time give_up = Now() + kPatience;
    do {
      server_.Expect(FrameKind::kHello, &hello);
      if (hello.actor == actor && hello.earlier == Incarnation(earlier)) return;
    } while (Now() < give_up);
    ADD_FAILURE() << "no hello for \"" << actor << "\" names " << earlier;
  };
  expect("callee", 0);
  refuse(hello, 5);
  expect("callee", 5);
  refuse(hello, 6);  // which was quicker
  expect("callee", 6);
  server_.Welcome("callee");
  ASSERT_TRUE(ref.get().ok());
  // So it is when a session comes back.
  server_.DropConnections();
  expect("", 6);
  refuse(hello, 7);
  expect("", 7);
}

// What it says on its new connection before that is a session again.
TEST_F(RefusalTest, OfADeadPeerNothingIsToldBeforeItIsBack) {
  Start(Patient());
  const ActorRef ref = Reach();
  Watch(ref);
  server_.DropConnections();
  ASSERT_TRUE(Sees(Kind::kDied));
  server_.Expect(FrameKind::kHello);
  Envelope bye;
  bye.kind = FrameKind::kBye;
  bye.from = {ref.actor(), ref.incarnation()};
  bye.status = Cancelled("stopped");
  server_.Send(bye);
  server_.Welcome("");
  ASSERT_TRUE(Sees(Kind::kRecovered));
  for (const PeerEvent& event : events_->items()) EXPECT_NE(event.kind, Kind::kLeft);
}

TEST_F(RefusalTest, RefusedBeatFailsNoConnect) {
  Start(Patient());
  const ActorRef ref = Reach();
  auto other = Connect("other");
  server_.Expect(FrameKind::kHello);
  server_.SayHelloFirst(Envelope());
  server_.Expect(FrameKind::kHello);
  server_.Welcome("other");
  const StatusOr<ActorRef> found = other.get();
  EXPECT_TRUE(found.ok()) << found.status();
}

TEST_F(RefusalTest, UnsupportedIsNeverSuccess) {
  Start(Patient());
  const ActorRef ref = Reach();
  const Future<Value> call = ref.Call("work", Value());
  server_.Reply(server_.Expect(FrameKind::kCall), FrameKind::kUnsupported);  // without a code
  EXPECT_EQ(call.Get(kPatience).status().code(), StatusCode::kUnimplemented);
}

// ZeroMQ's own pings are answered by a thread of its own: they do not tell that a peer is stuck.
TEST_F(RefusalTest, APeerThatSaysNothingIsUnreachableThoughItsConnectionLives) {
  RuntimeOptions options;
  options.suspect_after = Milliseconds(100);
  options.unreachable_after = Milliseconds(200);
  Start(options);
  const ActorRef ref = Reach(true);
  Watch(ref);
  ASSERT_TRUE(Sees(Kind::kSuspect));
  ASSERT_TRUE(Sees(Kind::kUnreachable));
  EXPECT_EQ(ref.Call("work", Value()).Get(kPatience).status().code(), StatusCode::kUnavailable);
  for (const PeerEvent& event : events_->items()) EXPECT_NE(event.kind, Kind::kDied);
}

TEST_F(RefusalTest, IdempotentCallIsSentAgainAfterASilenceAndANewConnection) {
  RuntimeOptions options;
  options.suspect_after = Milliseconds(100);
  options.unreachable_after = Milliseconds(200);
  Start(options);
  const ActorRef ref = Reach(true);
  Watch(ref);
  CallOptions again;
  again.idempotent = true;
  again.deadline = kPatience;
  const Future<Value> call = ref.Call("work", Value(), again);
  const Envelope first = server_.Expect(FrameKind::kCall);
  ASSERT_TRUE(Sees(Kind::kUnreachable));
  server_.DropConnections();
  server_.Expect(FrameKind::kHello);
  server_.Welcome("", true);
  const Envelope second = server_.Expect(FrameKind::kCall);
  EXPECT_EQ(second.call_id, first.call_id);
  server_.Reply(second);
  EXPECT_TRUE(call.Get(kPatience).ok()) << call.Get(kPatience).status();
}

// libzmq gives a connection up whose other side sent what it may not.
TEST_F(RefusalTest, AMessageThatIsTooLongCostsTheConnectionAndItComesBack) {
  Start(Patient());
  const ActorRef ref = Reach();
  const Future<Value> call = ref.Call("work", Value(), {.deadline = kPatience, .idempotent = true});
  server_.Expect(FrameKind::kCall);
  server_.SendTooMuch();
  server_.Expect(FrameKind::kHello);
  server_.Welcome("");
  server_.Reply(server_.Expect(FrameKind::kCall));
  EXPECT_TRUE(call.Get(kPatience).ok()) << call.Get(kPatience).status();
}

TEST_F(RefusalTest, ACallHas30SecondsUnlessToldOtherwise) {
  Start({});
  const ActorRef ref = Reach();
  const Future<Value> call = ref.Call("work", Value());
  const std::optional<uint64_t> deadline = server_.Expect(FrameKind::kCall).deadline_ms;
  ASSERT_TRUE(deadline.has_value());
  EXPECT_GT(*deadline, 20'000u);
  EXPECT_LE(*deadline, 30'000u);
}

}  // namespace
}  // namespace packcast
