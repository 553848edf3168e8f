#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "protocol/byte_range.h"
#include "protocol/status.h"

namespace packcast {

class Value;
using ValueArray = std::vector<Value>;
// A map with string keys in the order they were put. Small maps: look-up is linear.
using ValueMap = std::vector<std::pair<std::string, Value>>;

// What msgpack can carry, as plain data: nil, bool, integers, double, string, bytes (of its own, or
// shared ones in a ByteRange), array and map with string keys. A value type; not thread-safe while
// being changed.
class Value {
 public:
  Value() = default;
  Value(bool v) : rep_(v) {}                           // NOLINT
  Value(int64_t v) : rep_(v) {}                        // NOLINT
  Value(uint64_t v) : rep_(v) {}                       // NOLINT
  Value(int v) : rep_(int64_t{v}) {}                   // NOLINT
  Value(unsigned v) : rep_(uint64_t{v}) {}             // NOLINT
  Value(double v) : rep_(v) {}                         // NOLINT
  Value(std::string v) : rep_(std::move(v)) {}         // NOLINT
  Value(std::string_view v) : rep_(std::string(v)) {}  // NOLINT
  Value(const char* v) : rep_(std::string(v)) {}       // NOLINT
  Value(Bytes v) : rep_(std::move(v)) {}               // NOLINT
  Value(ByteRange v) : rep_(std::move(v)) {}           // NOLINT
  Value(ValueArray v) : rep_(std::move(v)) {}          // NOLINT
  Value(ValueMap v) : rep_(std::move(v)) {}            // NOLINT

  bool is_nil() const { return std::holds_alternative<std::monostate>(rep_); }
  const bool* AsBool() const { return std::get_if<bool>(&rep_); }
  const double* AsDouble() const { return std::get_if<double>(&rep_); }
  const std::string* AsString() const { return std::get_if<std::string>(&rep_); }
  // Which of the two bytes are depends on their length and how they came: take GetBytes where you
  // do not know.
  const Bytes* AsBytes() const { return std::get_if<Bytes>(&rep_); }
  const ByteRange* AsByteRange() const { return std::get_if<ByteRange>(&rep_); }
  const ValueArray* AsArray() const { return std::get_if<ValueArray>(&rep_); }
  const ValueMap* AsMap() const { return std::get_if<ValueMap>(&rep_); }
  ValueArray* AsArray() { return std::get_if<ValueArray>(&rep_); }
  ValueMap* AsMap() { return std::get_if<ValueMap>(&rep_); }

  // Integers are one kind on the wire: these convert between signs when the value fits.
  bool GetInt(int64_t* out) const;
  bool GetUint(uint64_t* out) const;
  // Any number as a double.
  bool GetDouble(double* out) const;
  // Bytes of either kind; they live as long as this value is not changed.
  bool GetBytes(std::span<const std::byte>* out) const;

  // A map's entry, or null if this is no map or has no such key.
  const Value* Find(std::string_view key) const;
  // Adds an entry; this must be a map, or nil (which becomes a map).
  void Put(std::string key, Value value);

  // "nil", "integer", "map" and so on, for errors.
  std::string_view KindName() const;
  // JSON-like text, for logs and errors; long ones are cut at `max_chars` bytes.
  std::string ToString(size_t max_chars = 400) const;

  // Equal when they encode alike: 1 and 1u are equal, and so are bytes, shared or not.
  friend bool operator==(const Value& a, const Value& b);

 private:
  std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, Bytes, ByteRange,
               ValueArray, ValueMap>
      rep_;
};

}  // namespace packcast
