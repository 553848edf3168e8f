// Every message between coordinator and members. From bytes: what decodes can be sent again and
// decodes to the same. From fields: what a struct holds arrives as it was.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "protocol/codec.h"
#include "protocol/messages.h"
#include "runtime/base/check.h"
#include "tests/fuzz/fill.h"
#include "tests/fuzz/input.h"

using namespace packcast;

namespace {

template <class Variant>
StatusOr<Variant> DecodeAs(std::string_view name, const Value& body) {
  if constexpr (std::is_same_v<Variant, MemberMessage>) {
    return DecodeMemberMessage(name, body);
  } else {
    return DecodeCoordinatorMessage(name, body);
  }
}

// Sends a message, and what arrived once more: both are the same bytes.
template <class Variant>
void CheckArrives(const Variant& message) {
  const Value body = MessageBody(message);
  const Status fits = CheckEncodable(body);
  PC_CHECK(fits.ok()) << MessageName(message) << ": " << fits;
  const std::string bytes = Encode(body);
  const StatusOr<Value> received = Decode(bytes);
  PC_CHECK(received.ok()) << MessageName(message) << ": " << received.status();
  const StatusOr<Variant> again = DecodeAs<Variant>(MessageName(message), *received);
  PC_CHECK(again.ok()) << again.status();
  PC_CHECK(again->index() == message.index());
  PC_CHECK(Encode(MessageBody(*again)) == bytes) << MessageName(message);
}

template <class Variant, size_t... I>
constexpr auto NamesOf(std::index_sequence<I...>) {
  return std::array<std::string_view, sizeof...(I)>{
      std::variant_alternative_t<I, Variant>::kName...};
}

template <class Variant>
void TryBytes(fuzz::Input* in) {
  static constexpr auto kNames =
      NamesOf<Variant>(std::make_index_sequence<std::variant_size_v<Variant>>());
  const std::string_view name = kNames[in->Below(kNames.size())];
  const StatusOr<Value> body = Decode(in->Rest());
  if (!body.ok()) return;
  const StatusOr<Variant> message = DecodeAs<Variant>(name, *body);
  if (!message.ok()) return;
  PC_CHECK(MessageName(*message) == name);
  PC_CHECK(IsMemberMessage(name) == (std::is_same_v<Variant, MemberMessage>) ||
           name == ManifestPart::kName);
  CheckArrives(*message);
}

template <class Variant, size_t I = 0>
Variant Fill(size_t index, fuzz::Filler* filler) {
  if constexpr (I + 1 < std::variant_size_v<Variant>) {
    if (index != I) return Fill<Variant, I + 1>(index, filler);
  }
  return filler->Make<std::variant_alternative_t<I, Variant>>();
}

template <class Variant>
void TryFields(fuzz::Input* in) {
  const fuzz::Pools pools;
  const size_t index = in->Below(std::variant_size_v<Variant>);
  fuzz::Filler filler(in, &pools);
  CheckArrives(Fill<Variant>(index, &filler));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  switch (in.Below(4)) {
    case 0: TryBytes<MemberMessage>(&in); break;
    case 1: TryBytes<CoordinatorMessage>(&in); break;
    case 2: TryFields<MemberMessage>(&in); break;
    case 3: TryFields<CoordinatorMessage>(&in); break;
  }
  return 0;
}
