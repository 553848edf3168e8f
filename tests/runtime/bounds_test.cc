// Every queue has its bound: what is too much is refused at once and never runs, and what was
// accepted arrives.
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "protocol/codec.h"
#include "protocol/limits.h"
#include "runtime/actor/link.h"
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
  ExpectRefusedAtOnce(ref.Call("m", Value()));
  EXPECT_TRUE(other.Call("echo", Value()).Get(kPatience).ok());
  gate->Open();
  for (Future<Value>& call : open) EXPECT_TRUE(call.Get(kPatience).ok());
}

}  // namespace
}  // namespace packcast
