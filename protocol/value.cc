#include "protocol/value.h"

#include <algorithm>
#include <limits>

#include "protocol/text.h"

namespace packcast {

bool Value::GetInt(int64_t* out) const {
  if (const auto* i = std::get_if<int64_t>(&rep_)) {
    *out = *i;
    return true;
  }
  const auto* u = std::get_if<uint64_t>(&rep_);
  if (u == nullptr || *u > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return false;
  *out = static_cast<int64_t>(*u);
  return true;
}

bool Value::GetUint(uint64_t* out) const {
  if (const auto* u = std::get_if<uint64_t>(&rep_)) {
    *out = *u;
    return true;
  }
  const auto* i = std::get_if<int64_t>(&rep_);
  if (i == nullptr || *i < 0) return false;
  *out = static_cast<uint64_t>(*i);
  return true;
}

bool Value::GetDouble(double* out) const {
  if (const auto* d = std::get_if<double>(&rep_)) {
    *out = *d;
    return true;
  }
  int64_t i = 0;
  uint64_t u = 0;
  if (GetInt(&i)) {
    *out = static_cast<double>(i);
    return true;
  }
  if (!GetUint(&u)) return false;
  *out = static_cast<double>(u);
  return true;
}

bool Value::GetBytes(std::span<const std::byte>* out) const {
  if (const Bytes* own = AsBytes()) return *out = *own, true;
  const ByteRange* range = AsByteRange();
  if (range == nullptr) return false;
  return *out = range->bytes(), true;
}

const Value* Value::Find(std::string_view key) const {
  const ValueMap* map = AsMap();
  if (map == nullptr) return nullptr;
  for (const auto& [name, value] : *map) {
    if (name == key) return &value;
  }
  return nullptr;
}

void Value::Put(std::string key, Value value) {
  if (is_nil()) rep_ = ValueMap{};
  std::get<ValueMap>(rep_).emplace_back(std::move(key), std::move(value));
}

std::string_view Value::KindName() const {
  static constexpr std::string_view kNames[] = {"nil",    "bool",  "integer", "integer", "float",
                                                "string", "bytes", "bytes",   "array",   "map"};
  return kNames[rep_.index()];
}

namespace {

void Append(const Value& value, size_t max_chars, std::string* out) {
  if (out->size() > max_chars) return;
  int64_t i = 0;
  uint64_t u = 0;
  std::span<const std::byte> bytes;
  if (value.is_nil()) {
    *out += "null";
  } else if (const bool* b = value.AsBool()) {
    *out += *b ? "true" : "false";
  } else if (const double* d = value.AsDouble()) {
    *out += std::to_string(*d);
  } else if (value.GetInt(&i)) {
    *out += std::to_string(i);
  } else if (value.GetUint(&u)) {
    *out += std::to_string(u);
  } else if (const std::string* s = value.AsString()) {
    *out += '"' + *s + '"';
  } else if (value.GetBytes(&bytes)) {
    *out += "<" + std::to_string(bytes.size()) + " bytes>";
  } else if (const ValueArray* array = value.AsArray()) {
    *out += '[';
    for (size_t k = 0; k < array->size() && out->size() <= max_chars; ++k) {
      if (k > 0) *out += ", ";
      Append((*array)[k], max_chars, out);
    }
    *out += ']';
  } else if (const ValueMap* map = value.AsMap()) {
    *out += '{';
    for (size_t k = 0; k < map->size() && out->size() <= max_chars; ++k) {
      if (k > 0) *out += ", ";
      *out += (*map)[k].first + ": ";
      Append((*map)[k].second, max_chars, out);
    }
    *out += '}';
  }
}

}  // namespace

std::string Value::ToString(size_t max_chars) const {
  std::string out;
  Append(*this, max_chars, &out);
  if (out.size() > max_chars) {
    out.resize(CutText(out, max_chars).size());
    out += "...";
  }
  return out;
}

bool operator==(const Value& a, const Value& b) {
  int64_t ai = 0, bi = 0;
  uint64_t au = 0, bu = 0;
  if (a.GetInt(&ai)) return b.GetInt(&bi) && ai == bi;
  if (a.GetUint(&au)) return b.GetUint(&bu) && au == bu;
  std::span<const std::byte> a_bytes, b_bytes;
  if (a.GetBytes(&a_bytes)) return b.GetBytes(&b_bytes) && std::ranges::equal(a_bytes, b_bytes);
  return a.rep_ == b.rep_;
}

}  // namespace packcast
