#include "actors/sources/row_cursor.h"

#include <algorithm>
#include <string>
#include <utility>

namespace packcast {

RowCursor::RowCursor(const Manifest* manifest, const std::vector<const std::byte*>* rows,
                     GroupsInUse in_use)
    : manifest_(manifest),
      rows_(rows),
      in_use_(std::move(in_use)),
      held_(manifest->size(), false) {}

RowCursor::~RowCursor() { *in_use_ -= std::count(held_.begin(), held_.end(), true); }

StatusOr<TensorGroup> RowCursor::Next() {
  if (stopped_) return Aborted("the walk over the weights was stopped");
  TensorGroup group;
  group.id = next_;
  if (next_ == manifest_->size()) return group;
  SourceTensor tensor;
  tensor.row = static_cast<uint32_t>(next_);
  tensor.dtype = manifest_->rows()[next_].dtype;
  tensor.data = (*rows_)[next_];
  group.tensors.push_back(std::move(tensor));
  held_[next_] = true;
  ++*in_use_;
  ++next_;
  return group;
}

void RowCursor::Release(uint64_t group) {
  if (group >= held_.size() || !held_[group]) return;
  held_[group] = false;
  --*in_use_;
}

Status RowCursor::StopAt(uint64_t group) {
  stopped_ = true;
  if (group >= manifest_->size()) {
    return InvalidArgument("cannot stop at group " + std::to_string(group) + ": there are " +
                           std::to_string(manifest_->size()));
  }
  if (group + 1 < next_) {
    return FailedPrecondition("cannot stop at group " + std::to_string(group) + ": group " +
                              std::to_string(next_ - 1) + " was entered already");
  }
  next_ = group + 1;
  return OkStatus();
}

Status CheckFullSync(const SyncRequest& request) {
  if (request.kind == SyncKind::kFull) return OkStatus();
  return Unimplemented("this source knows full syncs only, not kind " +
                       std::to_string(static_cast<int>(request.kind)));
}

}  // namespace packcast
