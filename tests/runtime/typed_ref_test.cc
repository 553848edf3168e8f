// Classes as actors: the builder, typed calls and tells here and over TCP, groups, cancel.
#include <atomic>
#include <functional>
#include <stdexcept>

#include <gtest/gtest.h>

#include "tests/runtime/refusal_fixture.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::Echo;
using testing::Gate;
using testing::kPatience;
using testing::Patient;
using testing::Record;
using testing::StartRuntime;

struct Shared {
  Gate is_held;
  Gate goes_on;
  std::atomic<int> held{0};
};

// An ordinary class: it knows nothing of actors but the list of its methods.
class Store {
 public:
  explicit Store(std::shared_ptr<Shared> shared, int64_t first = 0)
      : shared_(std::move(shared)), total_(first) {}

  int64_t Add(int64_t amount) { return total_ += amount; }
  void Hold() {
    if (++shared_->held == 2) shared_->is_held.Open();
    shared_->goes_on.Wait();
  }
  uint64_t Address(const std::vector<int64_t>& numbers) {
    return reinterpret_cast<uint64_t>(numbers.data());
  }
  Future<int64_t> Later() { return later_.future(); }
  Future<int64_t> Never() { return {}; }
  void Resolve(int64_t value) { later_.Set(value); }
  // Passes on what a call of its own was told.
  Status Forward() { return Cancelled("other").WithOutcome(Outcome::kNotExecuted); }
  Future<int64_t> ForwardLater() {
    return MakeReady<int64_t>(Cancelled("other").WithOutcome(Outcome::kNotExecuted));
  }
  StatusOr<int64_t> Refuse() { return FailedPrecondition("not now"); }
  void Throw() { throw std::runtime_error("boom"); }
  void Crash(Context& context) { context.Fail(Internal("crashed")); }
  void NotListed() {}

  static void Methods(MethodTable<Store>& table) {
    table.Add("add", &Store::Add, {.about = "adds, and returns the sum"})
        .Add("hold", &Store::Hold, {.group = "slow"})
        .Add("address", &Store::Address)
        .Add("later", &Store::Later)
        .Add("never", &Store::Never)
        .Add("resolve", &Store::Resolve)
        .Add("refuse", &Store::Refuse)
        .Add("forward", &Store::Forward)
        .Add("forward_later", &Store::ForwardLater)
        .Add("throw", &Store::Throw)
        .Add("crash", &Store::Crash);
  }

 private:
  const std::shared_ptr<Shared> shared_;
  int64_t total_;
  Promise<int64_t> later_;
};

// It has all that an ordinary class may have besides methods, and notes what is called.
class Alarm {
 public:
  using Calls = std::shared_ptr<Record<std::string>>;
  explicit Alarm(Calls calls) : calls_(std::move(calls)) {}
  void OnStart(Context& context) {
    calls_->Add("start");
    timer_ = context.SetTimer(context.now());
  }
  void OnTimer(Context&, TimerId timer) {
    EXPECT_EQ(timer, timer_);
    calls_->Add("timer");
  }
  void OnStop(Context&) { calls_->Add("stop"); }
  static void Methods(MethodTable<Alarm>&) {}

 private:
  const Calls calls_;
  TimerId timer_;
};

class Greeter {
 public:
  // Answers the sender's name, and tells it a word of its own.
  std::string Greet(Context& context) {
    const ActorRef sender = context.sender();
    if (!sender.valid()) return "nobody";
    EXPECT_TRUE(sender.Tell("greeted", ValueArray{}).ok());
    return sender.actor();
  }
  static void Methods(MethodTable<Greeter>& table) { table.Add("greet", &Greeter::Greet); }
};

class Guest {
 public:
  explicit Guest(TypedRef<Greeter> greeter) : greeter_(std::move(greeter)) {}
  Future<std::string> Visit() { return greeter_.Call(&Greeter::Greet); }
  void Greeted() { ++greeted_; }
  int64_t Count() { return greeted_; }
  static void Methods(MethodTable<Guest>& table) {
    table.Add("visit", &Guest::Visit).Add("greeted", &Guest::Greeted).Add("count", &Guest::Count);
  }

