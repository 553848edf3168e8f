#include "actors/sources/generated_source.h"

#include <cstring>
#include <exception>
#include <set>
#include <string_view>
#include <unordered_set>
#include <utility>

#include <nlohmann/json.hpp>

#include "actors/sources/safetensors.h"
#include "protocol/limits.h"

namespace packcast {
namespace {

using Json = nlohmann::json;

constexpr size_t kShapesBytes = 100'000'000;
// Object, list of rows, row, shape.
constexpr int kShapesDepth = 4;

// Untrusted JSON in ASCII, cut for a message.
std::string Show(const Json& value) {
  constexpr size_t kShown = 200;
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kShown) text = text.substr(0, kShown) + "...";
  return text;
}

// splitmix64 (Steele, Lea, Flood 2014): its step and its finaliser.
constexpr uint64_t kStep = 0x9e3779b97f4a7c15ull;

constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// Word k of a row is Mix(key + (k + 1) * kStep): a splitmix64 stream per row.
void Fill(std::span<std::byte> bytes, uint64_t seed, uint64_t row) {
  uint64_t state = Mix(Mix(seed + kStep) + row);
  std::byte* at = bytes.data();
  for (size_t words = bytes.size() / 8; words > 0; --words, at += 8) {
    const uint64_t word = Mix(state += kStep);
    std::memcpy(at, &word, 8);
  }
  if (const size_t rest = bytes.size() % 8; rest > 0) {
    const uint64_t word = Mix(state + kStep);
    std::memcpy(at, &word, rest);
  }
}

StatusOr<Json> ParseJson(const std::string& text) {
  bool too_deep = false;
  std::set<std::string> keys;
  std::optional<std::string> twice;
  // The tree stays small: what is nested too deep is discarded as it comes.
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::key && depth == 1) {
      const std::string& key = parsed.get_ref<const std::string&>();
      if (!keys.insert(key).second) twice = key;
    }
    if (depth >= kShapesDepth &&
        (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start)) {
      too_deep = true;
    }
    return !too_deep;
  };
  // The JSON parser would take a zero byte for the end and leave the rest unread.
  if (text.find('\0') != text.npos) return InvalidArgument("is not JSON: it has a zero byte");
  Json json = Json::parse(text, watch);
  if (too_deep) {
    return InvalidArgument("is nested deeper than " + std::to_string(kShapesDepth));
  }
  if (twice) return InvalidArgument("the key " + Show(*twice) + " comes twice");
  return json;
}

StatusOr<Row> ParseRow(const Json& json, size_t index) {
  const std::string where = "row " + std::to_string(index) + " ";
  if (!json.is_array() || json.size() != 3 || !json[0].is_string() || !json[1].is_string() ||
      !json[2].is_array()) {
    return InvalidArgument(where + Show(json) + " is not [name, dtype, [extents]]");
  }
  Row row;
  row.name = json[0].get<std::string>();
  const std::string thing = where + Show(json[0]) + ": ";
  const std::optional<Dtype> dtype = DtypeFromName(json[1].get_ref<const std::string&>());
  if (!dtype) return InvalidArgument(thing + "unknown dtype " + Show(json[1]));
  row.dtype = *dtype;
  for (const Json& extent : json[2]) {
    if (!extent.is_number_integer() ||
        (extent.is_number_unsigned() && extent.get<uint64_t>() > uint64_t{INT64_MAX})) {
      return InvalidArgument(thing + "bad extent " + Show(extent) + " in shape " + Show(json[2]));
    }
    row.shape.push_back(extent.get<int64_t>());
  }
  return row;
}

StatusOr<ShapesFile> ParseShapes(const std::string& text) {
  PC_ASSIGN_OR_RETURN(const Json json, ParseJson(text));
  ShapesFile file;
  const Json* list = &json;
  if (json.is_object()) {
    if (!json.contains("tensors")) return InvalidArgument("has no \"tensors\"");
    list = &json["tensors"];
    if (json.contains("model") && json["model"].is_string()) file.model = json["model"];
  }
  if (!list->is_array()) return InvalidArgument("the tensors are no list but " + Show(*list));
  if (list->size() > limits::kManifestRows) {
    return InvalidArgument("has " + std::to_string(list->size()) + " tensors; at most " +
                           std::to_string(limits::kManifestRows) + " are allowed");
  }
  for (size_t k = 0; k < list->size(); ++k) {
    PC_ASSIGN_OR_RETURN(Row row, ParseRow((*list)[k], k));
    file.rows.push_back(std::move(row));
  }
  PC_ASSIGN_OR_RETURN(const Manifest manifest, Manifest::Make(file.rows));
  file.bytes = manifest.total_bytes();
  if (json.is_object() && json.contains("bytes") && json["bytes"] != file.bytes) {
    return InvalidArgument("\"bytes\" is " + Show(json["bytes"]) + ", but the tensors have " +
                           std::to_string(file.bytes));
  }
  return file;
}

}  // namespace

StatusOr<ShapesFile> ShapesFile::Parse(const std::string& text, const std::string& path) {
  try {
    StatusOr<ShapesFile> file = ParseShapes(text);
    if (!file.ok()) return file.status().WithContext(path);
    return file;
  } catch (const std::bad_alloc&) {
    return ResourceExhausted(path + ": no memory for " + std::to_string(text.size()) +
                             " bytes of JSON");
  } catch (const std::exception& error) {
    return InvalidArgument(path + ": is not JSON: " + Show(error.what()));
  }
}

StatusOr<ShapesFile> ShapesFile::Load(const std::string& path) {
  PC_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (file.bytes().size() > kShapesBytes) {
    return InvalidArgument(path + ": has " + std::to_string(file.bytes().size()) +
                           " bytes; at most " + std::to_string(kShapesBytes) +
                           " are allowed. Is it a list of shapes?");
  }
  const char* text = reinterpret_cast<const char*>(file.bytes().data());
  return Parse(std::string(text, file.bytes().size()), path);
}

GeneratedSource::GeneratedSource(Manifest manifest, RowMemory memory)
    : manifest_(std::move(manifest)), memory_(std::move(memory)) {
  for (size_t k = 0; k < memory_.size(); ++k) rows_.push_back(memory_.row(k).data());
}

StatusOr<std::unique_ptr<GeneratedSource>> GeneratedSource::Make(std::vector<Row> rows,
                                                                 uint64_t seed) {
  for (size_t k = 0; k < rows.size(); ++k) rows[k].group = static_cast<uint32_t>(k);
  PC_ASSIGN_OR_RETURN(Manifest manifest, Manifest::Make(std::move(rows)));
  PC_ASSIGN_OR_RETURN(RowMemory memory, RowMemory::Allocate(manifest, "the generated weights"));
  for (size_t k = 0; k < memory.size(); ++k) Fill(memory.row(k), seed, k);
  return std::unique_ptr<GeneratedSource>(
      new GeneratedSource(std::move(manifest), std::move(memory)));
}

StatusOr<Manifest> GeneratedSource::Describe(const SyncRequest& request) {
  PC_RETURN_IF_ERROR(CheckFullSync(request));
  return manifest_;
}

StatusOr<std::unique_ptr<Cursor>> GeneratedSource::Open(const EpochInfo&) {
  return std::unique_ptr<Cursor>(std::make_unique<RowCursor>(&manifest_, &rows_, in_use_));
}

}  // namespace packcast
