// The stage that users test their actors on.
#include "runtime/testing/stage.h"

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

#include <gtest/gtest.h>

namespace packcast {
namespace {

// Beats every second to its partner, asks it for work, and dies when it does not answer.
class Beater : public Actor {
 public:
  explicit Beater(ActorRef partner) : partner_(std::move(partner)) {}
  void OnStart(Context& context) override {
    context.Link(partner_);
    timer_ = context.SetTimer(context.now() + Seconds(1));
  }
  void OnTimer(Context& context, TimerId timer) override {
    EXPECT_EQ(timer, timer_);
    context.ReportProgress(++beats_);
    EXPECT_TRUE(partner_.Tell("beat", Value(beats_)).ok());
    timer_ = context.SetTimer(context.now() + Seconds(1));
  }
  void OnMessage(Context& context, Message message) override {
    if (message.method == "stop-beating") context.Cancel(timer_);
    if (message.method == "throw") throw std::runtime_error("boom");
    if (message.method == "who") message.responder.Reply(context.sender().actor());
    if (message.method != "ask") return;
    context.Await<Value>(partner_.Call("work", Value()),
                         [](Context& later, const StatusOr<Value>& work) {
                           if (!work.ok()) later.Fail(work.status());
                         });
  }
  void OnPeer(Context&, const PeerEvent& event) override { last_event_ = event.kind; }
  void OnStop(Context&) override { EXPECT_TRUE(partner_.Tell("bye", Value()).ok()); }

 private:
  const ActorRef partner_;
  TimerId timer_;
  uint64_t beats_ = 0;
  PeerEvent::Kind last_event_ = PeerEvent::Kind::kSuspect;
};

class StageTest : public ::testing::Test {
 protected:
  size_t Count(const std::string& method) {
    size_t count = 0;
    for (const Sent& sent : stage_.TakeSent()) count += sent.method == method;
    return count;
  }
  Stage stage_{[](Stage& made) { return std::make_unique<Beater>(made.Peer("partner")); }};
};

TEST_F(StageTest, TheClockMovesOnlyWhenTold) {
  EXPECT_FALSE(stage_.Step());
  stage_.Advance(Milliseconds(999));
  EXPECT_EQ(Count("beat"), 0u);
  const Time before = stage_.now();
  stage_.Advance(Milliseconds(2001));
  EXPECT_EQ(stage_.now() - before, Milliseconds(2001));
  const std::vector<Sent> sent = stage_.TakeSent();
  ASSERT_EQ(sent.size(), 3u) << "a timer that a timer sets is in time, too";
  EXPECT_EQ(sent[2].to, "partner");
  EXPECT_EQ(sent[2].body, Value(3));
  EXPECT_EQ(stage_.progress(), 3u);
  stage_.TellFrom("partner", "stop-beating", Value());
  stage_.Advance(Seconds(10));
  EXPECT_EQ(Count("beat"), 0u);
}

TEST_F(StageTest, MessagesComeOneByOneAndSayWhoSentThem) {
  const Future<Value> first = stage_.CallFrom("ada", "who", Value());
  const Future<Value> second = stage_.CallFrom("bob", "who", Value());
  EXPECT_TRUE(stage_.Step());
  EXPECT_EQ(*first.Get(Duration(0)), Value("ada"));
  EXPECT_FALSE(second.ready());
  EXPECT_EQ(stage_.RunAll(), 1u);
  EXPECT_EQ(*second.Get(Duration(0)), Value("bob"));
}

TEST_F(StageTest, TheTestAnswersForPeers) {
  EXPECT_FALSE(stage_.Answer("partner", Value(1)));
  stage_.TellFrom("partner", "ask", Value());
  stage_.RunAll();
  const std::vector<Sent> sent = stage_.TakeSent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_TRUE(sent[0].is_call);
  EXPECT_EQ(sent[0].method, "work");
  EXPECT_TRUE(stage_.Answer("partner", Unavailable("no work")));
  EXPECT_FALSE(stage_.failure()) << "the answer is a message and waits for its turn";
  EXPECT_TRUE(stage_.Step());
  EXPECT_EQ(stage_.failure(), Unavailable("no work"));
  EXPECT_EQ(Count("bye"), 1u) << "OnStop has run";
  EXPECT_FALSE(stage_.ref().Tell("late", Value()).ok());
}

TEST_F(StageTest, OnlyTheDeathOfWhoIsLinkedIsFatal) {
  EXPECT_FALSE(stage_.Happen(PeerEvent::Kind::kDied, "stranger", "gone"));
  EXPECT_TRUE(stage_.Happen(PeerEvent::Kind::kUnreachable, "partner", "silence"));
  stage_.RunAll();
  EXPECT_FALSE(stage_.failure());
  EXPECT_TRUE(stage_.Happen(PeerEvent::Kind::kDied, "partner", "signal 9"));
  stage_.RunAll();
  ASSERT_TRUE(stage_.failure());
  EXPECT_NE(stage_.failure()->message().find("signal 9"), std::string::npos);
}

TEST_F(StageTest, AnExceptionFailsItsCallOnly) {
  const Future<Value> thrown = stage_.CallFrom("ada", "throw", Value());
  stage_.RunAll();
  EXPECT_EQ(thrown.Get(Duration(0)).status().code(), StatusCode::kInternal);
  EXPECT_FALSE(stage_.failure());
}

// Answers "echo", fails at "fail", and stops at "stop".
class Frail : public Actor {
 public:
  void OnMessage(Context& context, Message message) override {
    if (message.method == "fail") return context.Fail(Internal("told to"));
    if (message.method == "stop") return context.Stop();
    message.responder.Reply(std::move(message.body));
  }
};

// Seeks "room", tells it that it is there, and seeks it again a second after it has failed to, or
// the room is gone.
class Guest : public Actor {
 public:
  void OnStart(Context& context) override { Seek(context); }
  void OnTimer(Context& context, TimerId) override { Seek(context); }
  void OnPeer(Context& context, const PeerEvent&) override {
    context.SetTimer(context.now() + Seconds(1));
  }
  void OnMessage(Context&, Message message) override { message.responder.Reply(last_error_); }

