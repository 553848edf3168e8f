#pragma once

// What tests share of a node as client: a server that does what the test says.
#include <future>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "protocol/codec.h"
#include "protocol/frame.h"
#include "protocol/limits.h"
#include "runtime/base/clock.h"
#include "runtime/net/zmq_socket.h"
#include "tests/runtime/test_util.h"

namespace packcast::testing {

// A listener that does what the test says, for one client.
class FakeServer {
 public:
  FakeServer() { Open("tcp://127.0.0.1:*"); }

  const std::string& endpoint() const { return endpoint_; }
  // Ends all connections and listens again, as the same life.
  void DropConnections() {
    socket_ = net::ZmqSocket();
    Open(endpoint_);
  }
  // The next message of that kind; others are skipped. `hello`: what a hello says.
  Envelope Expect(FrameKind kind, Hello* hello = nullptr) {
    const Time give_up = Now() + kPatience;
    net::Frames frames;
    while (Now() < give_up) {
      zmq_pollitem_t item = {socket_.handle(), 0, ZMQ_POLLIN, 0};
      zmq_poll(&item, 1, 100);
      if (socket_.Receive(&frames) != net::ReceiveResult::kMessage || frames.size() < 2) continue;
      client_ = std::string(frames[0].view());
      const StatusOr<Envelope> envelope = DecodeEnvelope(frames[1].view());
      // The runtime's own questions go with watches; this server never answers them.
      if (!envelope.ok() || envelope->method == "$fate") continue;
      if (envelope->kind != kind) continue;
      if (hello != nullptr) *hello = DecodeHello(Decode(frames[2].view()).value()).value();
      return *envelope;
    }
    ADD_FAILURE() << "no " << FrameKindName(kind) << " came";
    return Envelope();
  }
  // To the client heard last.
  void Send(const Envelope& envelope, const Value& body = Value()) {
    net::Frames frames;
    frames.emplace_back(std::string_view(client_));
    frames.emplace_back(std::string_view(EncodeEnvelope(envelope)));
    frames.emplace_back(std::string_view(Encode(body)));
    EXPECT_EQ(socket_.Send(&frames), net::SendResult::kSent);
  }
  // A frame that is longer than any may be.
  void SendTooMuch() {
    net::Frames frames;
    frames.emplace_back(std::string_view(client_));
    frames.emplace_back(limits::kControlFrameBytes + 1);
    EXPECT_EQ(socket_.Send(&frames), net::SendResult::kSent);
  }
  void Welcome(const std::string& actor, bool beats = false) {
    Envelope envelope;
    envelope.kind = FrameKind::kWelcome;
    envelope.from = {actor, kServer};
    Hello hello;
    hello.cluster = "packcast";
    hello.node = "server";
    hello.incarnation = kServer;
    hello.actor_incarnation = kServer;
    hello.actor = actor;
    hello.beats = beats;
    Send(envelope, EncodeHello(hello));
  }
  // As an answer to `message`, which came without a session.
  void SayHelloFirst(const Envelope& message) {
    Envelope refused;
    refused.kind = FrameKind::kRefused;
    refused.call_id = message.call_id;
    refused.status = FailedPrecondition("say hello first").WithOutcome(Outcome::kNotExecuted);
    Send(refused);
  }
  void Reply(const Envelope& call, FrameKind kind = FrameKind::kReply) {
    Envelope reply;
    reply.kind = kind;
    reply.from = call.to;
    reply.call_id = call.call_id;
    Send(reply);
  }

 private:
  static constexpr Incarnation kServer{11};

  void Open(const std::string& endpoint) {
    const Time give_up = Now() + kPatience;
    while (true) {
      socket_ = net::ZmqSocket::Open(context_, net::SocketType::kRouter, {}).value();
      const StatusOr<std::string> real = socket_.Bind(endpoint);  // the old one may still close
      if (real.ok()) {
        endpoint_ = *real;
        return;
      }
      ASSERT_LT(Now(), give_up) << real.status();
    }
  }

  net::ZmqContext context_;
  net::ZmqSocket socket_;
  std::string endpoint_;
  std::string client_;
};

class RefusalFixture : public ::testing::Test {
 protected:
  void Start(const RuntimeOptions& options) { client_ = StartRuntime("client", options); }
  std::future<StatusOr<ActorRef>> Connect(const std::string& actor) {
    return std::async(std::launch::async, [this, actor, endpoint = server_.endpoint()] {
      return client_->Connect(endpoint, actor, kPatience);
    });
  }
  ActorRef Reach(bool beats = false) {
    auto ref = Connect("callee");
    server_.Expect(FrameKind::kHello);
    server_.Welcome("callee", beats);
    return ref.get().value();
  }
  // From now on `events_` has what becomes of `ref`.
  void Watch(const ActorRef& ref) {
    auto actor = std::make_unique<FunctionActor>();
    actor->on_start = [ref](Context& context) { context.Monitor(ref); };
    actor->on_peer = [events = events_](Context&, const PeerEvent& event) { events->Add(event); };
    ASSERT_TRUE(client_->Spawn("watcher", std::move(actor)).ok());
  }
  bool Sees(PeerEvent::Kind kind) {
    return events_->WaitFor([&](const PeerEvent& event) { return event.kind == kind; });
  }

  FakeServer server_;
  std::unique_ptr<Runtime> client_;
  // Shared: the actor outlives the test's body.
  std::shared_ptr<Record<PeerEvent>> events_ = std::make_shared<Record<PeerEvent>>();
};

}  // namespace packcast::testing
