// The connections of a node, stepped by hand: the clock is the test's.
#include <poll.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "protocol/codec.h"
#include "runtime/actor/fates.h"
#include "runtime/actor/lives.h"
#include "runtime/actor/node.h"
#include "runtime/actor/reply_cache.h"
#include "runtime/base/clock.h"
#include "tests/runtime/peers_fixture.h"

namespace packcast::internal {
namespace {

using packcast::testing::kPatience;

TEST_F(PeersTest, ForgetsWhoWasSilentWhenItsConnectionEnded) {
  const std::string endpoint = peers_.Open().value();
  auto peer = net::ZmqSocket::Open(context_, net::SocketType::kDealer, {}).value();
  ASSERT_TRUE(peer.Connect(endpoint).ok());
  Envelope envelope;
  envelope.kind = FrameKind::kHello;
  Hello hello;
  hello.cluster = "packcast";
  hello.node = "peer";
  hello.incarnation = Incarnation(2);
  hello.beats = true;
  net::Frames frames;
  frames.emplace_back(std::string_view(EncodeEnvelope(envelope)));
  frames.emplace_back(std::string_view(Encode(EncodeHello(hello))));
  ASSERT_TRUE(Pump([&] { return peer.Send(&frames) == net::SendResult::kSent; }));
  ASSERT_TRUE(Pump([&] { return peer.can_receive(); })) << "no welcome came";
  const Time silent_since = Now();
  ASSERT_TRUE(Pump([&] { return Now() > silent_since + Milliseconds(20); }));
  peer.Close();
  EXPECT_TRUE(Pump([&] { return Metric("forgotten_peers_total") == 1; }));
}

TEST_F(PeersTest, GivesUpWhoWasSilentAndIsNotThereAnyMore) {
  auto peer = net::ZmqSocket::Open(context_, net::SocketType::kRouter, {}).value();
  const std::string endpoint = peer.Bind("tcp://127.0.0.1:*").value();
  Promise<ActorRef> promise;
  const Future<ActorRef> future = promise.future();
  peers_.Connect(endpoint, "a", now_ + kPatience, std::move(promise));
  net::Frames hello;
  ASSERT_TRUE(Pump([&] { return peer.can_receive(); }));
  ASSERT_EQ(peer.Receive(&hello), net::ReceiveResult::kMessage);
  Envelope envelope;
  envelope.kind = FrameKind::kWelcome;
  Hello welcome;
  welcome.cluster = "packcast";
  welcome.node = "peer";
  welcome.incarnation = Incarnation(2);
  welcome.actor = "a";
  welcome.beats = true;
  net::Frames frames;
  frames.emplace_back(hello[0].view());
  frames.emplace_back(std::string_view(EncodeEnvelope(envelope)));
  frames.emplace_back(std::string_view(Encode(EncodeHello(welcome))));
  ASSERT_EQ(peer.Send(&frames), net::SendResult::kSent);
  ASSERT_TRUE(Pump([&] { return future.ready(); }));
  const std::shared_ptr<Link> link = future.Get(kPatience).value().state()->link;
  const Time silent_since = Now();
  ASSERT_TRUE(Pump([&] { return Now() > silent_since + Milliseconds(20); }));
  peer.Close();
  ASSERT_TRUE(Pump([&] { return link->state.load() == LinkState::kUnreachable; }));
  ASSERT_TRUE(Pump([&] { return link->state.load() != LinkState::kUnreachable; }));
  EXPECT_EQ(link->state.load(), LinkState::kDied) << "it may come back";
  EXPECT_EQ(link->cause(), "it did not connect again");
}

TEST_F(LossTest, TheEndOfAProcessOfOursIsWaitedForAnewAfterEachLoss) {
  peers_.ExpectObituary(kPeer);
  Connect();
  Lose();
  const Time first_due = Now() + kWait;
  EXPECT_EQ(link_->state.load(), LinkState::kUp);
  Connect();
  Lose();
  peers_.Tick(first_due);
  EXPECT_EQ(link_->state.load(), LinkState::kUp) << "that loss is over";
  peers_.Tick(Now() + kWait);
  EXPECT_EQ(link_->state.load(), LinkState::kDied);
}

// Of a peer whose connection is lost, and which comes again.
class ReturnTest : public LossTest {
 protected:
  ReturnTest() { beats_ = true; }
  // That it was unreachable is told, and its return, but no death. (A machine that is slow brings
  // suspicions as well.)
  void ExpectNoDeath(Watcher* watcher) {
    const auto saw = [&](PeerEvent::Kind kind) {
      const std::vector<PeerEvent> events = watcher->Events();
      return std::any_of(events.begin(), events.end(),
                         [kind](const PeerEvent& event) { return event.kind == kind; });
    };
    EXPECT_TRUE(PumpNow([&] { return saw(PeerEvent::Kind::kRecovered); }));
    EXPECT_TRUE(saw(PeerEvent::Kind::kUnreachable)) << "what was in flight is lost";
    EXPECT_FALSE(saw(PeerEvent::Kind::kDied));
  }
};

TEST_F(ReturnTest, TheSameLifeIsNotTakenForDeadWhenItConnectsAnew) {
  Watcher watcher(*node_);
  peers_.ExpectObituary(kPeer);
  Connect();
  peers_.Watch(watcher.cell(), Ref());
  Lose();
  Connect();
  ExpectNoDeath(&watcher);
}

// Its host may have closed the connection for our own silence.
TEST_F(ReturnTest, WhoseConnectionEndsWhileWeDidNotRunIsNotTakenForDead) {
  Watcher watcher(*node_);
  Connect();
  peers_.Watch(watcher.cell(), Ref());
  peer_.Close();
  peers_.Tick(Now() - Seconds(10));  // the last one, before we slept
  ASSERT_TRUE(PumpNow([&] { return !link_->connected.load(); }));
  const Time grace = Now() + Milliseconds(20);  // which a loss has until it counts as a death
  ASSERT_TRUE(PumpNow([&] { return Now() > grace; }));
  Connect();
  ExpectNoDeath(&watcher);
}

TEST_F(LossTest, OfAProcessThatWasLetGoNothingIsKeptNorWaitedFor) {
  peers_.ExpectObituary(kPeer);
  peers_.ExpectObituary(Incarnation(3));
  EXPECT_EQ(Metric("child_processes"), 2);
  peers_.Obituary(Incarnation(3), "exit code 0");
  EXPECT_EQ(Metric("child_processes"), 1);
  peers_.ForgetObituary(kPeer);
  EXPECT_EQ(Metric("child_processes"), 0);
  Connect();
  Lose();
  peers_.Tick(Now() + kWait / 2);
  EXPECT_EQ(link_->state.load(), LinkState::kDied);
}

// What is sent when, and what the sending thread may and must do.
class SendTest : public LossTest {
 protected:
  SendTest() { Connect(); }
  Outgoing Tell(size_t bytes) {
    Envelope envelope;
    envelope.to.actor = "peer";
    envelope.method = "m";
    Outgoing message{link_, envelope, WireBody{net::Frame(bytes)}, CallId(), CallId()};
    EXPECT_TRUE(link_->Reserve(message.bytes()));
    return message;
  }
  bool HasNews() {
    std::vector<pollfd> items;
    peers_.AppendPollItems(&items);
    return poll(items.data(), items.size(), 0) > 0;
  }
};

TEST_F(SendTest, AFullQueueKeepsNobodyAwake) {
  constexpr size_t kAlone = 8'192;  // in no batch
  const Time give_up = Now() + kPatience;
  bool sleeps = false;
  while (!sleeps && link_->is_usable() && Now() < give_up) {
    // The peer reads nothing.
    while (link_->backlog.empty() && link_->is_usable()) {
      peers_.Transmit(Tell(kAlone));
      peers_.FlushAll();
    }
    peers_.Receive();
    peers_.FlushAll();
    sleeps = !link_->backlog.empty() && peers_.is_drained();
  }
  EXPECT_TRUE(sleeps);
}

// ZeroMQ gets no more long ranges than the peer can read in a moment: our beats come behind them.
TEST_F(SendTest, ByteRangesWaitHereWhileZeroMqHasSome) {
  const ByteRange memory = Bytes(limits::kControlFrameBytes);
  const auto send = [&] {
    Outgoing message = Tell(0);
    message.body.apart = std::make_shared<const ApartRanges>(2, memory);
    bool has_come = false;
    return peers_.TransmitNow(&message, &has_come);
  };
  ASSERT_TRUE(send());
  EXPECT_EQ(link_->lent->load(), limits::kApartTotalBytes) << "the peer reads nothing";
  EXPECT_FALSE(send());
  EXPECT_EQ(link_->lent->load(), limits::kApartTotalBytes);
  Outgoing small = Tell(0);
  bool has_come = false;
  EXPECT_TRUE(peers_.TransmitNow(&small, &has_come));
  net::Frames frames;
  ASSERT_TRUE(PumpNow([&] {
    while (peer_.Receive(&frames) == net::ReceiveResult::kMessage) {
    }
    return link_->lent->load() == 0;
  }));
  EXPECT_TRUE(send());
}

// To send may take the news of what has come, which the descriptors tell but once.
TEST_F(SendTest, WhoSendsInPassingSaysWhetherSomethingHasCome) {
  ASSERT_TRUE(PumpNow([&] { return peers_.is_drained() && !HasNews(); }));
  bool has_come = true;
  Outgoing message = Tell(0);
  ASSERT_TRUE(peers_.TransmitNow(&message, &has_come));
  EXPECT_FALSE(has_come);
  net::Frames frames;
  frames.emplace_back(std::string_view("anything"));
  ASSERT_EQ(peer_.Send(&frames), net::SendResult::kSent);
  const Time give_up = Now() + kPatience;
  while (!HasNews() && Now() < give_up) std::this_thread::yield();
  ASSERT_TRUE(HasNews());
  message = Tell(0);
  ASSERT_TRUE(peers_.TransmitNow(&message, &has_come));
  EXPECT_TRUE(has_come);
  EXPECT_FALSE(HasNews()) << "it is no test of anything if the descriptor still tells";
  EXPECT_FALSE(peers_.is_drained());
}

using Verdict = Lives::Verdict;

Verdict Admit(Lives& lives, const std::string& node, uint64_t life, uint64_t earlier = 0) {
  return lives.Admit(node, Incarnation(life), Incarnation(earlier));
}

TEST(LivesTest, TheLastOneCounts) {
  Lives lives;
  EXPECT_EQ(Admit(lives, "a", 1), Verdict::kAdmitted);
  EXPECT_EQ(Admit(lives, "a", 1), Verdict::kAdmitted);
  EXPECT_EQ(Admit(lives, "b", 1), Verdict::kAdmitted);
  EXPECT_EQ(Admit(lives, "a", 2, 1), Verdict::kAdmitted);
  EXPECT_TRUE(lives.IsSuperseded("a", Incarnation(1)));
  EXPECT_EQ(Admit(lives, "a", 1), Verdict::kSuperseded);
  EXPECT_EQ(Admit(lives, "a", 1, 2), Verdict::kSuperseded);
  EXPECT_EQ(Admit(lives, "a", 2), Verdict::kAdmitted);
  EXPECT_EQ(Admit(lives, "b", 1), Verdict::kAdmitted);
}

TEST(LivesTest, WhoTakesANameMustKnowWhose) {
  Lives lives;
  EXPECT_EQ(lives.HolderOf("a"), Incarnation());
  // With nobody there, whatever it has been told elsewhere.
  EXPECT_EQ(Admit(lives, "a", 1, 9), Verdict::kAdmitted);
  EXPECT_EQ(lives.HolderOf("a"), Incarnation(1));
  for (int times = 0; times < 3; ++times) EXPECT_EQ(Admit(lives, "a", 2), Verdict::kMustName);
  EXPECT_EQ(Admit(lives, "a", 2, 2), Verdict::kMustName);
  EXPECT_EQ(lives.HolderOf("a"), Incarnation(1));
  EXPECT_EQ(Admit(lives, "a", 1), Verdict::kAdmitted) << "nothing has come of it";
  EXPECT_EQ(Admit(lives, "a", 3, 1), Verdict::kAdmitted);
  // What was said before another one came is worth nothing any more.
  EXPECT_EQ(Admit(lives, "a", 2, 1), Verdict::kMustName);
  EXPECT_EQ(lives.HolderOf("a"), Incarnation(3));
  EXPECT_EQ(Admit(lives, "a", 2, 3), Verdict::kAdmitted);
}

TEST(LivesTest, ForgetsTheOldest) {
  Lives lives;
  const size_t count = Lives::kSuperseded + 2;
  for (uint64_t k = 1; k <= count; ++k) EXPECT_EQ(Admit(lives, "a", k, k - 1), Verdict::kAdmitted);
  EXPECT_FALSE(lives.IsSuperseded("a", Incarnation(1)));
  EXPECT_TRUE(lives.IsSuperseded("a", Incarnation(2)));
  for (uint64_t k = 0; k <= Lives::kNames; ++k) {
    EXPECT_EQ(Admit(lives, std::to_string(k), 1), Verdict::kAdmitted);
  }
  EXPECT_EQ(lives.HolderOf("a"), Incarnation());
}

TEST(FatesTest, TellsHowEachLifeEndedAndForgetsTheOldest) {
  Fates fates;
  fates.Add("a", {Incarnation(1), Incarnation(2)}, PeerDied("crashed"));
  fates.Add("b", {Incarnation(1)}, Cancelled("stopped"));
  EXPECT_EQ(fates.Find("a", Incarnation(1)), PeerDied("crashed"));
  EXPECT_EQ(fates.Find("a", Incarnation(2)), PeerDied("crashed"));
  EXPECT_EQ(fates.Find("b", Incarnation(1)), Cancelled("stopped"));
  EXPECT_TRUE(fates.Find("b", Incarnation(2)).ok()) << "it never was";
  for (uint64_t k = 0; k + 2 < Fates::kLives; ++k) {
    fates.Add("c", {Incarnation(k + 1)}, Cancelled("stopped"));
  }
  EXPECT_TRUE(fates.Find("a", Incarnation(1)).ok()) << "the oldest";
  EXPECT_FALSE(fates.Find("a", Incarnation(2)).ok());
}

WireBody BodyOf(std::string_view bytes) { return {net::Frame(bytes)}; }

TEST(ReplyCacheTest, KnowsWhatRunsAndTheLastThatAreDone) {
  EXPECT_EQ(ReplyCache::kCalls, 4096u);
  EXPECT_EQ(ReplyCache::kBytes, 8u << 20);
  ReplyCache cache;
  const ReplyCache::Reply* known = nullptr;
  const uint64_t runs = 1;
  const uint64_t first = 2;
  EXPECT_TRUE(cache.Begin(CallId(runs), &known));
  const uint64_t end = first + 2 * ReplyCache::kCalls;
  for (uint64_t id = first; id < end; ++id) {
    EXPECT_TRUE(cache.Begin(CallId(id), &known));
    cache.Finish(CallId(id), Envelope(), BodyOf(std::to_string(id)));
  }
  ASSERT_FALSE(cache.Begin(CallId(runs), &known)) << "however many came after it";
  EXPECT_FALSE(known->is_done);
  for (uint64_t id = end - ReplyCache::kCalls; id < end; ++id) {
    ASSERT_FALSE(cache.Begin(CallId(id), &known));
    EXPECT_EQ(known->body.value.view(), std::to_string(id));
  }
  EXPECT_TRUE(cache.Begin(CallId(end - ReplyCache::kCalls - 1), &known)) << "its memory is bounded";
}

TEST(ReplyCacheTest, OneWhoseReplyIsTooMuchToKeepStillDoesNotRunAgain) {
  ReplyCache cache;
  const ReplyCache::Reply* known = nullptr;
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_TRUE(cache.Begin(CallId(id), &known));
    cache.Finish(CallId(id), Envelope(), BodyOf(std::string(ReplyCache::kBytes / 2, 'x')));
  }
  ASSERT_FALSE(cache.Begin(CallId(1), &known));
  ASSERT_TRUE(known->is_done);
  EXPECT_EQ(known->body.size(), 0u);
  EXPECT_EQ(known->envelope.status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(known->envelope.status.outcome(), Outcome::kExecuted);
  ASSERT_FALSE(cache.Begin(CallId(2), &known));
  EXPECT_EQ(known->body.size(), ReplyCache::kBytes / 2);
}

TEST(ReplyCacheTest, OneThatAloneIsTooMuchTakesNoOtherWithIt) {
  ReplyCache cache;
  const ReplyCache::Reply* known = nullptr;
  EXPECT_TRUE(cache.Begin(CallId(1), &known));
  cache.Finish(CallId(1), Envelope(), BodyOf("small"));
  EXPECT_TRUE(cache.Begin(CallId(2), &known));
  WireBody large = BodyOf("value");
  large.apart = std::make_shared<const ApartRanges>(1, Bytes(ReplyCache::kBytes - 3));
  cache.Finish(CallId(2), Envelope(), large);
  ASSERT_FALSE(cache.Begin(CallId(2), &known));
  EXPECT_EQ(known->envelope.status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(known->body.size(), 0u);
  ASSERT_FALSE(cache.Begin(CallId(1), &known));
  EXPECT_EQ(known->body.value.view(), "small");
}

TEST(ReplyCacheTest, KeepsCopiesOfByteRanges) {
  ReplyCache cache;
  const ReplyCache::Reply* known = nullptr;
  EXPECT_TRUE(cache.Begin(CallId(1), &known));
  std::string memory(100'000, 'r');
  bool is_released = false;
  {
    WireBody body = BodyOf("value");
    const auto bytes = std::as_bytes(std::span<const char>(memory));
    body.apart = std::make_shared<const ApartRanges>(
        ApartRanges{ByteRange::Lend(bytes, [&] { is_released = true; }), Bytes(3, std::byte{9})});
    cache.Finish(CallId(1), Envelope(), body);
  }
  EXPECT_TRUE(is_released) << "what was lent is not held for as long as the reply is known";
  memory.assign(memory.size(), '!');
  for (int k = 0; k < 2; ++k) {
    ASSERT_FALSE(cache.Begin(CallId(1), &known));
    const WireBody again = known->body.Share();
    EXPECT_EQ(again.value.view(), "value");
    ASSERT_EQ(again.ranges().size(), 2u);
    EXPECT_EQ(again.ranges()[0], ByteRange(Bytes(100'000, std::byte{'r'})));
    EXPECT_EQ(again.ranges()[1], ByteRange(Bytes(3, std::byte{9})));
  }
}

TEST(ReplyCacheTest, KnowsTheLastThatDidNotRunBesideThoseThatDid) {
  ReplyCache cache;
  const ReplyCache::Reply* known = nullptr;
  EXPECT_TRUE(cache.Begin(CallId(1), &known));
  cache.Finish(CallId(1), Envelope(), BodyOf("ran"));
  Envelope refused;
  refused.status = ResourceExhausted("full").WithOutcome(Outcome::kNotExecuted);
  constexpr uint64_t kEnd = ReplyCache::kCalls + 3;
  for (uint64_t id = 2; id < kEnd; ++id) {
    EXPECT_TRUE(cache.Begin(CallId(id), &known));
    cache.Finish(CallId(id), refused, WireBody());
  }
  ASSERT_FALSE(cache.Begin(CallId(kEnd - 1), &known));
  ASSERT_TRUE(known->is_done);
  EXPECT_EQ(known->envelope.status, refused.status);
  EXPECT_TRUE(cache.Begin(CallId(2), &known)) << "its memory is bounded";
  ASSERT_FALSE(cache.Begin(CallId(1), &known));
  EXPECT_EQ(known->body.value.view(), "ran");
}

}  // namespace
}  // namespace packcast::internal
