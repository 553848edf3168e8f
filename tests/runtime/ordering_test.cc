// What comes before what, and what runs beside what: the handlers of one actor, the messages of one
// caller, groups.
#include <algorithm>
#include <atomic>
#include <numeric>
#include <thread>

#include <gtest/gtest.h>

#include "tests/runtime/lives_fixture.h"

namespace packcast {
namespace {

using testing::Echo;
using testing::FunctionActor;
using testing::Gate;
using testing::kPatience;
using testing::Mortal;
using testing::OnMessages;
using testing::Patient;
using testing::Record;
using testing::StartRuntime;
using Kind = PeerEvent::Kind;

constexpr size_t kQueued = 100;

// An actor "held" that waits in the handler of "hold" until the test lets it go on, and notes what
// was handled, in order.
class OrderingTest : public ::testing::Test {
 protected:
  OrderingTest() { quick_ = runtime_->Spawn("quick", Echo()).value(); }
  // The gates outlive the handlers that wait at them.
  ~OrderingTest() override {
    for (Gate* gate : {&goes_on_, &goes_on_again_}) gate->Open();
    runtime_->Shutdown(kPatience);
  }

  // `prepare` is called in the handler of "hold", before it waits.
  std::unique_ptr<FunctionActor> Held(std::function<void(Context&)> prepare) {
    auto actor = OnMessages([this, prepare](Context& context, Message message) {
      if (message.method == "hold") {
        prepare(context);
        is_held_.Open();
        goes_on_.Wait();
      }
      seen_.Add(message.method);
    });
    actor->on_timer = [this](Context&, TimerId) { seen_.Add("timer"); };
    actor->on_peer = [this](Context&, const PeerEvent&) { seen_.Add("peer"); };
    return actor;
  }
  // Returns while it is held.
  ActorRef SpawnAndHold(std::unique_ptr<Actor> actor) {
    const ActorRef ref = runtime_->Spawn("held", std::move(actor)).value();
    EXPECT_TRUE(ref.Tell("hold", Value()).ok());
    is_held_.Wait();
    return ref;
  }
  static void Queue(const ActorRef& ref) {
    for (size_t k = 0; k < kQueued; ++k) EXPECT_TRUE(ref.Tell("queued", Value()).ok());
  }

  // What was handed to the control thread has been done: it is the only one that is free while the
  // one for default work is held.
  void AwaitControlThread() {
    EXPECT_TRUE(quick_.Call("q", Value(), {.control = true}).Get(kPatience).ok());
  }
  // The timers that were due before have reached their actors.
  void AwaitTimers() {
    const auto is_over = std::make_shared<Gate>();
    auto clock = std::make_unique<FunctionActor>();
    clock->on_start = [](Context& context) { context.SetTimer(context.now()); };
    clock->on_timer = [is_over](Context&, TimerId) { is_over->Open(); };
    EXPECT_TRUE(runtime_->Spawn("clock", std::move(clock)).ok());
    is_over->Wait();
  }
  std::shared_ptr<Record<PeerEvent>> Watch(const ActorRef& ref) {
    auto events = std::make_shared<Record<PeerEvent>>();
    auto watcher = std::make_unique<FunctionActor>();
    watcher->on_start = [ref](Context& context) { context.Monitor(ref); };
    watcher->on_peer = [events](Context&, const PeerEvent& event) { events->Add(event); };
    const std::string name = "watcher-" + std::to_string(watchers_++);
    EXPECT_TRUE(runtime_->Spawn(name, std::move(watcher)).ok());
    AwaitControlThread();  // it has started
    return events;
  }
  ActorRef SpawnMortal() {
    return runtime_->Spawn("mortal", std::make_unique<Mortal>(nullptr)).value();
  }
  // Returns when those who watched it before have been told.
  void FailAndAwait(const ActorRef& mortal) {
    const auto events = Watch(mortal);
    EXPECT_TRUE(mortal.Call("fail", Value(), {.control = true}).Get(kPatience).ok());
    EXPECT_TRUE(events->WaitForCount(1));
  }

