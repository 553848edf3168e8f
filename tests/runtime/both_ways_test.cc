// Two runtimes that have connected to each other: each actor is reached over two connections.
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/actor/cell.h"
#include "runtime/actor/link.h"
#include "tests/runtime/faulty_proxy.h"
#include "tests/runtime/lives_fixture.h"

namespace packcast {
namespace {

using testing::FaultyProxy;
using testing::FunctionActor;
using testing::kPatience;
using testing::Mortal;
using testing::OnMessages;
using testing::Record;
using testing::Restarts;
using Kind = PeerEvent::Kind;

constexpr int64_t kMessages = 5000;

// The server connects first, and its actor "far" says a word to the client's actor "near", which
// knows it by that. Then the client connects, too.
class BothWaysTest : public testing::LivesFixture {
 protected:
  // Does with a message to "near" what it says; it is answered after that.
  virtual void OnNear(Context&, const Message&) {}

  // `endpoint`: where the server finds the client.
  void ConnectBothWays(const ActorRef& far, const std::string& endpoint) {
    auto near = std::make_unique<FunctionActor>();
    near->on_message = [this](Context& context, Message message) {
      if (message.method == "heard") senders_.Add(message.from);
      OnNear(context, message);
      message.responder.Reply(Value());
    };
    near->on_peer = [this](Context&, const PeerEvent& event) { events_.Add(event); };
    near_ = client_->Spawn("near", std::move(near)).value();
    const ActorRef back = server_->Connect(endpoint, "near", kPatience).value();
    far.state()->cell->PushWork([back](Context&) { (void)back.Tell("heard", Value()); }, false);
    ASSERT_TRUE(senders_.WaitForCount(1));
    by_router_ = senders_.items().at(0);
    by_dealer_ = client_->Connect(server_->endpoint(), far.actor(), kPatience).value();
    ASSERT_EQ(by_router_, by_dealer_);
    ASSERT_NE(by_router_.state()->link.get(), by_dealer_.state()->link.get());
  }
  // The actors refer to the test.
  void TearDown() override {
    client_->Shutdown(kPatience);
    server_->Shutdown(kPatience);
  }
  void Do(const std::string& what) { ASSERT_TRUE(near_.Call(what, Value()).Get(kPatience).ok()); }

  Record<PeerEvent> events_;
  Record<ActorRef> senders_;
  ActorRef near_;
  ActorRef by_router_;  // "far", as the client knows it by its message
  ActorRef by_dealer_;  // the same, as it connected to it
};

class MonitorsBothWaysTest : public BothWaysTest {
 protected:
  void OnNear(Context& context, const Message& message) override {
    if (message.method == "watch") {
      context.Monitor(by_dealer_);
      context.Monitor(by_router_);
    }
    if (message.method == "stop watching") context.Demonitor(by_dealer_);
  }
};

TEST_F(MonitorsBothWaysTest, WhoMonitorsOverBothConnectionsIsToldOnce) {
  const auto mortal = [gates = gates_] { return std::make_unique<Mortal>(gates); };
  const ActorRef far = server_->Spawn("far", mortal, Restarts(1)).value();
  ASSERT_TRUE(server_->Spawn("still there", testing::Echo()).ok());
  ConnectBothWays(far, client_->endpoint());
  Do("watch");
  // The answer comes after the news, on each connection.
  const auto settle = [&] {
    ASSERT_TRUE(client_->Connect(server_->endpoint(), "still there", kPatience).ok());
    (void)by_router_.Call("life", Value()).Get(kPatience);
    Do("look");
  };
  settle();
  ASSERT_TRUE(far.Call("fail", Value()).Get(kPatience).ok());
  ASSERT_TRUE(Saw(events_, Kind::kRestarted));
  settle();
  EXPECT_EQ(events_.items().size(), 1u);
  Do("stop watching");
  settle();
  ASSERT_TRUE(far.Call("fail", Value()).Get(kPatience).ok());
  settle();
  EXPECT_EQ(events_.items().size(), 1u) << "neither is watched any more";
}

class OrderBothWaysTest : public BothWaysTest {
 protected:
  OrderBothWaysTest() {
    far_ = server_
               ->Spawn("far", OnMessages([this](Context&, Message message) {
                         int64_t n = 0;
                         if (message.body.GetInt(&n)) seen_.Add(n);
                         message.responder.Reply(Value());
                       }))
               .value();
  }
  // To "far" in turns by both references; some are calls.
  void OnNear(Context&, const Message& message) override {
    if (message.method != "send") return;
    for (int64_t k = 0; k < kMessages; ++k) {
      const ActorRef& ref = k % 2 == 0 ? by_router_ : by_dealer_;
      if (k % 7 == 0) {
        ref.Call("n", Value(k));
      } else {
        EXPECT_TRUE(ref.Tell("n", Value(k)).ok());
      }
    }
  }
  void ExpectInOrder(size_t before) {
    ASSERT_TRUE(seen_.WaitForCount(before + kMessages));
    const std::vector<int64_t> items = seen_.items();
    for (int64_t k = 0; k < kMessages; ++k) ASSERT_EQ(items[before + static_cast<size_t>(k)], k);
  }

  Record<int64_t> seen_;
  ActorRef far_;
};

TEST_F(OrderBothWaysTest, ReferencesThatAreEqualKeepTheOrderOfTheirCaller) {
  ConnectBothWays(far_, client_->endpoint());
  Do("send");
  ExpectInOrder(0);
}

TEST_F(OrderBothWaysTest, WhatOneConnectionCarriedGoesByTheOtherOnceItIsLost) {
  FaultyProxy proxy(client_->endpoint());
  ConnectBothWays(far_, proxy.endpoint());
  const auto told = Watch(*client_, by_router_);
  proxy.Refuse(true);
  proxy.Cut();
  ASSERT_TRUE(Saw(*told, Kind::kDied));
  Do("send");
  ExpectInOrder(0);
  // Nor does the first connection take them back in the middle, when it is there again.
  proxy.Refuse(false);
  ASSERT_TRUE(Saw(*told, Kind::kRecovered));
  Do("send");
  ExpectInOrder(kMessages);
}

}  // namespace
}  // namespace packcast