 private:
  void Seek(Context& context) {
    context.Await<ActorRef>(context.Connect("tcp://127.0.0.1:5577", "room", Seconds(5)),
                            [this](Context& later, const StatusOr<ActorRef>& room) {
                              if (room.ok()) return Enter(later, *room);
                              last_error_ = room.status().message();
                              later.SetTimer(later.now() + Seconds(1));
                            });
  }
  void Enter(Context& context, const ActorRef& room) {
    context.Monitor(room);
    EXPECT_TRUE(room.Tell("join", Value()).ok());
  }
  std::string last_error_;
};

class StageConnectTest : public ::testing::Test {
 protected:
  std::string LastError() {
    const Future<Value> error = stage_.ref().Call("error", Value());
    stage_.RunAll();
    return *error.Get(Seconds(0)).value().AsString();
  }
  Stage stage_{std::make_unique<Guest>()};
};

TEST_F(StageConnectTest, TheTestSaysWithWhomItIsConnected) {
  ASSERT_EQ(stage_.Seeks().size(), 1u);
  EXPECT_EQ(stage_.Seeks()[0].endpoint, "tcp://127.0.0.1:5577");
  EXPECT_EQ(stage_.Seeks()[0].actor, "room");
  EXPECT_FALSE(stage_.AnswerConnect("hall"));
  EXPECT_TRUE(stage_.AnswerConnect("room"));
  EXPECT_FALSE(stage_.AnswerConnect("room")) << "it has been answered";
  EXPECT_TRUE(stage_.TakeSent().empty()) << "the answer is a message and waits for its turn";
  EXPECT_TRUE(stage_.Step());
  const std::vector<Sent> sent = stage_.TakeSent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].to, "room");
  EXPECT_TRUE(stage_.Happen(PeerEvent::Kind::kDied, "room", "signal 9"));
  stage_.Advance(Seconds(1));
  EXPECT_EQ(stage_.Seeks().size(), 1u) << "it seeks the next one";
}

