#include "protocol/frame.h"

#include <gtest/gtest.h>

#include "protocol/codec.h"
#include "protocol/limits.h"

namespace packcast {
namespace {

Envelope FullCall() {
  Envelope call;
  call.kind = FrameKind::kCall;
  call.from = {"trainer/0", Incarnation(7)};
  call.to = {"coordinator", Incarnation(9)};
  call.call_id = CallId(3);
  call.method = "sync";
  call.deadline_ms = 1500;
  call.control = true;
  call.idempotent = true;
  call.must_understand = {"idem"};
  return call;
}

Value MapOf(const Envelope& envelope) { return Decode(EncodeEnvelope(envelope)).value(); }

TEST(FrameTest, EnvelopeSurvivesTheWire) {
  const Envelope sent = FullCall();
  const Envelope got = DecodeEnvelope(EncodeEnvelope(sent)).value();
  EXPECT_EQ(got.kind, sent.kind);
  EXPECT_EQ(got.from, sent.from);
  EXPECT_EQ(got.to, sent.to);
  EXPECT_EQ(got.call_id, sent.call_id);
  EXPECT_EQ(got.method, sent.method);
  EXPECT_EQ(got.deadline_ms, sent.deadline_ms);
  EXPECT_TRUE(got.control);
  EXPECT_TRUE(got.idempotent);
  EXPECT_EQ(got.must_understand, sent.must_understand);
}

TEST(FrameTest, ReplyCarriesStatusAndOutcome) {
  Envelope reply;
  reply.kind = FrameKind::kReply;
  reply.call_id = CallId(1);
  reply.status = Busy("one runs \xff").WithOutcome(Outcome::kNotExecuted);
  const Envelope got = DecodeEnvelope(EncodeEnvelope(reply)).value();
  EXPECT_EQ(got.status, Busy("one runs ?"));  // what is not UTF-8 does not cost the reply
  EXPECT_EQ(got.status.outcome(), Outcome::kNotExecuted);
}

TEST(FrameTest, UnknownKeysAreIgnoredUnlessTheyMustBeUnderstood) {
  Value map = MapOf(FullCall());
  map.Put("colour", "blue");
  EXPECT_TRUE(DecodeEnvelope(Encode(map)).ok());
  for (auto& [key, value] : *map.AsMap()) {
    if (key == "must") value = ValueArray{Value("colour")};
  }
  Envelope partial;
  const Status status = DecodeEnvelope(Encode(map), &partial).status();
  EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
  EXPECT_NE(status.message().find("colour"), std::string::npos);
  EXPECT_EQ(partial.call_id, CallId(3));
}

TEST(FrameTest, WrongTypesAndMissingFieldsAreNamed) {
  for (const auto& [key, bad] : ValueMap{{"v", Value("1")},
                                         {"k", Value(3)},
                                         {"from", Value("me")},
                                         {"to", ValueArray{Value(1), Value(2)}},
                                         {"id", Value(-1)},
                                         {"m", Value(std::string(limits::kNameBytes + 1, 'm'))},
                                         {"ttl", Value(1e9)},
                                         {"c", Value(1)},
                                         {"must", Value(true)}}) {
    Value map = MapOf(FullCall());
    for (auto& entry : *map.AsMap()) {
      if (entry.first == key) entry.second = bad;
    }
    const StatusOr<Envelope> decoded = DecodeEnvelope(Encode(map));
    if (key == "ttl") continue;  // whole floats may travel as integers
    EXPECT_EQ(decoded.status().code(), StatusCode::kInvalidArgument) << key;
    EXPECT_NE(decoded.status().message().find("\"" + key + "\""), std::string::npos)
        << decoded.status();
  }
  EXPECT_FALSE(DecodeEnvelope("").ok());
  EXPECT_FALSE(DecodeEnvelope(Encode(Value(1))).ok());
}

TEST(FrameTest, OtherMajorVersionsAreToldApart) {
  Envelope hello;
  hello.kind = FrameKind::kHello;
  hello.major = 9;
  Envelope partial;
  EXPECT_EQ(DecodeEnvelope(EncodeEnvelope(hello), &partial).status().code(),
            StatusCode::kUnimplemented);
  EXPECT_EQ(partial.major, 9u);
  hello.major = kProtocolMajor;
  hello.minor = 99;
  EXPECT_TRUE(DecodeEnvelope(EncodeEnvelope(hello)).ok());
}

TEST(FrameTest, HelloSurvivesAndNeedsItsNames) {
  Hello hello;
  hello.cluster = "c";
  hello.node = "worker/0";
  hello.incarnation = Incarnation(5);
  hello.beats = true;
  hello.actor = "coordinator";
  hello.earlier = Incarnation(4);
  const Hello got = DecodeHello(EncodeHello(hello)).value();
  EXPECT_EQ(got.node, "worker/0");
  EXPECT_EQ(got.incarnation, Incarnation(5));
  EXPECT_TRUE(got.beats);
  EXPECT_EQ(got.actor, "coordinator");
  EXPECT_EQ(got.earlier, Incarnation(4));
  hello.node = "";
  EXPECT_FALSE(DecodeHello(EncodeHello(hello)).ok());
  EXPECT_FALSE(DecodeHello(Value(3)).ok());
}

}  // namespace
}  // namespace packcast
