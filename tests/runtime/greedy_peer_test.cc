// Peers that want too much, or say what they may not: what they get of this process is bounded.
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "protocol/limits.h"
#include "runtime/actor/cell.h"
#include "runtime/actor/link.h"
#include "runtime/base/clock.h"
#include "tests/runtime/wire_fixture.h"

namespace packcast {
namespace {

using testing::CallOf;
using testing::FunctionActor;
using testing::Gate;
using testing::kPatience;
using testing::OnMessages;
using testing::Record;
using testing::Script;
using Kind = PeerEvent::Kind;

constexpr Incarnation kLife{7};

// A member that speaks the protocol by hand.
class GreedyPeerTest : public testing::WireFixture {
 protected:
  using Events = Record<PeerEvent>;
  // "watcher" does to who tells it "watch", "link" or "hold" what that says.
  std::shared_ptr<Events> SpawnWatcher(const std::shared_ptr<Gate>& gate) {
    auto events = std::make_shared<Events>();
    auto watcher = OnMessages([senders = senders_, gate](Context& context, Message message) {
      senders->Add(message.from);
      if (message.method == "watch") context.Monitor(message.from);
      if (message.method == "link") context.Link(message.from);
      message.responder.Reply(Value());
      if (message.method == "hold") gate->Wait();
    });
    watcher->on_peer = [events](Context&, const PeerEvent& event) { events->Add(event); };
    EXPECT_TRUE(node_->Spawn("watcher", std::move(watcher)).ok());
    return events;
  }
  void Greet(uint64_t connection = 0) {
    Hello hello;
    hello.cluster = "packcast";
    hello.node = "member";
    hello.incarnation = kLife;
    hello.beats = true;
    hello.connection = connection;
    Envelope envelope;
    envelope.kind = FrameKind::kHello;
    peer_.Send(envelope, EncodeHello(hello));
    peer_.Expect(FrameKind::kWelcome);
  }
  Envelope Call(const std::string& actor, const std::string& method,
                const std::string& from = "me") {
    Envelope call = CallOf(actor, method, ++calls_);
    call.from = {from, kLife};
    peer_.Send(call, Value());
    return peer_.Expect(FrameKind::kReply);
  }
  void Say(FrameKind kind, const Value& body) {
    Envelope envelope;
    envelope.kind = kind;
    peer_.Send(envelope, body);
  }
  void Beat(uint64_t busy_ms) {
    Say(FrameKind::kBeat, ValueMap{{"$busy", ValueMap{{"ms", busy_ms}, {"why", "x"}}}});
  }
  // The actor "me" there lives again, as `next`.
  void Restart(Incarnation next) {
    Envelope bye;
    bye.kind = FrameKind::kBye;
    bye.from = {"me", kLife};
    bye.to.incarnation = next;
    bye.status = Unavailable("again");
    peer_.Send(bye, Value());
  }

