#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "protocol/digest.h"
#include "protocol/ids.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "protocol/value.h"

// Structs to Values and back. A struct lists its fields once:
//
//   template <class V> void Fields(V& v) { v("term", term); v("label", label); }
//
// and both directions follow. Missing keys keep the member's default (so fields can be added),
// unknown keys are ignored unless the map's "must_understand" names them.
namespace packcast::fields {

struct ProbeVisitor {
  template <class T>
  void operator()(std::string_view, T&) {}
};
template <class T>
concept HasFields = requires(T& t, ProbeVisitor& v) {
  t.Fields(v);
};

// Enums convert when they have a validity bound: `constexpr uint64_t EnumBound(E)` found by ADL.
template <class T>
concept BoundedEnum = std::is_enum_v<T> && requires(T t) {
  { EnumBound(t) } -> std::convertible_to<uint64_t>;
};

template <class T>
struct Convert;

// How many fields there are, so that a map of them is allocated once.
struct CountVisitor {
  size_t fields = 0;
  template <class T>
  void operator()(std::string_view, T&) {
    ++fields;
  }
};

struct WriteVisitor {
  ValueMap map;
  template <class T>
  void operator()(std::string_view name, T& field) {
    if constexpr (requires { field.has_value(); }) {
      if (field.has_value())
        map.emplace_back(name, Convert<std::decay_t<decltype(*field)>>::To(*field));
    } else {
      map.emplace_back(name, Convert<T>::To(field));
    }
  }
};

struct ReadVisitor {
  const Value& map;
  Status status;
  std::vector<std::string_view> known;
  template <class T>
  void operator()(std::string_view name, T& field) {
    known.push_back(name);
    const Value* value = map.Find(name);
    if (value == nullptr || !status.ok()) return;
    if constexpr (requires { field.has_value(); }) {
      using Inner = std::decay_t<decltype(*field)>;
      if (value->is_nil()) return;
      Inner inner{};
      status = Convert<Inner>::From(*value, &inner).WithContext(name);
      field = std::move(inner);
    } else {
      status = Convert<T>::From(*value, &field).WithContext(name);
    }
  }
};

// kUnimplemented when "must_understand" names a field that is not in `known`.
Status CheckUnderstood(const Value& map, const std::vector<std::string_view>& known);
Status WrongKind(std::string_view expected, const Value& got);
// "an unsigned integer of 32 bits".
std::string IntegerName(bool is_signed, size_t bytes);

template <class T>
requires std::integral<T>
struct Convert<T> {
  static Value To(T v) {
    if constexpr (std::same_as<T, bool>) {
      return v;
    } else if constexpr (std::signed_integral<T>) {
      return int64_t{v};
    } else {
      return uint64_t{v};
    }
  }
  static Status From(const Value& value, T* out) {
    if constexpr (std::same_as<T, bool>) {
      if (const bool* b = value.AsBool()) return *out = *b, OkStatus();
      return WrongKind("a bool", value);
    } else if constexpr (std::signed_integral<T>) {
      int64_t i = 0;
      if (!value.GetInt(&i) || i < std::numeric_limits<T>::min() ||
          i > std::numeric_limits<T>::max())
        return WrongKind(IntegerName(true, sizeof(T)), value);
      return *out = static_cast<T>(i), OkStatus();
    } else {
      uint64_t u = 0;
      if (!value.GetUint(&u) || u > std::numeric_limits<T>::max())
        return WrongKind(IntegerName(false, sizeof(T)), value);
      return *out = static_cast<T>(u), OkStatus();
    }
  }
};

template <>
struct Convert<double> {
  static Value To(double v) { return v; }
  static Status From(const Value& value, double* out) {
    return value.GetDouble(out) ? OkStatus() : WrongKind("a number", value);
  }
};

template <>
struct Convert<std::string> {
  static Value To(const std::string& v) { return v; }
  static Status From(const Value& value, std::string* out) {
    const std::string* s = value.AsString();
    if (s == nullptr) return WrongKind("a string", value);
    return *out = *s, OkStatus();
  }
};

template <>
struct Convert<Bytes> {
  static Value To(const Bytes& v) { return v; }
  static Status From(const Value& value, Bytes* out) {
    std::span<const std::byte> bytes;
    if (!value.GetBytes(&bytes)) return WrongKind("bytes", value);
    return out->assign(bytes.begin(), bytes.end()), OkStatus();
  }
};

template <>
struct Convert<ByteRange> {
  static Value To(const ByteRange& v) { return v; }
  static Status From(const Value& value, ByteRange* out) {
    if (const ByteRange* range = value.AsByteRange()) return *out = *range, OkStatus();
    const Bytes* own = value.AsBytes();
    if (own == nullptr) return WrongKind("bytes", value);
    return *out = *own, OkStatus();
  }
};

template <>
struct Convert<Value> {
  static Value To(const Value& v) { return v; }
  static Status From(const Value& value, Value* out) { return *out = value, OkStatus(); }
};

template <>
struct Convert<Digest> {
  static Value To(const Digest& v) { return ToHex(v); }
  static Status From(const Value& value, Digest* out);
};

template <>
struct Convert<Duration> {  // milliseconds
  static Value To(Duration v) { return ToMilliseconds(v); }
  static Status From(const Value& value, Duration* out);
};

template <>
struct Convert<Term> {  // [counter, nonce]
  static Value To(const Term& v) { return ValueArray{v.counter, v.nonce}; }
  static Status From(const Value& value, Term* out);
};

template <>
struct Convert<Version> {  // [counter, nonce, epoch]
  static Value To(const Version& v) {
    return ValueArray{v.term.counter, v.term.nonce, v.epoch.value};
  }
  static Status From(const Value& value, Version* out);
};

template <class Tag>
struct Convert<StrongId<Tag>> {
  static Value To(const StrongId<Tag>& v) { return v.value; }
  static Status From(const Value& value, StrongId<Tag>* out) {
    return value.GetUint(&out->value) ? OkStatus() : WrongKind("an id", value);
  }
};

template <BoundedEnum T>
struct Convert<T> {
  static Value To(T v) { return static_cast<uint64_t>(v); }
  static Status From(const Value& value, T* out) {
    uint64_t u = 0;
    if (!value.GetUint(&u) || u >= EnumBound(T{})) return WrongKind("a known code", value);
    return *out = static_cast<T>(u), OkStatus();
  }
};

template <class T>
struct Convert<std::vector<T>> {
  static Value To(const std::vector<T>& v) {
    ValueArray array;
    array.reserve(v.size());
    for (const T& item : v) array.push_back(Convert<T>::To(item));
    return array;
  }
  static Status From(const Value& value, std::vector<T>* out) {
    const ValueArray* array = value.AsArray();
    if (array == nullptr) return WrongKind("an array", value);
    out->clear();
    out->reserve(array->size());
    for (const Value& item : *array) {
      T one{};  // not in place: a vector of bool has no places
      PC_RETURN_IF_ERROR(Convert<T>::From(item, &one));
      out->push_back(std::move(one));
    }
    return OkStatus();
  }
};

template <HasFields T>
struct Convert<T> {
  static Value To(const T& v) {
    // Fields() is one template for both directions; writing leaves the struct as it is.
    T& fields = const_cast<T&>(v);
    CountVisitor count;
    fields.Fields(count);
    WriteVisitor writer;
    writer.map.reserve(count.fields);
    fields.Fields(writer);
    return std::move(writer.map);
  }
  static Status From(const Value& value, T* out) {
    if (value.AsMap() == nullptr) return WrongKind("a map", value);
    ReadVisitor reader{value, OkStatus(), {}};
    out->Fields(reader);
    PC_RETURN_IF_ERROR(reader.status);
    return CheckUnderstood(value, reader.known);
  }
};

}  // namespace packcast::fields

namespace packcast {

// The Value of anything that fields::Convert knows, and back. Errors name the field's path and
// what was got.
template <class T>
Value ToValue(const T& v) {
  return fields::Convert<T>::To(v);
}
template <class T>
StatusOr<T> FromValue(const Value& value) {
  T out{};
  PC_RETURN_IF_ERROR(fields::Convert<T>::From(value, &out));
  return out;
}

}  // namespace packcast
