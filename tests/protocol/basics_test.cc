// ids.h, status.h, text.h and value.h: small things that everything else leans on.
#include <gtest/gtest.h>

#include "protocol/ids.h"
#include "protocol/limits.h"
#include "protocol/status.h"
#include "protocol/text.h"
#include "protocol/value.h"

namespace packcast {
namespace {

TEST(Ids, VersionsAreOrderedByTermThenEpoch) {
  const Version old{Term{1, 9}, EpochId(50)};
  const Version next{Term{2, 1}, EpochId(1)};
  EXPECT_LT(old, next);
  EXPECT_LT(next, (Version{Term{2, 1}, EpochId(2)}));
  EXPECT_TRUE(Version().IsZero());
  EXPECT_FALSE(old.IsZero());
}

TEST(Ids, HaveTextForPeople) {
  EXPECT_EQ(ToString(Version{Term{3, 12345}, EpochId(17)}), "3.17");
  EXPECT_EQ(ToString(Version()), "none");
  EXPECT_EQ(ToString(MemberId{"worker/0", Incarnation(0xabc3f2a)}), "worker/0#3f2a");
}

TEST(Status, CodesAreAppendOnly) {
  // Names in the order of their wire codes (docs/protocol.md, "Status codes").
  static constexpr std::string_view kNames[] = {"ok",
                                                "invalid argument",
                                                "not found",
                                                "already exists",
                                                "failed precondition",
                                                "resource exhausted",
                                                "deadline exceeded",
                                                "cancelled",
                                                "aborted",
                                                "unavailable",
                                                "peer died",
                                                "data loss",
                                                "unimplemented",
                                                "permission denied",
                                                "internal",
                                                "busy",
                                                "stale"};
  ASSERT_EQ(std::size(kNames), static_cast<size_t>(StatusCode::kStale) + 1);
  for (size_t k = 0; k < std::size(kNames); ++k) {
    EXPECT_EQ(StatusCodeName(static_cast<StatusCode>(k)), kNames[k]);
  }
}

TEST(Status, ContextComesBeforeTheMessage) {
  const Status status = NotFound("no such row").WithOutcome(Outcome::kExecuted);
  EXPECT_EQ(status.WithContext("bind").ToString(), "not found: bind: no such row");
  EXPECT_EQ(status.WithContext("bind").outcome(), Outcome::kExecuted);
  EXPECT_TRUE(OkStatus().WithContext("bind").ok());
}

StatusOr<int> Half(int number) {
  if (number % 2 != 0) return InvalidArgument("odd");
  return number / 2;
}

StatusOr<int> Quarter(int number) {
  PC_ASSIGN_OR_RETURN(const int half, Half(number));
  return Half(half);
}

TEST(Status, OrValueIsOneOfTheTwo) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(6).status(), InvalidArgument("odd"));
  EXPECT_EQ(StatusOr<int>(OkStatus()).status().code(), StatusCode::kInternal);
  EXPECT_DEATH((void)Quarter(6).value(), "value\\(\\) of a failed StatusOr: invalid argument: odd");
}

TEST(Value, IntegersAreOneKind) {
  EXPECT_EQ(Value(7), Value(7u));
  EXPECT_NE(Value(-1), Value(~uint64_t{0}));
  EXPECT_NE(Value(1), Value(1.0));
  int64_t i = 0;
  uint64_t u = 0;
  EXPECT_FALSE(Value(uint64_t{1} << 63).GetInt(&i));
  EXPECT_FALSE(Value(-1).GetUint(&u));
  EXPECT_TRUE(Value(INT64_MAX).GetUint(&u));
}

TEST(Value, MapsKeepTheirOrder) {
  Value map;
  map.Put("b", 1);
  map.Put("a", ValueArray{Value(), true, "x", Bytes(3)});
  EXPECT_EQ(map.ToString(), "{b: 1, a: [null, true, \"x\", <3 bytes>]}");
  EXPECT_EQ(map.Find("c"), nullptr);
  EXPECT_EQ(Value(3).Find("a"), nullptr);
}

TEST(Text, Utf8IsRecognised) {
  for (const char* good : {"", "plain", "\xc3\xa4", "\xe2\x82\xac", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(IsUtf8(good)) << good;
  }
  for (const char* bad : {"\xff", "\xc3", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80"}) {
    EXPECT_FALSE(IsUtf8(bad)) << bad;
  }
}

TEST(Text, Utf8IsRecognisedAnywhereInLongText) {
  for (size_t at = 0; at < 24; ++at) {
    std::string text(24, 'a');
    text[at] = '\x80';
    EXPECT_FALSE(IsUtf8(text)) << at;
    EXPECT_TRUE(IsUtf8(text.substr(0, at) + "\xe2\x82\xac" + text.substr(at + 1))) << at;
    EXPECT_FALSE(IsUtf8(text.substr(0, at) + "\xe2\x82")) << at;
  }
}

TEST(Text, CutsBetweenCodePoints) {
  EXPECT_EQ(CutText("abc", 3), "abc");
  EXPECT_EQ(CutText("abc", 2), "ab");
  EXPECT_EQ(CutText("a\xe2\x82\xac", 4), "a\xe2\x82\xac");
  EXPECT_EQ(CutText("a\xe2\x82\xac", 3), "a");
  EXPECT_EQ(CutText("\xf0\x9f\x98\x80", 3), "");
  EXPECT_EQ(CutText(std::string(9, '\x80'), 5).size(), 5u);  // no code point to be found
}

TEST(Text, OnTheWireItIsUtf8AndBounded) {
  EXPECT_EQ(WireText("caf\xc3\xa9"), "caf\xc3\xa9");
  EXPECT_EQ(WireText("caf\xe9 \xc3\xa9"), "caf? \xc3\xa9");
  EXPECT_EQ(WireText("\xe2\x82\xac", 2), "");
  EXPECT_EQ(WireText(std::string(100'000, 'x')).size(), limits::kStatusTextBytes);
}

TEST(Value, TextIsNotCutWithinACodePoint) {
  EXPECT_EQ(Value("\xc3\xa4\xc3\xa4").ToString(4), "\"\xc3\xa4...");
}

TEST(Value, LongTextIsCut) {
  const std::string text = Value(ValueArray(1000, Value(12345))).ToString(50);
  EXPECT_EQ(text.size(), 53u);
  EXPECT_EQ(text.substr(50), "...");
}

}  // namespace
}  // namespace packcast
