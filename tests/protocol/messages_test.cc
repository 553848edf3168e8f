#include "protocol/messages.h"

#include <set>
#include <string>

#include <gtest/gtest.h>

#include "protocol/codec.h"
#include "protocol/fields.h"
#include "tests/golden/samples.h"

namespace packcast {
namespace {

// Calls visit(name, body, decode) for a sample of every message; decode(body) gives the body again
// after a decoding.
template <class Visit>
void ForEachMessage(Visit visit) {
  const auto member = [](std::string_view name, const Value& body) -> StatusOr<Value> {
    PC_ASSIGN_OR_RETURN(const MemberMessage message, DecodeMemberMessage(name, body));
    return MessageBody(message);
  };
  const auto coordinator = [](std::string_view name, const Value& body) -> StatusOr<Value> {
    PC_ASSIGN_OR_RETURN(const CoordinatorMessage message, DecodeCoordinatorMessage(name, body));
    return MessageBody(message);
  };
  for (const MemberMessage& message : golden::MemberSamples()) {
    SCOPED_TRACE(std::string(MessageName(message)));
    visit(MessageName(message), MessageBody(message), member);
  }
  for (const CoordinatorMessage& message : golden::CoordinatorSamples()) {
    SCOPED_TRACE(std::string(MessageName(message)));
    visit(MessageName(message), MessageBody(message), coordinator);
  }
}

Value Without(const Value& body, size_t field) {
  ValueMap map = *body.AsMap();
  map.erase(map.begin() + static_cast<ptrdiff_t>(field));
  return map;
}

Value Replaced(const Value& body, const std::string& field, const Value& with) {
  ValueMap map = *body.AsMap();
  for (auto& [name, value] : map) {
    if (name == field) value = with;
  }
  return map;
}

TEST(Messages, SamplesCoverEveryMessage) {
  ASSERT_EQ(golden::MemberSamples().size(), std::variant_size_v<MemberMessage>);
  ASSERT_EQ(golden::CoordinatorSamples().size(), std::variant_size_v<CoordinatorMessage>);
  std::set<std::string_view> names;
  for (const auto& message : golden::MemberSamples()) names.insert(MessageName(message));
  EXPECT_EQ(names.size(), std::variant_size_v<MemberMessage>);
}

TEST(Messages, GoThereAndBack) {
  ForEachMessage([](std::string_view name, const Value& body, auto decode) {
    const Value wire = Decode(Encode(body)).value();
    EXPECT_EQ(decode(name, wire).value(), body);
  });
}

TEST(Messages, MissingFieldsKeepTheirDefaults) {
  ForEachMessage([](std::string_view name, const Value& body, auto decode) {
    const StatusOr<Value> empty = decode(name, ValueMap{});
    ASSERT_TRUE(empty.ok()) << empty.status();
    for (size_t k = 0; k < body.AsMap()->size(); ++k) {
      const auto& [field, value] = (*body.AsMap())[k];
      const StatusOr<Value> got = decode(name, Without(body, k));
      ASSERT_TRUE(got.ok()) << got.status();
      const Value* kept = got->Find(field);
      const Value* standard = empty->Find(field);
      ASSERT_EQ(kept == nullptr, standard == nullptr) << field;
      if (kept != nullptr) {
        EXPECT_EQ(*kept, *standard) << field;
      }
    }
  });
  const auto expelled = DecodeCoordinatorMessage("expelled", ValueMap{}).value();
  EXPECT_TRUE(std::get<Expelled>(expelled).may_rejoin);
}

TEST(Messages, UnknownFieldsAreIgnored) {
  ForEachMessage([](std::string_view name, Value body, auto decode) {
    const Value before = body;
    body.Put("from_the_future", ValueArray{1, "x"});
    body.Put("must_understand", ValueArray{"model", "key", "reason"});
    const StatusOr<Value> got = decode(name, Replaced(body, "must_understand", ValueArray{}));
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(*got, before);
  });
}

TEST(Messages, UnknownFieldsThatMustBeUnderstoodAreRefused) {
  ForEachMessage([](std::string_view name, Value body, auto decode) {
    body.Put("must_understand", ValueArray{"from_the_future"});
    const Status status = decode(name, body).status();
    EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
    EXPECT_NE(status.message().find("from_the_future"), std::string::npos) << status;
  });
  Value inner = *MessageBody(MemberMessage(Refused{})).Find("status");
  inner.Put("must_understand", ValueArray{"shard"});
  EXPECT_EQ(DecodeMemberMessage("refused", ValueMap{{"status", inner}}).status().code(),
            StatusCode::kUnimplemented);
}

TEST(Messages, KnownFieldsMayBeListedAsNeeded) {
  ForEachMessage([](std::string_view name, Value body, auto decode) {
    ValueArray all;
    for (const auto& [field, value] : *body.AsMap()) all.push_back(field);
    body.Put("must_understand", all);
    EXPECT_TRUE(decode(name, body).ok());
  });
}

TEST(Messages, WrongKindsNameMessageAndField) {
  ForEachMessage([](std::string_view name, const Value& body, auto decode) {
    for (const auto& [field, value] : *body.AsMap()) {
      if (field == "report") continue;  // anything at all
      const Value wrong = value.AsString() != nullptr ? Value(7) : Value("text");
      const Status status = decode(name, Replaced(body, field, wrong)).status();
      EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << field;
      EXPECT_NE(status.message().find(std::string(name)), std::string::npos) << status;
      EXPECT_NE(status.message().find(field), std::string::npos) << status;
    }
    EXPECT_EQ(decode(name, ValueArray{}).status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(decode(name, Value()).status().code(), StatusCode::kInvalidArgument);
  });
}

TEST(Messages, ErrorsNameThePath) {
  const Value body = ValueMap{{"offer", ValueMap{{"install_modes", ValueArray{0, 2}}}}};
  const Status status = DecodeMemberMessage("join", body).status();
  EXPECT_EQ(status.message(), "join: offer: install_modes: expected a known code, got integer 2");
}

TEST(Messages, UnknownNamesAreUnimplemented) {
  EXPECT_EQ(DecodeMemberMessage("welcome", ValueMap{}).status().code(), StatusCode::kUnimplemented);
  EXPECT_EQ(DecodeCoordinatorMessage("join", ValueMap{}).status().code(),
            StatusCode::kUnimplemented);
  EXPECT_EQ(DecodeMemberMessage("", Value()).status().code(), StatusCode::kUnimplemented);
}

TEST(Messages, StatusCodesOfLaterVersionsBecomeInternal) {
  const WireStatus later{99, "what it was"};
  EXPECT_EQ(later.ToStatus(), Internal("what it was"));
  EXPECT_EQ(WireStatus::From(Stale("old")).ToStatus(), Stale("old"));
  EXPECT_TRUE(WireStatus().ToStatus().ok());
}

// An error that quotes what a file or a library said reaches the other side.
TEST(Messages, StatusesOfAnyTextArrive) {
  const Failed failed{EpochKey{}, "transfer", WireStatus::From(Internal("open caf\xe9")), ""};
  const std::string bytes = Encode(MessageBody(MemberMessage(failed)));
  const StatusOr<Value> body = Decode(bytes);
  ASSERT_TRUE(body.ok()) << body.status();
  const MemberMessage back = DecodeMemberMessage("failed", *body).value();
  EXPECT_EQ(std::get<Failed>(back).status.ToStatus(), Internal("open caf?"));
  const Status longest = Internal(std::string(limits::kStringBytes + 1, 'x'));
  EXPECT_EQ(WireStatus::From(longest).message.size(), limits::kStatusTextBytes);
  const WireStatus uncut{static_cast<int>(StatusCode::kInternal), longest.message()};
  EXPECT_EQ(uncut.ToStatus().message().size(), limits::kStatusTextBytes);
}

TEST(Messages, TermsNearTheEndAreRefused) {
  JoinCluster join{.promised = Term{limits::kTermCounter, ~uint64_t{0}}};
  EXPECT_TRUE(DecodeMemberMessage("join", ToValue(join)).ok());
  join.promised.counter = ~uint64_t{0};
  EXPECT_EQ(DecodeMemberMessage("join", ToValue(join)).status(),
            InvalidArgument("join: promised: the term's counter 18446744073709551615 exceeds "
                            "4611686018427387904"));
  join.promised = Term{};
  join.serving.term.counter = limits::kTermCounter + 1;
  const Status status = DecodeMemberMessage("join", ToValue(join)).status();
  EXPECT_NE(status.message().find("serving: the term's counter"), std::string::npos) << status;
}

TEST(Messages, ContractsHaveADigestOfTheirBytes) {
  Contract contract;
  contract.buffer_bytes = 512;
  const Digest digest = ContractDigest(contract);
  EXPECT_EQ(digest, HashBytes(Encode(ToValue(contract))));
  contract.buffer_count = 2;
  EXPECT_NE(ContractDigest(contract), digest);
}

TEST(Messages, PoliciesGoThereAndBack) {
  ContractPolicy policy;
  policy.buffer_bytes = 4096;
  policy.install = InstallMode::kInPlace;
  policy.transport = "zmq";
  policy.integrity = Integrity::kNone;
  const ContractPolicy back = FromValue<ContractPolicy>(ToValue(policy)).value();
  EXPECT_EQ(ToValue(back), ToValue(policy));
  EXPECT_FALSE(FromValue<ContractPolicy>(Value(3)).ok());
}

}  // namespace
}  // namespace packcast