  Gate is_held_;
  Gate goes_on_;
  Gate goes_on_again_;
  Record<std::string> seen_;
  int watchers_ = 0;
  // One thread for default work and one for control work: so that a test knows who does what.
  std::unique_ptr<Runtime> runtime_ = [] {
    RuntimeOptions options = Patient();
    options.executor_threads = 1;
    return StartRuntime("node", options);
  }();
  ActorRef quick_;
};

TEST_F(OrderingTest, NothingRunsBesideADefaultHandler) {
  const ActorRef mortal = SpawnMortal();
  const Promise<Value> awaited;
  auto actor = Held([this, result = awaited.future()](Context& context) {
    context.SetTimer(context.now());
    context.Await<Value>(result,
                         [this](Context&, const StatusOr<Value>&) { seen_.Add("awaited"); });
    context.Post([this](Context&) { seen_.Add("posted"); }, /*control=*/true);
    context.Post([this](Context&) { seen_.Add("posted last"); });
  });
  actor->on_start = [mortal](Context& context) { context.Monitor(mortal); };
  const ActorRef held = SpawnAndHold(std::move(actor));
  awaited.Set(Value());
  ASSERT_TRUE(held.Tell("control", Value(), {.control = true}).ok());
  AwaitTimers();
  FailAndAwait(mortal);
  AwaitControlThread();
  EXPECT_EQ(seen_.items(), std::vector<std::string>());
  goes_on_.Open();
  ASSERT_TRUE(seen_.WaitForCount(7));
  std::vector<std::string> items = seen_.items();
  EXPECT_EQ(items.front(), "hold");
  EXPECT_EQ(items.back(), "posted last") << "it is no control work";
  std::sort(items.begin() + 1, items.end() - 1);
  EXPECT_EQ(items, (std::vector<std::string>{"hold", "awaited", "control", "peer", "posted",
                                             "timer", "posted last"}));
}

TEST_F(OrderingTest, ADefaultHandlerDoesNotRunBesideAControlHandler) {
  // Keeps the thread for default work busy, so that the control thread takes what follows.
  const auto blocks = std::make_shared<Gate>();
  const auto is_blocked = std::make_shared<Gate>();
  const ActorRef other = runtime_
                             ->Spawn("other", OnMessages([blocks, is_blocked](Context&, Message) {
                                       is_blocked->Open();
                                       blocks->Wait();
                                     }))
                             .value();
  ASSERT_TRUE(other.Tell("block", Value()).ok());
  is_blocked->Wait();
  const ActorRef held = runtime_->Spawn("held", Held([](Context&) {})).value();
  ASSERT_TRUE(held.Tell("hold", Value(), {.control = true}).ok());
  is_held_.Wait();
  blocks->Open();
  ASSERT_TRUE(held.Tell("default", Value()).ok());
  // The thread for default work has come so far.
  ASSERT_TRUE(quick_.Call("q", Value()).Get(kPatience).ok());
  EXPECT_EQ(seen_.items(), std::vector<std::string>());
  goes_on_.Open();
  ASSERT_TRUE(seen_.WaitForCount(2));
  EXPECT_EQ(seen_.items(), (std::vector<std::string>{"hold", "default"}));
}

TEST_F(OrderingTest, PostedWorkComesAfterWhatWaits) {
  const auto is_queued = std::make_shared<Gate>();
  const auto actor = OnMessages([this, is_queued](Context& context, Message message) {
    if (message.method == "hold") {
      is_held_.Open();
      is_queued->Wait();
      context.Post([this](Context&) { seen_.Add("posted"); });
    }
    seen_.Add(message.method);
  });
  const ActorRef ref = SpawnAndHold(OnMessages(actor->on_message));
  Queue(ref);
  is_queued->Open();
  ASSERT_TRUE(seen_.WaitForCount(kQueued + 2));
  EXPECT_EQ(seen_.items().back(), "posted");
}

TEST_F(OrderingTest, TimersOvertakeQueuedMessages) {
  const ActorRef held =
      SpawnAndHold(Held([](Context& context) { context.SetTimer(context.now()); }));
  Queue(held);
  AwaitTimers();
  goes_on_.Open();
  ASSERT_TRUE(seen_.WaitForCount(2 + kQueued));
  EXPECT_EQ(seen_.items()[1], "timer");
}

TEST_F(OrderingTest, WhatMonitorsTellOvertakesQueuedMessages) {
  const ActorRef mortal = SpawnMortal();
  const ActorRef held = SpawnAndHold(Held([mortal](Context& context) { context.Monitor(mortal); }));
  Queue(held);
  FailAndAwait(mortal);
  goes_on_.Open();
  ASSERT_TRUE(seen_.WaitForCount(2 + kQueued));
  EXPECT_EQ(seen_.items()[1], "peer");
}

// A turn takes many messages at once. What it has not begun when a control message comes stays
// before what is queued.
TEST_F(OrderingTest, WhatAControlMessageOvertakesKeepsItsOrder) {
  const auto name = [](int k) { return "message " + std::to_string(k); };
  const auto is_amid = std::make_shared<Gate>();
  const ActorRef held = SpawnAndHold(OnMessages([=, this](Context&, Message message) {
    if (message.method == "hold") {
      is_held_.Open();
      goes_on_.Wait();
    }
    if (message.method == name(5)) {
      is_amid->Open();
      goes_on_again_.Wait();
    }
    seen_.Add(message.method);
  }));
  std::vector<std::string> expected = {"hold"};
  for (int k = 0; k < 50; ++k) {
    ASSERT_TRUE(held.Tell(name(k), Value()).ok());
    expected.push_back(name(k));
    if (k == 5) expected.push_back("control");
  }
  goes_on_.Open();
  is_amid->Wait();
  ASSERT_TRUE(held.Tell("control", Value(), {.control = true}).ok());
  ASSERT_TRUE(held.Tell(name(50), Value()).ok());
  expected.push_back(name(50));
  goes_on_again_.Open();
  ASSERT_TRUE(seen_.WaitForCount(expected.size()));
  EXPECT_EQ(seen_.items(), expected);
}

// Who is inside of a handler, and how often one has been. What only the handlers of one actor touch
// needs no lock: ThreadSanitizer watches `steps`.
struct Inside {
  static constexpr int kCallers = 4;
  static constexpr int kRounds = 300;
  static constexpr int kMortals = 20;
  // For a default message itself, posted work and a timer; for a control one itself and what it
  // awaits.
  static constexpr int kSteps = kCallers * kRounds * 5 + kMortals;