TEST_F(StageConnectTest, OrThatItIsNot) {
  EXPECT_TRUE(stage_.AnswerConnect("room", Unavailable("nothing listens there")));
  stage_.Advance(Milliseconds(999));
  EXPECT_TRUE(stage_.Seeks().empty());
  EXPECT_EQ(LastError(), "nothing listens there");
  stage_.Advance(Milliseconds(1));
  EXPECT_EQ(stage_.Seeks().size(), 1u);
}

TEST_F(StageConnectTest, AfterItsTimeoutOnTheClockOfTheStageItFails) {
  stage_.Advance(Milliseconds(4999));
  EXPECT_EQ(LastError(), "");
  stage_.Advance(Milliseconds(1));
  EXPECT_NE(LastError().find("tcp://127.0.0.1:5577"), std::string::npos);
  EXPECT_TRUE(stage_.Seeks().empty());
  stage_.Advance(Seconds(7));
  EXPECT_EQ(stage_.Seeks().size(), 1u) << "once more after a second and five, and once more";
}

TEST(StagePeersTest, MayBeAskedForBeforeThereIsAnActor) {
  Future<Value> early;
  Stage stage([&early](Stage& made) {
    early = made.ref().Call("error", Value());
    EXPECT_FALSE(made.Step());
    return std::make_unique<Guest>();
  });
  EXPECT_FALSE(early.ready());
  EXPECT_TRUE(stage.Step());
  EXPECT_EQ(early.Get(Seconds(0)).value(), Value(""));
}

TEST(StagePeersTest, OutliveAnActorThatCouldNotBeMade) {
  ActorRef peer;
  const auto make = [&peer](Stage& made) -> std::unique_ptr<Actor> {
    peer = made.Peer("partner");
    throw std::runtime_error("boom");
  };
  EXPECT_THROW(Stage{make}, std::runtime_error);
  EXPECT_FALSE(peer.Tell("hello", Value()).ok());
}

TEST(StageEndTest, WhatIsNotHandledWasNotExecuted) {
  Future<Value> queued;
  {
    Stage stage(std::make_unique<Frail>());
    EXPECT_TRUE(stage.ref().Tell("fail", Value()).ok());
    queued = stage.ref().Call("echo", Value(1));
    stage.RunAll();
    EXPECT_EQ(queued.Get(Seconds(0)).status(), Internal("told to"));
    EXPECT_EQ(queued.Get(Seconds(0)).status().outcome(), Outcome::kNotExecuted);
  }
  {
    Stage stage(std::make_unique<Frail>());
    queued = stage.ref().Call("echo", Value(1));
  }
  EXPECT_EQ(queued.Get(Seconds(0)).status().outcome(), Outcome::kNotExecuted);
}

TEST(StageEndTest, AnOrderlyStopHandlesWhatWaits) {
  Stage stage(std::make_unique<Frail>());
  const Future<Value> queued = stage.ref().Call("echo", Value(1));
  stage.Stop();
  EXPECT_EQ(queued.Get(Seconds(0)).value(), Value(1));
  EXPECT_EQ(stage.ref().Call("echo", Value(1)).Get(Seconds(0)).status().code(),
            StatusCode::kNotFound);
}

TEST(StageEndTest, AnActorThatStopsItselfHandlesWhatWaits) {
  Stage stage(std::make_unique<Frail>());
  EXPECT_TRUE(stage.ref().Tell("stop", Value()).ok());
  const Future<Value> queued = stage.ref().Call("echo", Value(1));
  EXPECT_TRUE(stage.Step());
  EXPECT_FALSE(stage.ended());
  EXPECT_EQ(stage.ref().Call("echo", Value(2)).Get(Seconds(0)).status().code(),
            StatusCode::kNotFound);
  EXPECT_TRUE(stage.Step());
  EXPECT_EQ(queued.Get(Seconds(0)).value(), Value(1));
  EXPECT_TRUE(stage.ended());
  EXPECT_FALSE(stage.failure());
}

TEST(StageRuntimeTest, TheRuntimeOfAStageIsReal) {
  class Parent : public Actor {
   public:
    void OnMessage(Context& context, Message message) override {
      const auto child = context.runtime().Spawn("child", std::make_unique<Frail>());
      message.responder.Reply(child.ok() ? child->Call("echo", Value(7)).Get(Seconds(30)).value()
                                         : Value());
    }
  };
  Stage stage(std::make_unique<Parent>());
  const Future<Value> answer = stage.ref().Call("ask", Value());
  EXPECT_TRUE(stage.Step());
  EXPECT_EQ(answer.Get(Seconds(0)).value(), Value(7));
}

