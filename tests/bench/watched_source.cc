#include "tests/bench/watched_source.h"

#include <map>
#include <utility>

namespace packcast::bench {

class WatchedSource::Walk final : public Cursor {
 public:
  Walk(WatchedSource* watched, std::unique_ptr<Cursor> cursor)
      : watched_(watched), cursor_(std::move(cursor)) {}

  StatusOr<TensorGroup> Next() override {
    PC_ASSIGN_OR_RETURN(TensorGroup group, cursor_->Next());
    uint64_t bytes = 0;
    for (const SourceTensor& tensor : group.tensors) bytes += watched_->row_bytes_[tensor.row];
    if (bytes > 0) entered_[group.id] = bytes;
    return group;
  }
  uint64_t bytes_ahead() const override { return cursor_->bytes_ahead(); }
  void Release(uint64_t group) override {
    cursor_->Release(group);
    const auto entered = entered_.extract(group);
    if (entered.empty()) return;
    left_ += entered.mapped();
    watched_->Left(left_);
  }
  Status StopAt(uint64_t group) override { return cursor_->StopAt(group); }

 private:
  WatchedSource* const watched_;
  const std::unique_ptr<Cursor> cursor_;
  std::map<uint64_t, uint64_t> entered_;  // bytes of groups that were not released
  uint64_t left_ = 0;
};

StatusOr<Manifest> WatchedSource::Describe(const SyncRequest& request) {
  PC_ASSIGN_OR_RETURN(Manifest manifest, source_->Describe(request));
  row_bytes_.clear();
  for (size_t row = 0; row < manifest.size(); ++row) row_bytes_.push_back(manifest.row_bytes(row));
  return manifest;
}

StatusOr<std::unique_ptr<Cursor>> WatchedSource::Open(const EpochInfo& epoch) {
  PC_ASSIGN_OR_RETURN(std::unique_ptr<Cursor> cursor, source_->Open(epoch));
  // Who is not asked is not in the way: what is measured walks over the rows as they are.
  if (call_ == nullptr) return cursor;
  return std::unique_ptr<Cursor>(std::make_unique<Walk>(this, std::move(cursor)));
}

void WatchedSource::Left(uint64_t bytes) {
  if (call_ != nullptr && bytes >= at_) std::exchange(call_, nullptr)(bytes);
}

}  // namespace packcast::bench
