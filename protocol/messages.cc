#include "protocol/messages.h"

#include "protocol/codec.h"
#include "protocol/fields.h"

namespace packcast {
namespace {

template <class Variant, size_t I = 0>
StatusOr<Variant> DecodeAlternative(std::string_view name, const Value& body) {
  if constexpr (I == std::variant_size_v<Variant>) {
    return Unimplemented("unknown message \"" + std::string(name) + "\"");
  } else {
    using T = std::variant_alternative_t<I, Variant>;
    if (name != T::kName) return DecodeAlternative<Variant, I + 1>(name, body);
    StatusOr<T> message = FromValue<T>(body);
    if (!message.ok()) return message.status().WithContext(name);
    return Variant(std::move(message).value());
  }
}

template <class Variant>
std::string_view NameOf(const Variant& message) {
  return std::visit([](const auto& m) { return std::decay_t<decltype(m)>::kName; }, message);
}

template <class Variant>
Value BodyOf(const Variant& message) {
  return std::visit([](const auto& m) { return ToValue(m); }, message);
}

template <class Variant, size_t... I>
bool HasName(std::string_view name, std::index_sequence<I...>) {
  return ((name == std::variant_alternative_t<I, Variant>::kName) || ...);
}

}  // namespace

bool IsMemberMessage(std::string_view name) {
  return HasName<MemberMessage>(name,
                                std::make_index_sequence<std::variant_size_v<MemberMessage>>());
}

std::string_view MessageName(const MemberMessage& message) { return NameOf(message); }
std::string_view MessageName(const CoordinatorMessage& message) { return NameOf(message); }
Value MessageBody(const MemberMessage& message) { return BodyOf(message); }
Value MessageBody(const CoordinatorMessage& message) { return BodyOf(message); }

StatusOr<MemberMessage> DecodeMemberMessage(std::string_view name, const Value& body) {
  return DecodeAlternative<MemberMessage>(name, body);
}

StatusOr<CoordinatorMessage> DecodeCoordinatorMessage(std::string_view name, const Value& body) {
  return DecodeAlternative<CoordinatorMessage>(name, body);
}

Digest ContractDigest(const Contract& contract) { return HashBytes(Encode(ToValue(contract))); }
Value OfferToValue(const Offer& offer) { return ToValue(offer); }

}  // namespace packcast
