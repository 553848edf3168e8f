// An actor that ends itself in order: Context::Stop.
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/runtime/lives_fixture.h"

namespace packcast {
namespace {

using testing::Echo;
using testing::FunctionActor;
using testing::kPatience;
using testing::Record;
using testing::Restarts;
using Kind = PeerEvent::Kind;

class SelfStopTest : public testing::LivesFixture {
 protected:
  // An actor that runs `handler` at "go", and answers each message with its method.
  ActorRef SpawnStopper(std::function<void(Context&)> handler, SpawnOptions options = {}) {
    const ActorFactory factory = [handler, stops = stops_] {
      auto actor = std::make_unique<FunctionActor>();
      actor->on_message = [handler](Context& context, Message message) {
        if (message.method == "go") handler(context);
        message.responder.Reply(message.method);
      };
      actor->on_stop = [stops](Context&) { ++*stops; };
      return actor;
    };
    return server_->Spawn("stopper", factory, std::move(options)).value();
  }
  static bool Go(const ActorRef& ref) { return ref.Call("go", Value()).Get(kPatience).ok(); }
  static bool SawOnly(Record<PeerEvent>& events, Kind kind) {
    return Saw(events, kind) && events.items().size() == 1;
  }

  const std::shared_ptr<std::atomic<int>> stops_ = std::make_shared<std::atomic<int>>(0);
};

TEST_F(SelfStopTest, WhatIsQueuedIsHandledAndThenItLeaves) {
  const auto later = std::make_shared<std::atomic<int>>(0);
  const ActorRef ref = SpawnStopper([gates = gates_, later](Context& context) {
    gates->is_held.Open();
    gates->goes_on.Wait();
    context.Stop();
    context.Post([later](Context&) { ++*later; });
    context.Await<Value>(MakeReady<Value>(Value()),
                         [later](Context&, const StatusOr<Value>&) { ++*later; });
  });
  const auto news = Watch(*server_, ref, /*link=*/true);
  const Future<Value> go = ref.Call("go", Value());
  gates_->is_held.Wait();
  std::vector<Future<Value>> queued;
  for (int k = 0; k < 100; ++k) queued.push_back(ref.Call("queued", Value()));
  gates_->goes_on.Open();

  EXPECT_EQ(go.Get(kPatience).value(), Value("go"));
  for (const Future<Value>& call : queued) {
    const StatusOr<Value> result = call.Get(kPatience);
    EXPECT_TRUE(result.ok()) << result.status();
  }
  EXPECT_TRUE(SawOnly(*news, Kind::kLeft));
  EXPECT_EQ(stops_->load(), 1);
  EXPECT_EQ(later->load(), 0) << "it takes nothing new, of its own neither";
  EXPECT_FALSE(server_->Find("stopper").ok()) << "the name is free";
  const StatusOr<Value> late = ref.Call("late", Value()).Get(kPatience);
  EXPECT_EQ(late.status().code(), StatusCode::kNotFound);
  EXPECT_EQ(late.status().outcome(), Outcome::kNotExecuted);
  EXPECT_TRUE(last_watcher_.Call("ready", Value()).Get(kPatience).ok()) << "it was no death";
}

TEST_F(SelfStopTest, WhoWatchesFromAnotherProcessIsToldThatItLeft) {
  SpawnStopper([](Context& context) { context.Stop(); });
  const ActorRef far = client_->Connect(server_->endpoint(), "stopper", kPatience).value();
  const auto news = Watch(*client_, far, /*link=*/true);
  EXPECT_TRUE(Go(far));
  EXPECT_TRUE(SawOnly(*news, Kind::kLeft));
  EXPECT_TRUE(last_watcher_.Call("ready", Value()).Get(kPatience).ok()) << "it was no death";
}

TEST_F(SelfStopTest, ChildrenStopWithIt) {
  const ActorRef ref = SpawnStopper([](Context& context) {
    if (context.runtime().Find("child").ok()) return context.Stop();
    EXPECT_TRUE(context.runtime().Spawn("child", Echo()).ok());
  });
  EXPECT_TRUE(Go(ref));
  const auto news = Watch(*server_, server_->Find("child").value());
  EXPECT_TRUE(Go(ref));
  EXPECT_TRUE(SawOnly(*news, Kind::kLeft));
}

TEST_F(SelfStopTest, ItMayStopAsItStarts) {
  auto actor = std::make_unique<FunctionActor>();
  actor->on_start = [](Context& context) { context.Stop(); };
  actor->on_stop = [stops = stops_](Context&) { ++*stops; };
  const ActorRef ref = server_->Spawn("short", std::move(actor)).value();
  EXPECT_TRUE(SawOnly(*Watch(*server_, ref), Kind::kLeft));
  EXPECT_EQ(stops_->load(), 1);
}

TEST_F(SelfStopTest, ThereIsNoOtherLifeAlsoWhenItFailsAfterwards) {
  const ActorRef ref = SpawnStopper(
      [](Context& context) {
        context.Stop();
        context.Fail(Internal("and fails"));
      },
      Restarts(-1));
  const auto news = Watch(*server_, ref);
  EXPECT_TRUE(Go(ref));
  EXPECT_TRUE(SawOnly(*news, Kind::kDied));
  EXPECT_EQ(news->items()[0].cause, "and fails");
}

TEST_F(SelfStopTest, NorWhenItHasFailedBefore) {
  const ActorRef ref = SpawnStopper(
      [](Context& context) {
        context.Fail(Internal("fails"));
        context.Stop();
      },
      Restarts(-1));
  const auto news = Watch(*server_, ref);
  EXPECT_TRUE(Go(ref));
  EXPECT_TRUE(SawOnly(*news, Kind::kLeft));
}

// Runtime::Stop beside it.
TEST_F(SelfStopTest, AnotherProcessCannotStopItAndIsToldThatKillReachesIt) {
  SpawnStopper([](Context&) {});
  const ActorRef far = client_->Connect(server_->endpoint(), "stopper", kPatience).value();
  const auto news = Watch(*client_, far);
  const Status refused = client_->Stop(far);
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(refused.message().find("Kill"), std::string::npos) << refused;
  EXPECT_TRUE(Go(far));
  EXPECT_TRUE(client_->Kill(far).ok());
  EXPECT_TRUE(SawOnly(*news, Kind::kDied));
}

}  // namespace
}  // namespace packcast
