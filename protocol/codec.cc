#include "protocol/codec.h"

// The only translation unit that sees msgpack: its exceptions and its unbounded defaults
// (../docs/protocol.md, "Limits") stop here.
#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include <msgpack.hpp>

#include "protocol/text.h"

namespace packcast {
namespace {

using Packer = msgpack::packer<msgpack::sbuffer>;

// packer::pack_double turns whole numbers into integers; a float stays a float64 here.
void PackDouble(double value, msgpack::sbuffer* out) {
  const uint64_t bits = std::bit_cast<uint64_t>(value);
  char bytes[9] = {static_cast<char>(0xcb)};
  for (int k = 0; k < 8; ++k) bytes[1 + k] = static_cast<char>(bits >> (56 - 8 * k));
  out->write(bytes, sizeof bytes);
}

// Takes a byte range in that travels apart: a long one, as long as there is room.
bool SetApart(const Value& value, ApartRanges* apart) {
  const ByteRange* range = value.AsByteRange();
  if (range == nullptr || range->size() < limits::kApartBytes) return false;
  if (range->size() > limits::kControlFrameBytes || apart->size() == limits::kApartRanges) {
    return false;
  }
  size_t bytes = range->size();
  for (const ByteRange& other : *apart) bytes += other.size();
  if (bytes > limits::kApartTotalBytes) return false;
  apart->push_back(*range);
  return true;
}

void PackReference(size_t range, Packer* packer) {
  const char index = static_cast<char>(range);
  packer->pack_ext(sizeof index, kRangeExt);
  packer->pack_ext_body(&index, sizeof index);
}

// `apart` is null where nothing may travel apart.
void Pack(const Value& value, Packer* packer, msgpack::sbuffer* out, ApartRanges* apart) {
  std::span<const std::byte> bytes;
  int64_t i = 0;
  uint64_t u = 0;
  if (value.is_nil()) {
    packer->pack_nil();
  } else if (const bool* b = value.AsBool()) {
    *b ? packer->pack_true() : packer->pack_false();
  } else if (const double* d = value.AsDouble()) {
    PackDouble(*d, out);
  } else if (value.GetUint(&u)) {
    packer->pack_uint64(u);
  } else if (value.GetInt(&i)) {
    packer->pack_int64(i);
  } else if (const std::string* s = value.AsString()) {
    packer->pack_str(static_cast<uint32_t>(s->size()));
    packer->pack_str_body(s->data(), static_cast<uint32_t>(s->size()));
  } else if (apart != nullptr && SetApart(value, apart)) {
    PackReference(apart->size() - 1, packer);
  } else if (value.GetBytes(&bytes)) {
    packer->pack_bin(static_cast<uint32_t>(bytes.size()));
    packer->pack_bin_body(reinterpret_cast<const char*>(bytes.data()),
                          static_cast<uint32_t>(bytes.size()));
  } else if (const ValueArray* array = value.AsArray()) {
    packer->pack_array(static_cast<uint32_t>(array->size()));
    for (const Value& item : *array) Pack(item, packer, out, apart);
  } else if (const ValueMap* map = value.AsMap()) {
    packer->pack_map(static_cast<uint32_t>(map->size()));
    for (const auto& [key, item] : *map) {
      packer->pack_str(static_cast<uint32_t>(key.size()));
      packer->pack_str_body(key.data(), static_cast<uint32_t>(key.size()));
      Pack(item, packer, out, apart);
    }
  }
}

// Builds the Value in one pass over the bytes, and looks at every bound before it allocates: what
// an array or map claims to hold is added up, and each item takes a byte at least.
class ValueBuilder : public msgpack::null_visitor {
 public:
  ValueBuilder(std::string_view bytes, ApartRanges apart, const DecodeLimits& limits)
      : limits_(limits), bytes_(bytes.size()), apart_(std::move(apart)) {}

  StatusOr<Value> Take() {
    if (!error_.ok()) return error_;
    if (taken_ == apart_.size()) return std::move(root_);
    return InvalidArgument(std::to_string(apart_.size()) + " byte ranges came with a value that " +
                           "refers to " + std::to_string(taken_));
  }
  bool failed() const { return !error_.ok(); }

