#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "protocol/status.h"
#include "protocol/value.h"
#include "runtime/actor/future.h"

// C++ values to wire values and back: bool, integers, floating point, enums, std::string, Bytes,
// Value, Unit, std::vector, std::optional, std::map<std::string, ...>, and structs with
//   template <class V> void Fields(V& v) { v("name", name); v("size", size); }
// which travel as maps: unknown entries are ignored, missing ones are errors unless optional.
namespace packcast {

template <class T>
Value ToValue(const T& in);
template <class T>
Status FromValue(const Value& in, T* out);

namespace internal {

template <class T>
inline constexpr bool kIsVector = false;
template <class T>
inline constexpr bool kIsVector<std::vector<T>> = true;
template <class T>
inline constexpr bool kIsOptional = false;
template <class T>
inline constexpr bool kIsOptional<std::optional<T>> = true;
template <class T>
inline constexpr bool kIsStringMap = false;
template <class T>
inline constexpr bool kIsStringMap<std::map<std::string, T>> = true;

struct AnyVisitor {
  template <class T>
  void operator()(const char*, T&) {}
};
template <class T>
concept HasFields = requires(T& t, AnyVisitor& v) {
  t.Fields(v);
};

inline Status Expected(std::string_view what, const Value& got) {
  return InvalidArgument("expected " + std::string(what) + ", got " + std::string(got.KindName()));
}

// Adds each field to a map.
struct FieldWriter {
  Value map = ValueMap{};
  template <class T>
  void operator()(const char* name, T& member) {
    if constexpr (kIsOptional<T>) {
      if (!member) return;
    }
    map.Put(name, ToValue(member));
  }
};

// Fills each field from a map; keeps the first error.
struct FieldReader {
  const Value& map;
  Status status;
  template <class T>
  void operator()(const char* name, T& member) {
    if (!status.ok()) return;
    const Value* value = map.Find(name);
    if (value == nullptr) {
      if constexpr (kIsOptional<T>) {
        member.reset();
      } else {
        status = InvalidArgument(std::string("field \"") + name + "\" is missing");
      }
      return;
    }
    status = FromValue(*value, &member).WithContext(std::string("field \"") + name + "\"");
  }
};

template <std::integral T>
Status IntegerFrom(const Value& in, T* out) {
  if constexpr (std::is_signed_v<T>) {
    int64_t wide = 0;
    if (in.GetInt(&wide) && std::in_range<T>(wide)) {
      *out = static_cast<T>(wide);
      return OkStatus();
    }
  } else {
    uint64_t wide = 0;
    if (in.GetUint(&wide) && std::in_range<T>(wide)) {
      *out = static_cast<T>(wide);
      return OkStatus();
    }
  }
  if (in.KindName() != "integer") return Expected("integer", in);
  return InvalidArgument("expected integer of " + std::to_string(8 * sizeof(T)) + " bits" +
                         (std::is_signed_v<T> ? "" : ", not negative") + ", got " +
                         in.ToString(40));
}

template <class T>
Status VectorFrom(const Value& in, std::vector<T>* out) {
  const ValueArray* array = in.AsArray();
  if (array == nullptr) return Expected("array", in);
  out->clear();
  out->reserve(array->size());
  for (size_t k = 0; k < array->size(); ++k) {
    T item{};
    PC_RETURN_IF_ERROR(FromValue((*array)[k], &item).WithContext("item " + std::to_string(k)));
    out->push_back(std::move(item));
  }
  return OkStatus();
}

template <class T>
Status StringMapFrom(const Value& in, std::map<std::string, T>* out) {
  const ValueMap* map = in.AsMap();
  if (map == nullptr) return Expected("map", in);
  out->clear();
  for (const auto& [key, value] : *map) {
    PC_RETURN_IF_ERROR(FromValue(value, &(*out)[key]).WithContext("entry \"" + key + "\""));
  }
  return OkStatus();
}

}  // namespace internal

template <class T>
Value ToValue(const T& in) {
  if constexpr (std::is_same_v<T, Value> || std::is_same_v<T, std::string> ||
                std::is_same_v<T, Bytes> || std::is_same_v<T, bool>) {
    return Value(in);
  } else if constexpr (std::is_same_v<T, Unit>) {
    return Value();
  } else if constexpr (std::is_enum_v<T>) {
    return Value(static_cast<int64_t>(in));
  } else if constexpr (std::is_integral_v<T>) {
    if constexpr (std::is_signed_v<T>) return Value(static_cast<int64_t>(in));
    return Value(static_cast<uint64_t>(in));
  } else if constexpr (std::is_floating_point_v<T>) {
    return Value(static_cast<double>(in));
  } else if constexpr (internal::kIsOptional<T>) {
    return in ? ToValue(*in) : Value();
  } else if constexpr (internal::kIsVector<T>) {
    ValueArray array;
    array.reserve(in.size());
    for (const auto& item : in) array.push_back(ToValue(item));
    return Value(std::move(array));
  } else if constexpr (internal::kIsStringMap<T>) {
    ValueMap map;
    for (const auto& [key, value] : in) map.emplace_back(key, ToValue(value));
    return Value(std::move(map));
  } else {
    static_assert(internal::HasFields<T>, "this type needs a Fields(V&) visitor to travel");
    internal::FieldWriter writer;
    const_cast<T&>(in).Fields(writer);  // a writer only reads
    return std::move(writer.map);
  }
}

template <class T>
Status FromValue(const Value& in, T* out) {
  if constexpr (std::is_same_v<T, Value>) {
    *out = in;
  } else if constexpr (std::is_same_v<T, Unit>) {
    return OkStatus();
  } else if constexpr (std::is_same_v<T, bool>) {
    if (in.AsBool() == nullptr) return internal::Expected("bool", in);
    *out = *in.AsBool();
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (in.AsString() == nullptr) return internal::Expected("string", in);
    *out = *in.AsString();
  } else if constexpr (std::is_same_v<T, Bytes>) {
    if (in.AsBytes() == nullptr) return internal::Expected("bytes", in);
    *out = *in.AsBytes();
  } else if constexpr (std::is_enum_v<T>) {
    std::underlying_type_t<T> number{};
    PC_RETURN_IF_ERROR(internal::IntegerFrom(in, &number));
    *out = static_cast<T>(number);
  } else if constexpr (std::is_integral_v<T>) {
    return internal::IntegerFrom(in, out);
  } else if constexpr (std::is_floating_point_v<T>) {
    double number = 0;
    if (!in.GetDouble(&number)) return internal::Expected("number", in);
    *out = static_cast<T>(number);
  } else if constexpr (internal::kIsOptional<T>) {
    if (in.is_nil()) {
      out->reset();
      return OkStatus();
    }
    return FromValue(in, &out->emplace());
  } else if constexpr (internal::kIsVector<T>) {
    return internal::VectorFrom(in, out);
  } else if constexpr (internal::kIsStringMap<T>) {
    return internal::StringMapFrom(in, out);
  } else {
    static_assert(internal::HasFields<T>, "this type needs a Fields(V&) visitor to travel");
    if (in.AsMap() == nullptr) return internal::Expected("map", in);
    internal::FieldReader reader{in, OkStatus()};
    out->Fields(reader);
    return reader.status;
  }
  return OkStatus();
}

}  // namespace packcast
