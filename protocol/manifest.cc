#include "protocol/manifest.h"

#include <algorithm>
#include <unordered_set>

#include "protocol/codec.h"
#include "protocol/limits.h"
#include "protocol/text.h"

namespace packcast {

std::string ShapeToString(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t k = 0; k < shape.size(); ++k) {
    if (k > 0) out += ", ";
    out += std::to_string(shape[k]);
  }
  return out + "]";
}

StatusOr<uint64_t> RowElements(const Row& row) {
  if (row.shape.size() > limits::kTensorRank) {
    return InvalidArgument("tensor \"" + row.name + "\" has " + std::to_string(row.shape.size()) +
                           " dimensions; at most " + std::to_string(limits::kTensorRank) +
                           " are allowed");
  }
  const auto negative = [](int64_t extent) { return extent < 0; };
  if (std::any_of(row.shape.begin(), row.shape.end(), negative)) {
    return InvalidArgument("tensor \"" + row.name + "\" has a negative extent in " +
                           ShapeToString(row.shape));
  }
  if (std::find(row.shape.begin(), row.shape.end(), 0) != row.shape.end()) return uint64_t{0};
  uint64_t elements = 1;
  for (int64_t extent : row.shape) {
    // 16 elements a byte is beyond any type, so this bound never refuses a legal tensor.
    if (__builtin_mul_overflow(elements, static_cast<uint64_t>(extent), &elements) ||
        elements > limits::kModelBytes * 16) {
      return InvalidArgument("tensor \"" + row.name +
                             "\" is too large: " + ShapeToString(row.shape));
    }
  }
  return elements;
}

StatusOr<uint64_t> RowBytes(const Row& row) {
  PC_ASSIGN_OR_RETURN(const uint64_t elements, RowElements(row));
  const unsigned bits = static_cast<unsigned>(DtypeBits(row.dtype));
  const unsigned __int128 total = static_cast<unsigned __int128>(elements) * bits;
  if (total % 8 != 0) {
    return InvalidArgument("tensor \"" + row.name + "\" of " + std::string(DtypeName(row.dtype)) +
                           " and shape " + ShapeToString(row.shape) + " does not fill whole bytes");
  }
  if (total / 8 > limits::kModelBytes) {
    return InvalidArgument("tensor \"" + row.name + "\" is too large: " + ShapeToString(row.shape));
  }
  return static_cast<uint64_t>(total / 8);
}

Manifest::Manifest(std::vector<Row> rows, std::vector<uint64_t> bytes, uint64_t total)
    : rows_(std::make_shared<const std::vector<Row>>(std::move(rows))),
      bytes_(std::make_shared<const std::vector<uint64_t>>(std::move(bytes))),
      total_bytes_(total) {
  ValueArray all;
  all.reserve(rows_->size());
  for (const Row& row : *rows_) all.push_back(RowToValue(row));
  digest_ = HashBytes(Encode(Value(std::move(all))));
}

namespace {

// A row with another text in it would be refused by every receiver, with nothing to say which.
Status CheckText(size_t number, const Row& row) {
  const auto error = [&](const std::string& what) {
    return InvalidArgument("row " + std::to_string(number) + ", tensor \"" + WireText(row.name) +
                           "\": " + what + " is not UTF-8");
  };
  if (!IsUtf8(row.name)) return error("its name");
  for (const std::string& name : row.auxiliary) {
    if (!IsUtf8(name)) return error("auxiliary \"" + WireText(name) + "\"");
  }
  return OkStatus();
}

}  // namespace

StatusOr<Manifest> Manifest::Make(std::vector<Row> rows) {
  if (rows.size() > limits::kManifestRows) {
    return InvalidArgument("the manifest has " + std::to_string(rows.size()) + " rows; at most " +
                           std::to_string(limits::kManifestRows) + " are allowed");
  }
  std::vector<uint64_t> bytes;
  bytes.reserve(rows.size());
  std::unordered_set<std::string_view> names;
  uint64_t total = 0;
  for (size_t k = 0; k < rows.size(); ++k) {
    const Row& row = rows[k];
    if (row.name.empty() || row.name.size() > limits::kTensorNameBytes) {
      return InvalidArgument("row " + std::to_string(k) + " has a name of " +
                             std::to_string(row.name.size()) + " bytes; 1 to " +
                             std::to_string(limits::kTensorNameBytes) + " are allowed");
    }
    PC_RETURN_IF_ERROR(CheckText(k, row));
    if (!names.insert(row.name).second) {
      return InvalidArgument("tensor \"" + row.name + "\" comes twice");
    }
    if (!row.encoding.empty()) {
      return Unimplemented("tensor \"" + row.name + "\" has the unknown encoding \"" +
                           row.encoding + "\"");
    }
    PC_ASSIGN_OR_RETURN(const uint64_t row_bytes, RowBytes(row));
    total += row_bytes;
    if (total > limits::kModelBytes) {
      return InvalidArgument("the manifest exceeds 1 PiB at tensor \"" + row.name + "\"");
    }
    bytes.push_back(row_bytes);
  }
  return Manifest(std::move(rows), std::move(bytes), total);
}

Value RowToValue(const Row& row) {
  ValueArray shape(row.shape.begin(), row.shape.end());
  ValueArray auxiliary(row.auxiliary.begin(), row.auxiliary.end());
  return ValueArray{row.name,         static_cast<unsigned>(row.dtype),
                    std::move(shape), row.encoding,
                    row.group,        std::move(auxiliary)};
}

namespace {

Status RowFieldError(size_t field, const Value& got) {
  static constexpr std::string_view kFields[] = {"name",     "dtype", "shape",
                                                 "encoding", "group", "auxiliary"};
  return InvalidArgument("manifest row: bad " + std::string(kFields[field]) + ": " +
                         got.ToString(80));
}

}  // namespace

StatusOr<Row> RowFromValue(const Value& value) {
  const ValueArray* fields = value.AsArray();
  if (fields == nullptr || fields->size() < 6) {
    return InvalidArgument("a manifest row is an array of at least 6 fields, got " +
                           value.ToString(80));
  }
  const ValueArray& f = *fields;
  Row row;
  const std::string* name = f[0].AsString();
  if (name == nullptr) return RowFieldError(0, f[0]);
  row.name = *name;
  uint64_t number = 0;
  if (!f[1].GetUint(&number)) return RowFieldError(1, f[1]);
  const std::optional<Dtype> dtype = DtypeFromWire(number);
  if (!dtype) {
    return InvalidArgument("tensor \"" + row.name + "\" has the unknown dtype code " +
                           std::to_string(number));
  }
  row.dtype = *dtype;
  const ValueArray* shape = f[2].AsArray();
  if (shape == nullptr || shape->size() > limits::kTensorRank) return RowFieldError(2, f[2]);
  for (const Value& extent : *shape) {
    int64_t e = 0;
    if (!extent.GetInt(&e)) return RowFieldError(2, f[2]);
    row.shape.push_back(e);
  }
  const std::string* encoding = f[3].AsString();
  if (encoding == nullptr) return RowFieldError(3, f[3]);
  row.encoding = *encoding;
  if (!f[4].GetUint(&number) || number > UINT32_MAX) return RowFieldError(4, f[4]);
  row.group = static_cast<uint32_t>(number);
  const ValueArray* auxiliary = f[5].AsArray();
  if (auxiliary == nullptr) return RowFieldError(5, f[5]);
  for (const Value& item : *auxiliary) {
    const std::string* text = item.AsString();
    if (text == nullptr) return RowFieldError(5, f[5]);
    row.auxiliary.push_back(*text);
  }
  return row;
}

}  // namespace packcast