 private:
  const TypedRef<Greeter> greeter_;
  int64_t greeted_ = 0;
};

// Both ways to the same actor: direct, and through a connection.
class TypedRefTest : public ::testing::TestWithParam<bool> {
 protected:
  ActorBuilder<Store> Builder() {
    return NewActor<Store>(*server_, shared_, int64_t{100}).Name("store").Group("slow", 2);
  }
  TypedRef<Store> Reach(const TypedRef<Store>& spawned) {
    if (!GetParam()) return spawned;
    return TypedRef<Store>(
        client_->Connect(server_->endpoint(), spawned.ref().actor(), kPatience).value());
  }
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::unique_ptr<Runtime> server_ = StartRuntime("server", Patient());
  std::unique_ptr<Runtime> client_ = StartRuntime("client", Patient());
};

TEST_P(TypedRefTest, CallsAndTellsComeInOrder) {
  const auto store = Reach(Builder().Spawn().value());
  EXPECT_EQ(*store.Call(&Store::Add, 5).Get(kPatience), 105);
  for (int k = 0; k < 1000; ++k) ASSERT_TRUE(store.Tell(&Store::Add, 1).ok());
  EXPECT_EQ(*store.Call(&Store::Add, 0).Get(kPatience), 1105);
}

TEST_P(TypedRefTest, ErrorsHaveTheirOutcome) {
  const auto store = Reach(Builder().Spawn().value());
  const Status refused = store.Call(&Store::Refuse).Get(kPatience).status();
  EXPECT_EQ(refused, FailedPrecondition("not now"));
  EXPECT_EQ(refused.outcome(), Outcome::kExecuted);
  EXPECT_EQ(store.Call(&Store::Forward).Get(kPatience).status().outcome(), Outcome::kExecuted);
  EXPECT_EQ(store.Call(&Store::ForwardLater).Get(kPatience).status().outcome(), Outcome::kExecuted);
  const Status thrown = store.Call(&Store::Throw).Get(kPatience).status();
  EXPECT_EQ(thrown.code(), StatusCode::kInternal);
  EXPECT_EQ(thrown.outcome(), Outcome::kExecuted);
  EXPECT_NE(thrown.message().find("boom"), std::string::npos) << thrown;
  const Status unlisted = store.Call(&Store::NotListed).Get(kPatience).status();
  EXPECT_EQ(unlisted.code(), StatusCode::kUnimplemented);
  EXPECT_EQ(unlisted.outcome(), Outcome::kNotExecuted);
}

TEST_P(TypedRefTest, AMethodMayAnswerLater) {
  const auto store = Reach(Builder().Spawn().value());
  const Future<int64_t> later = store.Call(&Store::Later);
  EXPECT_TRUE(store.Call(&Store::Resolve, 7).Get(kPatience).ok());
  EXPECT_EQ(*later.Get(kPatience), 7);
}

TEST_P(TypedRefTest, AMethodThatReturnsAFutureThatWasNeverMadeFailsItsCall) {
  const auto store = Reach(Builder().Spawn().value());
  const Status never = store.Call(&Store::Never).Get(kPatience).status();
  EXPECT_EQ(never.code(), StatusCode::kFailedPrecondition) << never;
  EXPECT_EQ(never.outcome(), Outcome::kExecuted);
}

TEST_P(TypedRefTest, AGroupRunsBesideTheOthersAsOftenAsItMay) {
  const auto store = Reach(Builder().Spawn().value());
  const std::vector<Future<Unit>> held = {store.Call(&Store::Hold), store.Call(&Store::Hold),
                                          store.Call(&Store::Hold)};
  shared_->is_held.Wait();
  EXPECT_EQ(shared_->held.load(), 2) << "the third one waits";
  EXPECT_FALSE(WhenAny(held).ready());
  shared_->goes_on.Open();
  EXPECT_TRUE(WhenAny(held).Get(kPatience).ok());
  EXPECT_TRUE(WhenAll(held).Get(kPatience).ok());
  EXPECT_EQ(shared_->held.load(), 3);
}

