#pragma once

// What tests share that step the connections of a node by hand: the clock is theirs.
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "protocol/codec.h"
#include "runtime/actor/node.h"
#include "runtime/actor/peers.h"
#include "runtime/base/clock.h"
#include "tests/runtime/test_util.h"

namespace packcast::internal {

class PeersTest : public ::testing::Test {
 protected:
  PeersTest() { EXPECT_EQ(node_->executor().Start(2), OkStatus()); }
  ~PeersTest() override { node_->Shutdown(Duration(0)); }
  static RuntimeOptions Options() {
    RuntimeOptions options;
    options.name = "node";
    options.beat_interval = Milliseconds(1);
    options.suspect_after = Milliseconds(2);
    options.unreachable_after = Milliseconds(3);
    options.hello_timeout = Seconds(1'000'000);  // time flies here, and ZeroMQ does not
    return options;
  }
  int64_t Metric(const std::string& name) {
    const Value all = node_->metrics().Snapshot();
    int64_t number = 0;
    if (const Value* value = all.Find(name)) value->GetInt(&number);
    return number;
  }
  // Lets the node work at `now` until `done`.
  bool Pump(const std::function<bool()>& done) {
    const Time give_up = Now() + packcast::testing::kPatience;
    while (!done() && Now() < give_up) {
      peers_.AwaitAndReceive(0);
      peers_.Tick(now_);
      now_ += Milliseconds(2);
    }
    return done();
  }
  // The same by the real clock.
  bool PumpNow(const std::function<bool()>& done) {
    const Time give_up = Now() + packcast::testing::kPatience;
    while (!done() && Now() < give_up) {
      peers_.AwaitAndReceive(0);
      peers_.Tick(Now());
    }
    return done();
  }

  net::ZmqContext context_;
  std::shared_ptr<Node> node_ = std::make_shared<Node>(Options(), Incarnation(1));
  Peers peers_{node_.get(), &context_};
  Time now_ = Now();
};

// An actor of the node that notes what it is told.
class Watcher {
 public:
  explicit Watcher(Node& node) {
    auto actor = std::make_unique<packcast::testing::FunctionActor>();
    actor->on_peer = [events = events_](Context&, const PeerEvent& event) { events->Add(event); };
    actor->on_message = [marks = marks_](Context&, Message message) { marks->Add(message.method); };
    EXPECT_TRUE(node.Spawn("watcher", std::move(actor), nullptr, {}).ok());
    cell_ = node.FindCell("watcher");
    ref_ = node.RefTo(cell_);
  }
  bool Sees(PeerEvent::Kind kind) {
    return events_->WaitFor([kind](const PeerEvent& event) { return event.kind == kind; });
  }
  // All that it has been told.
  std::vector<PeerEvent> Events() {
    const size_t before = marks_->items().size();
    EXPECT_TRUE(ref_.Tell("mark", Value()).ok());
    EXPECT_TRUE(marks_->WaitForCount(before + 1));
    return events_->items();
  }
  const std::shared_ptr<Cell>& cell() const { return cell_; }

 private:
  std::shared_ptr<packcast::testing::Record<PeerEvent>> events_ =
      std::make_shared<packcast::testing::Record<PeerEvent>>();
  std::shared_ptr<packcast::testing::Record<std::string>> marks_ =
      std::make_shared<packcast::testing::Record<std::string>>();
  std::shared_ptr<Cell> cell_;
  ActorRef ref_;
};

// A peer whose connections the test makes and ends; steps go by the real clock.
class LossTest : public PeersTest {
 protected:
  static constexpr Incarnation kPeer{2};
  // How long the end of a process of ours is waited for.
  static constexpr Duration kWait = Seconds(1);

  LossTest() {
    auto listener = packcast::testing::OnMessages(
        [this](Context&, Message message) { sender_.set_value(message.from); });
    EXPECT_TRUE(node_->Spawn("a", std::move(listener), nullptr, {}).ok());
  }
  ~LossTest() override { link_.reset(); }
  void Send(FrameKind kind, const Value& body) {
    Envelope envelope;
    envelope.kind = kind;
    envelope.to.actor = "a";
    envelope.method = "m";
    net::Frames frames;
    frames.emplace_back(std::string_view(EncodeEnvelope(envelope)));
    frames.emplace_back(std::string_view(Encode(body)));
    ASSERT_TRUE(PumpNow([&] { return peer_.Send(&frames) == net::SendResult::kSent; }));
  }
  // The peer connects, be it for the first time, and is welcome.
  void Connect() {
    net::SocketOptions options;
    options.routing_id = "peer";
    options.receive_high_water = 1;  // soon full, when the test does not read
    options.kernel_receive_bytes = 4096;
    peer_ = net::ZmqSocket::Open(context_, net::SocketType::kDealer, options).value();
    ASSERT_TRUE(peer_.Connect(endpoint_).ok());
    Hello hello;
    hello.cluster = "packcast";
    hello.node = "peer";
    hello.incarnation = kPeer;
    hello.connection = ++connections_;
    hello.beats = beats_;
    Send(FrameKind::kHello, EncodeHello(hello));
    ASSERT_TRUE(PumpNow([&] { return peer_.can_receive(); })) << "no welcome came";
    if (link_ != nullptr) return;
    Send(FrameKind::kTell, Value());
    std::future<ActorRef> sender = sender_.get_future();
    ASSERT_TRUE(PumpNow([&] { return sender.wait_for(Duration(0)) == std::future_status::ready; }));
    link_ = sender.get().state()->link;
  }
  // To an actor of the peer.
  ActorRef Ref() {
    return ActorRef(std::make_shared<RefState>(
        RefState{node_, "there", "peer", Incarnation(5), nullptr, link_}));
  }
  void Lose() {
    peer_.Close();
    ASSERT_TRUE(PumpNow([&] { return !link_->connected.load(); }));
  }

  const std::string endpoint_ = peers_.Open().value();
  std::promise<ActorRef> sender_;
  net::ZmqSocket peer_;
  uint64_t connections_ = 0;
  bool beats_ = false;
  std::shared_ptr<Link> link_;
};

}  // namespace packcast::internal
