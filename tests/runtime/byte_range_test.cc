// Byte ranges between processes: that nobody copies them, what becomes of memory that is lent, and
// what strangers may do with them.
#include "protocol/byte_range.h"

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "protocol/limits.h"
#include "runtime/actor/cell.h"
#include "runtime/actor/keys.h"
#include "runtime/actor/link.h"
#include "runtime/actor/shared_body.h"
#include "runtime/actor/wire_body.h"
#include "tests/runtime/raw_client.h"
#include "tests/runtime/wire_fixture.h"

namespace packcast {
namespace {

using internal::DecodeBody;
using internal::EncodeBody;
using internal::WireBody;
using testing::CallOf;
using testing::Echo;
using testing::kPatience;
using testing::OnMessages;
using testing::Patient;
using testing::Record;
using testing::Script;
using testing::StartRuntime;

constexpr size_t kMiB = 1u << 20;

Bytes RandomBytes(size_t size, uint64_t seed) {
  std::mt19937_64 rng(seed);
  Bytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng());
  return bytes;
}

// Memory that is lent, and how often it was given back. Shared, as that may be late.
struct Lender {
  explicit Lender(size_t size) : memory(RandomBytes(size, size)) {}
  ByteRange Lend() {
    return ByteRange::Lend(memory, [this] { released.Add(1); });
  }
  const Bytes memory;
  Record<int> released;
};

TEST(WireBodyTest, NobodyCopiesByteRanges) {
  const ByteRange range = RandomBytes(kMiB, 1);
  WireBody body;
  ASSERT_EQ(EncodeBody(ValueArray{Value(7), Value(range)}, true, &body), OkStatus());
  ASSERT_EQ(body.ranges().size(), 1u);
  EXPECT_EQ(body.ranges()[0].data(), range.data());
  EXPECT_EQ(body.Share().ranges()[0].data(), range.data()) << "nor for a second owner";
  // As it comes.
  net::Frames frames;
  frames.push_back(body.value.Share());
  frames.emplace_back(size_t{kMiB});
  const std::byte* const received = frames[1].data();
  const Value back = DecodeBody(internal::TakeBody(frames).value()).value();
  EXPECT_EQ((*back.AsArray())[1].AsByteRange()->data(), received);
}

TEST(WireBodyTest, WhoTakesNoneApartGetsCopiesWithinTheirLimits) {
  const ByteRange range = RandomBytes(8 * kMiB, 2);
  WireBody body;
  ASSERT_EQ(EncodeBody(range, false, &body), OkStatus());
  EXPECT_TRUE(body.ranges().empty());
  EXPECT_EQ(Decode(body.value.view()).value(), Value(range));
  const Status large = EncodeBody(ByteRange(RandomBytes(8 * kMiB + 1, 3)), false, &body);
  EXPECT_EQ(large.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(large.outcome(), Outcome::kNotExecuted);
  EXPECT_TRUE(SharedBody::Make(range).ok());
  EXPECT_FALSE(SharedBody::Make(ByteRange(RandomBytes(8 * kMiB + 1, 3))).ok());
}

// By hand, with envelopes and bodies below 256 bytes.
bool SendMessage(testing::RawClient* client, const Envelope& envelope, const Value& body) {
  const std::string head = EncodeEnvelope(envelope);
  return client->Send(std::string("\1") + static_cast<char>(head.size()) + head) &&
         client->SendFrame(Encode(body));
}

Envelope HelloEnvelope() {
  Envelope envelope;
  envelope.kind = FrameKind::kHello;
  return envelope;
}
// Of a process that takes ranges, and no beats.
Hello RangesHello() {
  Hello hello;
  hello.cluster = "packcast";
  hello.node = "reader";
  hello.incarnation = Incarnation(7);
  hello.ranges = true;
  return hello;
}
Envelope TellOf(const std::string& actor, const std::string& method) {
  Envelope tell;
  tell.from.actor = "reader";
  tell.to.actor = actor;
  tell.method = method;
  return tell;
}

class ByteRangeTest : public testing::WireFixture {
 protected:
  ActorRef Reach(const std::string& actor) {
    return client_->Connect(node_->endpoint(), actor, kPatience).value();
  }
  std::unique_ptr<Runtime> client_ = StartRuntime("client", Patient());
};

TEST_F(ByteRangeTest, RandomBodiesComeBackBitForBit) {
  const ActorRef echo = Reach("echo");
  const ByteRange memory = RandomBytes(4 * kMiB, 4);
  std::mt19937_64 rng(5);
  std::vector<std::pair<Value, Future<Value>>> calls;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr int kRounds = 100;
#else
  constexpr int kRounds = 1000;
#endif
  for (int round = 0; round < kRounds; ++round) {
    ValueArray array{Value(round)};
    for (uint64_t k = rng() % 6; k > 0; --k) {
      const size_t size = rng() % 4 == 0 ? rng() % (kMiB / 2) : rng() % (2 * limits::kApartBytes);
      const ByteRange part = memory.Part(rng() % (3 * kMiB), size);
      array.push_back(rng() % 5 == 0 ? Value(part.Copy()) : Value(part));
    }
    CallOptions options;
    options.idempotent = rng() % 4 == 0;
    options.deadline = kPatience;
    Value body = std::move(array);
    calls.emplace_back(body, echo.Call("echo", body, options));
    if (calls.size() < 16) continue;
    for (auto& [sent, future] : std::exchange(calls, {})) {
      const StatusOr<Value> reply = future.Get(kPatience);
      ASSERT_TRUE(reply.ok()) << reply.status();
      ASSERT_EQ(*reply, sent) << "round " << round;
    }
  }
}

TEST_F(ByteRangeTest, LentMemoryIsGivenBackWhenItHasBeenRead) {
  const auto lender = std::make_shared<Lender>(kMiB);
  const ActorRef echo = Reach("echo");
  const StatusOr<Value> reply = echo.Call("echo", lender->Lend()).Get(kPatience);
  ASSERT_TRUE(reply.ok()) << reply.status();
  ASSERT_NE(reply->AsByteRange(), nullptr);
  EXPECT_NE(reply->AsByteRange()->data(), lender->memory.data());
  EXPECT_EQ(*reply, Value(lender->memory));
  EXPECT_TRUE(lender->released.WaitForCount(1));
  CallOptions idempotent;
  idempotent.idempotent = true;
  ASSERT_TRUE(echo.Call("echo", lender->Lend(), idempotent).Get(kPatience).ok());
  EXPECT_TRUE(lender->released.WaitForCount(2)) << "kept until there is a result, and no longer";
  ASSERT_TRUE(echo.Tell("echo", lender->Lend()).ok());
  EXPECT_TRUE(lender->released.WaitForCount(3));
  EXPECT_EQ(lender->released.items().size(), 3u);
}

TEST_F(ByteRangeTest, LentMemoryThatNobodyReadsIsGivenBackWhenThePeerDies) {
  const auto lender = std::make_shared<Lender>(8 * kMiB);
  auto sender = std::make_shared<Record<ActorRef>>();
  ASSERT_TRUE(node_
                  ->Spawn("giver", OnMessages([sender](Context&, Message message) {
                            sender->Add(message.from);
                          }))
                  .ok());
  size_t lent = 0;
  {
    testing::RawClient reader(node_->endpoint());
    ASSERT_TRUE(reader.Introduce());
    ASSERT_TRUE(SendMessage(&reader, HelloEnvelope(), EncodeHello(RangesHello())));
    ASSERT_TRUE(SendMessage(&reader, TellOf("giver", "come"), Value()));
    ASSERT_TRUE(sender->WaitForCount(1));
    // More than the sockets hold: the rest waits, up to the bound.
    Status last;
    while (last.ok()) {
      ++lent;
      last = sender->items()[0].Tell("take", lender->Lend());
    }
    EXPECT_EQ(last.code(), StatusCode::kResourceExhausted) << last;
    EXPECT_EQ(last.outcome(), Outcome::kNotExecuted);
    EXPECT_GE(lent, limits::kQueuedBytes / (8 * kMiB));
    EXPECT_LT(lender->released.items().size(), lent);
  }
  EXPECT_TRUE(lender->released.WaitForCount(lent));
}

TEST_F(ByteRangeTest, TooMuchForOneMessageIsRefusedAndLosesNothing) {
  const ActorRef echo = Reach("echo");
  const auto lender = std::make_shared<Lender>(16 * kMiB);
  const Value large = ValueArray(3, Value(lender->Lend()));
  EXPECT_EQ(echo.Tell("echo", large).code(), StatusCode::kInvalidArgument);
  const Status refused = echo.Call("echo", large).Get(kPatience).status();
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(refused.outcome(), Outcome::kNotExecuted);
  const Value most = ValueArray(2, Value(lender->Lend()));
  const StatusOr<Value> reply = echo.Call("echo", most).Get(kPatience);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(*reply, most);
}

// What CURVE adds to a frame is not the user's affair.
TEST_F(ByteRangeTest, TheLongestPassWithKeys) {
  RuntimeOptions options = Patient();
  options.keys = MakeKeys();
  const auto server = StartRuntime("with-keys", options);
  ASSERT_TRUE(server->Spawn("echo", Echo()).ok());
  const auto client = StartRuntime("client-with-keys", options);
  const ActorRef echo = client->Connect(server->endpoint(), "echo", kPatience).value();
  const ByteRange longest = RandomBytes(limits::kControlFrameBytes, 8);
  const Value most = ValueArray{Value(longest), Value(longest)};
  for (const bool idempotent : {false, true}) {
    CallOptions call;
    call.idempotent = idempotent;
    const StatusOr<Value> reply = echo.Call("echo", most, call).Get(kPatience);
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(*reply, most);
  }
}

// Far more than may be on its way at once: none is lost, and nobody is taken for one that does not
// read.
TEST_F(ByteRangeTest, AllRepliesComeHoweverMuchIsAskedForAtOnce) {
  const ByteRange range = RandomBytes(8 * kMiB, 9);
  ASSERT_TRUE(node_
                  ->Spawn("giver", OnMessages([range](Context&, Message message) {
                            message.responder.Reply(range);
                          }))
                  .ok());
  const ActorRef giver = Reach("giver");
  std::vector<Future<Value>> calls;
  for (int k = 0; k < 100; ++k) calls.push_back(giver.Call("take", Value()));
  for (const Future<Value>& call : calls) {
    const StatusOr<Value> reply = call.Get(kPatience);
    ASSERT_TRUE(reply.ok()) << reply.status();
    ASSERT_EQ(reply->AsByteRange()->size(), range.size());
    ASSERT_EQ(*reply, Value(range));
  }
}

// Who asks and does not read: what is made for it is bounded, and it is told so.
TEST_F(ByteRangeTest, WhoDoesNotReadMayNotAskForMore) {
  const ByteRange range = RandomBytes(16 * kMiB, 10);
  auto runs = std::make_shared<std::atomic<int>>(0);
  ASSERT_TRUE(node_
                  ->Spawn("giver", OnMessages([range, runs](Context&, Message message) {
                            ++*runs;
                            message.responder.Reply(ValueArray(2, Value(range)));
                          }))
                  .ok());
  testing::RawClient reader(node_->endpoint());
  ASSERT_TRUE(reader.Introduce());
  ASSERT_TRUE(SendMessage(&reader, HelloEnvelope(), EncodeHello(RangesHello())));
  const int most = limits::kOwedBytes / (32 * kMiB);
  int asked = 0;
  // Replies follow each other: once one is not read, none is.
  while (Metric("undeliverable_messages_total") == 0) {
    ASSERT_LT(asked, 10 * most);
    const int done = runs->load();
    Envelope call = CallOf("giver", "take", static_cast<uint64_t>(++asked));
    ASSERT_TRUE(SendMessage(&reader, call, Value()));
    const Time give_up = Now() + kPatience;
    while (runs->load() == done && Metric("undeliverable_messages_total") == 0) {
      ASSERT_LT(Now(), give_up);
      std::this_thread::yield();
    }
  }
  EXPECT_GE(runs->load(), most);
  EXPECT_LE(runs->load(), most + 8) << "what the sockets hold is not owed any more";
}

// The last to know of a runtime may be memory that ZeroMQ still reads.
TEST_F(ByteRangeTest, LentMemoryMayHoldTheLastReferenceToItsRuntime) {
  const auto lender = std::make_shared<Lender>(8 * kMiB);
  testing::RawClient reader(node_->endpoint());  // reads nothing
  auto sender = std::make_shared<Record<ActorRef>>();
  ASSERT_TRUE(node_
                  ->Spawn("giver", OnMessages([sender](Context&, Message message) {
                            sender->Add(message.from);
                          }))
                  .ok());
  ASSERT_TRUE(reader.Introduce());
  ASSERT_TRUE(SendMessage(&reader, HelloEnvelope(), EncodeHello(RangesHello())));
  ASSERT_TRUE(SendMessage(&reader, TellOf("giver", "come"), Value()));
  ASSERT_TRUE(sender->WaitForCount(1));
  for (int k = 0; k < 8; ++k) {
    const ActorRef ref = sender->items()[0];
    ASSERT_TRUE(ref.Tell("take", ByteRange::Lend(lender->memory,
                                                 [lender, ref] { lender->released.Add(1); }))
                    .ok());
  }
  sender.reset();
  node_->Shutdown(Milliseconds(0));
  EXPECT_EQ(lender->released.items().size(), 8u) << "at the latest now";
  node_.reset();
}

TEST_F(ByteRangeTest, ALocalActorGetsTheMemoryItself) {
  const ByteRange range = RandomBytes(kMiB, 6);
  const ActorRef local = node_->Find("echo").value();
  const StatusOr<Value> reply = local.Call("echo", range).Get(kPatience);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->AsByteRange()->data(), range.data());
}

TEST_F(ByteRangeTest, AScriptGetsPlainBytes) {
  const Value range = ByteRange(RandomBytes(limits::kApartBytes, 7));
  ASSERT_TRUE(node_
                  ->Spawn("giver", OnMessages([range](Context&, Message message) {
                            message.responder.Reply(range);
                          }))
                  .ok());
  Script script(node_->endpoint());
  script.SendHello("giver");
  script.Expect(FrameKind::kWelcome);
  script.Send(CallOf("giver", "take", 1), Value());
  Value body;
  script.Expect(FrameKind::kReply, &body);
  ASSERT_NE(body.AsBytes(), nullptr);
  EXPECT_EQ(body, range);
}

TEST_F(ByteRangeTest, RepeatedCallGetsTheSameRangesWithoutRunningAgain) {
  auto runs = std::make_shared<std::atomic<int>>(0);
  ASSERT_TRUE(node_
                  ->Spawn("giver", OnMessages([runs](Context&, Message message) {
                            message.responder.Reply(ByteRange(RandomBytes(kMiB, 100 + (*runs)++)));
                          }))
                  .ok());
  Script script(node_->endpoint());
  script.SendHello("giver");
  script.Expect(FrameKind::kWelcome);
  Envelope call = CallOf("giver", "take", 1);
  call.idempotent = true;
  Value first, second;
  script.Send(call, Value());
  script.Expect(FrameKind::kReply, &first);
  script.Send(call, Value());
  script.Expect(FrameKind::kReply, &second);
  EXPECT_EQ(first, Value(RandomBytes(kMiB, 100)));
  EXPECT_EQ(second, first);
  EXPECT_EQ(runs->load(), 1);
}

// Forms that no node sends: each is answered or dropped, and the connection goes on.
TEST_F(ByteRangeTest, MalformedOnesHarmNobody) {
  using std::string_literals::operator""s;
  Script script(node_->endpoint());
  script.SendHello("echo");
  script.Expect(FrameKind::kWelcome);
  uint64_t id = 0;
  const std::string one = "\xd4\x01\x00"s;
  const auto call = [&] { return EncodeEnvelope(CallOf("echo", "echo", ++id)); };
  const auto expect_error = [&](std::vector<std::string> parts) {
    parts.insert(parts.begin(), call());
    script.SendRaw(parts);
    const Envelope reply = script.Expect(FrameKind::kReply);
    EXPECT_EQ(reply.call_id.value, id);
    EXPECT_EQ(reply.status.code(), StatusCode::kInvalidArgument) << reply.status;
    EXPECT_EQ(reply.status.outcome(), Outcome::kNotExecuted);
  };
  expect_error({one});
  expect_error({one, "a", "b"});
  expect_error({"", "a"});
  expect_error({"\xc0", "a"});
  expect_error({"\x92\xd4\x01\x01\xd4\x01\x00"s, "a", "b"});
  expect_error({"\xd4\x05\x00"s, "a"});
  // Too many, too much, and where there may be none: dropped.
  const int64_t before = Metric("malformed_messages_total");
  script.SendRaw(std::vector<std::string>(17 + 2, call()));
  script.SendRaw(std::vector<std::string>(40, call()));
  std::vector<std::string> large{call(), one};
  large.resize(2 + 3, std::string(15 * kMiB, 'x'));
  script.SendRaw(large);
  Envelope beat;
  beat.kind = FrameKind::kBeat;
  script.SendRaw({EncodeEnvelope(beat), one, "a"});
  // A short one is none a node would send apart, but it is one.
  script.SendRaw({call(), one, "a"});
  Value body;
  EXPECT_EQ(script.Expect(FrameKind::kReply, &body).call_id.value, id);
  EXPECT_EQ(body, Value(Bytes{std::byte{'a'}}));
  EXPECT_EQ(Metric("malformed_messages_total"), before + 4);
}

}  // namespace
}  // namespace packcast