TEST_P(TypedRefTest, ACancelledCallThatHasNotBegunNeverRuns) {
  const auto store = Reach(Builder().Group("other").Spawn().value());
  const Future<Unit> first = store.Call(&Store::Hold);
  const Future<Unit> second = store.Call(&Store::Hold);
  shared_->is_held.Wait();
  const Future<Unit> third = store.Call(&Store::Hold);
  third.Cancel();
  const Status cancelled = third.Get(kPatience).status();
  EXPECT_EQ(cancelled.code(), StatusCode::kCancelled);
  // Over TCP it may have left already.
  if (cancelled.outcome() != Outcome::kMaybeExecuted || !GetParam()) {
    EXPECT_EQ(cancelled.outcome(), Outcome::kNotExecuted);
  }
  second.Cancel();
  EXPECT_EQ(second.Get(kPatience).status().outcome(), Outcome::kMaybeExecuted);
  shared_->goes_on.Open();
  EXPECT_TRUE(first.Get(kPatience).ok());
  first.Cancel();
  EXPECT_TRUE(first.Get(kPatience).ok()) << "it has its result";
  EXPECT_TRUE(store.Call(&Store::Hold).Get(kPatience).ok());
  EXPECT_LE(shared_->held.load(), GetParam() ? 4 : 3);
}

TEST_P(TypedRefTest, ACallThatIsKilledInTheQueueNeverRuns) {
  const auto spawned = Builder().Spawn().value();
  const auto store = Reach(spawned);
  const std::vector<Future<Unit>> held = {store.Call(&Store::Hold), store.Call(&Store::Hold)};
  shared_->is_held.Wait();
  const Future<Unit> queued = store.Call(&Store::Hold);
  ASSERT_TRUE((GetParam() ? client_ : server_)->Kill(store.ref()).ok());
  const Status killed = queued.Get(kPatience).status();
  EXPECT_EQ(killed.code(), StatusCode::kPeerDied) << killed;
  EXPECT_EQ(killed.outcome(), Outcome::kNotExecuted);
  shared_->goes_on.Open();
  for (const Future<Unit>& call : held) EXPECT_TRUE(call.Get(kPatience).ok());
  ASSERT_TRUE(server_->Stop(spawned.ref(), kPatience).ok());  // waits for its end
  EXPECT_EQ(shared_->held.load(), 2);
}

TEST_P(TypedRefTest, EachLifeIsMadeFromTheSameArguments) {
  const auto store = Reach(Builder().Spawn().value());
  const auto lasting = Reach(
      NewActor<Store>(*server_, shared_, int64_t{7}).Group("slow").MaxRestarts(1).Spawn().value());
  EXPECT_EQ(*lasting.Call(&Store::Add, 1).Get(kPatience), 8);
  EXPECT_TRUE(lasting.Call(&Store::Crash).Get(kPatience).ok());
  EXPECT_EQ(*lasting.Call(&Store::Add, 2).Get(kPatience), 9);
}

TEST_P(TypedRefTest, AMethodKnowsWhoSentItsMessage) {
  const auto greeter = NewActor<Greeter>(*server_).Name("greeter").Spawn().value();
  Runtime& home = GetParam() ? *client_ : *server_;
  const TypedRef<Greeter> reached(home.Connect(server_->endpoint(), "greeter", kPatience).value());
  const auto guest = NewActor<Guest>(home, reached).Name("guest").Spawn().value();
  EXPECT_EQ(*guest.Call(&Guest::Visit).Get(kPatience), "guest");
  // The word was sent before the answer, over the same way.
  EXPECT_EQ(*guest.Call(&Guest::Count).Get(kPatience), 1);
  const TypedRef<Greeter> far(client_->Connect(server_->endpoint(), "greeter", kPatience).value());
  EXPECT_EQ(*far.Call(&Greeter::Greet).Get(kPatience), "nobody") << "a thread is no actor";
  EXPECT_EQ(*greeter.Call(&Greeter::Greet).Get(kPatience), "nobody");
}

INSTANTIATE_TEST_SUITE_P(Ways, TypedRefTest, ::testing::Bool(), [](const auto& way) {
  return std::string(way.param ? "OverTcp" : "Direct");
});

