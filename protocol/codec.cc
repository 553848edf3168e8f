#include "protocol/codec.h"

// The only translation unit that sees msgpack: its exceptions and its unbounded defaults
// (../docs/protocol.md, "Limits") stop here.
#include <algorithm>
#include <bit>
#include <cstring>
#include <exception>
#include <set>

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

void Pack(const Value& value, Packer* packer, msgpack::sbuffer* out) {
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
  } else if (const Bytes* bytes = value.AsBytes()) {
    packer->pack_bin(static_cast<uint32_t>(bytes->size()));
    packer->pack_bin_body(reinterpret_cast<const char*>(bytes->data()),
                          static_cast<uint32_t>(bytes->size()));
  } else if (const ValueArray* array = value.AsArray()) {
    packer->pack_array(static_cast<uint32_t>(array->size()));
    for (const Value& item : *array) Pack(item, packer, out);
  } else if (const ValueMap* map = value.AsMap()) {
    packer->pack_map(static_cast<uint32_t>(map->size()));
    for (const auto& [key, item] : *map) {
      packer->pack_str(static_cast<uint32_t>(key.size()));
      packer->pack_str_body(key.data(), static_cast<uint32_t>(key.size()));
      Pack(item, packer, out);
    }
  }
}

Status ToString(const msgpack::object& object, std::string_view what, std::string* out) {
  if (object.type != msgpack::type::STR) {
    return InvalidArgument(std::string(what) + " is not a string");
  }
  out->assign(object.via.str.ptr, object.via.str.size);
  if (!IsUtf8(*out)) return InvalidArgument(std::string(what) + " is not UTF-8");
  return OkStatus();
}

Status Convert(const msgpack::object& object, Value* out);

Status ConvertMap(const msgpack::object_map& map, Value* out) {
  ValueMap result;
  result.reserve(map.size);
  std::set<std::string_view> seen;
  for (uint32_t k = 0; k < map.size; ++k) {
    std::string key;
    PC_RETURN_IF_ERROR(ToString(map.ptr[k].key, "a map key", &key));
    Value value;
    PC_RETURN_IF_ERROR(Convert(map.ptr[k].val, &value));
    if (!seen.insert({map.ptr[k].key.via.str.ptr, map.ptr[k].key.via.str.size}).second) {
      return InvalidArgument("map key \"" + key + "\" comes twice");
    }
    result.emplace_back(std::move(key), std::move(value));
  }
  *out = std::move(result);
  return OkStatus();
}

Status Convert(const msgpack::object& object, Value* out) {
  switch (object.type) {
    case msgpack::type::NIL: *out = Value(); return OkStatus();
    case msgpack::type::BOOLEAN: *out = object.via.boolean; return OkStatus();
    case msgpack::type::POSITIVE_INTEGER: *out = uint64_t{object.via.u64}; return OkStatus();
    case msgpack::type::NEGATIVE_INTEGER: *out = int64_t{object.via.i64}; return OkStatus();
    case msgpack::type::FLOAT32:
    case msgpack::type::FLOAT64: *out = object.via.f64; return OkStatus();
    case msgpack::type::STR: {
      std::string text;
      PC_RETURN_IF_ERROR(ToString(object, "a string", &text));
      *out = std::move(text);
      return OkStatus();
    }
    case msgpack::type::BIN: {
      Bytes bytes(object.via.bin.size);
      if (!bytes.empty()) std::memcpy(bytes.data(), object.via.bin.ptr, bytes.size());
      *out = std::move(bytes);
      return OkStatus();
    }
    case msgpack::type::ARRAY: {
      ValueArray array(object.via.array.size);
      for (uint32_t k = 0; k < object.via.array.size; ++k) {
        PC_RETURN_IF_ERROR(Convert(object.via.array.ptr[k], &array[k]));
      }
      *out = std::move(array);
      return OkStatus();
    }
    case msgpack::type::MAP: return ConvertMap(object.via.map, out);
    case msgpack::type::EXT: return InvalidArgument("ext types are not used in this protocol");
  }
  return InvalidArgument("unknown msgpack type");
}

// Adds up what all arrays and maps claim to hold. msgpack-c allocates for a claim when it meets it,
// so this looks first, and allocates nothing.
class ItemCounter : public msgpack::null_visitor {
 public:
  ItemCounter(size_t max_items, size_t max_depth) : max_items_(max_items), max_depth_(max_depth) {}
  size_t items() const { return items_; }
  bool start_array(uint32_t items) { return Enter(items); }
  bool start_map(uint32_t items) { return Enter(items); }
  bool end_array() { return Leave(); }
  bool end_map() { return Leave(); }

 private:
  bool Enter(uint32_t items) {
    items_ += items;
    return items_ <= max_items_ && ++depth_ <= max_depth_;
  }
  bool Leave() {
    --depth_;
    return true;
  }

  const size_t max_items_;
  const size_t max_depth_;
  size_t items_ = 0;
  size_t depth_ = 0;
};

// Says nothing about what is malformed: that is seen when it is unpacked.
Status CheckItems(std::string_view bytes, const DecodeLimits& limits) {
  // Each item takes a byte at least: who claims more does not bring it.
  ItemCounter counter(std::min(limits.total_items, bytes.size()), limits.depth);
  size_t offset = 0;
  (void)msgpack::parse(bytes.data(), bytes.size(), offset, counter);
  if (counter.items() > limits.total_items) {
    return InvalidArgument("msgpack value exceeds a limit: more than " +
                           std::to_string(limits.total_items) + " items");
  }
  if (counter.items() > bytes.size()) return InvalidArgument("msgpack value is cut short");
  return OkStatus();
}

}  // namespace

std::string Encode(const Value& value) {
  msgpack::sbuffer buffer;
  Packer packer(buffer);
  Pack(value, &packer, &buffer);
  return std::string(buffer.data(), buffer.size());
}

StatusOr<Value> Decode(std::string_view bytes, const DecodeLimits& limits) {
  const msgpack::unpack_limit bound(limits.items, limits.items, limits.string_bytes,
                                    limits.bytes_bytes, 0, limits.depth);
  try {
    PC_RETURN_IF_ERROR(CheckItems(bytes, limits));
    size_t offset = 0;
    bool referenced = false;
    msgpack::object_handle handle = msgpack::unpack(
        bytes.data(), bytes.size(), offset, referenced,
        [](msgpack::type::object_type, size_t, void*) { return true; }, nullptr, bound);
    if (offset != bytes.size()) {
      return InvalidArgument(std::to_string(bytes.size() - offset) +
                             " bytes follow the msgpack value");
    }
    Value value;
    PC_RETURN_IF_ERROR(Convert(handle.get(), &value));
    return value;
  } catch (const msgpack::insufficient_bytes&) {
    return InvalidArgument("msgpack value is cut short");
  } catch (const msgpack::size_overflow& e) {
    return InvalidArgument(std::string("msgpack value exceeds a limit: ") + e.what());
  } catch (const msgpack::unpack_error& e) {
    return InvalidArgument(std::string("not msgpack: ") + e.what());
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("no memory to decode a msgpack value");
  }
}

StatusOr<Value> Decode(std::span<const std::byte> bytes, const DecodeLimits& limits) {
  return Decode(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
                limits);
}

}  // namespace packcast
