#pragma once

// What tests share that speak the protocol themselves: a script, and a node that it talks to.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "protocol/codec.h"
#include "protocol/frame.h"
#include "runtime/base/clock.h"
#include "runtime/net/zmq_socket.h"
#include "tests/runtime/test_util.h"

namespace packcast::testing {

// A bare DEALER, like a script's.
class Script {
 public:
  explicit Script(const std::string& endpoint, const std::string& id = "script") {
    net::SocketOptions options;
    options.routing_id = id;
    socket_ = net::ZmqSocket::Open(context_, net::SocketType::kDealer, options).value();
    EXPECT_TRUE(socket_.Connect(endpoint).ok());
  }
  void SendRaw(std::vector<std::string> parts) {
    const Time give_up = Now() + kPatience;
    net::Frames frames;
    for (const std::string& part : parts) frames.emplace_back(std::string_view(part));
    while (socket_.Send(&frames) != net::SendResult::kSent && Now() < give_up) Poll(ZMQ_POLLOUT);
  }
  void Send(const Envelope& envelope, const Value& body) {
    SendRaw({EncodeEnvelope(envelope), Encode(body)});
  }
  void SendHello(const std::string& actor, const std::string& cluster = "packcast",
                 uint64_t major = kProtocolMajor, Incarnation incarnation = Incarnation(7)) {
    Envelope envelope;
    envelope.kind = FrameKind::kHello;
    envelope.major = major;
    Hello hello;
    hello.cluster = cluster;
    hello.node = "script";
    hello.incarnation = incarnation;
    hello.actor = actor;
    Send(envelope, EncodeHello(hello));
  }
  // As a node does, of whose name the last process counts.
  void SendBeatingHello(const std::string& actor, Incarnation incarnation,
                        Incarnation earlier = Incarnation()) {
    Envelope envelope;
    envelope.kind = FrameKind::kHello;
    Hello hello;
    hello.cluster = "packcast";
    hello.node = "member";
    hello.incarnation = incarnation;
    hello.actor = actor;
    hello.beats = true;
    hello.earlier = earlier;
    Send(envelope, EncodeHello(hello));
  }
  // The next message of that kind; others are skipped.
  Envelope Expect(FrameKind kind, Value* body = nullptr) {
    const Time give_up = Now() + kPatience;
    net::Frames frames;
    while (Now() < give_up) {
      Poll(ZMQ_POLLIN);
      if (socket_.Receive(&frames) != net::ReceiveResult::kMessage) continue;
      StatusOr<Envelope> envelope = DecodeEnvelope(frames[0].view());
      EXPECT_TRUE(envelope.ok()) << envelope.status();
      if (!envelope.ok() || envelope->kind != kind) continue;
      if (body != nullptr && frames.size() > 1 && frames[1].size() > 0) {
        *body = Decode(frames[1].view()).value();
      }
      return *envelope;
    }
    ADD_FAILURE() << "no " << FrameKindName(kind) << " came";
    return Envelope();
  }

 private:
  void Poll(short events) {
    zmq_pollitem_t item = {socket_.handle(), 0, events, 0};
    zmq_poll(&item, 1, 100);
  }
  net::ZmqContext context_;
  net::ZmqSocket socket_;
};

inline Envelope CallOf(const std::string& actor, const std::string& method, uint64_t id) {
  Envelope call;
  call.kind = FrameKind::kCall;
  call.from.actor = "me";
  call.to.actor = actor;
  call.method = method;
  call.call_id = CallId(id);
  call.deadline_ms = 30'000;
  return call;
}

class WireFixture : public ::testing::Test {
 protected:
  WireFixture() { EXPECT_TRUE(node_->Spawn("echo", Echo()).ok()); }
  int64_t Metric(const std::string& name) {
    const Value all = node_->Metrics();
    int64_t number = 0;
    if (const Value* value = all.Find(name)) value->GetInt(&number);
    return number;
  }
  std::unique_ptr<Runtime> node_ = StartRuntime("node", Patient());
};

}  // namespace packcast::testing
