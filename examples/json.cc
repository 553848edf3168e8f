#include "examples/json.h"

#include <nlohmann/json.hpp>

namespace packcast::examples {
namespace {

nlohmann::ordered_json Convert(const Value& value) {
  int64_t i = 0;
  uint64_t u = 0;
  if (value.is_nil()) return nullptr;
  if (const bool* b = value.AsBool()) return *b;
  if (const double* d = value.AsDouble()) return *d;
  if (value.GetUint(&u)) return u;
  if (value.GetInt(&i)) return i;
  if (const std::string* s = value.AsString()) return *s;
  std::span<const std::byte> bytes;
  if (value.GetBytes(&bytes)) return std::to_string(bytes.size()) + " bytes";
  nlohmann::ordered_json out;
  if (const ValueArray* array = value.AsArray()) {
    out = nlohmann::ordered_json::array();
    for (const Value& item : *array) out.push_back(Convert(item));
  } else {
    out = nlohmann::ordered_json::object();
    for (const auto& [key, item] : *value.AsMap()) out[key] = Convert(item);
  }
  return out;
}

}  // namespace

std::string ToJson(const Value& value) {
  // Names come from users: what is not UTF-8 is replaced, not thrown about.
  return Convert(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

double NumberAt(const Value& map, const std::string& key, double fallback) {
  const Value* value = map.Find(key);
  double number = fallback;
  if (value != nullptr) value->GetDouble(&number);
  return number;
}

std::string TextAt(const Value& map, const std::string& key, const std::string& fallback) {
  const Value* value = map.Find(key);
  return value != nullptr && value->AsString() != nullptr ? *value->AsString() : fallback;
}

}  // namespace packcast::examples
