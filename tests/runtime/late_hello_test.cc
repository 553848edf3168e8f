// Of one name's processes the last counts, whatever a dead one has said and comes late; and what
// was not said in time.
#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "protocol/frame.h"
#include "tests/runtime/test_util.h"
#include "tests/runtime/wire_fixture.h"

namespace packcast {
namespace {

using testing::CallOf;
using testing::FunctionActor;
using testing::Record;
using testing::Script;

using LateHelloTest = testing::WireFixture;

TEST_F(LateHelloTest, PutsNoLivingProcessOut) {
  const auto say_hello = [](Script& script, uint64_t incarnation, uint64_t earlier) {
    script.SendBeatingHello("echo", Incarnation(incarnation), Incarnation(earlier));
  };
  Script present(node_->endpoint(), "present");
  say_hello(present, 8, 0);
  present.Expect(FrameKind::kWelcome);
  Script other(node_->endpoint(), "other");
  // However often, and also one that named the life before.
  for (const uint64_t named : {0, 0, 6}) {
    say_hello(other, 7, named);
    Value body;
    const Envelope refused = other.Expect(FrameKind::kRefused, &body);
    EXPECT_EQ(refused.status.code(), StatusCode::kUnavailable) << refused.status;
    EXPECT_EQ(refused.from.actor, "echo");
    ASSERT_NE(body.Find("earlier"), nullptr);
    EXPECT_EQ(*body.Find("earlier"), Value(8));
  }
  present.Send(CallOf("echo", "echo", 5), Value());
  EXPECT_EQ(present.Expect(FrameKind::kReply).call_id, CallId(5));
  // One that lives has heard the answer: then the last one counts.
  say_hello(other, 7, 8);
  other.Expect(FrameKind::kWelcome);
  EXPECT_EQ(present.Expect(FrameKind::kRefused).status.code(), StatusCode::kStale);
  // For good, whatever it names.
  say_hello(present, 8, 7);
  EXPECT_EQ(present.Expect(FrameKind::kRefused).status.code(), StatusCode::kStale);
  other.Send(CallOf("echo", "echo", 6), Value());
  EXPECT_EQ(other.Expect(FrameKind::kReply).call_id, CallId(6));
}

TEST_F(LateHelloTest, NorOneWhoseConnectionHasEnded) {
  auto events = std::make_shared<Record<PeerEvent>>();
  auto watcher = std::make_unique<FunctionActor>();
  watcher->on_message = [](Context& context, Message message) {
    context.Monitor(message.from);
    message.responder.Reply(Value());
  };
  watcher->on_peer = [events](Context&, const PeerEvent& event) { events->Add(event); };
  ASSERT_TRUE(node_->Spawn("watcher", std::move(watcher)).ok());
  auto present = std::make_unique<Script>(node_->endpoint(), "present");
  present->SendBeatingHello("watcher", Incarnation(8));
  present->Expect(FrameKind::kWelcome);
  present->Send(CallOf("watcher", "watch", 5), Value());
  present->Expect(FrameKind::kReply);
  present = nullptr;
  ASSERT_TRUE(
      events->WaitFor([](const PeerEvent& event) { return event.kind == PeerEvent::Kind::kDied; }));
  Script other(node_->endpoint(), "other");
  other.SendBeatingHello("echo", Incarnation(7));
  EXPECT_EQ(other.Expect(FrameKind::kRefused).status.code(), StatusCode::kUnavailable);
  present = std::make_unique<Script>(node_->endpoint(), "present");
  present->SendBeatingHello("echo", Incarnation(8));
  present->Expect(FrameKind::kWelcome);
}

// One that is silent may hear all the same: then it would never ask.
TEST(LateNewsTest, WhatEndsWhileAPeerIsSilentIsSaidWhenItIsHeardAgain) {
  RuntimeOptions options;
  options.beat_interval = Milliseconds(5);
  options.suspect_after = Milliseconds(10);
  options.unreachable_after = Milliseconds(20);
  const auto node = testing::StartRuntime("node", options);
  auto events = std::make_shared<Record<PeerEvent>>();
  auto watcher = std::make_unique<FunctionActor>();
  watcher->on_message = [](Context& context, Message message) { context.Monitor(message.from); };
  watcher->on_peer = [events](Context&, const PeerEvent& event) { events->Add(event); };
  ASSERT_TRUE(node->Spawn("watcher", std::move(watcher)).ok());
  const ActorRef ended = node->Spawn("ended", testing::Echo()).value();
  Script script(node->endpoint());
  script.SendBeatingHello("watcher", Incarnation(8));
  script.Expect(FrameKind::kWelcome);
  Envelope tell = CallOf("watcher", "watch", 0);
  tell.kind = FrameKind::kTell;
  tell.deadline_ms.reset();
  script.Send(tell, Value());
  ASSERT_TRUE(events->WaitFor(
      [](const PeerEvent& event) { return event.kind == PeerEvent::Kind::kUnreachable; }));
  ASSERT_TRUE(node->Stop(ended).ok());
  Envelope beat;
  beat.kind = FrameKind::kBeat;
  script.Send(beat, Value());
  EXPECT_EQ(script.Expect(FrameKind::kBye).from.actor, "ended");
}

}  // namespace
}  // namespace packcast