using LocalTypedRefTest = TypedRefTest;
INSTANTIATE_TEST_SUITE_P(Direct, LocalTypedRefTest, ::testing::Values(false));

TEST_P(LocalTypedRefTest, ArgumentsAreMovedNotCopied) {
  const auto store = Builder().Spawn().value();
  std::vector<int64_t> numbers(1 << 20, 3);
  const auto address = reinterpret_cast<uint64_t>(numbers.data());
  EXPECT_EQ(*store.Call(&Store::Address, std::move(numbers)).Get(kPatience), address);
}

TEST_P(LocalTypedRefTest, GetOrCreateFindsTheSameActorAndNoOther) {
  const auto first = Builder().Namespace("rollout").GetOrCreate().value();
  const auto second = Builder().Namespace("rollout").GetOrCreate().value();
  EXPECT_EQ(first.ref(), second.ref());
  EXPECT_EQ(first.ref().actor(), "rollout/store");
  EXPECT_EQ(*first.Call(&Store::Add, 1).Get(kPatience), 101);
  EXPECT_EQ(*second.Call(&Store::Add, 1).Get(kPatience), 102);
  ASSERT_TRUE(server_->Spawn("echo", Echo()).ok());
  EXPECT_EQ(Builder().Name("echo").GetOrCreate().status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(Builder().Namespace("rollout").Spawn().status().code(), StatusCode::kAlreadyExists);
}

TEST_P(LocalTypedRefTest, AMethodOfAnUnknownGroupIsNamed) {
  const Status status = NewActor<Store>(*server_, shared_).Spawn().status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("\"hold\""), std::string::npos) << status;
}

