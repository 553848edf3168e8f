#include "runtime/net/zmq_socket.h"

#include <arpa/inet.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "tests/runtime/no_threads.h"
#include "tests/runtime/test_util.h"

namespace packcast::net {
namespace {

std::map<std::string, int64_t> Numbers(SocketType type, const SocketOptions& options = {}) {
  std::map<std::string, int64_t> numbers;
  for (const OptionSetting& setting : OptionTable(type, options)) {
    if (!setting.has_text) numbers[setting.name] = setting.number;
  }
  return numbers;
}

TEST(SocketOptionsTest, NothingDangerousIsLeftToDefaults) {
  for (SocketType type : {SocketType::kRouter, SocketType::kDealer}) {
    const auto numbers = Numbers(type);
    EXPECT_EQ(numbers.at("LINGER"), 0);
    EXPECT_EQ(numbers.at("MAXMSGSIZE"), static_cast<int64_t>(limits::kControlFrameBytes));
    EXPECT_LE(numbers.at("HANDSHAKE_IVL"), 5000);
    EXPECT_EQ(numbers.at("SNDTIMEO"), 0);
  }
  EXPECT_EQ(Numbers(SocketType::kRouter).at("ROUTER_MANDATORY"), 1);
  EXPECT_EQ(Numbers(SocketType::kRouter).at("HEARTBEAT_IVL"), 0);
  EXPECT_GT(Numbers(SocketType::kDealer).at("HEARTBEAT_IVL"), 0);
  EXPECT_EQ(Numbers(SocketType::kDealer).at("IMMEDIATE"), 1);
  EXPECT_GT(Numbers(SocketType::kDealer).at("RECONNECT_IVL_MAX"), 0);
}

TEST(SocketOptionsTest, OnlyARouterWhosePeersReconnectHandsTheirIdsOver) {
  SocketOptions options;
  EXPECT_EQ(Numbers(SocketType::kRouter, options).at("ROUTER_HANDOVER"), 1);
  options.router_handover = false;
  EXPECT_EQ(Numbers(SocketType::kRouter, options).at("ROUTER_HANDOVER"), 0);
}

// Also when the socket has looked ahead, after which the routing id before it does not say.
TEST(ZmqSocketTest, AMessageKnowsByWhichConnectionItCame) {
  ZmqContext context;
  ZmqSocket router = ZmqSocket::Open(context, SocketType::kRouter, {}).value();
  const std::string endpoint = router.Bind("tcp://127.0.0.1:*").value();
  ZmqSocket dealer = ZmqSocket::Open(context, SocketType::kDealer, {}).value();
  ASSERT_TRUE(dealer.Connect(endpoint).ok());
  for (const bool looks_ahead : {false, true}) {
    Frames frames;
    do {
      frames.clear();
      frames.emplace_back(std::string_view("envelope"));
    } while (dealer.Send(&frames) != SendResult::kSent);
    while (looks_ahead && !router.can_receive()) std::this_thread::yield();
    while (router.Receive(&frames) == ReceiveResult::kEmpty) std::this_thread::yield();
    ASSERT_EQ(frames.size(), 2u);
    EXPECT_GE(frames[1].source_fd(), 0) << looks_ahead;
  }
}

TEST(ZmqSocketTest, BorrowedMemoryIsReleasedOnce) {
  ZmqContext context;
  int released = 0;
  const std::string memory(100'000, 'x');
  {
    Frame frame = Frame::Borrow(std::as_bytes(std::span(memory)), [&] { ++released; });
    const Frame second = frame.Share();
    EXPECT_EQ(second.data(), frame.data());
    EXPECT_EQ(static_cast<const void*>(frame.data()), memory.data());
  }
  EXPECT_EQ(released, 1);
}

TEST(ZmqSocketTest, BindsAFreePortAndRefusesUnknownPeers) {
  ZmqContext context;
  ZmqSocket router = ZmqSocket::Open(context, SocketType::kRouter, {}).value();
  const std::string endpoint = router.Bind("tcp://127.0.0.1:*").value();
  EXPECT_TRUE(IsLocalEndpoint(endpoint));
  EXPECT_NE(endpoint.find(':'), std::string::npos);
  Frames frames;
  frames.emplace_back(std::string_view("nobody"));
  frames.emplace_back(std::string_view("hi"));
  EXPECT_EQ(router.Send(&frames), SendResult::kUnroutable);
  EXPECT_EQ(frames.size(), 2u);
  ZmqSocket dealer = ZmqSocket::Open(context, SocketType::kDealer, {}).value();
  EXPECT_EQ(dealer.Send(&frames), SendResult::kFull);  // not connected: nothing is queued
  EXPECT_FALSE(IsLocalEndpoint("tcp://0.0.0.0:5555"));
  EXPECT_FALSE(IsLocalEndpoint("tcp://localhost:5555")) << "cannot be bound at all";
  EXPECT_FALSE(IsLocalEndpoint("tcp://[::1]:5555"));
  EXPECT_EQ(dealer.Connect("nonsense").code(), StatusCode::kInvalidArgument);
}

// libzmq takes such a message back, and would throw away the next one for what is left of it.
TEST(ZmqSocketTest, AMessageWhoseConnectionEndsWhileItIsSentCostsNoOther) {
  ZmqContext context;
  ZmqContext other_side;
  const auto give_up = std::chrono::steady_clock::now() + testing::kPatience;
  std::string endpoint = "tcp://127.0.0.1:*";
  ZmqSocket router;
  // Where it was, once the thread of the other side has closed that.
  const auto listen = [&] {
    router = ZmqSocket::Open(other_side, SocketType::kRouter, {}).value();
    StatusOr<std::string> bound = router.Bind(endpoint);
    while (!bound.ok() && std::chrono::steady_clock::now() < give_up) bound = router.Bind(endpoint);
    endpoint = bound.value();
  };
  listen();
  ZmqSocket dealer = ZmqSocket::Open(context, SocketType::kDealer, {}).value();
  ASSERT_TRUE(dealer.Connect(endpoint).ok());
  for (SendResult result = SendResult::kSent; result != SendResult::kLost; listen()) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up);
    Frames frames;
    frames.emplace_back(std::string_view("first"));
    while (dealer.Send(&frames) != SendResult::kSent) std::this_thread::yield();
    for (int k = 0; k < 500'000; ++k) frames.emplace_back(std::string_view("x"));
    std::thread closing([&] { router.Close(); });
    result = dealer.Send(&frames);
    closing.join();
  }
  Frames frames;
  for (const std::string_view text : {"envelope", "body"}) frames.emplace_back(text);
  while (dealer.Send(&frames) != SendResult::kSent) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up);
  }
  while (router.Receive(&frames) == ReceiveResult::kEmpty) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up) << "it was thrown away";
  }
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_EQ(frames[1].view(), "envelope");
  EXPECT_EQ(frames[2].view(), "body");
}

