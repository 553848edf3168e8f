#include "protocol/fields.h"

#include "protocol/limits.h"

namespace packcast::fields {

Status WrongKind(std::string_view expected, const Value& got) {
  return InvalidArgument("expected " + std::string(expected) + ", got " +
                         std::string(got.KindName()) + " " + got.ToString(60));
}

std::string IntegerName(bool is_signed, size_t bytes) {
  return std::string(is_signed ? "an integer of " : "an unsigned integer of ") +
         std::to_string(8 * bytes) + " bits";
}

Status CheckUnderstood(const Value& map, const std::vector<std::string_view>& known) {
  const Value* listed = map.Find("must_understand");
  if (listed == nullptr) return OkStatus();
  const ValueArray* names = listed->AsArray();
  if (names == nullptr) return WrongKind("an array", *listed).WithContext("must_understand");
  for (const Value& name : *names) {
    const std::string* text = name.AsString();
    if (text == nullptr) return WrongKind("a string", name).WithContext("must_understand");
    if (std::find(known.begin(), known.end(), *text) == known.end()) {
      return Unimplemented("the message needs field \"" + *text +
                           "\", which this version does not know; upgrade packcast here");
    }
  }
  return OkStatus();
}

Status Convert<Digest>::From(const Value& value, Digest* out) {
  const std::string* hex = value.AsString();
  if (hex == nullptr) return WrongKind("a digest of 32 hex digits", value);
  PC_ASSIGN_OR_RETURN(*out, DigestFromHex(*hex));
  return OkStatus();
}

Status Convert<Duration>::From(const Value& value, Duration* out) {
  // A year bounds every deadline, and keeps nanoseconds far from overflow.
  constexpr int64_t kMillisecondsMax = int64_t{366} * 24 * 3600 * 1000;
  int64_t ms = 0;
  if (!value.GetInt(&ms) || ms < 0 || ms > kMillisecondsMax) {
    return WrongKind("milliseconds", value);
  }
  *out = Milliseconds(ms);
  return OkStatus();
}

namespace {

Status ReadWords(const Value& value, size_t count, uint64_t* out) {
  const ValueArray* array = value.AsArray();
  if (array == nullptr || array->size() != count) {
    return WrongKind("an array of " + std::to_string(count) + " integers", value);
  }
  for (size_t k = 0; k < count; ++k) {
    if (!(*array)[k].GetUint(&out[k])) return WrongKind("an unsigned integer", (*array)[k]);
  }
  return OkStatus();
}

Status ReadTerm(uint64_t counter, uint64_t nonce, Term* out) {
  if (counter > limits::kTermCounter) {
    return InvalidArgument("the term's counter " + std::to_string(counter) + " exceeds " +
                           std::to_string(limits::kTermCounter));
  }
  *out = Term{counter, nonce};
  return OkStatus();
}

}  // namespace

Status Convert<Term>::From(const Value& value, Term* out) {
  uint64_t words[2] = {};
  PC_RETURN_IF_ERROR(ReadWords(value, 2, words));
  return ReadTerm(words[0], words[1], out);
}

Status Convert<Version>::From(const Value& value, Version* out) {
  uint64_t words[3] = {};
  PC_RETURN_IF_ERROR(ReadWords(value, 3, words));
  out->epoch = EpochId(words[2]);
  return ReadTerm(words[0], words[1], &out->term);
}

}  // namespace packcast::fields