  void Step() {
    // Relaxed: it must not make the order that it looks for.
    if (is_inside.exchange(true, std::memory_order_relaxed)) meetings.fetch_add(1);
    ++steps;
    std::this_thread::yield();
    is_inside.store(false, std::memory_order_relaxed);
    if (counted.fetch_add(1, std::memory_order_relaxed) + 1 == kSteps) is_complete.Open();
  }

  std::atomic<bool> is_inside{false};
  std::atomic<int> meetings{0};
  std::atomic<int> counted{0};
  int steps = 0;
  Gate is_complete;
};

std::unique_ptr<Actor> Stepping(const std::shared_ptr<Inside>& inside,
                                const std::vector<ActorRef>& watched) {
  auto actor = std::make_unique<FunctionActor>();
  actor->on_start = [watched](Context& context) {
    for (const ActorRef& ref : watched) context.Monitor(ref);
  };
  actor->on_message = [inside](Context& context, Message message) {
    inside->Step();
    if (message.control) {
      context.Await<int>(MakeReady<int>(1),
                         [inside](Context&, const StatusOr<int>&) { inside->Step(); });
      return;
    }
    context.Post([inside](Context&) { inside->Step(); });
    context.SetTimer(context.now());
  };
  actor->on_timer = [inside](Context&, TimerId) { inside->Step(); };
  actor->on_peer = [inside](Context&, const PeerEvent&) { inside->Step(); };
  return actor;
}

TEST(HandlersTest, OfOneActorNeverMeet) {
  const auto inside = std::make_shared<Inside>();
  RuntimeOptions options = Patient();
  options.executor_threads = 4;
  const auto runtime = StartRuntime("node", options);
  std::vector<ActorRef> mortals;
  for (int k = 0; k < Inside::kMortals; ++k) {
    mortals.push_back(
        runtime->Spawn("mortal-" + std::to_string(k), std::make_unique<Mortal>(nullptr)).value());
  }
  const ActorRef ref = runtime->Spawn("stepping", Stepping(inside, mortals)).value();
  std::vector<std::thread> callers;
  for (int k = 0; k < Inside::kCallers; ++k) {
    callers.emplace_back([ref] {
      for (int round = 0; round < Inside::kRounds; ++round) {
        EXPECT_TRUE(ref.Tell("default", Value()).ok());
        EXPECT_TRUE(ref.Tell("control", Value(), {.control = true}).ok());
      }
    });
  }
  for (const ActorRef& mortal : mortals) EXPECT_TRUE(mortal.Tell("fail", Value()).ok());
  for (std::thread& caller : callers) caller.join();
  inside->is_complete.Wait();
  ASSERT_TRUE(runtime->Stop(ref, kPatience).ok());
  EXPECT_EQ(inside->meetings.load(), 0);
  EXPECT_EQ(inside->steps, Inside::kSteps);
}

class Notes {
 public:
  void Note(int64_t number, const std::string&) { numbers_.push_back(number); }
  void Interrupt() {}
  std::vector<int64_t> Numbers() const { return numbers_; }
  static void Methods(MethodTable<Notes>& table) {
    table.Add("note", &Notes::Note)
        .Add("interrupt", &Notes::Interrupt)
        .Add("numbers", &Notes::Numbers);
  }