TEST(SocketOptionsTest, WhatCurveAddsIsNotPartOfAFrame) {
  SocketOptions options;
  options.curve.emplace();
  EXPECT_EQ(Numbers(SocketType::kRouter, options).at("MAXMSGSIZE"),
            static_cast<int64_t>(limits::kControlFrameBytes) + 33);
}

// A DEALER by hand, with the routing id "twin".
class RawDealer {
 public:
  explicit RawDealer(const std::string& endpoint) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1))));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
    std::string greeting("\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL", 16);
    greeting.resize(64);
    const std::string ready("\5READY\x0bSocket-Type\0\0\0\6DEALER\x08Identity\0\0\0\4twin", 45);
    Write(greeting + "\4" + static_cast<char>(ready.size()) + ready);
    std::string answer;
    char byte = 0;
    while (answer.find("READY") == std::string::npos && read(fd_, &byte, 1) == 1) answer += byte;
  }
  ~RawDealer() {
    // Nothing may be left unread: the end shall be no reset, which would overtake what was sent.
    char bytes[4096];
    while (recv(fd_, bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
    }
    close(fd_);
  }
  void Say(const std::string& word) {
    Write(std::string(1, '\0') + static_cast<char>(word.size()) + word);
  }

 private:
  void Write(const std::string& bytes) {
    EXPECT_EQ(write(fd_, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  const int fd_;
};

// libzmq has an assertion there: zeromq/libzmq, issue 4364.
TEST(ZmqSocketTest, AConnectionThatWasTakenOverCannotEndTheProcess) {
  ZmqContext context;
  SocketOptions options;
  options.heartbeat_interval = Milliseconds(10);
  ZmqSocket router = ZmqSocket::Open(context, SocketType::kRouter, options).value();
  const std::string endpoint = router.Bind("tcp://127.0.0.1:*").value();
  const auto hears = [&router](const std::string& word) {
    Frames frames;
    const Time until = std::chrono::steady_clock::now() + Seconds(60);
    while (router.Receive(&frames) != ReceiveResult::kMessage) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::yield();
    }
    return frames.back().view() == word;
  };
  for (int k = 0; k < 3; ++k) {
    auto first = std::make_unique<RawDealer>(endpoint);
    first->Say("first");
    EXPECT_TRUE(hears("first"));
    RawDealer second(endpoint);
    second.Say("second");
    EXPECT_TRUE(hears("second"));
    first->Say("nobody reads this");
    first.reset();
    // Its end is known when a few pings would have been sent; others are served meanwhile.
    const Time until = std::chrono::steady_clock::now() + 10 * options.heartbeat_interval;
    while (std::chrono::steady_clock::now() < until) {
      second.Say("still here");
      ASSERT_TRUE(hears("still here"));
    }
  }
}

Time Soon() { return std::chrono::steady_clock::now() + Seconds(20); }
bool HasPassed(Time time) { return std::chrono::steady_clock::now() >= time; }

void WaitFor(ZmqSocket* socket, short events) {
  zmq_pollitem_t item = {socket->handle(), 0, events, 0};
  zmq_poll(&item, 1, 100);
}

void SendText(ZmqSocket* socket, const std::string& text) {
  const Time limit = Soon();
  Frames frames;
  frames.emplace_back(std::string_view(text));
  while (socket->Send(&frames) != SendResult::kSent) {
    ASSERT_FALSE(HasPassed(limit));
    WaitFor(socket, ZMQ_POLLOUT);
  }
}

// The next message, or none in a long while.
Frames ReceiveFrom(ZmqSocket* socket) {
  const Time limit = Soon();
  Frames frames;
  while (socket->Receive(&frames) != ReceiveResult::kMessage && !HasPassed(limit)) {
    WaitFor(socket, ZMQ_POLLIN);
  }
  return frames;
}

// By default anybody makes the other side allocate what its frame's length says.
TEST(ZmqSocketTest, AFrameBeyondTheLimitCostsItsConnection) {
  ZmqContext context;
  ZmqSocket server = ZmqSocket::Open(context, SocketType::kRouter, {}).value();
  const std::string endpoint = server.Bind("tcp://127.0.0.1:*").value();
  ZmqSocket monitor;  // outlives whom it watches
  ZmqSocket client = ZmqSocket::Open(context, SocketType::kDealer, {}).value();
  monitor = client.OpenMonitor(context).value();
  ASSERT_TRUE(client.Connect(endpoint).ok());
  SendText(&client, std::string(limits::kControlFrameBytes + 1, 'x'));
  const Time limit = Soon();
  for (MonitorEvent event; event.kind != MonitorEvent::Kind::kDisconnected;) {
    ASSERT_FALSE(HasPassed(limit)) << "it is still connected";
    if (!NextMonitorEvent(&monitor, &event)) WaitFor(&monitor, ZMQ_POLLIN);
  }
}

// By default the second client of a routing id is ignored for as long as the first one is there:
// also when both are one, which comes back before its old connection is found to be dead.
TEST(ZmqSocketTest, ANewConnectionTakesItsRoutingIdOver) {
  ZmqContext context;
  ZmqSocket server = ZmqSocket::Open(context, SocketType::kRouter, {}).value();
  const std::string endpoint = server.Bind("tcp://127.0.0.1:*").value();
  SocketOptions options;
  options.routing_id = "worker-0#1";
  ZmqSocket old = ZmqSocket::Open(context, SocketType::kDealer, options).value();
  ASSERT_TRUE(old.Connect(endpoint).ok());
  SendText(&old, "before");
  ASSERT_EQ(ReceiveFrom(&server).size(), 2u);
  ZmqSocket fresh = ZmqSocket::Open(context, SocketType::kDealer, options).value();
  ASSERT_TRUE(fresh.Connect(endpoint).ok());
  SendText(&fresh, "after");
  Frames frames = ReceiveFrom(&server);
  ASSERT_EQ(frames.size(), 2u) << "it is ignored";
  EXPECT_EQ(frames[0].view(), options.routing_id);
  EXPECT_EQ(frames[1].view(), "after");
  ASSERT_EQ(server.Send(&frames), SendResult::kSent);
  frames = ReceiveFrom(&fresh);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].view(), "after");
}

