#include "runtime/net/zmq_socket.h"

#include <sys/resource.h>
#include <unistd.h>

#include <map>

#include <gtest/gtest.h>

#include "tests/runtime/no_threads.h"

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
    EXPECT_GT(numbers.at("HEARTBEAT_IVL"), 0);
    EXPECT_LE(numbers.at("HANDSHAKE_IVL"), 5000);
    EXPECT_EQ(numbers.at("SNDTIMEO"), 0);
  }
  EXPECT_EQ(Numbers(SocketType::kRouter).at("ROUTER_MANDATORY"), 1);
  EXPECT_EQ(Numbers(SocketType::kDealer).at("IMMEDIATE"), 1);
  EXPECT_GT(Numbers(SocketType::kDealer).at("RECONNECT_IVL_MAX"), 0);
}

TEST(SocketOptionsTest, OnlyARouterWhosePeersReconnectHandsTheirIdsOver) {
  SocketOptions options;
  EXPECT_EQ(Numbers(SocketType::kRouter, options).at("ROUTER_HANDOVER"), 1);
  options.router_handover = false;
  EXPECT_EQ(Numbers(SocketType::kRouter, options).at("ROUTER_HANDOVER"), 0);
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
  EXPECT_EQ(dealer.Connect("nonsense").code(), StatusCode::kInvalidArgument);
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
