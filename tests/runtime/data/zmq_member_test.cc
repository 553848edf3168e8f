#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "runtime/data/zmq_collective.h"
#include "runtime/data/zmq_wire.h"
#include "runtime/net/zmq_socket.h"
#include "tests/runtime/data/broadcast_fixture.h"

namespace packcast {
namespace {

using testing::In;
using testing::TestStream;
using zmq_bulk::Header;
using zmq_bulk::Type;

constexpr GenerationId kGeneration(1);

// A member whose root is a bare socket in the test's hands.
class ZmqMember : public ::testing::Test {
 protected:
  void SetUp() override {
    transport_ = MakeZmqTransport().value();
    net::SocketOptions options;
    options.heartbeat_interval = Duration::zero();
    options.receive_high_water = 1;
    options.kernel_receive_bytes = 4096;
    root_ = net::ZmqSocket::Open(context_, net::SocketType::kRouter, options).value();
    const std::string endpoint = root_.Bind("tcp://127.0.0.1:*").value();
    const Bytes blob = zmq_bulk::EncodeBlob({endpoint, {1, 2}});
    member_ =
        transport_
            ->Join({.rendezvous = {"zmq", blob}, .rank = 1, .size = 2, .generation = kGeneration})
            .value();
    const Time limit = In(Seconds(30));
    while (member_id_.empty() && std::chrono::steady_clock::now() < limit) {
      EXPECT_TRUE(member_->Joined().ok());
      (void)Read();
    }
    Send({.type = Type::kWelcome});
    while (!*member_->Joined()) ASSERT_LT(std::chrono::steady_clock::now(), limit);
  }

  // One message of the member's, if there is one.
  std::optional<Header> Read() {
    net::Frames frames;
    if (root_.Receive(&frames) != net::ReceiveResult::kMessage) return std::nullopt;
    member_id_ = frames[0].view();
    Header header;
    EXPECT_TRUE(zmq_bulk::DecodeHeader(frames[1].bytes(), &header));
    return header;
  }
  bool Send(const Header& header) {
    net::Frames frames;
    frames.emplace_back(std::string_view(member_id_));
    frames.emplace_back(std::string_view(zmq_bulk::EncodeHeader(header)));
    return root_.Send(&frames) == net::SendResult::kSent;
  }
  // Begins a stream and makes the member know its end.
  void BeginAndEnd() {
    ASSERT_TRUE(member_->Begin(TestStream()).ok());
    Send({.type = Type::kEnd, .tag = StreamTag(TestStream())});
    const Time limit = In(Seconds(30));
    while (!*member_->EndOf() && std::chrono::steady_clock::now() < limit) {
      ASSERT_TRUE(member_->Poll(Milliseconds(1)).ok());
    }
  }

  net::ZmqContext context_;
  net::ZmqSocket root_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Collective> member_;
  std::string member_id_;
};

TEST_F(ZmqMember, WatchesItsConnectionUntilItHasFinished) {
  BeginAndEnd();
  root_.Close();  // as a process that is killed
  Status status;
  const Time limit = In(Seconds(30));
  while (status.ok() && std::chrono::steady_clock::now() < limit) {
    status = member_->Poll(Milliseconds(5));
  }
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
  EXPECT_EQ(member_->culprit(), 0u);
}

TEST_F(ZmqMember, NeedsNoConnectionOnceItHasFinished) {
  BeginAndEnd();
  ASSERT_TRUE(member_->Finish().ok());
  EXPECT_TRUE(*member_->Flushed());
  root_.Close();
  const Time end = In(Milliseconds(100));
  while (std::chrono::steady_clock::now() < end) {
    ASSERT_TRUE(member_->Poll(Milliseconds(5)).ok());
  }
  EXPECT_EQ(member_->culprit(), std::nullopt);
}

// A stopped root reads nothing for hours: probes that filled the queue looked like a lost one.
TEST_F(ZmqMember, ProbesASilentRootMoreAndMoreRarely) {
  ASSERT_TRUE(member_->Begin(TestStream()).ok());
  const Time end = In(Milliseconds(900));
  uint32_t probes = 0;
  while (std::chrono::steady_clock::now() < end) {
    ASSERT_TRUE(member_->Poll(Milliseconds(1)).ok());
    for (auto header = Read(); header; header = Read()) probes += header->type == Type::kPong;
  }
  EXPECT_LE(probes, 24u) << "of 45 at the first rate";
}

// Whoever stops polling before its words have left lets the root wait for them.
TEST_F(ZmqMember, IsFlushedWhenItsWordsHaveLeft) {
  EXPECT_TRUE(*member_->Flushed());
  ASSERT_TRUE(member_->Begin(TestStream()).ok());
  EXPECT_FALSE(*member_->Flushed());
  ASSERT_TRUE(member_->Poll(Duration::zero()).ok());
  EXPECT_TRUE(*member_->Flushed());
}

TEST_F(ZmqMember, BlamesARootThatBreaksTheProtocol) {
  ASSERT_TRUE(member_->Begin(TestStream()).ok());
  Send({.type = Type::kGate, .tag = StreamTag(TestStream()), .a = 256});  // never granted
  Status status;
  const Time limit = In(Seconds(30));
  while (status.ok() && std::chrono::steady_clock::now() < limit) {
    status = member_->Poll(Milliseconds(5));
  }
  EXPECT_EQ(status.code(), StatusCode::kInternal) << status;
  EXPECT_EQ(member_->culprit(), 0u);
  ASSERT_TRUE(member_->Abort("a bad root").ok());
  EXPECT_EQ(member_->Poll(Duration::zero()),
            Aborted("this rank aborted the collective: a bad root"));
}

}  // namespace
}  // namespace packcast