  bool visit_nil() { return Put(Value()); }
  bool visit_boolean(bool v) { return Put(v); }
  bool visit_positive_integer(uint64_t v) { return Put(v); }
  bool visit_negative_integer(int64_t v) { return Put(v); }
  bool visit_float32(float v) { return Put(static_cast<double>(v)); }
  bool visit_float64(double v) { return Put(v); }
  bool visit_str(const char* text, uint32_t size) {
    if (size > limits_.string_bytes) return Exceeds("a string", size, limits_.string_bytes);
    const std::string_view view(text, size);
    const bool is_key = is_key_;
    if (!IsUtf8(view)) return Fail(is_key ? "a map key is not UTF-8" : "a string is not UTF-8");
    if (!is_key) return Put(Value(view));
    open_.back().entries.emplace_back(view, Value());
    is_key_ = false;
    return true;
  }
  bool visit_bin(const char* data, uint32_t size) {
    if (size > limits_.bytes_bytes) return Exceeds("bytes", size, limits_.bytes_bytes);
    Bytes copy(size);
    if (size > 0) std::memcpy(copy.data(), data, size);
    return Put(std::move(copy));
  }
  // `data` begins with the type.
  bool visit_ext(const char* data, uint32_t size) {
    if (size != 2 || data[0] != kRangeExt) return Fail("an ext value that is no byte range");
    const size_t index = static_cast<unsigned char>(data[1]);
    if (index != taken_) return Fail("a byte range is not referred to in its turn");
    if (index >= apart_.size()) return Fail("a byte range is referred to that did not come");
    return Put(std::move(apart_[taken_++]));
  }

  bool start_array(uint32_t size) {
    if (!Enter(size)) return false;
    open_.emplace_back().is_map = false;
    open_.back().items.reserve(size);
    return true;
  }
  bool end_array() { return Leave(Value(std::move(open_.back().items))); }
  bool start_map(uint32_t size) {
    if (!Enter(size)) return false;
    open_.emplace_back().is_map = true;
    open_.back().entries.reserve(size);
    return true;
  }
  bool start_map_key() {
    is_key_ = true;
    return true;
  }
  bool end_map_key() { return true; }
  bool end_map() {
    const std::string* twice = FindTwice(open_.back().entries);
    if (twice != nullptr) return Fail("map key \"" + *twice + "\" comes twice");
    return Leave(Value(std::move(open_.back().entries)));
  }

 private:
  // An array or map that has not ended.
  struct Open {
    bool is_map = false;
    ValueArray items;
    ValueMap entries;
  };

  bool Fail(std::string why) {
    error_ = InvalidArgument(std::move(why));
    return false;
  }
  bool Exceeds(const char* what, size_t size, size_t limit) {
    return Fail("msgpack value exceeds a limit: " + std::string(what) + " of " +
                std::to_string(size) + " where " + std::to_string(limit) + " are allowed");
  }

  bool Put(Value value) {
    if (is_key_) return Fail("a map key is not a string");
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().is_map) {
      open_.back().entries.back().second = std::move(value);
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  bool Enter(uint32_t size) {
    if (is_key_) return Fail("a map key is not a string");
    if (size > limits_.items) return Exceeds("an array or map", size, limits_.items);
    items_ += size;
    if (items_ > limits_.total_items) {
      return Fail("msgpack value exceeds a limit: more than " +
                  std::to_string(limits_.total_items) + " items");
    }
    if (items_ > bytes_) return Fail("msgpack value is cut short");
    if (open_.size() >= limits_.depth) {
      return Fail("msgpack value exceeds a limit: more than " + std::to_string(limits_.depth) +
                  " levels");
    }
    return true;
  }

  bool Leave(Value value) {
    open_.pop_back();
    return Put(std::move(value));
  }

  // A key that comes twice, or null.
  static const std::string* FindTwice(const ValueMap& map) {
    constexpr size_t kFew = 16;  // so many are compared with each other
    if (map.size() <= kFew) {
      for (size_t k = 1; k < map.size(); ++k) {
        for (size_t j = 0; j < k; ++j) {
          if (map[j].first == map[k].first) return &map[k].first;
        }
      }
      return nullptr;
    }
    std::vector<const std::string*> keys;
    keys.reserve(map.size());
    for (const auto& [key, value] : map) keys.push_back(&key);
    const auto less = [](const std::string* a, const std::string* b) { return *a < *b; };
    std::sort(keys.begin(), keys.end(), less);
    const auto equal = [](const std::string* a, const std::string* b) { return *a == *b; };
    const auto found = std::adjacent_find(keys.begin(), keys.end(), equal);
    return found == keys.end() ? nullptr : *found;
  }

  const DecodeLimits& limits_;
  const size_t bytes_;
  ApartRanges apart_;
  size_t taken_ = 0;  // of those
  size_t items_ = 0;
  bool is_key_ = false;  // what comes next is a map's key
  std::vector<Open> open_;
  Value root_;
  Status error_;
};

// Walks a value before it is sent, by the same bounds.
class Checker {
 public:
  // `apart` as with Pack; empty.
  Checker(ApartRanges* apart, const DecodeLimits& limits) : apart_(apart), limits_(limits) {}

