#include "actors/sources/copied_source.h"

#include <span>
#include <string>
#include <utility>

namespace packcast {

Status CopyRows(Cursor& cursor, const Manifest& manifest, const RowMemory& memory,
                Allocator* allocator) {
  while (true) {
    PC_ASSIGN_OR_RETURN(const TensorGroup group, cursor.Next());
    if (group.tensors.empty()) return OkStatus();
    for (const SourceTensor& tensor : group.tensors) {
      if (tensor.row >= manifest.size()) {
        return InvalidArgument("the source gave row " + std::to_string(tensor.row) + " of " +
                               std::to_string(manifest.size()));
      }
      const Row& row = manifest.rows()[tensor.row];
      if (!tensor.strides.empty() || tensor.dtype != row.dtype || group.ready.handle != nullptr) {
        return Unimplemented("tensor \"" + row.name +
                             "\" is strided, converted or on a device; it cannot be copied");
      }
      const std::span<std::byte> to = memory.row(tensor.row);
      if (to.empty()) continue;
      PC_RETURN_IF_ERROR(allocator->Copy(tensor.data, to.data(), to.size()));
    }
    cursor.Release(group.id);
  }
}

StatusOr<Manifest> CopiedSource::Describe(const SyncRequest& request) {
  PC_ASSIGN_OR_RETURN(Manifest manifest, source_->Describe(request));
  if (copies_ == nullptr || manifest.digest() != manifest_.digest()) {
    copies_.reset();  // before the new ones: never both
    PC_ASSIGN_OR_RETURN(RowMemory copies,
                        RowMemory::Allocate(manifest, "a copy of the weights", memory_));
    copies_ = std::make_unique<RowMemory>(std::move(copies));
    rows_.clear();
    for (size_t k = 0; k < copies_->size(); ++k) rows_.push_back(copies_->row(k).data());
    manifest_ = manifest;
  }
  PC_RETURN_IF_ERROR(CopyAll());
  return manifest;
}

Status CopiedSource::CopyAll() {
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<Cursor> cursor, source_->Open(EpochInfo{}));
  return CopyRows(*cursor, manifest_, *copies_, memory_);
}

StatusOr<std::unique_ptr<Cursor>> CopiedSource::Open(const EpochInfo&) {
  return std::unique_ptr<Cursor>(std::make_unique<RowCursor>(&manifest_, &rows_, in_use_));
}

}  // namespace packcast
