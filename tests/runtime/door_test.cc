// Whom a listener lets in, whom it sends away, and that strangers keep nobody out.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/actor/connections.h"
#include "runtime/actor/keys.h"
#include "runtime/base/clock.h"
#include "tests/runtime/child_process.h"
#include "tests/runtime/raw_client.h"
#include "tests/runtime/wire_fixture.h"

namespace packcast::testing {
namespace {

constexpr rlim_t kNoLimit = RLIM_INFINITY;  // but the hard one

class DoorTest : public ::testing::Test {
 protected:
  static RuntimeOptions Narrow() {
    RuntimeOptions options = Patient();
    options.max_connections_per_address = 4;
    options.hello_timeout = Seconds(600);
    return options;
  }
  void Start(const RuntimeOptions& options) {
    node_ = StartRuntime("node", options);
    ASSERT_TRUE(node_->Spawn("echo", Echo()).ok());
  }
  int64_t Metric(const std::string& name) {
    const Value all = node_->Metrics();
    int64_t number = 0;
    if (const Value* value = all.Find(name)) value->GetInt(&number);
    return number;
  }
  // Waits until so many were sent away; false when it is another number.
  bool WereSentAway(int64_t count) {
    const Time give_up = Now() + kPatience;
    while (Metric("ended_connections_total") < count && Now() < give_up) std::this_thread::yield();
    return Metric("ended_connections_total") == count;
  }
  // As another process would.
  static std::unique_ptr<Runtime> Client(RuntimeOptions options = Patient()) {
    static int started = 0;
    options.bind = "";
    return StartRuntime("client-" + std::to_string(++started), options);
  }
  static bool Answers(const StatusOr<ActorRef>& ref, const std::string& method) {
    return ref.ok() && ref->Call(method, Value(5), {}).Get(kPatience).ok();
  }
  bool IsReached(Runtime* client) {
    return Answers(client->Connect(node_->endpoint(), "echo", kPatience), "echo");
  }

