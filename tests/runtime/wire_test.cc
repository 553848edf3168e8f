// A node's port as a stranger sees it: a script that speaks the protocol, and garbage.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "protocol/batch.h"
#include "protocol/codec.h"
#include "protocol/frame.h"
#include "runtime/actor/link.h"
#include "runtime/base/clock.h"
#include "tests/runtime/test_util.h"
#include "tests/runtime/wire_fixture.h"

namespace packcast {
namespace {

using testing::CallOf;
using testing::kPatience;
using testing::Script;
using testing::StartRuntime;

class WireTest : public testing::WireFixture {
 protected:
  void ExpectAlive() {
    Script script(node_->endpoint(), "prober");
    script.SendHello("echo");
    script.Expect(FrameKind::kWelcome);
    script.Send(CallOf("echo", "echo", 1), Value("alive"));
    Value body;
    script.Expect(FrameKind::kReply, &body);
    EXPECT_EQ(body, Value("alive"));
  }
};

// Scripts may share names and leave incarnations out: each of them subscribes for itself.
TEST_F(WireTest, SendersOfOneNameAreToldApartByTheirConnection) {
  testing::Record<ActorRef> senders;
  ASSERT_TRUE(node_
                  ->Spawn("listener", testing::OnMessages([&](Context&, Message message) {
                            senders.Add(message.from);
                          }))
                  .ok());
  Script first(node_->endpoint(), "first");
  Script second(node_->endpoint(), "second");
  const auto tell = [&](Script& script, const FrameAddress& from) {
    const size_t before = senders.items().size();
    Envelope envelope;
    envelope.from = from;
    envelope.to.actor = "listener";
    envelope.method = "m";
    script.Send(envelope, Value());
    EXPECT_TRUE(senders.WaitForCount(before + 1));
    return senders.items().back();
  };
  for (Script* script : {&first, &second}) {
    script->SendHello("listener");
    script->Expect(FrameKind::kWelcome);
  }
  const FrameAddress nobody;
  const FrameAddress life{"me", Incarnation(7)};
  const ActorRef one = tell(first, nobody);
  EXPECT_FALSE(tell(first, life) == one);
  EXPECT_TRUE(tell(first, nobody) == one);
  EXPECT_FALSE(tell(second, nobody) == one);
  EXPECT_TRUE(tell(second, life) == tell(first, life));
}

// What is wrong with one message of a batch costs that message, or what can no longer be read.
TEST_F(WireTest, OfABatchTheGoodMessagesArriveAndTheRestIsCounted) {
  Script script(node_->endpoint());
  script.SendHello("echo");
  script.Expect(FrameKind::kWelcome);
  BatchWriter writer;
  writer.Add(CallOf("echo", "echo", 1), Encode(Value("first")));
  Envelope hello;
  hello.kind = FrameKind::kHello;
  writer.Add(hello, "");
  Envelope later = CallOf("echo", "echo", 2);
  later.major = kProtocolMajor + 1;
  writer.Add(later, "");
  writer.Add(CallOf("nobody", "echo", 3), "");
  writer.Add(CallOf("echo", "echo", 4), Encode(Value("last")));
  Envelope batch;
  batch.kind = FrameKind::kBatch;
  script.SendRaw({EncodeEnvelope(batch), writer.Take() + "cut short"});
  std::map<uint64_t, StatusCode> codes;
  while (codes.size() < 3) {
    const Envelope reply = script.Expect(FrameKind::kReply);
    if (!codes.emplace(reply.call_id.value, reply.status.code()).second) break;
  }
  EXPECT_EQ(codes, (std::map<uint64_t, StatusCode>{
                       {1, StatusCode::kOk}, {3, StatusCode::kNotFound}, {4, StatusCode::kOk}}));
  EXPECT_EQ(Metric("malformed_messages_total"), 3);  // the hello, the version, the rest
  ExpectAlive();
}

TEST_F(WireTest, TellsThatDoNotDecodeAreCounted) {
  Script script(node_->endpoint());
  script.SendHello("echo");
  script.Expect(FrameKind::kWelcome);
  Envelope envelope;
  envelope.to.actor = "echo";
  envelope.method = "m";
  script.Send(envelope, Value("caf\xe9"));
  script.Send(CallOf("echo", "echo", 1), Value());
  script.Expect(FrameKind::kReply);
  EXPECT_EQ(Metric("malformed_bodies_total"), 1);
}

TEST_F(WireTest, ScriptSaysHelloCallsAndIsTold) {
  ASSERT_TRUE(node_
                  ->Spawn("teller", testing::OnMessages([](Context&, Message message) {
                            EXPECT_TRUE(message.from.Tell("event", Value(7)).ok());
                            message.responder.Reply(Value("done"));
                          }))
                  .ok());
  Script script(node_->endpoint());
  script.SendHello("teller");
  Value welcome;
  script.Expect(FrameKind::kWelcome, &welcome);
  EXPECT_EQ(*welcome.Find("node"), Value("node"));
  EXPECT_EQ(*welcome.Find("actor_incarnation"), Value(node_->incarnation().value));
  script.Send(CallOf("teller", "subscribe", 9), Value());
  Value event;
  const Envelope tell = script.Expect(FrameKind::kTell, &event);
  EXPECT_EQ(tell.method, "event");
  EXPECT_EQ(tell.to.actor, "me");
  EXPECT_EQ(event, Value(7));
  const Envelope reply = script.Expect(FrameKind::kReply);
  EXPECT_EQ(reply.call_id, CallId(9));
  EXPECT_TRUE(reply.status.ok());
}

TEST_F(WireTest, RepeatedIdempotentCallIsAnsweredFromTheCache) {
  auto count = std::make_shared<int>(0);
  ASSERT_TRUE(node_
                  ->Spawn("counter", testing::OnMessages([count](Context&, Message message) {
                            message.responder.Reply(Value(++*count));
                          }))
                  .ok());
  Script script(node_->endpoint());
  script.SendHello("counter");
  script.Expect(FrameKind::kWelcome);
  Envelope call = CallOf("counter", "add", 5);
  call.idempotent = true;
  for (int k = 0; k < 3; ++k) {
    script.Send(call, Value());
    Value body;
    script.Expect(FrameKind::kReply, &body);
    EXPECT_EQ(body, Value(1));
  }
  call.call_id = CallId(6);
  script.Send(call, Value());
  Value body;
  script.Expect(FrameKind::kReply, &body);
  EXPECT_EQ(body, Value(2));
  EXPECT_EQ(Metric("repeated_calls_total"), 2);
}

TEST_F(WireTest, TellsAreNotRepeatedCalls) {
  auto told = std::make_shared<testing::Record<Value>>();
  ASSERT_TRUE(node_
                  ->Spawn("listener", testing::OnMessages([told](Context&, Message message) {
                            told->Add(std::move(message.body));
                          }))
                  .ok());
  Script script(node_->endpoint());
  script.SendHello("listener");
  Envelope tell = CallOf("listener", "note", 0);
  tell.kind = FrameKind::kTell;
  tell.deadline_ms.reset();
  tell.idempotent = true;
  for (int k = 0; k < 2; ++k) script.Send(tell, Value(k));
  EXPECT_TRUE(told->WaitForCount(2));
}

TEST_F(WireTest, WhoLeavesNoRoomForRepliesIsGivenUpUntilItSaysHello) {
  ASSERT_TRUE(node_
                  ->Spawn("filler", testing::OnMessages([](Context&, Message message) {
                            // As if that much waited for it to read.
                            while (message.from.state()->link->Reserve(1 << 20)) {
                            }
                            message.responder.Reply(Value());
                          }))
                  .ok());
  Script script(node_->endpoint());
  script.SendHello("filler");
  script.Send(CallOf("filler", "fill", 1), Value());
  const Time give_up = Now() + kPatience;
  while (Metric("shunned_peers_total") == 0 && Now() < give_up) std::this_thread::yield();
  script.Send(CallOf("echo", "echo", 2), Value());
  const Envelope refused = script.Expect(FrameKind::kRefused);
  EXPECT_EQ(refused.call_id, CallId(2));
  EXPECT_EQ(refused.status.code(), StatusCode::kFailedPrecondition);
  script.SendHello("echo");
  script.Send(CallOf("echo", "echo", 3), Value());
  EXPECT_EQ(script.Expect(FrameKind::kReply).call_id, CallId(3));
}

TEST_F(WireTest, WhoDoesNotReadCountsAsDead) {
  auto events = std::make_shared<testing::Record<PeerEvent>>();
  auto filler = testing::OnMessages([](Context& context, Message message) {
    context.Monitor(message.from);
    while (message.from.state()->link->Reserve(1 << 20)) {
    }
    message.responder.Reply(Value());
  });
  filler->on_peer = [events](Context&, const PeerEvent& event) { events->Add(event); };
  ASSERT_TRUE(node_->Spawn("filler", std::move(filler)).ok());
  Script script(node_->endpoint());
  script.SendHello("filler");
  Envelope call = CallOf("filler", "fill", 1);
  call.from = {"reader", Incarnation(7)};
  script.Send(call, Value());
  ASSERT_TRUE(events->WaitFor([](const PeerEvent& event) {
    return event.kind == PeerEvent::Kind::kDied &&
           event.cause.find("does not read") != std::string::npos;
  }));
}

// A listener that was frozen hears the hello of the next connection before the end of the last, if
// at all: what it had sent over that is lost all the same.
TEST_F(WireTest, AConnectionThatWasReplacedUnnoticedCountsAsLost) {
  auto events = std::make_shared<testing::Record<PeerEvent>>();
  auto caller = testing::OnMessages([](Context& context, Message message) {
    context.Monitor(message.from);
    (void)message.from.Call("again", Value(), {.deadline = kPatience, .idempotent = true});
    message.responder.Reply(Value());
  });
  caller->on_peer = [events](Context&, const PeerEvent& event) { events->Add(event); };
  ASSERT_TRUE(node_->Spawn("caller", std::move(caller)).ok());
  Script script(node_->endpoint());
  const auto greet = [&](uint64_t connection) {
    Hello hello;
    hello.cluster = "packcast";
    hello.node = "script";
    hello.incarnation = Incarnation(7);
    hello.actor = "caller";
    hello.connection = connection;
    Envelope envelope;
    envelope.kind = FrameKind::kHello;
    script.Send(envelope, EncodeHello(hello));
    script.Expect(FrameKind::kWelcome);
  };
  greet(1);
  Envelope call = CallOf("caller", "call back", 1);
  call.from = {"callee", Incarnation(7)};
  script.Send(call, Value());
  const CallId first = script.Expect(FrameKind::kCall).call_id;
  greet(1);  // the same: nothing is repeated
  EXPECT_TRUE(events->items().empty());
  greet(2);
  EXPECT_EQ(script.Expect(FrameKind::kCall).call_id, first);
  EXPECT_TRUE(events->WaitFor(
      [](const PeerEvent& event) { return event.kind == PeerEvent::Kind::kRecovered; }));
}

TEST_F(WireTest, AScriptIsNoSender) {
  auto nobody = std::make_shared<testing::Record<bool>>();
  auto actor = testing::OnMessages([nobody](Context& context, Message message) {
    nobody->Add(context.sender().valid());
    context.SetTimer(context.now());
    message.responder.Reply(Value());
  });
  actor->on_timer = [nobody](Context& context, TimerId) { nobody->Add(context.sender().valid()); };
  ASSERT_TRUE(node_->Spawn("asked", std::move(actor)).ok());
  Script script(node_->endpoint());
  script.SendHello("asked");
  Envelope call = CallOf("asked", "who", 1);
  call.from = FrameAddress();
  script.Send(call, Value());
  ASSERT_TRUE(nobody->WaitForCount(2));
  EXPECT_EQ(nobody->items(), (std::vector<bool>{false, false}));
}

TEST_F(WireTest, HelloNeedsAnIncarnation) {
  Script script(node_->endpoint());
  script.SendHello("echo", "packcast", kProtocolMajor, Incarnation(0));
  const Envelope refused = script.Expect(FrameKind::kRefused);
  EXPECT_EQ(refused.status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(refused.status.message().find("incarnation"), std::string::npos);
}

TEST_F(WireTest, OtherMajorVersionIsRefusedWithTheReason) {
  Script script(node_->endpoint());
  script.SendHello("echo", "packcast", 2);
  const Envelope refused = script.Expect(FrameKind::kRefused);
  EXPECT_EQ(refused.status.code(), StatusCode::kUnimplemented);
  EXPECT_NE(refused.status.message().find("this node speaks 1.0"), std::string::npos);
}

TEST_F(WireTest, OtherClusterIsRefused) {
  Script script(node_->endpoint());
  script.SendHello("echo", "elsewhere");
  EXPECT_EQ(script.Expect(FrameKind::kRefused).status.code(), StatusCode::kFailedPrecondition);
  RuntimeOptions options;
  options.cluster = "elsewhere";
  const auto other = StartRuntime("other", options);
  const StatusOr<ActorRef> ref = other->Connect(node_->endpoint(), "echo", kPatience);
  EXPECT_EQ(ref.status().code(), StatusCode::kFailedPrecondition) << ref.status();
  EXPECT_NE(ref.status().message().find("cluster"), std::string::npos);
}

TEST_F(WireTest, NoHelloNoService) {
  Script script(node_->endpoint());
  script.Send(CallOf("echo", "echo", 1), Value(1));
  EXPECT_EQ(script.Expect(FrameKind::kRefused).status.code(), StatusCode::kFailedPrecondition);
}

TEST_F(WireTest, MessageForAnotherIncarnationIsStale) {
  Script script(node_->endpoint());
  script.SendHello("echo");
  script.Expect(FrameKind::kWelcome);
  Envelope call = CallOf("echo", "echo", 1);
  call.to.incarnation = Incarnation(node_->incarnation().value + 1);
  script.Send(call, Value(1));
  const Envelope reply = script.Expect(FrameKind::kReply);
  EXPECT_EQ(reply.status.code(), StatusCode::kStale);
  EXPECT_EQ(reply.status.outcome(), Outcome::kNotExecuted);
}

TEST_F(WireTest, UnknownKindIsAnsweredUnsupported) {
  Script script(node_->endpoint());
  script.SendHello("echo");
  script.Expect(FrameKind::kWelcome);
  Value map = ValueMap{};
  map.Put("v", ValueArray{Value(1), Value(3)});
  map.Put("k", "teleport");
  map.Put("id", 4);
  script.SendRaw({Encode(map), ""});
  const Envelope answer = script.Expect(FrameKind::kUnsupported);
  EXPECT_EQ(answer.call_id, CallId(4));
}

TEST_F(WireTest, MetricsAreForScriptsToo) {
  Script script(node_->endpoint());
  script.SendHello("echo");
  script.Expect(FrameKind::kWelcome);
  script.SendRaw({"no envelope"});
  script.Send(CallOf("", "$metrics", 1), Value());
  Value metrics;
  EXPECT_EQ(script.Expect(FrameKind::kReply, &metrics).call_id, CallId(1));
  ASSERT_NE(metrics.Find("malformed_messages_total"), nullptr);
  EXPECT_EQ(*metrics.Find("malformed_messages_total"), Value(1));
  script.Send(CallOf("echo", "$metrics", 2), Value());
  EXPECT_EQ(script.Expect(FrameKind::kReply).status.code(), StatusCode::kUnimplemented)
      << "they are of the node, and not of an actor";
}

TEST_F(WireTest, BadBodyOfACallIsAnswered) {
  Script script(node_->endpoint());
  script.SendHello("echo");
  script.Expect(FrameKind::kWelcome);
  script.SendRaw({EncodeEnvelope(CallOf("echo", "echo", 1)), "\xdd\xff\xff\xff\xf0"});
  EXPECT_EQ(script.Expect(FrameKind::kReply).status.code(), StatusCode::kInvalidArgument);
  script.SendRaw({EncodeEnvelope(CallOf("echo", "echo", 2)), std::string(100'000, '\x91')});
  EXPECT_EQ(script.Expect(FrameKind::kReply).status.code(), StatusCode::kInvalidArgument);
}

TEST_F(WireTest, GarbageMessagesAreCountedAndHarmless) {
  Script script(node_->endpoint());
  std::mt19937 random(1);
  const std::string good = EncodeEnvelope(CallOf("echo", "echo", 1));
  for (int k = 0; k < 2000; ++k) {
    std::string bytes = k % 2 == 0 ? good : std::string(random() % 64, '\0');
    for (size_t n = 0; n < 1 + bytes.size() / 4 && !bytes.empty(); ++n) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    script.SendRaw(std::vector<std::string>(1 + random() % 10, bytes));
  }
  ExpectAlive();
  EXPECT_GT(Metric("malformed_messages_total"), 0);
}

TEST_F(WireTest, OversizedMessageOnlyCostsItsOwnConnection) {
  Script script(node_->endpoint());
  script.SendRaw({std::string(limits::kControlFrameBytes + 1, 'x')});
  ExpectAlive();
}

TEST_F(WireTest, RawBytesOnThePortAreHarmless) {
  const std::string endpoint = node_->endpoint();
  const int port = std::stoi(endpoint.substr(endpoint.rfind(':') + 1));
  std::mt19937 random(2);
  for (int k = 0; k < 50; ++k) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    std::string bytes(random() % 4096, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    (void)!send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    close(fd);
  }
  ExpectAlive();
}

TEST(ConnectTest, SaysThatNothingListens) {
  const auto runtime = StartRuntime("node");
  const auto ref = runtime->Connect("tcp://127.0.0.1:1", "echo", Milliseconds(200));
  EXPECT_EQ(ref.status().code(), StatusCode::kUnavailable) << ref.status();
}

TEST(ConnectTest, SaysThatNoAddressIsKnown) {
  const auto runtime = StartRuntime("node");
  // A name that nobody has (RFC 6761); and IPv6, which is not spoken.
  for (const char* endpoint : {"tcp://nobody.invalid:5555", "tcp://[::1]:5555"}) {
    const Time give_up = Now() + kPatience;
    Status status;
    const auto is_said = [&] {
      return status.message().find("no IPv4 address of that host") != std::string::npos;
    };
    // The resolver may take its time.
    while (!is_said() && Now() < give_up) {
      status = runtime->Connect(endpoint, "echo", Milliseconds(300)).status();
    }
    EXPECT_TRUE(is_said()) << status;
    EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
  }
}

TEST(ConnectTest, SaysWhyItCannotListen) {
  const auto message = [](const std::string& bind, StatusCode code) {
    RuntimeOptions options;
    options.name = "node";
    options.bind = bind;
    options.insecure = true;
    const Status status = Runtime::Start(options).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_NE(status.message().find(bind), std::string::npos) << status;
    return status.message();
  };
  const auto taken = StartRuntime("taken");
  EXPECT_NE(message(taken->endpoint(), StatusCode::kUnavailable).find("already in use"),
            std::string::npos);
  EXPECT_NE(message("ipc:///no/such/folder", StatusCode::kUnavailable).find("No such file"),
            std::string::npos);
  for (const char* bind : {"tcp://localhost:*", "tcp://[::1]:*", "tcp://nobody.invalid:5555",
                           "tcp://no_interface:*", "tcp://127.0.0.1", "nonsense", "ipc://"}) {
    EXPECT_NE(message(bind, StatusCode::kInvalidArgument).find("tcp://127.0.0.1:*"),
              std::string::npos)
        << "what to bind instead of " << bind;
  }
  // libzmq would take these for others.
  for (const char* bind :
       {"tcp://127.0.0.1:99999", "tcp://127.0.0.1:80x", "tcp://127.0.0.1:", "tcp://127.0.0.1:-1"}) {
    EXPECT_NE(message(bind, StatusCode::kInvalidArgument).find("a port is"), std::string::npos);
  }
}

TEST(ConnectTest, TimesThatDoNotGoTogetherAreNamed) {
  RuntimeOptions options;
  options.name = "node";
  options.suspect_after = Milliseconds(20);
  const Status status = Runtime::Start(options).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("beat_interval (50 ms) < suspect_after (20 ms)"),
            std::string::npos)
      << status;
}

TEST(ConnectTest, RefusesToListenBeyondLoopbackWithoutKeys) {
  RuntimeOptions options;
  options.name = "node";
  options.bind = "tcp://0.0.0.0:*";
  const auto refused = Runtime::Start(options);
  EXPECT_EQ(refused.status().code(), StatusCode::kPermissionDenied);
  options.insecure = true;
  EXPECT_TRUE(Runtime::Start(options).ok());
}

}  // namespace
}  // namespace packcast