 private:
  std::vector<int64_t> numbers_;
};

// Both ways to the same actor: direct, and through a connection.
class OneCallerTest : public ::testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<Runtime> server_ = StartRuntime("server", Patient());
  std::unique_ptr<Runtime> client_ = StartRuntime("client", Patient());
};

TEST_P(OneCallerTest, TellsAndCallsKeepTheirOrderWhateverTheirSize) {
  constexpr int64_t kMessages = 5000;
  const auto spawned = NewActor<Notes>(*server_).Name("notes").Spawn().value();
  const auto far = client_->Connect(server_->endpoint(), "notes", kPatience).value();
  const TypedRef<Notes> notes = GetParam() ? TypedRef<Notes>(far) : spawned;
  const std::string large(8 << 10, 'x');  // it does not travel in a batch with others
  std::vector<Future<Unit>> calls;
  for (int64_t k = 0; k < kMessages; ++k) {
    const std::string text = k % 49 == 0 ? large : "";
    if (k % 2 == 0) {
      ASSERT_TRUE(notes.Tell(&Notes::Note, k, text).ok());
    } else {
      calls.push_back(notes.Call(&Notes::Note, k, text));
    }
    // What a turn has taken it gives back then.
    const bool is_interrupted = k % 100 == 0;
    if (is_interrupted) {
      ASSERT_TRUE(notes.TellWith({.control = true}, &Notes::Interrupt).ok());
    }
    // The next call is alone: it may leave at once, but not before the tells.
    const bool is_alone = k % 1000 > 800;
    if (is_alone) {
      ASSERT_TRUE(calls.back().Get(kPatience).ok());
    }
  }
  for (const Future<Unit>& call : calls) ASSERT_TRUE(call.Get(kPatience).ok());
  const auto numbers = notes.Call(&Notes::Numbers).Get(kPatience);
  ASSERT_TRUE(numbers.ok()) << numbers.status();
  std::vector<int64_t> expected(kMessages);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(*numbers, expected);
}

INSTANTIATE_TEST_SUITE_P(Ways, OneCallerTest, ::testing::Bool(), [](const auto& way) {
  return std::string(way.param ? "OverTcp" : "Direct");
});

struct Doors {
  Gate is_held;
  Gate goes_on;
  std::atomic<bool> has_stopped{false};
};

class House {
 public:
  explicit House(std::shared_ptr<Doors> doors) : doors_(std::move(doors)) {}
  void Hold() {
    doors_->is_held.Open();
    doors_->goes_on.Wait();
  }
  void HoldInGroup() { Hold(); }
  void Ask() {}
  void AskInGroup() {}
  void AskInOther() {}
  void OnStop(Context&) { doors_->has_stopped = true; }
  static void Methods(MethodTable<House>& table) {
    table.Add("hold", &House::Hold)
        .Add("hold_in_group", &House::HoldInGroup, {.group = "group"})
        .Add("ask", &House::Ask)
        .Add("ask_in_group", &House::AskInGroup, {.group = "group"})
        .Add("ask_in_other", &House::AskInOther, {.group = "other"});
  }

