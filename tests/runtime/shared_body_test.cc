// One body for many: actors of this process, of others, and those that a test plays.
#include "runtime/actor/shared_body.h"

#include <string>

#include <gtest/gtest.h>

#include "protocol/limits.h"
#include "runtime/testing/stage.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::kPatience;
using testing::OnMessages;
using testing::Patient;
using testing::Record;
using testing::StartRuntime;

class SharedBodyTest : public ::testing::Test {
 protected:
  void TearDown() override {  // the actor refers to the test
    client_->Shutdown(kPatience);
    server_->Shutdown(kPatience);
  }

  Record<Value> seen_;
  std::unique_ptr<Runtime> server_ = StartRuntime("server", Patient());
  std::unique_ptr<Runtime> client_ = StartRuntime("client", Patient());
};

TEST_F(SharedBodyTest, EachIsToldTheSame) {
  const ActorRef here =
      server_->Spawn("callee", OnMessages([this](Context&, Message m) { seen_.Add(m.body); }))
          .value();
  const ActorRef there = client_->Connect(server_->endpoint(), "callee", kPatience).value();
  size_t count = 0;
  // Nil, one that travels in a batch, and one that is long enough not to be copied.
  for (const Value& body : {Value(), Value("word"), Value(std::string(100'000, 'x'))}) {
    const SharedBody shared = SharedBody::Make(body).value();
    for (const ActorRef& ref : {here, there, there, here}) {
      EXPECT_TRUE(ref.Tell("m", shared).ok());
      ASSERT_TRUE(seen_.WaitForCount(++count));
      EXPECT_EQ(seen_.items().back(), body);
    }
  }
  EXPECT_EQ(here.Tell("", SharedBody::Make(Value()).value()).code(), StatusCode::kInvalidArgument);
}

TEST_F(SharedBodyTest, APeerOfAStageIsToldIt) {
  Stage stage(OnMessages([](Context&, Message message) {
    EXPECT_TRUE(message.from.Tell("back", SharedBody::Make(message.body).value()).ok());
    EXPECT_TRUE(message.from.Tell("back", SharedBody::Make(Value()).value()).ok());
  }));
  stage.TellFrom("partner", "m", Value(5));
  stage.RunAll();
  const auto sent = stage.TakeSent();
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].body, Value(5));
  EXPECT_EQ(sent[1].body, Value());
}

TEST_F(SharedBodyTest, WhatCannotTravelIsRefused) {
  EXPECT_EQ(SharedBody::Make(Value("\xff")).status().code(), StatusCode::kInvalidArgument);
  const Value large = ValueArray{Bytes(limits::kBytesBytes), Bytes(limits::kBytesBytes),
                                 Bytes(limits::kBytesBytes)};
  EXPECT_EQ(SharedBody::Make(large).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ActorRef().Tell("m", SharedBody::Make(Value()).value()).code(),
            StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace packcast