// Asks real actors, and is told by them.
class Asker : public Actor {
 public:
  static constexpr int kAsked = 2000;
  void OnMessage(Context& context, Message message) override {
    if (message.method == "told") return Count();
    const ActorRef child = context.runtime().Spawn("child", std::make_unique<Frail>()).value();
    class Teller : public Actor {
     public:
      explicit Teller(ActorRef whom) : whom_(std::move(whom)) {}
      void OnMessage(Context&, Message) override { (void)whom_.Tell("told", Value()); }

     private:
      const ActorRef whom_;
    };
    const ActorRef teller =
        context.runtime().Spawn("teller", std::make_unique<Teller>(context.self())).value();
    for (int k = 0; k < kAsked; ++k) {
      context.Await<Value>(child.Call("echo", Value(1)),
                           [this](Context&, const StatusOr<Value>&) { Count(); });
      EXPECT_TRUE(teller.Tell("tell", Value()).ok());
    }
  }
  int count = 0;

 private:
  void Count() { ++count; }
};

TEST(StageRuntimeTest, WhatRealActorsSayWaitsForItsStep) {
  auto actor = std::make_unique<Asker>();
  const Asker& asker = *actor;
  Stage stage(std::move(actor));
  EXPECT_TRUE(stage.ref().Tell("ask", Value()).ok());
  const auto give_up = std::chrono::steady_clock::now() + Seconds(30);
  while (asker.count < 2 * Asker::kAsked && std::chrono::steady_clock::now() < give_up) {
    if (!stage.Step()) std::this_thread::yield();
  }
  EXPECT_EQ(asker.count, 2 * Asker::kAsked);
}

// Links with who asks for it, throws at all news, and notes who has sent what it handles.
class Fickle : public Actor {
 public:
  explicit Fickle(std::string* last_sender) : last_sender_(last_sender) {}
  void OnMessage(Context& context, Message message) override {
    if (message.method == "link") context.Link(friend_ = message.from);
    if (message.method == "unlink") context.Unlink(friend_);
    *last_sender_ = context.sender().actor();
  }
  void OnPeer(Context&, const PeerEvent&) override { throw std::runtime_error("boom"); }
  void OnStop(Context& context) override { *last_sender_ = context.sender().actor(); }

 private:
  std::string* const last_sender_;
  ActorRef friend_;
};

class StageLinkTest : public ::testing::Test {
 protected:
  std::string last_sender_ = "nobody yet";
  Stage stage_{std::make_unique<Fickle>(&last_sender_)};
};

TEST_F(StageLinkTest, ALinkedDeathIsFatalWhateverOnPeerDoes) {
  stage_.TellFrom("ada", "link", Value());
  stage_.RunAll();
  EXPECT_TRUE(stage_.Happen(PeerEvent::Kind::kDied, "ada", "signal 9"));
  stage_.RunAll();
  ASSERT_TRUE(stage_.failure());
  EXPECT_EQ(stage_.failure()->code(), StatusCode::kPeerDied);
}

TEST_F(StageLinkTest, WhetherOneIsLinkedCountsWhenTheDeathIsHandled) {
  stage_.TellFrom("ada", "link", Value());
  stage_.RunAll();
  EXPECT_TRUE(stage_.ref().Tell("unlink", Value(), {.control = true}).ok());
  EXPECT_TRUE(stage_.Happen(PeerEvent::Kind::kDied, "ada", "signal 9"));
  stage_.RunAll();
  EXPECT_FALSE(stage_.failure());
}

TEST_F(StageLinkTest, TheEndIsSentByNobody) {
  stage_.TellFrom("ada", "hello", Value());
  stage_.RunAll();
  EXPECT_EQ(last_sender_, "ada");
  stage_.Stop();
  EXPECT_EQ(last_sender_, "");
}

}  // namespace
}  // namespace packcast