  Status Check(const Value& value, size_t depth) {
    if (const std::string* text = value.AsString()) return CheckText(*text);
    if (apart_ != nullptr && SetApart(value, apart_)) return OkStatus();
    std::span<const std::byte> bytes;
    if (value.GetBytes(&bytes)) {
      const bool is_range = apart_ != nullptr && value.AsByteRange() != nullptr;
      if (is_range && bytes.size() > limits_.bytes_bytes) return TooMuchApart();
      return CheckSize("bytes", bytes.size(), " bytes", limits_.bytes_bytes);
    }
    if (const ValueArray* array = value.AsArray()) {
      PC_RETURN_IF_ERROR(Enter(array->size(), depth));
      for (const Value& item : *array) PC_RETURN_IF_ERROR(Check(item, depth + 1));
    } else if (const ValueMap* map = value.AsMap()) {
      PC_RETURN_IF_ERROR(Enter(map->size(), depth));
      for (const auto& [key, item] : *map) {
        PC_RETURN_IF_ERROR(CheckText(key));
        PC_RETURN_IF_ERROR(Check(item, depth + 1));
      }
    }
    return OkStatus();
  }

 private:
  static Status CheckSize(const char* what, size_t size, const char* unit, size_t most) {
    if (size <= most) return OkStatus();
    return InvalidArgument(std::string(what) + " of " + std::to_string(size) + unit +
                           " exceeds the limit of a message to another process, " +
                           std::to_string(most));
  }
  Status CheckText(const std::string& text) const {
    PC_RETURN_IF_ERROR(CheckSize("a string", text.size(), " bytes", limits_.string_bytes));
    if (IsUtf8(text)) return OkStatus();
    return InvalidArgument("a string to another process is not UTF-8: send it as Bytes");
  }
  static Status TooMuchApart() {
    return InvalidArgument("the byte ranges of a message to another process have at most " +
                           std::to_string(limits::kControlFrameBytes) + " bytes each, and " +
                           std::to_string(limits::kApartTotalBytes) + " together");
  }
  Status Enter(size_t size, size_t depth) {
    PC_RETURN_IF_ERROR(CheckSize("nesting", depth + 1, " levels", limits_.depth));
    items_ += size;
    PC_RETURN_IF_ERROR(CheckSize("an array or map", size, " items", limits_.items));
    return CheckSize("arrays and maps together", items_, " items", limits_.total_items);
  }

  ApartRanges* const apart_;
  const DecodeLimits& limits_;
  size_t items_ = 0;
};

}  // namespace

Status CheckEncodable(const Value& value, const DecodeLimits& limits) {
  return Checker(nullptr, limits).Check(value, 0);
}
Status CheckEncodableApart(const Value& value, const DecodeLimits& limits) {
  ApartRanges apart;
  return Checker(&apart, limits).Check(value, 0);
}

std::string Encode(const Value& value, ApartRanges* apart) {
  msgpack::sbuffer buffer;
  Packer packer(buffer);
  Pack(value, &packer, &buffer, apart);
  return std::string(buffer.data(), buffer.size());
}

StatusOr<Value> Decode(std::string_view bytes, const DecodeLimits& limits) {
  return DecodeApart(bytes, ApartRanges(), limits);
}

StatusOr<Value> DecodeApart(std::string_view bytes, ApartRanges apart, const DecodeLimits& limits) {
  try {
    ValueBuilder builder(bytes, std::move(apart), limits);
    size_t offset = 0;
    const bool is_whole = msgpack::parse(bytes.data(), bytes.size(), offset, builder);
    if (builder.failed()) return builder.Take();
    if (!is_whole) return InvalidArgument("not msgpack, or cut short");
    if (offset != bytes.size()) {
      return InvalidArgument(std::to_string(bytes.size() - offset) +
                             " bytes follow the msgpack value");
    }
    return builder.Take();
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("no memory to decode a msgpack value");
  }
}

StatusOr<Value> Decode(std::span<const std::byte> bytes, const DecodeLimits& limits) {
  return Decode(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
                limits);
}

}  // namespace packcast
