// What those who watch an actor, or are linked with it, hear of its lives; here and over loopback
// TCP.
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/runtime/lives_fixture.h"

namespace packcast {
namespace {

using testing::FunctionActor;
using testing::Gates;
using testing::kPatience;
using testing::Mortal;
using testing::Record;
using testing::Restarts;
using Kind = PeerEvent::Kind;

class WatchTest : public testing::LivesFixture {
 protected:
  // "linker-..." at `runtime`, whose first life links itself with `partner`, and spawns a child
  // that the next life waits for. It fails when told to, once with another life.
  ActorRef SpawnLinker(Runtime& runtime, const ActorRef& partner,
                       const std::shared_ptr<Gates>& gates) {
    const ActorFactory factory = [partner, gates, child = "child-of-" + partner.actor()] {
      auto actor = std::make_unique<FunctionActor>();
      actor->on_start = [partner, gates, child](Context& context) {
        if (context.life() > 1) return;
        context.Link(partner);
        EXPECT_TRUE(context.runtime().Spawn(child, std::make_unique<Mortal>(gates)).ok());
      };
      actor->on_message = [](Context& context, Message message) {
        if (message.method == "fail") context.Fail(Internal("told to"));
        message.responder.Reply(int64_t{context.life()});
      };
      return actor;
    };
    SpawnOptions options = Restarts(1);
    options.restart.backoff_max = std::chrono::hours(1);
    const ActorRef linker = runtime.Spawn("linker-of-" + partner.actor(), factory, options).value();
    EXPECT_EQ(Life(linker), 1);
    EXPECT_EQ(Life(partner), 1);  // the link has come there before
    return linker;
  }
  // A mortal one at the server, as `runtime` reaches it.
  ActorRef SpawnPartner(Runtime& runtime, SpawnOptions options = {}) {
    const std::string name = "partner-" + runtime.name();
    SpawnMortal(name, std::move(options));
    return runtime.Connect(server_->endpoint(), name, kPatience).value();
  }
  static void Fail(const ActorRef& ref) {
    const StatusOr<Value> failed = ref.Call("fail", Value()).Get(kPatience);
    EXPECT_TRUE(failed.ok()) << failed.status();
  }
};

TEST_F(WatchTest, LinkedActorsDieTogetherButAStopIsNoDeath) {
  for (Runtime* runtime : {server_.get(), client_.get()}) {
    const std::string suffix = runtime->name();
    const auto reach = [&](const std::string& name) {
      return runtime->Connect(server_->endpoint(), name, kPatience).value();
    };
    SpawnMortal("stops-" + suffix, {});
    const auto stopped = Watch(*runtime, reach("stops-" + suffix), /*link=*/true);
    const ActorRef survivor = last_watcher_;
    SpawnMortal("dies-" + suffix, {});
    const auto died = Watch(*runtime, reach("dies-" + suffix), /*link=*/true);
    const auto grief = Watch(*runtime, last_watcher_);
    ASSERT_EQ(Life(reach("dies-" + suffix)), 1);
    ASSERT_TRUE(server_->Stop(*server_->Find("stops-" + suffix)).ok());
    ASSERT_TRUE(server_->Find("dies-" + suffix)->Call("fail", Value()).Get(kPatience).ok());
    EXPECT_TRUE(Saw(*stopped, Kind::kLeft));
    EXPECT_TRUE(survivor.Call("ready", Value()).Get(kPatience).ok());
    EXPECT_TRUE(Saw(*died, Kind::kDied));
    ASSERT_TRUE(Saw(*grief, Kind::kDied));
    EXPECT_NE(grief->items()[0].cause.find("died: told to"), std::string::npos)
        << grief->items()[0].cause;
  }
}

TEST_F(WatchTest, AWatchOfOneThatIsGoneTellsHowItEnded) {
  // A restart first: the reference is to an earlier life than the one that dies.
  const ActorRef dies = SpawnMortal("dies", Restarts(1));
  const ActorRef stops = SpawnMortal("stops", {});
  const ActorRef far_dies = client_->Connect(server_->endpoint(), "dies", kPatience).value();
  const ActorRef far_stops = client_->Connect(server_->endpoint(), "stops", kPatience).value();
  for (int k = 0; k < 2; ++k) ASSERT_TRUE(dies.Call("fail", Value()).Get(kPatience).ok());
  ASSERT_TRUE(server_->Stop(dies, kPatience).ok());
  ASSERT_TRUE(server_->Stop(stops, kPatience).ok());
  // Once this is answered, the goodbyes have come.
  SpawnMortal("other", {});
  ASSERT_EQ(Life(client_->Connect(server_->endpoint(), "other", kPatience).value()), 1);
  const auto left = Watch(*client_, far_stops, /*link=*/true);
  const ActorRef survivor = last_watcher_;
  ASSERT_TRUE(Saw(*left, Kind::kLeft));
  EXPECT_TRUE(survivor.Call("ready", Value()).Get(kPatience).ok());
  const auto died = Watch(*client_, far_dies);
  ASSERT_TRUE(Saw(*died, Kind::kDied));
  EXPECT_EQ(died->items()[0].cause, "told to");
  // The name has a new owner, which is another actor.
  SpawnMortal("dies", {});
  ASSERT_TRUE(Saw(*Watch(*client_, far_dies), Kind::kDied));
  auto linked = std::make_unique<FunctionActor>();
  linked->on_message = [far_dies](Context& context, Message) { context.Link(far_dies); };
  const ActorRef linking = client_->Spawn("linking", std::move(linked)).value();
  const auto grief = Watch(*client_, linking);
  ASSERT_TRUE(linking.Tell("link", Value()).ok());
  EXPECT_TRUE(Saw(*grief, Kind::kDied));
}

TEST_F(WatchTest, ARemoteWatchThatBeginsBetweenTwoLivesHearsOfTheNext) {
  const auto gates = gates_;
  const ActorFactory factory = [gates] {
    auto actor = std::make_unique<FunctionActor>();
    actor->on_start = [gates](Context& context) {
      if (context.life() == 1) return;
      gates->is_held.Open();
      gates->goes_on.Wait();
    };
    actor->on_message = [](Context& context, Message message) {
      if (message.method == "fail") context.Fail(Internal("told to"));
      message.responder.Reply(Value());
    };
    return actor;
  };
  ASSERT_TRUE(server_->Spawn("restarts", factory, Restarts(1)).ok());
  const ActorRef far = client_->Connect(server_->endpoint(), "restarts", kPatience).value();
  ASSERT_TRUE(far.Call("fail", Value()).Get(kPatience).ok());
  gates_->is_held.Wait();
  const auto events = Watch(*client_, far);
  // The watch's question was before this one.
  ASSERT_TRUE(far.Call("$describe", Value()).Get(kPatience).ok());
  gates_->goes_on.Open();
  ASSERT_TRUE(Saw(*events, Kind::kRestarted));
  ASSERT_TRUE(far.Call("work", Value()).Get(kPatience).ok());
  EXPECT_EQ(events->items().size(), 1u);
}

TEST_F(WatchTest, DemonitorLeavesALinkAsItIs) {
  const ActorRef ref = SpawnMortal("mortal", {});
  auto linked = std::make_unique<FunctionActor>();
  linked->on_message = [ref](Context& context, Message message) {
    context.Link(ref);
    context.Demonitor(ref);
    message.responder.Reply(Value());
  };
  const ActorRef linking = server_->Spawn("linking", std::move(linked)).value();
  const auto grief = Watch(*server_, linking);
  ASSERT_TRUE(linking.Call("link", Value()).Get(kPatience).ok());
  ASSERT_TRUE(ref.Call("fail", Value()).Get(kPatience).ok());
  EXPECT_TRUE(Saw(*grief, Kind::kDied));
}

TEST_F(WatchTest, ARemoteWatchFollowsMoreRestartsThanAreRemembered) {
  const ActorRef ref = SpawnMortal("mortal", Restarts(-1, Duration(0)));
  const ActorRef far = client_->Connect(server_->endpoint(), "mortal", kPatience).value();
  const auto events = Watch(*client_, far);
  ASSERT_EQ(Life(far), 1);
  constexpr int kRestarts = 80;
  for (int k = 0; k < kRestarts; ++k) {
    ASSERT_TRUE(server_->Find("mortal")->Call("fail", Value()).Get(kPatience).ok());
  }
  ASSERT_EQ(Life(*server_->Find("mortal")), kRestarts + 1);
  ASSERT_TRUE(server_->Stop(ref, kPatience).ok());
  ASSERT_TRUE(Saw(*events, Kind::kLeft));
  EXPECT_EQ(events->items().size(), kRestarts + 1u) << "each restart once, and the end";
}

TEST_F(WatchTest, ALinkHoldsBothWays) {
  for (Runtime* runtime : {server_.get(), client_.get()}) {
    const std::string name = "linked-" + runtime->name();
    const ActorRef ref = SpawnMortal(name, {});
    const auto fate = Watch(*server_, ref);
    const ActorRef reached = runtime->Connect(server_->endpoint(), name, kPatience).value();
    Watch(*runtime, reached, /*link=*/true);
    ASSERT_EQ(Life(reached), 1);
    ASSERT_TRUE(last_watcher_.Call("fail", Value()).Get(kPatience).ok());
    EXPECT_TRUE(Saw(*fate, Kind::kDied));
  }
}

TEST_F(WatchTest, ARestartIsNoDeathForALink) {
  for (Runtime* runtime : {server_.get(), client_.get()}) {
    const ActorRef partner = SpawnPartner(*runtime, Restarts(1));
    const auto events = Watch(*runtime, partner, /*link=*/true);
    const ActorRef linked = last_watcher_;
    const auto grief = Watch(*runtime, linked);
    ASSERT_EQ(Life(partner), 1);
    Fail(partner);
    ASSERT_TRUE(Saw(*events, Kind::kRestarted));
    EXPECT_TRUE(linked.Call("ready", Value()).Get(kPatience).ok());
    EXPECT_EQ(grief->items().size(), 0u);
    Fail(partner);  // it has no further life
    EXPECT_TRUE(Saw(*events, Kind::kDied));
    EXPECT_TRUE(Saw(*grief, Kind::kDied));
  }
}

TEST_F(WatchTest, ALinkStaysWhenTheOneThatMadeItRestarts) {
  for (Runtime* runtime : {server_.get(), client_.get()}) {
    const ActorRef partner = SpawnPartner(*runtime);
    const ActorRef linker = SpawnLinker(*runtime, partner, gates_);
    const auto grief = Watch(*runtime, linker);
    Fail(linker);
    ASSERT_EQ(Life(linker), 2);
    Fail(partner);
    ASSERT_TRUE(Saw(*grief, Kind::kDied));
    const std::string cause = grief->items().back().cause;
    EXPECT_EQ(cause, "linked " + partner.ToString() + " died: told to");
  }
}

TEST_F(WatchTest, ALinkedDeathBetweenTwoLivesFailsTheNext) {
  for (Runtime* runtime : {server_.get(), client_.get()}) {
    const ActorRef partner = SpawnPartner(*runtime);
    const auto gates = std::make_shared<Gates>();
    const ActorRef linker = SpawnLinker(*runtime, partner, gates);
    const auto grief = Watch(*runtime, linker);
    const auto seen = Watch(*runtime, partner);
    ASSERT_EQ(Life(partner), 1);
    const ActorRef child = runtime->Find("child-of-" + partner.actor()).value();
    const Future<Value> held = child.Call("hold", Value());
    gates->is_held.Wait();
    Fail(linker);  // its next life waits for the child
    Fail(partner);
    ASSERT_TRUE(Saw(*seen, Kind::kDied));  // so has the linker, which came first
    EXPECT_EQ(grief->items().size(), 0u);
    gates->goes_on.Open();
    ASSERT_TRUE(Saw(*grief, Kind::kDied));
    EXPECT_EQ(grief->items().front().kind, Kind::kRestarted);
    const std::string cause = grief->items().back().cause;
    EXPECT_EQ(cause, "linked " + partner.ToString() + " died: told to");
  }
}

TEST_F(WatchTest, NewsThatComesBetweenTwoLivesReachesTheNext) {
  const ActorRef watched = SpawnMortal("watched", {});
  auto events = std::make_shared<Record<PeerEvent>>();
  const ActorFactory factory = [watched, events] {
    auto actor = std::make_unique<FunctionActor>();
    actor->on_start = [watched](Context& context) {
      if (context.life() == 1) context.Monitor(watched);
    };
    actor->on_message = [watched](Context& context, Message message) {
      if (message.method == "fail") context.Fail(Internal("told to"));
      message.responder.Reply(Value());
    };
    actor->on_peer = [events](Context& context, const PeerEvent& event) {
      EXPECT_EQ(context.life(), 2);
      events->Add(event);
    };
    return actor;
  };
  const ActorRef watcher =
      server_->Spawn("watcher", factory, Restarts(1, Milliseconds(50))).value();
  ASSERT_TRUE(watcher.Call("fail", Value()).Get(kPatience).ok());
  ASSERT_TRUE(watched.Call("fail", Value()).Get(kPatience).ok());
  EXPECT_TRUE(Saw(*events, Kind::kDied));
}

TEST_F(WatchTest, NewsThatWaitsWhenALifeFailsReachesTheNext) {
  const ActorRef watched = SpawnMortal("watched", {});
  const auto gates = std::make_shared<Gates>();
  auto events = std::make_shared<Record<PeerEvent>>();
  const ActorFactory factory = [watched, gates, events] {
    auto actor = std::make_unique<FunctionActor>();
    actor->on_start = [watched](Context& context) {
      if (context.life() == 1) context.Monitor(watched);
    };
    actor->on_message = [gates](Context& context, Message) {
      gates->is_held.Open();
      gates->goes_on.Wait();
      context.Fail(Internal("told to"));
    };
    actor->on_peer = [events](Context&, const PeerEvent& event) { events->Add(event); };
    return actor;
  };
  const ActorRef watcher = server_->Spawn("watcher", factory, Restarts(1)).value();
  const auto seen = Watch(*server_, watched);
  ASSERT_TRUE(watcher.Tell("hold and fail", Value()).ok());
  gates->is_held.Wait();
  ASSERT_TRUE(watched.Call("fail", Value()).Get(kPatience).ok());
  ASSERT_TRUE(Saw(*seen, Kind::kDied));  // so has the other watcher, which came first
  gates->goes_on.Open();
  EXPECT_TRUE(Saw(*events, Kind::kDied));
}

TEST_F(WatchTest, WhoNoLongerWatchesIsToldNothing) {
  for (Runtime* runtime : {server_.get(), client_.get()}) {
    const ActorRef partner = SpawnPartner(*runtime);
    auto events = std::make_shared<Record<PeerEvent>>();
    auto former = std::make_unique<FunctionActor>();
    former->on_message = [partner](Context& context, Message message) {
      if (message.method == "watch and not") {
        context.Monitor(partner);
        context.Link(partner);
        context.Unlink(partner);
        context.Demonitor(partner);
      }
      message.responder.Reply(Value());
    };
    former->on_peer = [events](Context&, const PeerEvent& event) { events->Add(event); };
    const ActorRef ref = runtime->Spawn("former-" + runtime->name(), std::move(former)).value();
    ASSERT_TRUE(ref.Call("watch and not", Value()).Get(kPatience).ok());
    // Of the same process: told at the same time, and after it.
    const auto others = Watch(*runtime, partner);
    Fail(partner);
    ASSERT_TRUE(Saw(*others, Kind::kDied));
    EXPECT_TRUE(ref.Call("lives", Value()).Get(kPatience).ok());
    EXPECT_EQ(events->items().size(), 0u);
  }
}

TEST_F(WatchTest, UnlinkEndsTheNewsOnBothSidesUnlessMonitorWasAskedFor) {
  for (Runtime* runtime : {server_.get(), client_.get()}) {
    const std::string suffix = "-" + runtime->name();
    auto told = std::make_shared<Record<std::string>>();  // who of whom
    // Does what the method says, and notes the news.
    const auto spawn = [&](Runtime& where, const std::string& name, const ActorRef& other) {
      auto actor = std::make_unique<FunctionActor>();
      actor->on_message = [other](Context& context, Message message) {
        if (message.method == "fail") context.Fail(Internal("told to"));
        if (message.method == "watch me") context.Monitor(context.sender());
        if (message.method == "be watched") (void)other.Tell("watch me", Value());
        if (message.method == "monitor") context.Monitor(other);
        if (message.method == "link and not") {
          context.Link(other);
          context.Unlink(other);
        }
        message.responder.Reply(int64_t{1});
      };
      actor->on_peer = [told, name](Context&, const PeerEvent& event) {
        told->Add(name + " of " + event.ref.actor());
      };
      return where.Spawn(name, std::move(actor)).value();
    };
    (void)spawn(*server_, "partner" + suffix, ActorRef());
    const ActorRef partner =
        runtime->Connect(server_->endpoint(), "partner" + suffix, kPatience).value();
    const ActorRef fence = spawn(*runtime, "fence" + suffix, partner);
    const ActorRef monitor = spawn(*runtime, "monitor" + suffix, partner);
    const ActorRef former = spawn(*runtime, "former" + suffix, partner);
    const ActorRef other = spawn(*runtime, "other" + suffix, partner);
    const auto ask = [](const ActorRef& ref, const std::string& what) {
      ASSERT_TRUE(ref.Call(what, Value()).Get(kPatience).ok());
    };
    ask(fence, "be watched");
    ask(monitor, "monitor");
    for (const ActorRef& ref : {monitor, former, other}) ask(ref, "link and not");
    ask(partner, "settle");  // all of it has come there before
    ask(former, "fail");
    ask(fence, "fail");  // whose end is told after the other's
    ASSERT_TRUE(told->WaitForCount(1));
    const auto others = Watch(*runtime, partner);
    ask(partner, "fail");
    ASSERT_TRUE(Saw(*others, Kind::kDied));
    ask(other, "still there");
    ASSERT_TRUE(told->WaitForCount(2));
    EXPECT_EQ(told->items(),
              (std::vector<std::string>{"partner" + suffix + " of fence" + suffix,
                                        "monitor" + suffix + " of partner" + suffix}));
  }
}

TEST_F(WatchTest, AHandlerMaySayThatItsProcessIsBusyAndIsNoLonger) {
  auto busy = std::make_unique<FunctionActor>();
  busy->on_message = [period = std::make_shared<BusyPeriod>()](Context& context, Message message) {
    if (message.method == "busy") *period = context.runtime().Busy(Seconds(600), "work").value();
    if (message.method == "free") period->End();
    message.responder.Reply(int64_t{1});
  };
  ASSERT_TRUE(server_->Spawn("busy", std::move(busy)).ok());
  const ActorRef far = client_->Connect(server_->endpoint(), "busy", kPatience).value();
  const auto events = Watch(*client_, far);
  ASSERT_TRUE(far.Call("busy", Value()).Get(kPatience).ok());
  ASSERT_TRUE(Saw(*events, Kind::kBusy));
  ASSERT_TRUE(far.Call("free", Value()).Get(kPatience).ok());
  EXPECT_TRUE(Saw(*events, Kind::kFree));
}

TEST_F(WatchTest, WhoMonitorsTwiceIsToldOnce) {
  for (Runtime* runtime : {server_.get(), client_.get()}) {
    const ActorRef partner = SpawnPartner(*runtime, Restarts(1));
    auto events = std::make_shared<Record<PeerEvent>>();
    auto watcher = std::make_unique<FunctionActor>();
    watcher->on_message = [partner](Context& context, Message message) {
      context.Monitor(partner);
      context.Monitor(partner);
      message.responder.Reply(Value());
    };
    watcher->on_peer = [events](Context&, const PeerEvent& event) { events->Add(event); };
    const ActorRef ref = runtime->Spawn("twice-" + runtime->name(), std::move(watcher)).value();
    const auto watch = [&] { ASSERT_TRUE(ref.Call("watch", Value()).Get(kPatience).ok()); };
    watch();
    EXPECT_EQ(Life(partner), 1);  // the question of what became of it has been answered
    Fail(partner);
    ASSERT_TRUE(Saw(*events, Kind::kRestarted));
    EXPECT_EQ(Life(partner), 2);
    watch();  // as one that is joined again would
    Fail(partner);
    ASSERT_TRUE(Saw(*events, Kind::kDied));
    const auto others = Watch(*runtime, partner);
    ASSERT_TRUE(Saw(*others, Kind::kDied));
    EXPECT_EQ(events->items().size(), 2u);
  }
}

}  // namespace
}  // namespace packcast
