// Processes that say that they will not answer for a while.
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "protocol/limits.h"
#include "runtime/actor/node.h"
#include "runtime/base/clock.h"
#include "tests/runtime/test_util.h"
#include "tests/runtime/wire_fixture.h"

namespace packcast {
namespace {

using testing::FunctionActor;
using ::testing::HasSubstr;
using testing::kPatience;
using testing::Record;
using testing::Script;
using testing::StartRuntime;
using Kind = PeerEvent::Kind;

RuntimeOptions Bound(RuntimeOptions options = {}) {
  options.bind = "tcp://127.0.0.1:*";
  return options;
}

// Watches whoever tells it something.
struct Watched {
  explicit Watched(const RuntimeOptions& options = Bound())
      : runtime(StartRuntime("server", options)) {
    auto actor = std::make_unique<FunctionActor>();
    actor->on_message = [](Context& context, Message message) {
      if (message.method == "watch") context.Monitor(message.from);
      message.responder.Reply(Value());
    };
    actor->on_peer = [this](Context&, const PeerEvent& event) {
      times.Add(Now());
      events.Add(event);
      seen.Add({event.kind, ++counts[event.kind]});
    };
    (void)runtime->Spawn("watcher", std::move(actor)).value();
  }
  bool Sees(Kind kind, int nth = 1) {
    return seen.WaitFor([&](const auto& one) { return one == std::pair(kind, nth); });
  }
  PeerEvent Last() { return events.items().back(); }
  Time When(Kind kind) {
    const std::vector<PeerEvent> all = events.items();
    for (size_t k = 0; k < all.size(); ++k) {
      if (all[k].kind == kind) return times.items()[k];
    }
    return Time();
  }