  std::unique_ptr<Runtime> node_;
};

TEST_F(DoorTest, StrangersOfOneAddressMakeRoomInTheirOrder) {
  Start(Narrow());
  std::vector<RawClient> strangers;
  for (int k = 0; k < 6; ++k) strangers.emplace_back(node_->endpoint());
  EXPECT_TRUE(strangers[0].Ends());
  EXPECT_TRUE(strangers[1].Ends());
  const auto client = Client();
  EXPECT_TRUE(IsReached(client.get()));
  EXPECT_TRUE(strangers[2].Ends());
  for (int k = 3; k < 6; ++k) EXPECT_FALSE(strangers[k].HasEnded()) << k;
  EXPECT_TRUE(WereSentAway(3));
}

TEST_F(DoorTest, WhoHasSaidHelloStays) {
  Start(Narrow());
  std::vector<std::unique_ptr<Runtime>> clients;
  for (int k = 0; k < 4; ++k) {
    clients.push_back(Client());
    ASSERT_TRUE(IsReached(clients.back().get()));
  }
  for (int k = 0; k < 20; ++k) EXPECT_TRUE(RawClient(node_->endpoint()).Ends()) << k;
  for (const auto& client : clients) EXPECT_TRUE(IsReached(client.get()));
  EXPECT_TRUE(WereSentAway(20)) << "a client would have come again";
  clients.pop_back();
  const auto next = Client();
  EXPECT_TRUE(IsReached(next.get())) << "who leaves makes room";
}

TEST_F(DoorTest, ALimitOfAllHoldsForProcessesOfThisHostToo) {
  RuntimeOptions options = Narrow();
  options.max_connections = 3;
  options.bind = "ipc://*";
  Start(options);
  std::vector<RawClient> strangers;
  for (int k = 0; k < 5; ++k) strangers.emplace_back(node_->endpoint());
  EXPECT_TRUE(strangers[0].Ends());
  EXPECT_TRUE(strangers[1].Ends());
  const auto client = Client();
  EXPECT_TRUE(IsReached(client.get()));
}

TEST_F(DoorTest, WhoSaysNothingAfterTheHandshakeIsSentAway) {
  RuntimeOptions options = Narrow();
  options.hello_timeout = Milliseconds(100);
  Start(options);
  const auto client = Client();
  ASSERT_TRUE(IsReached(client.get()));
  RawClient silent(node_->endpoint());
  ASSERT_TRUE(silent.Introduce());
  EXPECT_TRUE(silent.Ends()) << "ZeroMQ itself would wait for ever";
  EXPECT_TRUE(WereSentAway(1));
  EXPECT_TRUE(IsReached(client.get())) << "it has said hello";
}

TEST_F(DoorTest, AGreetingThatComesByteByByteIsSentAway) {
  RuntimeOptions options = Narrow();
  options.hello_timeout = Milliseconds(100);
  Start(options);
  RawClient slow(node_->endpoint());
  const Time give_up = Now() + kPatience;
  for (int k = 0; k < 60 && Now() < give_up && !slow.HasEnded(); ++k) {
    if (!slow.Send(std::string_view("\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL", 16).substr(k % 16, 1)))
      break;
    slow.EndsWithin(10);
  }
  EXPECT_TRUE(slow.Ends());
  EXPECT_TRUE(WereSentAway(1)) << "by us, not by ZeroMQ";
}

TEST_F(DoorTest, SoManyBadMessagesAreTheLast) {
  Start(Narrow());
  const std::string hello = EncodeEnvelope([] {
    Envelope envelope;
    envelope.kind = FrameKind::kHello;
    return envelope;
  }());
  const std::string beat = EncodeEnvelope([] {
    Envelope envelope;
    envelope.kind = FrameKind::kBeat;
    return envelope;
  }());
  // No envelope; a hello that names no cluster; a beat before a hello.
  for (const std::string& message : {std::string("garbage"), hello, beat}) {
    RawClient bad(node_->endpoint());
    ASSERT_TRUE(bad.Introduce());
    for (int k = 0; k < internal::Connections::kBadMessages; ++k) {
      ASSERT_TRUE(bad.SendFrame(message));
    }
    EXPECT_FALSE(bad.HasEnded()) << "one more may come, or the rest may take its time";
    const Time give_up = Now() + kPatience;
    while (bad.SendFrame(message) && !bad.HasEnded() && Now() < give_up) {
    }
    ASSERT_TRUE(bad.Ends());
  }
  EXPECT_TRUE(WereSentAway(3));
}

TEST_F(DoorTest, TooManyFramesAreABadMessageToo) {
  Start(Narrow());
  RawClient bad(node_->endpoint());
  ASSERT_TRUE(bad.Introduce());
  std::string message;
  for (int k = 0; k < 20; ++k) message += std::string("\1\1x", 3);
  message += std::string("\0\1x", 3);
  const Time give_up = Now() + kPatience;
  while (bad.Send(message) && !bad.HasEnded() && Now() < give_up) {
  }
  EXPECT_TRUE(bad.Ends());
  EXPECT_TRUE(WereSentAway(1));
}

// With keys a handshake takes several rounds: who is on its way is no stranger for long, and who
// has no keys does not even get as far as a message.
TEST_F(DoorTest, WithKeysStrangersKeepNobodyOut) {
  RuntimeOptions options = Narrow();
  options.keys = MakeKeys();
  Start(options);
  std::vector<RawClient> strangers;
  for (int k = 0; k < 40; ++k) {
    strangers.emplace_back(node_->endpoint());
    (void)strangers.back().Greet();
  }
  RuntimeOptions own = Patient();
  own.keys = options.keys;
  const auto client = Client(own);
  EXPECT_TRUE(IsReached(client.get()));
  // 64 bytes are the greeting of ZeroMQ, which comes before anybody knows who is there.
  for (RawClient& stranger : strangers) EXPECT_LE(stranger.ReadToEnd().size(), 64u);
  EXPECT_EQ(Metric("malformed_messages_total"), 0);
}

TEST_F(DoorTest, WithKeysNobodyElseGetsOrBringsAnything) {
  RuntimeOptions options = Narrow();
  options.keys = MakeKeys();
  Start(options);
  auto calls = std::make_shared<std::atomic<int>>(0);
  ASSERT_TRUE(node_
                  ->Spawn("counts", OnMessages([calls](Context&, Message message) {
                            ++*calls;
                            message.responder.Reply(Value());
                          }))
                  .ok());
  RuntimeOptions without = Patient();
  RuntimeOptions wrong_server = Patient();
  wrong_server.keys = MakeKeys();
  RuntimeOptions not_on_the_list = wrong_server;
  not_on_the_list.keys->server_public_key = options.keys->public_key;
  for (const RuntimeOptions& stranger : {without, wrong_server, not_on_the_list}) {
    const auto client = Client(stranger);
    const auto ref = client->Connect(node_->endpoint(), "counts", Seconds(1));
    EXPECT_FALSE(ref.ok());
  }
  RuntimeOptions own = Patient();
  own.keys = options.keys;
  const auto client = Client(own);
  EXPECT_TRUE(Answers(client->Connect(node_->endpoint(), "counts", kPatience), "count"));
  EXPECT_EQ(*calls, 1);
  EXPECT_EQ(Metric("malformed_messages_total"), 0);
}

// Whether a listener of this process lets the kernel keep those that say nothing.
bool Defers() {
  for (int fd = 0; fd < 1024; ++fd) {
    int listens = 0;
    int deferred = 0;
    socklen_t size = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0) continue;
    size = sizeof deferred;
    if (getsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &deferred, &size) != 0) continue;
    if (deferred > 0) return true;
  }
  return false;
}