 private:
  const std::shared_ptr<Doors> doors_;
};
using HouseMethod = void (House::*)();

TEST(GroupsTest, RunBesideEachOtherAndTheMethodsOutsideOfThem) {
  const auto runtime = StartRuntime("node", Patient());
  const std::pair<HouseMethod, HouseMethod> pairs[] = {{&House::HoldInGroup, &House::Ask},
                                                       {&House::Hold, &House::AskInGroup},
                                                       {&House::HoldInGroup, &House::AskInOther}};
  for (const auto& [hold, ask] : pairs) {
    const auto doors = std::make_shared<Doors>();
    const auto house =
        NewActor<House>(*runtime, doors).Group("group").Group("other").Spawn().value();
    const Future<Unit> held = house.Call(hold);
    doors->is_held.Wait();
    EXPECT_TRUE(house.Call(ask).Get(kPatience).ok());
    EXPECT_FALSE(held.ready()) << "the gate is shut";
    doors->goes_on.Open();
    EXPECT_TRUE(held.Get(kPatience).ok());
  }
}

TEST_F(OrderingTest, AnActorEndsOnlyWhenItsHandlerReturns) {
  for (const HouseMethod hold : {&House::Hold, &House::HoldInGroup}) {
    const auto doors = std::make_shared<Doors>();
    const auto house = NewActor<House>(*runtime_, doors)
                           .Name("house")
                           .Group("group")
                           .Group("other")
                           .Spawn()
                           .value();
    const auto events = Watch(house.ref());
    const Future<Unit> held = house.Call(hold);
    doors->is_held.Wait();
    ASSERT_TRUE(runtime_->Kill(house.ref()).ok());
    AwaitControlThread();  // what the kill has caused,
    AwaitControlThread();  // and what that has
    EXPECT_FALSE(held.ready());
    EXPECT_EQ(events->items().size(), 0u);
    EXPECT_FALSE(doors->has_stopped);
    EXPECT_TRUE(runtime_->Find("house").ok());
    EXPECT_EQ(runtime_->Spawn("house", Echo()).status().code(), StatusCode::kAlreadyExists);
    doors->goes_on.Open();
    EXPECT_TRUE(held.Get(kPatience).ok());
    ASSERT_TRUE(events->WaitForCount(1));
    EXPECT_EQ(events->items()[0].kind, Kind::kDied);
    EXPECT_TRUE(doors->has_stopped);
    EXPECT_FALSE(runtime_->Find("house").ok());
  }
}

}  // namespace
}  // namespace packcast