// A DEALER queues for a dead server, unless it is told not to: the next server at that address
// would be told to do what was meant for the last one.
TEST(ZmqSocketTest, WhatWaitsForADeadServerDoesNotReachTheNext) {
  ZmqContext context;
  SocketOptions few;
  few.send_high_water = few.receive_high_water = 4;
  ZmqSocket server = ZmqSocket::Open(context, SocketType::kRouter, few).value();
  const std::string endpoint = server.Bind("tcp://127.0.0.1:*").value();
  ZmqSocket client = ZmqSocket::Open(context, SocketType::kDealer, few).value();
  ASSERT_TRUE(client.Connect(endpoint).ok());
  // The server does not read, until neither ZeroMQ nor the kernel takes any more.
  const Time limit = Soon();
  size_t sent = 0;
  for (int full = 0; full < 3; WaitFor(&client, ZMQ_POLLOUT)) {
    Frames frames;
    frames.emplace_back(std::string_view(std::string(1 << 20, 'o')));
    const bool is_sent = client.Send(&frames) == SendResult::kSent;
    sent += is_sent ? 1 : 0;
    full = is_sent || sent == 0 ? 0 : full + 1;
    ASSERT_FALSE(HasPassed(limit));
  }
  server.Close();
  ZmqSocket next;
  for (bool is_bound = false; !is_bound;) {  // the old one may still close
    next = ZmqSocket::Open(context, SocketType::kRouter, few).value();
    is_bound = next.Bind(endpoint).ok();
    ASSERT_FALSE(HasPassed(limit));
  }
  Frames frames;
  while (next.Receive(&frames) != ReceiveResult::kMessage) {
    // Again and again: the first ones may still go to the old connection, which is breaking.
    frames.clear();
    frames.emplace_back(std::string_view("for the next"));
    (void)client.Send(&frames);
    WaitFor(&next, ZMQ_POLLIN);
    ASSERT_FALSE(HasPassed(limit));
  }
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[1].view(), "for the next") << "one of " << sent << " for the dead server";
}

