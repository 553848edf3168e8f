#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "protocol/digest.h"
#include "protocol/dtype.h"
#include "protocol/status.h"
#include "protocol/value.h"

namespace packcast {

// One tensor as it travels: its type on the wire may differ from the trainer's own (a transform
// converts while packing).
struct Row {
  std::string name;
  Dtype dtype = Dtype::kU8;
  std::vector<int64_t> shape;          // empty: 0-d, one element
  std::string encoding;                // "" is plain bytes; others are reserved
  uint32_t group = 0;                  // rows of one group are offered and installed together
  std::vector<std::string> auxiliary;  // names of rows that belong to it (scales); reserved

  friend bool operator==(const Row&, const Row&) = default;
};

// Elements and bytes of a row. Errors: a negative extent, more than limits::kTensorRank
// dimensions, bits that do not fill whole bytes, or more than limits::kModelBytes.
StatusOr<uint64_t> RowElements(const Row& row);
StatusOr<uint64_t> RowBytes(const Row& row);

// "[128, 64]".
std::string ShapeToString(const std::vector<int64_t>& shape);

// The ordered rows of a model, validated, with their sizes and digest. Immutable, so it may be
// shared between threads.
class Manifest {
 public:
  // Errors (kInvalidArgument) name the row: empty, overlong or duplicate name, a name that is
  // not UTF-8, bad shape, unknown encoding, more than limits::kManifestRows rows or
  // limits::kModelBytes bytes.
  static StatusOr<Manifest> Make(std::vector<Row> rows);
  Manifest() : Manifest(std::vector<Row>{}, {}, 0) {}

  const std::vector<Row>& rows() const { return *rows_; }
  size_t size() const { return rows_->size(); }
  uint64_t row_bytes(size_t row) const { return (*bytes_)[row]; }
  uint64_t total_bytes() const { return total_bytes_; }
  // XXH3-128 of the canonical encoding: the msgpack array of all rows.
  const Digest& digest() const { return digest_; }

 private:
  Manifest(std::vector<Row> rows, std::vector<uint64_t> bytes, uint64_t total);
  // Shared by copies: a source gives one away for every sync, and it may have 20,000 rows.
  std::shared_ptr<const std::vector<Row>> rows_;
  std::shared_ptr<const std::vector<uint64_t>> bytes_;
  uint64_t total_bytes_ = 0;
  Digest digest_;
};

// A row on the wire: [name, dtype, shape, encoding, group, auxiliary], append only.
Value RowToValue(const Row& row);
StatusOr<Row> RowFromValue(const Value& value);

}  // namespace packcast
