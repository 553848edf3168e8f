#pragma once

#include <concepts>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "protocol/fields.h"
#include "protocol/status.h"
#include "protocol/value.h"
#include "runtime/actor/future.h"

// What actor methods may take and return, besides what protocol/fields.h knows (bool, integers,
// double, std::string, Bytes, ByteRange, Value, std::vector, structs with a Fields visitor): float,
// Unit, std::optional, std::map<std::string, ...> and enums.
namespace packcast::fields {

template <>
struct Convert<Unit> {
  static Value To(Unit) { return Value(); }
  static Status From(const Value&, Unit*) { return OkStatus(); }
};

template <>
struct Convert<float> {
  static Value To(float v) { return static_cast<double>(v); }
  static Status From(const Value& value, float* out) {
    double wide = 0;
    PC_RETURN_IF_ERROR(Convert<double>::From(value, &wide));
    return *out = static_cast<float>(wide), OkStatus();
  }
};

// An enum without a bound (BoundedEnum) takes any number of its underlying type.
template <class T>
requires(std::is_enum_v<T> && !BoundedEnum<T>) struct Convert<T> {
  using Number = std::underlying_type_t<T>;
  static Value To(T v) { return Convert<Number>::To(static_cast<Number>(v)); }
  static Status From(const Value& value, T* out) {
    Number number{};
    PC_RETURN_IF_ERROR(Convert<Number>::From(value, &number));
    return *out = static_cast<T>(number), OkStatus();
  }
};

template <class T>
struct Convert<std::optional<T>> {
  static Value To(const std::optional<T>& v) { return v ? Convert<T>::To(*v) : Value(); }
  static Status From(const Value& value, std::optional<T>* out) {
    if (value.is_nil()) return out->reset(), OkStatus();
    return Convert<T>::From(value, &out->emplace());
  }
};

template <class T>
struct Convert<std::map<std::string, T>> {
  static Value To(const std::map<std::string, T>& v) {
    ValueMap map;
    for (const auto& [key, item] : v) map.emplace_back(key, Convert<T>::To(item));
    return map;
  }
  static Status From(const Value& value, std::map<std::string, T>* out) {
    const ValueMap* map = value.AsMap();
    if (map == nullptr) return WrongKind("a map", value);
    out->clear();
    for (const auto& [key, item] : *map) {
      PC_RETURN_IF_ERROR(Convert<T>::From(item, &(*out)[key]).WithContext(key));
    }
    return OkStatus();
  }
};

}  // namespace packcast::fields

namespace packcast {

// What a method may take and return.
template <class T>
concept WireType = requires(const T& value, const Value& wire, T* out) {
  { fields::Convert<T>::To(value) } -> std::convertible_to<Value>;
  { fields::Convert<T>::From(wire, out) } -> std::same_as<Status>;
};

namespace internal {
template <class Tuple, size_t... kIndex>
constexpr bool AreWireTypes(std::index_sequence<kIndex...>) {
  return (WireType<std::tuple_element_t<kIndex, Tuple>> && ...);
}
template <class T>
struct ElementOf {};
template <class T>
struct ElementOf<std::vector<T>> {
  using Type = T;
  static constexpr char kOf[] = "array of ";
};
template <class T>
struct ElementOf<std::map<std::string, T>> {
  using Type = T;
  static constexpr char kOf[] = "map of ";
};
template <class T>
struct ElementOf<std::optional<T>> {
  using Type = T;
  static constexpr char kOf[] = "nil or ";
};
}  // namespace internal

// What T is on the wire, for people: "integer", "array of string", "map" (a struct), "any".
template <class T>
std::string WireTypeName() {
  if constexpr (std::is_same_v<T, bool>) return "boolean";
  if constexpr (std::is_same_v<T, Unit>) return "nil";
  if constexpr (std::is_same_v<T, Value>) return "any";
  if constexpr (std::is_same_v<T, std::string>) return "string";
  if constexpr (std::is_same_v<T, Bytes> || std::is_same_v<T, ByteRange>) return "bytes";
  if constexpr (std::is_floating_point_v<T>) return "number";
  if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) return "integer";
  if constexpr (requires { typename internal::ElementOf<T>::Type; }) {
    return internal::ElementOf<T>::kOf + WireTypeName<typename internal::ElementOf<T>::Type>();
  }
  return "map";
}

// FromValue into a place.
template <class T>
Status FromValue(const Value& in, T* out) {
  return fields::Convert<T>::From(in, out);
}

}  // namespace packcast
