#include "actors/sink_binding.h"

#include <algorithm>

namespace packcast {
namespace {

StatusOr<TargetMap> MapOf(const Manifest& manifest, const std::vector<Target>& targets) {
  std::vector<RowTarget> rows(manifest.size());
  std::vector<bool> seen(manifest.size());
  for (const Target& target : targets) {
    if (target.row >= manifest.size()) {
      return InvalidArgument("the sink bound row " + std::to_string(target.row) + " of " +
                             std::to_string(manifest.size()));
    }
    RowTarget& row = rows[target.row];
    const auto kind = target.kind == Target::Kind::kMemory     ? RowTarget::Kind::kMemory
                      : target.kind == Target::Kind::kCallback ? RowTarget::Kind::kCallback
                                                               : RowTarget::Kind::kSkip;
    if (seen[target.row] && row.kind != kind) {
      return InvalidArgument("the sink bound parts of tensor \"" +
                             manifest.rows()[target.row].name + "\" in different ways");
    }
    seen[target.row] = true;
    row.kind = kind;
    if (kind == RowTarget::Kind::kMemory && target.bytes > 0) {
      row.pieces.push_back({target.offset, target.bytes, target.memory});
    }
  }
  TargetMap map(RowTarget::Kind::kSkip);
  for (uint32_t k = 0; k < rows.size(); ++k) {
    const Row& row = manifest.rows()[k];
    if (!seen[k]) {
      return InvalidArgument("the sink left tensor \"" + row.name +
                             "\" unbound; bind it to memory, a callback or skip");
    }
    auto& pieces = rows[k].pieces;
    std::sort(pieces.begin(), pieces.end(),
              [](const auto& a, const auto& b) { return a.offset < b.offset; });
    if (rows[k].kind == RowTarget::Kind::kMemory) {
      PC_RETURN_IF_ERROR(CheckTarget(row, manifest.row_bytes(k), rows[k], true));
    }
    map.SetRow(k, std::move(rows[k]));
  }
  return map;
}

bool IsReadable(const Manifest& manifest, const TargetMap& targets) {
  for (uint32_t k = 0; k < manifest.size(); ++k) {
    const RowTarget& row = targets.Find(k, manifest.rows()[k].name);
    if (row.kind != RowTarget::Kind::kMemory) return false;
    for (size_t p = 1; p < row.pieces.size(); ++p) {
      const RowTarget::Piece& before = row.pieces[p - 1];
      if (before.data + before.bytes != row.pieces[p].data) return false;
    }
  }
  return true;
}

}  // namespace

Status SinkBinding::Bind(WeightSink* sink, const Manifest& manifest, InstallMode mode) {
  if (bound_ && digest_ == manifest.digest() && mode_ == mode) return OkStatus();
  bound_ = false;
  kept_.reset();  // a binding is good until the next one
  PC_ASSIGN_OR_RETURN(const Binding binding, sink->Bind(manifest, mode));
  if (binding.banks.empty() || (mode == InstallMode::kInPlace && binding.banks.size() != 1)) {
    return InvalidArgument("the sink gave " + std::to_string(binding.banks.size()) + " banks for " +
                           std::string(InstallModeName(mode)) +
                           " install; staged takes one or more, in-place one");
  }
  std::vector<TargetMap> banks;
  for (const std::vector<Target>& targets : binding.banks) {
    PC_ASSIGN_OR_RETURN(TargetMap map, MapOf(manifest, targets));
    banks.push_back(std::move(map));
  }
  banks_ = std::move(banks);
  bank_ = 0;
  readable_ = std::all_of(banks_.begin(), banks_.end(),
                          [&](const TargetMap& map) { return IsReadable(manifest, map); });
  digest_ = manifest.digest();
  mode_ = mode;
  bound_ = true;
  return OkStatus();
}

}  // namespace packcast
