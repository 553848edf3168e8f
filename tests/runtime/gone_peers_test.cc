// What is kept of peers that are gone, and what is said of them later; stepped by hand.
#include <poll.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "protocol/limits.h"
#include "tests/runtime/peers_fixture.h"

namespace packcast::internal {
namespace {

using packcast::testing::kPatience;
using Kind = PeerEvent::Kind;

// A peer that has connected to the node.
class GonePeersTest : public LossTest {
 protected:
  explicit GonePeersTest(bool beats = false) {
    beats_ = beats;
    Connect();
  }
  // So much time passes, in small steps.
  void Age(Duration time) {
    const Time end = now_ + time;
    for (int k = 0; now_ < end; ++k) {
      if (k % 100 == 0) peers_.AwaitAndReceive(0);
      peers_.Tick(now_);
      now_ += Milliseconds(3);
    }
  }
  // Its connection ends after a silence: it may have been frozen, or cut off. (Ticks that come late
  // would excuse it.)
  void LoseAfterASilence() {
    now_ = Now();
    const Time since = now_;
    ASSERT_TRUE(Pump([&] { return Now() > since + Milliseconds(20); }));
    peer_.Close();
    ASSERT_TRUE(Pump([&] { return !link_->connected.load(); }));
  }
  void SayHello(Incarnation life) {
    Hello hello;
    hello.cluster = "packcast";
    hello.node = "peer";
    hello.incarnation = life;
    hello.beats = beats_;
    Send(FrameKind::kHello, EncodeHello(hello));
  }
  void SayGoodbye() {
    Send(FrameKind::kBye, Value());
    ASSERT_TRUE(PumpNow([&] { return link_->is_gone(); }));
  }
};

class BeatingPeersTest : public GonePeersTest {
 protected:
  BeatingPeersTest() : GonePeersTest(true) {}
};

TEST_F(GonePeersTest, WhoWatchesADeadOneLateIsToldThatItDied) {
  Watcher watcher(*node_);
  SayHello(Incarnation(9));  // a new life of it
  ASSERT_TRUE(PumpNow([&] { return link_->is_gone(); }));
  peers_.Watch(watcher.cell(), Ref());
  EXPECT_TRUE(watcher.Sees(Kind::kDied));
  EXPECT_EQ(watcher.Events().size(), 1u);
}

TEST_F(GonePeersTest, WhoWatchesOneLateThatSaidGoodbyeIsToldThatItLeft) {
  Watcher watcher(*node_);
  SayGoodbye();
  peers_.Watch(watcher.cell(), Ref());
  EXPECT_TRUE(watcher.Sees(Kind::kLeft));
  EXPECT_EQ(watcher.Events().size(), 1u);
}

TEST_F(BeatingPeersTest, WhoHasSaidThatItIsBusyIsNotDeadBefore) {
  Send(FrameKind::kBeat, ValueMap{{"$busy", ValueMap{{"ms", 200'000}, {"why", "a snapshot"}}}});
  ASSERT_TRUE(PumpNow([&] { return link_->busy_until != Time(); }));
  LoseAfterASilence();
  Age(Seconds(70));
  EXPECT_LT(link_->state.load(), LinkState::kDied);
  for (int k = 0; k < 30 && link_->state.load() < LinkState::kDied; ++k) Age(Seconds(10));
  EXPECT_GE(link_->state.load(), LinkState::kDied);
}

TEST_F(GonePeersTest, WhoHasSleptGivesTheOthersTimeToComeBack) {
  Lose();
  ASSERT_TRUE(PumpNow([&] { return link_->state.load() == LinkState::kDied; }));
  now_ = Now() + Seconds(300);
  peers_.Tick(now_);
  peers_.Tick(now_ + Milliseconds(2));
  EXPECT_EQ(link_->state.load(), LinkState::kDied);
  Age(Seconds(70));
  EXPECT_TRUE(link_->is_gone());
}

TEST_F(GonePeersTest, WhoWatchesAfterABusyTimeIsNotToldOfIt) {
  Watcher watcher(*node_);
  link_->busy_until = Now() - Milliseconds(1);
  peers_.Watch(watcher.cell(), Ref());
  EXPECT_TRUE(watcher.Events().empty());
  link_->busy_until = Now() + Seconds(100);
  peers_.Unwatch(watcher.cell().get(), Ref());
  peers_.Watch(watcher.cell(), Ref());
  EXPECT_TRUE(watcher.Sees(Kind::kBusy));
}

TEST_F(GonePeersTest, OfAScriptThatSaidGoodbyeNothingIsKept) {
  const std::weak_ptr<Link> link = link_;
  SayGoodbye();
  link_.reset();
  EXPECT_TRUE(PumpNow([&] { return link.expired(); }));
}

TEST_F(BeatingPeersTest, OfEarlierSessionsNothingIsKept) {
  std::vector<std::weak_ptr<Link>> sessions;
  for (int k = 0; k < 3; ++k) {
    SayGoodbye();
    SayHello(kPeer);
    sender_ = {};
    Send(FrameKind::kTell, Value());
    std::future<ActorRef> sender = sender_.get_future();
    ASSERT_TRUE(PumpNow([&] { return sender.wait_for(Duration(0)) == std::future_status::ready; }));
    sessions.push_back(sender.get().state()->link);
  }
  EXPECT_TRUE(PumpNow([&] { return sessions[0].expired() && sessions[1].expired(); }))
      << "although the first of all is kept";
}

// A peer that the node has connected to.
class ChannelTest : public PeersTest {
 protected:
  static constexpr Incarnation kPeer{2};
  ChannelTest() {
    peer_ = net::ZmqSocket::Open(context_, net::SocketType::kRouter, {}).value();
    const std::string endpoint = peer_.Bind("tcp://127.0.0.1:*").value();
    Promise<ActorRef> promise;
    const Future<ActorRef> future = promise.future();
    peers_.Connect(endpoint, "a", now_ + kPatience, std::move(promise));
    net::Frames hello;
    EXPECT_TRUE(Pump([&] { return peer_.can_receive(); }));
    EXPECT_EQ(peer_.Receive(&hello), net::ReceiveResult::kMessage);
    id_ = std::string(hello[0].view());
    Hello welcome;
    welcome.cluster = "packcast";
    welcome.node = "peer";
    welcome.incarnation = kPeer;
    welcome.actor = "a";
    Send(FrameKind::kWelcome, EncodeHello(welcome));
    EXPECT_TRUE(Pump([&] { return future.ready(); }));
    ref_ = future.Get(kPatience).value();
    link_ = ref_.state()->link;
  }
  ~ChannelTest() override {
    link_.reset();
    ref_ = ActorRef();
  }
  void Send(FrameKind kind, const Value& body) {
    Envelope envelope;
    envelope.kind = kind;
    net::Frames frames;
    frames.emplace_back(std::string_view(id_));
    frames.emplace_back(std::string_view(EncodeEnvelope(envelope)));
    frames.emplace_back(std::string_view(Encode(body)));
    EXPECT_EQ(peer_.Send(&frames), net::SendResult::kSent);
  }
  bool HasSockets() {
    std::vector<pollfd> items;
    peers_.AppendPollItems(&items);
    return !items.empty();
  }
  void Die() {
    peer_.Close();
    ASSERT_TRUE(Pump([&] { return link_->state.load() >= LinkState::kDied; }));
  }

  net::ZmqSocket peer_;
  std::string id_;
  ActorRef ref_;
  std::shared_ptr<Link> link_;
};

TEST_F(ChannelTest, TheConnectionToOneThatLeftIsClosed) {
  Send(FrameKind::kBye, Value());
  ASSERT_TRUE(Pump([&] { return link_->is_gone(); }));
  peer_.Close();
  EXPECT_TRUE(Pump([&] { return !HasSockets(); }));
}

TEST_F(ChannelTest, TheConnectionToAProcessOfOursThatDiedIsClosed) {
  Watcher watcher(*node_);
  peers_.Watch(watcher.cell(), ref_);
  peers_.ExpectObituary(kPeer);
  peer_.Close();
  ASSERT_TRUE(PumpNow([&] { return !link_->connected.load(); }));
  peers_.Obituary(kPeer, "signal 9");
  EXPECT_TRUE(PumpNow([&] { return !HasSockets(); }));
  EXPECT_TRUE(watcher.Sees(Kind::kDied));
  EXPECT_EQ(watcher.Events().size(), 1u);
  EXPECT_EQ(watcher.Events().front().cause, "signal 9");
}

TEST_F(ChannelTest, AnObituaryThatComesLateClosesItToo) {
  peers_.ExpectObituary(kPeer);
  Die();  // it was waited for, but not for ever
  peers_.Obituary(kPeer, "signal 9");
  EXPECT_TRUE(Pump([&] { return !HasSockets(); }));
}

TEST_F(ChannelTest, TheConnectionToADeadOneIsClosedOnceNobodyRefersToIt) {
  Die();
  const Time later = now_ + Seconds(70);
  ASSERT_TRUE(Pump([&] { return now_ > later; }));
  EXPECT_TRUE(HasSockets()) << "it may come back";
  ref_ = ActorRef();
  link_.reset();
  EXPECT_TRUE(Pump([&] { return !HasSockets(); }));
}

}  // namespace
}  // namespace packcast::internal