// Leaves the process `count` descriptors to open.
class FewDescriptors {
 public:
  explicit FewDescriptors(int count) {
    getrlimit(RLIMIT_NOFILE, &before_);
    const int next = dup(STDERR_FILENO);
    close(next);
    rlimit few = before_;
    few.rlim_cur = static_cast<rlim_t>(next + count);
    setrlimit(RLIMIT_NOFILE, &few);
  }
  ~FewDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_ = {};
};

// libzmq makes its threads with the first socket, and ends the process when it cannot.
TEST(ZmqContextTest, SaysThatThereAreNoThreadsForIt) {
  ZmqContext context;
  {
    const testing::NoThreads none;
    EXPECT_EQ(context.Start().code(), StatusCode::kResourceExhausted);
  }
  ASSERT_EQ(context.Start(), OkStatus());
  const testing::NoThreads none;
  EXPECT_TRUE(ZmqSocket::Open(context, SocketType::kRouter, {}).ok());
}

// A monitor that nobody reads blocks its socket's end for ever.
TEST(ZmqSocketTest, AMonitorThatCannotOpenLeavesASocketThatCloses) {
  for (int descriptors : {0, 1}) {  // for the reader, and for libzmq's own end
    ZmqContext context;
    ZmqSocket router = ZmqSocket::Open(context, SocketType::kRouter, {}).value();
    {
      const FewDescriptors few(descriptors);
      EXPECT_EQ(router.OpenMonitor(context).status().code(), StatusCode::kUnavailable);
    }
    router.Close();
  }
}

}  // namespace
}  // namespace packcast::net