TEST_P(LocalTypedRefTest, AnExpiredCallThatHasNotBegunNeverRuns) {
  const auto store = Builder().Spawn().value();
  const Future<Unit> a = store.Call(&Store::Hold);
  const Future<Unit> b = store.Call(&Store::Hold);
  shared_->is_held.Wait();
  const Status late =
      store.CallWith({.deadline = Milliseconds(1)}, &Store::Hold).Get(kPatience).status();
  EXPECT_EQ(late.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(late.outcome(), Outcome::kNotExecuted);
  shared_->goes_on.Open();
  EXPECT_TRUE(a.Get(kPatience).ok() && b.Get(kPatience).ok());
  ASSERT_TRUE(server_->Stop(store.ref(), kPatience).ok());  // what is queued has its turn before
  EXPECT_EQ(shared_->held.load(), 2);
}

TEST_P(LocalTypedRefTest, NorDoesACallByNameThatIsCancelledOrExpired) {
  const auto store = Builder().Spawn().value();
  const std::vector<Future<Unit>> held = {store.Call(&Store::Hold), store.Call(&Store::Hold)};
  shared_->is_held.Wait();
  const auto hold = [store](Duration deadline) {
    return store.ref().Call("hold", ValueArray{}, {.deadline = deadline});
  };
  const Future<Value> cancelled = hold(kPatience);
  cancelled.Cancel();
  EXPECT_EQ(cancelled.Get(kPatience).status().code(), StatusCode::kCancelled);
  EXPECT_EQ(cancelled.Get(kPatience).status().outcome(), Outcome::kNotExecuted);
  const Status late = hold(Milliseconds(1)).Get(kPatience).status();
  EXPECT_EQ(late.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(late.outcome(), Outcome::kNotExecuted);
  shared_->goes_on.Open();
  EXPECT_TRUE(WhenAll(held).Get(kPatience).ok());
  ASSERT_TRUE(server_->Stop(store.ref(), kPatience).ok());  // what is queued has its turn before
  EXPECT_EQ(shared_->held.load(), 2);
}

TEST_P(LocalTypedRefTest, ACallWhoseHandlerHangsEndsAtItsDeadline) {
  const auto store = Builder().Spawn().value();
  using HoldUntil = std::function<Future<Unit>(Duration)>;
  const HoldUntil typed = [store](Duration deadline) {
    return store.CallWith({.deadline = deadline}, &Store::Hold);
  };
  const HoldUntil by_name = [store](Duration deadline) {
    return CallMethod<Unit>(store.ref(), "hold", {.deadline = deadline});
  };
  for (const HoldUntil& hold : {typed, by_name}) {
    Status late;
    // A busy machine may not begin it in time: then once more, and longer.
    for (Duration deadline = Milliseconds(50); late.outcome() != Outcome::kMaybeExecuted;
         deadline *= 2) {
      ASSERT_LT(ToSeconds(deadline), ToSeconds(kPatience));
      const Future<Unit> call = hold(deadline);
      late = call.Get(kPatience).status();
      ASSERT_TRUE(call.ready());
      ASSERT_EQ(late.code(), StatusCode::kDeadlineExceeded) << late;
    }
  }
  shared_->goes_on.Open();
  ASSERT_TRUE(server_->Stop(store.ref(), kPatience).ok());
  EXPECT_EQ(shared_->held.load(), 2) << "what had not begun never did";
}

TEST_P(LocalTypedRefTest, AClassMayHaveTimersAndAnEnd) {
  const auto calls = std::make_shared<Record<std::string>>();
  const auto alarm = NewActor<Alarm>(*server_, calls).Spawn().value();
  ASSERT_TRUE(calls->WaitForCount(2));
  ASSERT_TRUE(server_->Stop(alarm.ref(), kPatience).ok());
  EXPECT_EQ(calls->items(), (std::vector<std::string>{"start", "timer", "stop"}));
}

using DeadlineTest = testing::RefusalFixture;

TEST_F(DeadlineTest, ACallIsNotSentAfterItsDeadlineEvenWhenItMayBeRepeated) {
  Start(Patient());
  const TypedRef<Store> store(Reach());
  Watch(store.ref());
  const Future<Unit> sent =
      store.CallWith({.deadline = Seconds(2), .idempotent = true}, &Store::Throw);
  EXPECT_EQ(server_.Expect(FrameKind::kCall).method, "throw");
  server_.DropConnections();
  ASSERT_TRUE(Sees(PeerEvent::Kind::kDied));
  const Future<Unit> unsent =
      store.CallWith({.deadline = Milliseconds(1), .idempotent = true}, &Store::Forward);
  for (const Future<Unit>& call : {sent, unsent}) {
    EXPECT_EQ(call.Get(kPatience).status().code(), StatusCode::kDeadlineExceeded);
    ASSERT_TRUE(call.ready());
  }
  EXPECT_EQ(sent.Get(kPatience).status().outcome(), Outcome::kMaybeExecuted);
  EXPECT_EQ(unsent.Get(kPatience).status().outcome(), Outcome::kNotExecuted);
  server_.Expect(FrameKind::kHello);
  server_.Welcome("");
  ASSERT_TRUE(Sees(PeerEvent::Kind::kRecovered));
  const Future<int64_t> next = store.Call(&Store::Refuse);
  const Envelope call = server_.Expect(FrameKind::kCall);
  EXPECT_EQ(call.method, "refuse");
  server_.Reply(call);
  EXPECT_EQ(next.Get(kPatience).status().outcome(), Outcome::kExecuted);
}

TEST(LivesOfOneClassTest, AFactoryThatMakesAnotherClassFailsTheLife) {
  const auto runtime = StartRuntime("node");
  const auto shared = std::make_shared<Shared>();
  const auto first = std::make_shared<std::atomic<bool>>(true);
  const ActorFactory factory = [shared, first]() -> std::unique_ptr<Actor> {
    if (first->exchange(false)) return std::make_unique<Hosted<Store>>(shared);
    return std::make_unique<Hosted<Greeter>>();
  };
  SpawnOptions options;
  options.restart = {.max_restarts = 1, .backoff = Milliseconds(1)};
  options.groups.push_back({"slow"});
  const TypedRef<Store> store(runtime->Spawn("store", factory, options).value());
  EXPECT_TRUE(store.Call(&Store::Crash).Get(kPatience).ok());
  const Status failed = store.Call(&Store::Refuse).Get(kPatience).status();
  EXPECT_EQ(failed.code(), StatusCode::kInternal);
  EXPECT_EQ(failed.outcome(), Outcome::kNotExecuted);
  EXPECT_NE(failed.message().find("another class"), std::string::npos) << failed;
}

}  // namespace
}  // namespace packcast