TEST_F(DoorTest, WhereManyComeAndGoWhoSaysNothingIsLeftToTheKernel) {
  Start(Patient());
  EXPECT_FALSE(Defers());
  const Time give_up = Now() + kPatience;
  while (!Defers() && Now() < give_up) {
    for (int k = 0; k < 100; ++k) RawClient(node_->endpoint());
  }
  ASSERT_TRUE(Defers());
  const auto client = Client();
  EXPECT_TRUE(IsReached(client.get())) << "it speaks at once";
  EXPECT_EQ(Metric("accepts_deferred"), 1);
  const Time then = Now() + kPatience;
  while (Defers() && Now() < then) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_FALSE(Defers()) << "they have gone";
  const Time at_last = Now() + kPatience;
  while (Metric("accepts_deferred") != 0 && Now() < at_last) std::this_thread::yield();
  EXPECT_EQ(Metric("accepts_deferred"), 0);
}

// Connections that nobody speaks on, from one address, to a process of its own.
TEST_F(DoorTest, TenThousandIdleConnectionsKeepNobodyOut) {
  const DescriptorLimit most(kNoLimit);
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const size_t count = std::min<size_t>(10'000, limit.rlim_cur - 200);
  ChildProcess child({"node", "tcp://127.0.0.1:*"});
  const std::string endpoint = child.ReadLine();
  const auto before = Client();
  const auto callee = before->Connect(endpoint, "callee", kPatience);
  ASSERT_TRUE(Answers(callee, "count"));
  std::vector<RawClient> idle;
  for (size_t k = 0; k < count; ++k) idle.emplace_back(endpoint);
  EXPECT_TRUE(Answers(callee, "count")) << "who is in stays in";
  const auto after = Client();
  EXPECT_TRUE(Answers(after->Connect(endpoint, "callee", kPatience), "count"));
  for (size_t k = 0; k + 4096 < count; ++k) ASSERT_TRUE(idle[k].Ends()) << k;
}

// Without a descriptor libzmq tries to accept without a pause; who waits is neither let in nor
// sent away, for as long as that lasts.
TEST_F(DoorTest, AProcessWithoutDescriptorsAnswersAndLetsPeersIn) {
  std::unique_ptr<ChildProcess> child;
  {
    const DescriptorLimit few(32);
    child = std::make_unique<ChildProcess>(std::vector<std::string>{"node", "tcp://127.0.0.1:*"});
  }
  const std::string endpoint = child->ReadLine();
  ASSERT_NE(endpoint, "");
  const auto before = Client();
  const auto callee = before->Connect(endpoint, "callee", kPatience);
  ASSERT_TRUE(Answers(callee, "count"));
  std::vector<RawClient> idle;
  for (int k = 0; k < 200; ++k) idle.emplace_back(endpoint);
  for (int k = 0; k < 150; ++k) ASSERT_TRUE(idle[k].Ends()) << k;
  EXPECT_TRUE(Answers(callee, "count"));
  const auto after = Client();
  EXPECT_TRUE(Answers(after->Connect(endpoint, "callee", kPatience), "count"));
}

TEST_F(DoorTest, OptionsThatLetNobodyInAreRefused) {
  for (int which = 0; which < 3; ++which) {
    RuntimeOptions options = Patient();
    options.name = "node";
    if (which == 0) options.max_connections = 0;
    if (which == 1) options.max_connections_per_address = 0;
    if (which == 2) options.hello_timeout = Duration(0);
    EXPECT_EQ(Runtime::Start(options).status().code(), StatusCode::kInvalidArgument) << which;
  }
}

}  // namespace
}  // namespace packcast::testing