  Record<Time> times;  // of the events
  Record<PeerEvent> events;
  std::map<Kind, int> counts;         // the actor's
  Record<std::pair<Kind, int>> seen;  // which it was of its kind
  std::unique_ptr<Runtime> runtime;
};

// A node that beats when it likes.
class Beater : public Script {
 public:
  explicit Beater(const std::string& endpoint) : Script(endpoint, "beater") {
    SendBeatingHello("watcher", Incarnation(7));
    Expect(FrameKind::kWelcome);
    Envelope call = testing::CallOf("watcher", "watch", 1);
    call.from.actor = "me";
    call.from.incarnation = Incarnation(7);
    Send(call, Value());
    Expect(FrameKind::kReply);
  }
  void Beat(Value counters) {
    Envelope beat;
    beat.kind = FrameKind::kBeat;
    Send(beat, counters);
  }
  void Busy(Value ms, Value why) {
    Beat(ValueMap{{"$busy", ValueMap{{"ms", std::move(ms)}, {"why", std::move(why)}}}});
  }
};

TEST(BusyTest, MonitorsAreToldOfItAndOfItsEnd) {
  Watched server(Bound(testing::Patient()));
  auto client = StartRuntime("client");
  auto teller = std::make_unique<FunctionActor>();
  const ActorRef watcher =
      client->Connect(server.runtime->endpoint(), "watcher", kPatience).value();
  teller->on_message = [&](Context&, Message message) {
    (void)watcher.Tell("watch", Value());
    message.responder.Reply(Value());
  };
  const ActorRef self = client->Spawn("teller", std::move(teller)).value();
  ASSERT_TRUE(self.Call("go", Value()).Get(kPatience).ok());
  ASSERT_TRUE(watcher.Call("ping", Value()).Get(kPatience).ok());
  {
    StatusOr<BusyPeriod> busy = client->Busy(Seconds(60), "reads a checkpoint");
    ASSERT_TRUE(busy.ok()) << busy.status();
    ASSERT_TRUE(server.Sees(Kind::kBusy));
    EXPECT_EQ(server.Last().cause, "reads a checkpoint");
    EXPECT_GT(server.Last().busy_until, Now() + Seconds(40));
    // It says for how long from then on; many beats later that is the same time, and no news.
    const StatusOr<BusyPeriod> longer = client->Busy(Seconds(300), "and then another one");
    ASSERT_TRUE(server.Sees(Kind::kBusy, 2));
    EXPECT_EQ(server.Last().cause, "and then another one");
    EXPECT_EQ(server.events.items().size(), 2u);
  }
  ASSERT_TRUE(server.Sees(Kind::kFree));
  for (const PeerEvent& event : server.events.items()) {
    EXPECT_TRUE(event.kind == Kind::kBusy || event.kind == Kind::kFree);
  }
}

TEST(BusyTest, SilenceIsNoNewsUntilThen) {
  Watched server;
  Beater beater(server.runtime->endpoint());
  const Time before = Now();
  beater.Busy(2000, "frozen for a snapshot");
  ASSERT_TRUE(server.Sees(Kind::kBusy));
  EXPECT_EQ(server.Last().cause, "frozen for a snapshot");
  ASSERT_TRUE(server.Sees(Kind::kSuspect));
  EXPECT_GE(server.When(Kind::kSuspect) - before, Milliseconds(2450));
  ASSERT_TRUE(server.Sees(Kind::kUnreachable));
  EXPECT_GE(server.When(Kind::kUnreachable) - before, Milliseconds(2900));
}

TEST(BusyTest, WhoWatchesLaterIsToldToo) {
  Watched server;
  Beater beater(server.runtime->endpoint());
  beater.Busy(60'000, "long");
  ASSERT_TRUE(server.Sees(Kind::kBusy));
  auto late = std::make_unique<FunctionActor>();
  Record<PeerEvent> events;
  late->on_message = [](Context& context, Message message) {
    context.Monitor(message.from);
    message.responder.Reply(Value());
  };
  late->on_peer = [&](Context&, const PeerEvent& event) { events.Add(event); };
  const ActorRef self = server.runtime->Spawn("late", std::move(late)).value();
  Envelope call = testing::CallOf("late", "watch", 2);
  call.from.actor = "me";
  call.from.incarnation = Incarnation(7);
  beater.Send(call, Value());
  EXPECT_TRUE(events.WaitFor([](const PeerEvent& event) { return event.kind == Kind::kBusy; }));
  EXPECT_TRUE(server.runtime->Stop(self, kPatience).ok());
}

// A beat is anybody's word.
TEST(BusyTest, WhatAPeerSaysIsBounded) {
  Watched server;
  Beater beater(server.runtime->endpoint());
  beater.Busy("soon", "no time");
  beater.Busy(-1, "no time");
  beater.Beat(ValueMap{{"$busy", 7}});
  beater.Busy(UINT64_MAX, std::string(100'000, 'x'));
  ASSERT_TRUE(server.Sees(Kind::kBusy));
  EXPECT_EQ(server.events.items().size(), 1u);
  EXPECT_EQ(server.Last().cause, std::string(limits::kBusyTextBytes, 'x'));
  EXPECT_LE(server.Last().busy_until, Now() + limits::kBusyTime);
  beater.Busy(1000, 5);  // without a text
  ASSERT_TRUE(server.Sees(Kind::kBusy, 2));
  EXPECT_EQ(server.Last().cause, "");
}

// What is said is cut between letters, and what is no text is said all the same.
TEST(BusyTest, TheTextNeedBeNone) {
  Watched server;
  auto client = StartRuntime("client");
  const ActorRef watcher =
      client->Connect(server.runtime->endpoint(), "watcher", kPatience).value();
  const auto teller = testing::OnMessages([&](Context&, Message message) {
    message.responder.Reply(Value(watcher.Tell("watch", Value()).ok()));
  });
  const ActorRef self = client->Spawn("teller", testing::OnMessages(teller->on_message)).value();
  ASSERT_TRUE(self.Call("go", Value()).Get(kPatience).ok());
  ASSERT_TRUE(watcher.Call("ping", Value()).Get(kPatience).ok());
  const std::string most(limits::kBusyTextBytes - 1, 'x');
  const auto long_one = client->Busy(Seconds(60), most + "\u00e9");
  ASSERT_TRUE(server.Sees(Kind::kBusy));
  EXPECT_EQ(server.Last().cause, most);
  const auto latin = client->Busy(Seconds(300), "caf\xe9");
  ASSERT_TRUE(server.Sees(Kind::kBusy, 2));
  EXPECT_EQ(server.Last().cause, "caf?");
  Beater beater(server.runtime->endpoint());
  beater.Busy(600'000, most + "\u00e9");
  ASSERT_TRUE(server.Sees(Kind::kBusy, 3));
  EXPECT_EQ(server.Last().cause, most);
}

TEST(BusyTest, WhatCouldNotBeSaidIsAnError) {
  auto runtime = StartRuntime("client");
  const ActorRef self = runtime->Spawn("echo", testing::Echo()).value();
  const auto gate = std::make_shared<testing::Gate>();
  self.state()->owner->reactor().Post([gate](internal::Peers&) { gate->Wait(); });
  const Status status = runtime->Busy(Seconds(1), "x").status();
  gate->Open();
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
}

TEST(BusyTest, TheLimitIsBounded) {
  auto runtime = StartRuntime("client");
  for (const Duration limit :
       {Duration(0), Milliseconds(-1), limits::kBusyTime + Milliseconds(1)}) {
    const Status status = runtime->Busy(limit, "x").status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr("600000 ms"));
  }
  runtime->Shutdown(Duration(0));
  EXPECT_EQ(runtime->Busy(Seconds(1), "x").status().code(), StatusCode::kCancelled);
}

TEST(BusyTest, APeriodMayOutliveItsRuntime) {
  auto runtime = StartRuntime("client");
  BusyPeriod period = runtime->Busy(Seconds(1), "x").value();
  BusyPeriod moved = std::move(period);
  period.End();
  runtime.reset();
  moved.End();
}

}  // namespace
}  // namespace packcast
