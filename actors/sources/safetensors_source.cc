#include "actors/sources/safetensors_source.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace packcast {

RowCursor::RowCursor(const Manifest* manifest, const std::vector<const std::byte*>* rows,
                     GroupsInUse in_use)
    : manifest_(manifest),
      rows_(rows),
      in_use_(std::move(in_use)),
      held_(manifest->size(), false) {}

RowCursor::~RowCursor() { *in_use_ -= std::count(held_.begin(), held_.end(), true); }

StatusOr<TensorGroup> RowCursor::Next(StreamRef) {
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

void RowCursor::Release(uint64_t group, EventRef) {
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

SafetensorsSource::SafetensorsSource(std::vector<SafetensorsFile> files, Manifest manifest,
                                     std::vector<const std::byte*> rows)
    : files_(std::move(files)), manifest_(std::move(manifest)), rows_(std::move(rows)) {}

StatusOr<std::unique_ptr<SafetensorsSource>> SafetensorsSource::Make(
    const std::vector<std::string>& paths) {
  if (paths.empty()) return InvalidArgument("no safetensors file is given");
  std::vector<SafetensorsFile> files;
  files.reserve(paths.size());
  std::unordered_map<std::string_view, const std::string*> owners;  // tensor -> its file
  std::vector<Row> rows;
  std::vector<const std::byte*> data;
  for (const std::string& path : paths) {
    PC_ASSIGN_OR_RETURN(SafetensorsFile opened, SafetensorsFile::Open(path));
    const SafetensorsFile& file = files.emplace_back(std::move(opened));
    for (const SafetensorsTensor& tensor : file.tensors()) {
      const auto [owner, is_new] = owners.emplace(tensor.row.name, &path);
      if (!is_new) {
        return InvalidArgument("tensor \"" + tensor.row.name +
                               "\" is in two files: " + *owner->second + " and " + path);
      }
      Row& row = rows.emplace_back(tensor.row);
      row.group = static_cast<uint32_t>(rows.size() - 1);
      data.push_back(tensor.data.data());
    }
  }
  PC_ASSIGN_OR_RETURN(Manifest manifest, Manifest::Make(std::move(rows)));
  return std::unique_ptr<SafetensorsSource>(
      new SafetensorsSource(std::move(files), std::move(manifest), std::move(data)));
}

StatusOr<Manifest> SafetensorsSource::Describe(const SyncRequest& request) {
  PC_RETURN_IF_ERROR(CheckFullSync(request));
  return manifest_;
}

StatusOr<std::unique_ptr<Cursor>> SafetensorsSource::Open(const EpochInfo&) {
  return std::unique_ptr<Cursor>(std::make_unique<RowCursor>(&manifest_, &rows_, in_use_));
}

}  // namespace packcast