  std::shared_ptr<Record<ActorRef>> senders_ = std::make_shared<Record<ActorRef>>();
  uint64_t calls_ = 0;
  Script peer_{node_->endpoint(), "member"};
};

TEST_F(GreedyPeerTest, NewsThatWaitsIsBoundedAndTheLastIsTold) {
  const auto gate = std::make_shared<Gate>();
  const auto events = SpawnWatcher(gate);
  Greet();
  Call("watcher", "watch");
  Call("watcher", "hold");
  constexpr uint64_t kRounds = 1000;
  for (uint64_t k = 1; k <= kRounds; ++k) {
    Beat(k % 2 == 0 ? 600'000 : 0);
    Restart(Incarnation(100 + k));
  }
  Call("echo", "echo");  // all of it has come
  gate->Open();
  EXPECT_TRUE(events->WaitFor([](const PeerEvent& event) {
    return event.kind == Kind::kRestarted && event.incarnation == Incarnation(100 + kRounds);
  }));
  ASSERT_TRUE(events->WaitFor([](const PeerEvent& event) { return event.kind == Kind::kBusy; }));
  Call("watcher", "look");
  EXPECT_LT(events->items().size(), 200u);
  Kind last = Kind::kFree;
  for (const PeerEvent& event : events->items()) {
    if (event.kind == Kind::kBusy || event.kind == Kind::kFree) last = event.kind;
  }
  EXPECT_EQ(last, Kind::kBusy);
  // Then all of it is told again.
  Beat(0);
  EXPECT_TRUE(events->WaitFor([](const PeerEvent& event) { return event.kind == Kind::kFree; }));
}

TEST_F(GreedyPeerTest, ItsLinksWithOneActorAreBounded) {
  Greet();
  constexpr int kMost = 1024;
  Envelope link = CallOf("echo", "$link", 0);
  link.kind = FrameKind::kTell;
  for (int k = 0; k < kMost; ++k) {
    link.from = {"me" + std::to_string(k), kLife};
    peer_.Send(link, Value());
  }
  const Status refused = Call("echo", "$link", "one more").status;
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted) << refused;
  EXPECT_EQ(refused.outcome(), Outcome::kNotExecuted);
  EXPECT_TRUE(Call("echo", "$link", "me0").status.ok()) << "which is there";
  EXPECT_TRUE(Call("echo", "$unlink", "me0").status.ok());
  EXPECT_TRUE(Call("echo", "$link", "one more").status.ok());
}

TEST_F(GreedyPeerTest, ANewSessionHasNoRoomOfItsOwn) {
  SpawnWatcher(nullptr);
  Greet();
  Call("watcher", "note");
  constexpr size_t kMiB = 1u << 20;
  const auto link = senders_->items().at(0).state()->link;
  const Time give_up = Now() + kPatience;
  // The handler has answered, and is about to give its room back.
  while (link->room->held.load() > 0 && Now() < give_up) std::this_thread::yield();
  while (link->room->Hold(kMiB)) {
  }
  EXPECT_EQ(Call("watcher", "note").status.code(), StatusCode::kResourceExhausted);
  Say(FrameKind::kBye, Value());
  peer_.Expect(FrameKind::kBye);
  Greet();
  EXPECT_EQ(Call("watcher", "note").status.code(), StatusCode::kResourceExhausted);
  link->room->LetGo(kMiB);
  EXPECT_TRUE(Call("watcher", "note").status.ok());
}

TEST_F(GreedyPeerTest, ALinkIsMadeAgainWhenTheConnectionIs) {
  const auto events = SpawnWatcher(nullptr);
  Greet(1);
  Envelope call = CallOf("watcher", "link", 1);
  call.from = {"me", kLife};
  peer_.Send(call, Value());
  Envelope linked = peer_.Expect(FrameKind::kTell);
  EXPECT_EQ(linked.method, "$link");
  Greet(2);  // the old connection has ended, with what was under way
  linked = peer_.Expect(FrameKind::kTell);
  EXPECT_EQ(linked.method, "$link");
  EXPECT_EQ(linked.from.actor, "watcher");
  EXPECT_EQ(linked.to.actor, "me");
}

TEST_F(GreedyPeerTest, ABeatThatDoesNotDecodeIsCounted) {
  Greet();
  Say(FrameKind::kBeat, ValueMap{{"caf\xe9", 1}});
  Call("echo", "echo");
  EXPECT_EQ(Metric("malformed_messages_total"), 1);
}

TEST_F(GreedyPeerTest, WhatWaitsToBeSentAgainIsBounded) {
  SpawnWatcher(nullptr);
  auto script = std::make_unique<Script>(node_->endpoint());
  script->SendHello("watcher");
  Envelope call = CallOf("watcher", "note", 1);
  script->Send(call, Value());
  script->Expect(FrameKind::kReply);
  const ActorRef ref = senders_->items().at(0);
  script.reset();
  const Time give_up = Now() + kPatience;
  while (ref.state()->link->is_usable() && Now() < give_up) std::this_thread::yield();
  std::vector<Future<Value>> calls;
  const Bytes body(limits::kBytesBytes);
  constexpr size_t kMost = limits::kQueuedBytes / limits::kBytesBytes;  // with their heads one less
  while (calls.size() <= kMost) {
    calls.push_back(ref.Call("m", body, {.deadline = kPatience, .idempotent = true}));
    if (calls.back().ready()) break;
  }
  ASSERT_EQ(calls.size(), kMost);
  const Status refused = calls.back().Get(Duration(0)).status();
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted) << refused;
  EXPECT_EQ(refused.outcome(), Outcome::kNotExecuted);
  calls.front().Cancel();
  EXPECT_FALSE(ref.Call("m", body, {.deadline = kPatience, .idempotent = true}).ready());
}

// A name that is not UTF-8 would make whatever has it unreadable to others.
TEST(NamesTest, AreUtf8) {
  const std::string bad = "caf\xe9";
  EXPECT_EQ(Runtime::Start({.name = bad}).status().code(), StatusCode::kInvalidArgument);
  const auto runtime = testing::StartRuntime("node");
  EXPECT_EQ(runtime->Spawn(bad, testing::Echo()).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(runtime->Connect(runtime->endpoint(), bad, Seconds(0)).status().code(),
            StatusCode::kInvalidArgument);
  for (const bool is_group : {false, true}) {
    auto actor = testing::Echo();
    actor->catalog.emplace();
    MethodCatalog::Method& method = actor->catalog->methods.emplace_back();
    method.name = is_group ? "m" : bad;
    SpawnOptions options;
    if (is_group) options.groups = {{.name = bad}};
    const Status status = runtime->Spawn("a", std::move(actor), options).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << is_group;
  }
  const auto other = testing::StartRuntime("other");
  ASSERT_TRUE(runtime->Spawn("caf\u00e9", testing::Echo()).ok());
  const ActorRef far = other->Connect(runtime->endpoint(), "caf\u00e9", kPatience).value();
  EXPECT_TRUE(far.Call("\u00e9", Value()).Get(kPatience).ok());
  EXPECT_EQ(far.Tell(bad, Value()).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(far.Call(bad, Value()).Get(Duration(0)).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace packcast
