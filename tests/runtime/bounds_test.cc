// Every queue has its bound: what is too much is refused at once and never runs, and what was
// accepted arrives.
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "protocol/codec.h"
#include "protocol/limits.h"
#include "runtime/actor/link.h"
#include "runtime/base/clock.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::Gate;
using testing::kPatience;
using testing::OnMessages;
using testing::Patient;
using testing::Record;
using testing::StartRuntime;

void ExpectRefused(const Status& status, StatusCode code = StatusCode::kResourceExhausted) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_EQ(status.outcome(), Outcome::kNotExecuted) << status;
}

template <class T>
void ExpectRefusedAtOnce(const Future<T>& call, StatusCode code = StatusCode::kResourceExhausted) {
  ASSERT_TRUE(call.ready());
  ExpectRefused(call.Get(Duration(0)).status(), code);
}

struct Shared {
  Gate goes_on;
  Record<std::string> begun;
};

// Each message waits for the gate, in the group that its method belongs to.
class Hall {
 public:
  explicit Hall(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  void Plain() { Enter("plain"); }
  void Slow() { Enter("slow"); }
  static void Methods(MethodTable<Hall>& table) {
    table.Add("plain", &Hall::Plain).Add("slow", &Hall::Slow, {.group = "slow"});
  }

 private:
  void Enter(const std::string& method) {
    shared_->begun.Add(method);
    shared_->goes_on.Wait();
  }
  const std::shared_ptr<Shared> shared_;
};

TEST(WindowTest, EachGroupHasItsOwnForCallsAndTellsAlike) {
  constexpr size_t kWindow = 8;
  const auto shared = std::make_shared<Shared>();
  const auto runtime = StartRuntime("node");
  const auto hall = NewActor<Hall>(*runtime, shared).Group("slow").Window(kWindow).Spawn().value();
  std::vector<Future<Unit>> calls = {hall.Call(&Hall::Plain), hall.Call(&Hall::Slow)};
  ASSERT_TRUE(shared->begun.WaitForCount(2));  // these run: they do not wait in their groups
  const auto fill = [&](auto method, bool control) {
    for (size_t k = 0; k < kWindow / 2; ++k) {
      EXPECT_TRUE(hall.TellWith({.control = control}, method).ok());
      calls.push_back(hall.CallWith({.control = control}, method));
      EXPECT_FALSE(calls.back().ready());
    }
    ExpectRefused(hall.TellWith({.control = control}, method));
    ExpectRefusedAtOnce(hall.CallWith({.control = control}, method));
  };
  fill(&Hall::Slow, false);
  fill(&Hall::Plain, false);
  fill(&Hall::Plain, true);
  shared->goes_on.Open();
  for (const Future<Unit>& call : calls) EXPECT_TRUE(call.Get(kPatience).ok());
  // The last of each group was a call, so that nothing is left.
  EXPECT_EQ(shared->begun.items().size(), 2 + 3 * kWindow);
}

class BoundsTest : public ::testing::Test {
 protected:
  using Seen = Record<std::string>;
  // An actor that notes the methods of what it gets, and answers when it has.
  std::unique_ptr<Actor> Noter(std::shared_ptr<Gate> gate = nullptr) {
    return OnMessages([seen = seen_, gate](Context&, Message message) {
      seen->Add(message.method);
      if (gate) gate->Wait();
      message.responder.Reply(Value());
    });
  }
  ActorRef Reach(std::unique_ptr<Actor> actor, SpawnOptions options = {}) {
    EXPECT_TRUE(server_->Spawn("callee", std::move(actor), options).ok());
    return client_->Connect(server_->endpoint(), "callee", kPatience).value();
  }
  // Shared: the actor outlives the test's body.
  std::shared_ptr<Seen> seen_ = std::make_shared<Seen>();
  std::unique_ptr<Runtime> server_ = StartRuntime("server", Patient());
  std::unique_ptr<Runtime> client_ = StartRuntime("client", Patient());
};

// As if so many messages waited for the connection, each of so many bytes: how many could.
size_t FillUp(internal::Link& link, size_t bytes) {
  size_t count = 0;
  while (count <= 2 * limits::kMailboxMessages && link.Reserve(bytes)) ++count;
  return count;
}

TEST_F(BoundsTest, WhatWaitsForAConnectionIsRefusedBeyond65536Messages) {
  const ActorRef ref = Reach(Noter());
  internal::Link& link = *ref.state()->link;
  const size_t count = FillUp(link, 0);
  EXPECT_EQ(count, 65'536u);
  ExpectRefused(ref.Tell("refused", Value()));
  ExpectRefusedAtOnce(ref.Call("refused", Value()));
  ExpectRefusedAtOnce(ref.Call("refused", Value(), {.idempotent = true}));
  link.Release(0);
  EXPECT_TRUE(ref.Call("room for one", Value()).Get(kPatience).ok());
  for (size_t k = 1; k < count; ++k) link.Release(0);
  EXPECT_TRUE(ref.Call("last", Value()).Get(kPatience).ok());
  EXPECT_EQ(seen_->items(), (std::vector<std::string>{"room for one", "last"}));
}

TEST_F(BoundsTest, WhatWaitsForAConnectionIsRefusedBeyond256MiB) {
  constexpr size_t kMiB = 1u << 20;
  const ActorRef ref = Reach(Noter());
  internal::Link& link = *ref.state()->link;
  const size_t count = FillUp(link, kMiB);
  EXPECT_EQ(count, 256u);
  ExpectRefused(ref.Tell("refused", Value()));
  ExpectRefusedAtOnce(ref.Call("refused", Value()));
  link.Release(kMiB);
  // A little too much: it is not the body alone that takes room.
  ExpectRefused(ref.Tell("refused", Bytes(kMiB)));
  ExpectRefusedAtOnce(ref.Call("refused", Bytes(kMiB)));
  EXPECT_TRUE(ref.Call("room for less", Bytes(kMiB / 2)).Get(kPatience).ok());
  for (size_t k = 1; k < count; ++k) link.Release(kMiB);
  EXPECT_TRUE(ref.Call("last", Value()).Get(kPatience).ok());
  EXPECT_EQ(seen_->items(), (std::vector<std::string>{"room for less", "last"}));
}

TEST_F(BoundsTest, WhatHasLeftTakesNoRoom) {
  const ActorRef ref = Reach(Noter());
  const internal::Link& link = *ref.state()->link;
  for (int k = 0; k < 100; ++k) {
    // In a batch, on its own, and from this thread.
    EXPECT_TRUE(ref.Tell("small", Value(k)).ok());
    EXPECT_TRUE(ref.Tell("large", Bytes(8'192)).ok());
    ASSERT_TRUE(ref.Call("call", Value()).Get(kPatience).ok());
    ASSERT_EQ(link.queued.load(), 0u);
    ASSERT_EQ(link.queued_bytes.load(), 0u);
    ASSERT_EQ(link.in_flight.load(), 0u);
  }
}

// A body that has so many bytes on the wire.
Value BodyOf(size_t bytes) {
  constexpr size_t kHeaders = 1 + 3 * 5;  // the array's, and its three items'
  const size_t part = (bytes - kHeaders) / 3;
  const Value body = ValueArray{Bytes(part), Bytes(part), Bytes(bytes - kHeaders - 2 * part)};
  EXPECT_EQ(Encode(body).size(), bytes);
  return body;
}

TEST_F(BoundsTest, AMessageToAnotherProcessHas16MiBAtMost) {
  constexpr size_t kMost = 16u << 20;
  const ActorRef ref = Reach(Noter());
  const Value larger = BodyOf(kMost + 1);
  ExpectRefused(ref.Tell("larger", larger), StatusCode::kInvalidArgument);
  ExpectRefusedAtOnce(ref.Call("larger", larger), StatusCode::kInvalidArgument);
  ExpectRefusedAtOnce(ref.Call("larger", larger, {.idempotent = true}),
                      StatusCode::kInvalidArgument);
  EXPECT_TRUE(ref.Call("largest", BodyOf(kMost)).Get(kPatience).ok());
  const ActorRef near = server_->Find("callee").value();
  EXPECT_TRUE(near.Call("near", larger).Get(kPatience).ok()) << "to one of its own process";
  EXPECT_EQ(seen_->items(), (std::vector<std::string>{"largest", "near"}));
}

TEST_F(BoundsTest, AReplyToAnotherProcessHas16MiBAtMost) {
  constexpr size_t kMost = 16u << 20;
  const ActorRef ref = Reach(OnMessages([](Context&, Message message) {
    message.responder.Reply(BodyOf(message.method == "largest" ? kMost : kMost + 1));
  }));
  const Status status = ref.Call("larger", Value()).Get(kPatience).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
  EXPECT_EQ(status.outcome(), Outcome::kExecuted);
  const StatusOr<Value> largest = ref.Call("largest", Value()).Get(kPatience);
  ASSERT_TRUE(largest.ok()) << largest.status();
  EXPECT_TRUE(*largest == BodyOf(kMost));  // nobody wants to read it
}

TEST_F(BoundsTest, ATellIntoAFullMailboxFarAwayIsAcceptedHereAndDroppedAndCountedThere) {
  constexpr size_t kWindow = 8;
  constexpr int64_t kTooMany = 91;
  const auto gate = std::make_shared<Gate>();
  const ActorRef ref = Reach(Noter(gate), {.mailbox_messages = kWindow});
  ASSERT_TRUE(ref.Tell("runs", Value()).ok());
  ASSERT_TRUE(seen_->WaitForCount(1));  // it does not wait in the mailbox
  for (size_t k = 0; k < kWindow; ++k) EXPECT_TRUE(ref.Tell("waits", Value()).ok());
  for (int64_t k = 0; k < kTooMany; ++k) EXPECT_TRUE(ref.Tell("dropped", Value()).ok());
  // Who calls is told. It comes after the tells: they have been dropped by then.
  ExpectRefused(ref.Call("refused", Value()).Get(kPatience).status());
  const Value metrics = server_->Metrics();
  const Value* dropped = metrics.Find("undeliverable_messages_total");
  ASSERT_NE(dropped, nullptr);
  EXPECT_EQ(*dropped, Value(kTooMany + 1));
  gate->Open();
  ASSERT_TRUE(seen_->WaitForCount(1 + kWindow));
  EXPECT_TRUE(ref.Call("last", Value()).Get(kPatience).ok());
  std::vector<std::string> expected(1 + kWindow, "waits");
  expected.front() = "runs";
  expected.push_back("last");
  EXPECT_EQ(seen_->items(), expected);
}

// The other way round: what a peer may have waiting in all mailboxes of a process together.
class HeldTest : public BoundsTest {
 protected:
  // Tells of the server's end of the connection.
  HeldTest() : ref_(Reach(Noter())) {
    EXPECT_TRUE(server_
                    ->Spawn("teller", OnMessages([links = links_](Context&, Message message) {
                              links->Add(message.from.state()->link);
                              message.responder.Reply(Value());
                            }))
                    .ok());
    const ActorRef teller = client_->Connect(server_->endpoint(), "teller", kPatience).value();
    EXPECT_TRUE(teller.Call("tell", Value()).Get(kPatience).ok());
    link_ = links_->items().at(0);
    AwaitRoom();
  }
  // A handler that has answered is about to end, and to give its room back.
  void AwaitRoom() {
    const Time give_up = Now() + kPatience;
    while (link_->room->held.load() > 0 && Now() < give_up) std::this_thread::yield();
  }
  // As if so many messages waited there, each of so many bytes: how many could.
  size_t FillUpThere(size_t bytes) {
    size_t count = 0;
    while (count <= 2 * limits::kMailboxMessages && link_->room->Hold(bytes)) ++count;
    return count;
  }
  // A tell that is lost there; whoever is called says so.
  void ExpectFull() {
    EXPECT_TRUE(ref_.Tell("dropped", Value()).ok());
    ExpectRefused(ref_.Call("refused", Value()).Get(kPatience).status());
    EXPECT_TRUE(ref_.Call("$describe", Value()).Get(kPatience).ok()) << "whoever comes to look";
    const StatusOr<ActorRef> other = other_->Connect(server_->endpoint(), "callee", kPatience);
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_TRUE(other->Call("other", Value()).Get(kPatience).ok()) << "others have their own room";
  }
  void ExpectEmpty() {
    EXPECT_TRUE(ref_.Call("last", Value()).Get(kPatience).ok());
    AwaitRoom();
    EXPECT_EQ(link_->room->held.load(), 0u);
    EXPECT_EQ(link_->room->held_bytes.load(), 0u);
    EXPECT_EQ(seen_->items(), (std::vector<std::string>{"other", "last"}));
  }
  using Links = Record<std::shared_ptr<internal::Link>>;
  std::shared_ptr<Links> links_ = std::make_shared<Links>();
  std::unique_ptr<Runtime> other_ = StartRuntime("other", Patient());
  ActorRef ref_;
  std::shared_ptr<internal::Link> link_;
};

TEST_F(HeldTest, OfOnePeer65536MessagesWaitAtMost) {
  const size_t count = FillUpThere(0);
  EXPECT_EQ(count, 65'536u);
  ExpectFull();
  for (size_t k = 0; k < count; ++k) link_->room->LetGo(0);
  ExpectEmpty();
}

TEST_F(HeldTest, OfOnePeer256MiBWaitAtMost) {
  constexpr size_t kMiB = 1u << 20;
  const size_t count = FillUpThere(kMiB);
  EXPECT_EQ(count, 256u);
  ExpectFull();
  for (size_t k = 0; k < count; ++k) link_->room->LetGo(kMiB);
  ExpectEmpty();
}

TEST_F(HeldTest, CallsWithoutAnAnswerCountAlthoughTheirHandlersHaveEnded) {
  link_->room->serving.fetch_add(65'536);
  ExpectRefused(ref_.Call("refused", Value()).Get(kPatience).status());
  EXPECT_TRUE(ref_.Tell("other", Value()).ok());  // which has none
  EXPECT_TRUE(seen_->WaitForCount(1));
  link_->room->serving.fetch_sub(65'536);
  ExpectEmpty();
}

TEST_F(HeldTest, WhatWaitsAndIsNotHandledGivesItsRoomBackToo) {
  const auto gate = std::make_shared<Gate>();
  ASSERT_TRUE(server_->Spawn("stuck", Noter(gate)).ok());
  const ActorRef stuck = client_->Connect(server_->endpoint(), "stuck", kPatience).value();
  const Future<Value> runs = stuck.Call("other", Value());
  ASSERT_TRUE(seen_->WaitForCount(1));
  std::vector<Future<Value>> wait;
  for (int k = 0; k < 10; ++k) wait.push_back(stuck.Call("waits", Bytes(1000)));
  const Time give_up = Now() + kPatience;
  while (link_->room->held.load() < 11 && Now() < give_up) std::this_thread::yield();
  EXPECT_EQ(link_->room->held.load(), 11u);
  EXPECT_GT(link_->room->held_bytes.load(), 10'000u);
  EXPECT_TRUE(server_->Kill(server_->Find("stuck").value()).ok());
  for (const Future<Value>& call : wait) EXPECT_FALSE(call.Get(kPatience).ok());
  gate->Open();
  EXPECT_TRUE(runs.Get(kPatience).ok());
  ExpectEmpty();
}

TEST_F(BoundsTest, WhatTheOtherSideWouldNotDecodeIsRefusedHere) {
  const ActorRef ref = Reach(Noter());
  const Value unfit[] = {Value(std::string((1u << 20) + 1, 'x')), Value(Bytes((8u << 20) + 1)),
                         Value(ValueArray(131'073)), Value("\xff")};
  for (const Value& value : unfit) {
    ExpectRefused(ref.Tell("unfit", value), StatusCode::kInvalidArgument);
    ExpectRefusedAtOnce(ref.Call("unfit", value), StatusCode::kInvalidArgument);
  }
  const Value fit[] = {Value(std::string(1u << 20, 'x')), Value(Bytes(8u << 20)),
                       Value(ValueArray(131'072)), Value("\u00e4")};
  for (const Value& value : fit) {
    const Status status = ref.Call("fit", value).Get(kPatience).status();
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ(seen_->items(), std::vector<std::string>(std::size(fit), "fit"));
}

TEST_F(BoundsTest, EachActorHereHas4096OpenCalls) {
  auto gate = std::make_shared<testing::Gate>();
  const auto held = testing::OnMessages([gate](Context&, Message message) {
    gate->Wait();
    message.responder.Reply(Value());
  });
  const ActorRef ref = server_->Spawn("held", testing::OnMessages(held->on_message)).value();
  const ActorRef other = server_->Spawn("other", testing::Echo()).value();
  std::vector<Future<Value>> open;
  for (int k = 0; k < 4096; ++k) {
    open.push_back(ref.Call("m", Value()));
    ASSERT_FALSE(open.back().ready());
  }
  const Future<Value> extra = ref.Call("m", Value());
  ExpectRefusedAtOnce(extra);
  EXPECT_EQ(extra.Get(Duration(0)).status().message(),
            "4096 calls to actor \"held\" have no answer yet: wait for some");
  EXPECT_TRUE(other.Call("echo", Value()).Get(kPatience).ok());
  gate->Open();
  for (Future<Value>& call : open) EXPECT_TRUE(call.Get(kPatience).ok());
}

}  // namespace
}  // namespace packcast
