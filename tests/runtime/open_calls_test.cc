// Calls that are not answered when their actor ends, and those that have no time.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/runtime/lives_fixture.h"

namespace packcast {
namespace {

using testing::FunctionActor;
using testing::kPatience;
using testing::OnMessages;

// Answers later, if ever.
class Keeper {
 public:
  Future<int64_t> Keep() {
    const Promise<int64_t> promise;
    kept_.push_back(promise);
    return promise.future();
  }
  Future<int64_t> Drop() { return Promise<int64_t>().future(); }
  void Fail(Context& context) { context.Fail(Internal("told to")); }
  static void Methods(MethodTable<Keeper>& table) {
    table.Add("keep", &Keeper::Keep).Add("drop", &Keeper::Drop).Add("fail", &Keeper::Fail);
  }

 private:
  std::vector<Promise<int64_t>> kept_;
};

class OpenCallsTest : public testing::LivesFixture {
 protected:
  OpenCallsTest() {
    keeper_ = NewActor<Keeper>(*server_).Name("keeper").Spawn().value();
    far_ = TypedRef<Keeper>(client_->Connect(server_->endpoint(), "keeper", kPatience).value());
  }
  // By a typed reference here, by name here, and from another process.
  void Keep() {
    calls_ = {keeper_.Call(&Keeper::Keep), CallMethod<int64_t>(keeper_.ref(), "keep", {}),
              far_.Call(&Keeper::Keep)};
    // They have begun: the next call of each caller is answered.
    EXPECT_FALSE(keeper_.Call(&Keeper::Drop).Get(kPatience).ok());
    EXPECT_FALSE(far_.Call(&Keeper::Drop).Get(kPatience).ok());
  }
  void ExpectAll(StatusCode code, const std::string& cause) {
    for (const auto& call : calls_) {
      const Status status = call.Get(kPatience).status();
      EXPECT_EQ(status.code(), code) << status;
      EXPECT_EQ(status.outcome(), Outcome::kExecuted) << status << " as its method ran";
      EXPECT_NE(status.message().find(cause), std::string::npos) << status;
    }
  }

  TypedRef<Keeper> keeper_;
  TypedRef<Keeper> far_;
  std::vector<Future<int64_t>> calls_;
};

TEST_F(OpenCallsTest, OfAnActorThatFailsEndWithItsCause) {
  Keep();
  EXPECT_TRUE(keeper_.Tell(&Keeper::Fail).ok());
  ExpectAll(StatusCode::kPeerDied, "told to");
}

TEST_F(OpenCallsTest, OfAnActorThatIsKilledSayThatItDied) {
  Keep();
  EXPECT_TRUE(server_->Kill(keeper_.ref()).ok());
  ExpectAll(StatusCode::kPeerDied, "ended before it answered");
}

TEST_F(OpenCallsTest, OfAnActorThatIsStoppedAreCancelled) {
  Keep();
  EXPECT_TRUE(server_->Stop(keeper_.ref(), kPatience).ok());
  ExpectAll(StatusCode::kCancelled, "it was stopped");
}

TEST_F(OpenCallsTest, RespondersThatAnActorHoldsSayIt) {
  auto held = std::make_unique<FunctionActor>();
  held->on_message = [kept = std::make_shared<std::vector<Responder>>()](Context& context,
                                                                         Message message) {
    if (message.method == "fail") return context.Fail(Internal("told to"));
    kept->push_back(std::move(message.responder));
  };
  const ActorRef ref = server_->Spawn("held", std::move(held)).value();
  const Future<Value> call = ref.Call("hold", Value());
  EXPECT_TRUE(ref.Tell("fail", Value()).ok());
  const Status status = call.Get(kPatience).status();
  EXPECT_EQ(status.code(), StatusCode::kPeerDied) << status;
  EXPECT_EQ(status.outcome(), Outcome::kExecuted);
}

TEST_F(OpenCallsTest, ThatNobodyCanAnswerAreErrorsOfTheClass) {
  for (const auto& dropped : {keeper_.Call(&Keeper::Drop), far_.Call(&Keeper::Drop)}) {
    const Status status = dropped.Get(kPatience).status();
    EXPECT_EQ(status.code(), StatusCode::kInternal) << status;
    EXPECT_EQ(status.outcome(), Outcome::kExecuted);
  }
}

TEST_F(OpenCallsTest, WithoutTimeAreNotSent) {
  for (const Duration none : {Duration(0), Seconds(-1)}) {
    for (const TypedRef<Keeper>& ref : {keeper_, far_}) {
      const Future<int64_t> typed = ref.CallWith({.deadline = none}, &Keeper::Keep);
      const Future<Value> named = ref.ref().Call("keep", ValueArray(), {.deadline = none});
      ASSERT_TRUE(typed.ready() && named.ready());
      for (const Status& status :
           {typed.Get(Duration(0)).status(), named.Get(Duration(0)).status()}) {
        EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
        EXPECT_EQ(status.outcome(), Outcome::kNotExecuted) << status;
      }
    }
  }
}

TEST_F(OpenCallsTest, OneThatIsCancelledWhileItWaitsInAnotherProcessRunsAllTheSame) {
  auto actor = OnMessages([gates = gates_, ran = 0](Context&, Message message) mutable {
    if (message.method == "hold") {
      gates->is_held.Open();
      gates->goes_on.Wait();
    }
    if (message.method == "run") ++ran;
    // Beside the others: it leaves `ran` alone.
    message.responder.Reply(message.control ? Value() : Value(int64_t{ran}));
  });
  SpawnOptions options;
  options.concurrent_control = true;
  ASSERT_TRUE(server_->Spawn("busy", std::move(actor), options).ok());
  const ActorRef far = client_->Connect(server_->endpoint(), "busy", kPatience).value();
  const Future<Value> held = far.Call("hold", Value());
  gates_->is_held.Wait();
  const Future<Value> waiting = far.Call("run", Value());
  // By the same connection, and answered although the actor is held: the other waits there now.
  ASSERT_TRUE(far.Call("arrived", Value(), {.control = true}).Get(kPatience).ok());
  waiting.Cancel();
  const Status cancelled = waiting.Get(kPatience).status();
  EXPECT_EQ(cancelled.code(), StatusCode::kCancelled);
  EXPECT_EQ(cancelled.outcome(), Outcome::kMaybeExecuted);
  gates_->goes_on.Open();
  EXPECT_EQ(far.Call("count", Value()).Get(kPatience).value(), Value(int64_t{1}));
}

}  // namespace
}  // namespace packcast
