#include "runtime/data/unpack_table.h"

#include <algorithm>
#include <string>

#include "runtime/data/region_io.h"

namespace packcast {

class UnpackTable::Builder {
 public:
  Builder(const Manifest& manifest, const Plan& plan, const TargetMap& targets, bool hash)
      : manifest_(manifest), plan_(plan), hash_(hash) {
    for (uint32_t row = 0; row < manifest.size(); ++row) {
      targets_.push_back(&targets.Find(row, manifest.rows()[row].name));
      if (targets_.back()->kind == RowTarget::Kind::kCallback) table_.callback_rows_.push_back(row);
    }
    table_.memory_.resize(plan.regions.size());
  }

  StatusOr<UnpackTable> Build() {
    for (const Step& step : plan_.steps) {
      table_.begins_.push_back(table_.pieces_.size());
      for (uint32_t k = step.region_begin; k < step.region_end; ++k) {
        if (step.direct) {
          PC_RETURN_IF_ERROR(AddDirect(k));
        } else {
          AddPacked(plan_.regions[k]);
        }
      }
    }
    table_.begins_.push_back(table_.pieces_.size());
    return std::move(table_);
  }

 private:
  CopyPiece PieceAt(const Region& region, uint64_t at) const {
    CopyPiece piece;
    piece.row = region.row;
    piece.row_offset = region.offset + at;
    piece.bytes = static_cast<uint32_t>(std::min<uint64_t>(kPieceBytes, region.bytes - at));
    piece.hashed = hash_ ? 1 : 0;
    return piece;
  }
  void Add(const CopyPiece& piece, uint64_t offset) {
    table_.pieces_.push_back(piece);
    table_.offsets_.push_back(offset);
  }

  // It arrives where it belongs: there is only something to hash.
  Status AddDirect(uint32_t index) {
    const Region& region = plan_.regions[index];
    const Row& row = manifest_.rows()[region.row];
    const RowTarget& target = *targets_[region.row];
    PC_RETURN_IF_ERROR(CheckTarget(row, manifest_.row_bytes(region.row), target, true));
    if (target.pieces.size() != 1) {
      return FailedPrecondition("tensor \"" + row.name + "\" travels direct, but " +
                                std::to_string(target.pieces.size()) +
                                " pieces of memory are its target: give it one, or offer no "
                                "direct rows (direct_bytes_min = 0)");
    }
    std::byte* const memory = target.pieces.front().data + region.offset;
    table_.memory_[index] = memory;
    for (uint64_t at = 0; hash_ && at < region.bytes; at += kPieceBytes) {
      CopyPiece piece = PieceAt(region, at);
      piece.from = memory + at;
      Add(piece, 0);
    }
    return OkStatus();
  }

  // One checksum for each piece, however many places its bytes go to.
  void AddPacked(const Region& region) {
    const RowTarget& target = *targets_[region.row];
    for (uint64_t at = 0; at < region.bytes; at += kPieceBytes) {
      const CopyPiece piece = PieceAt(region, at);
      const uint64_t offset = region.buffer_offset + at;
      std::vector<CopyPiece> parts;
      if (target.kind == RowTarget::Kind::kMemory) {
        ForEachPiece(target, piece.row_offset, piece.bytes,
                     [&](uint64_t row_offset, std::byte* to, uint64_t bytes) {
                       parts.push_back(piece);
                       parts.back().to = to;
                       parts.back().row_offset = row_offset;
                       parts.back().bytes = static_cast<uint32_t>(bytes);
                     });
      }
      if (parts.size() == 1 && parts.front().bytes == piece.bytes) {
        Add(parts.front(), offset);
        continue;
      }
      if (hash_) Add(piece, offset);
      for (CopyPiece& part : parts) {
        part.hashed = 0;
        Add(part, offset + (part.row_offset - piece.row_offset));
      }
    }
  }

  const Manifest& manifest_;
  const Plan& plan_;
  const bool hash_;
  std::vector<const RowTarget*> targets_;
  UnpackTable table_;
};

StatusOr<UnpackTable> UnpackTable::Make(const Manifest& manifest, const Plan& plan,
                                        const TargetMap& targets, bool hash) {
  return Builder(manifest, plan, targets, hash).Build();
}

}  // namespace packcast
