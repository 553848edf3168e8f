#include "actors/source_pump.h"

#include <string>
#include <utility>

namespace packcast {

void SourcePump::Reset() {
  std::lock_guard lock(mutex_);
  tensors_.clear();
  groups_.clear();
  read_.clear();
  bytes_ = 0;
  complete_ = false;
  is_starved_ = false;
  error_ = OkStatus();
}

void SourcePump::Open(WeightSource* source, const EpochInfo& epoch,
                      std::shared_ptr<const Manifest> manifest, bool sends) {
  manifest_ = std::move(manifest);
  sends_ = sends;
  last_entered_.reset();
  end_.reset();
  cursor_.reset();
  StatusOr<std::unique_ptr<Cursor>> cursor = source->Open(epoch);
  pulling_ = cursor.ok();
  if (cursor.ok()) {
    cursor_ = std::move(cursor).value();
  } else {
    Finish(cursor.status().WithContext("opening the weight source"));
  }
}

bool SourcePump::HasRoom() {
  std::lock_guard lock(mutex_);
  if (!error_.ok()) return false;
  return groups_.empty() || is_starved_ || (groups_.size() < kGroupsAhead && bytes_ < kBytesAhead);
}

bool SourcePump::Turn() {
  std::vector<uint64_t> read;
  {
    std::lock_guard lock(mutex_);
    read.swap(read_);
  }
  for (uint64_t group : read) {
    if (cursor_ != nullptr) cursor_->Release(group, EventRef{});
  }
  if (!pulling_ || !HasRoom()) return false;
  if (const Status status = Enter(); !status.ok()) Finish(status);
  return pulling_;
}

Status SourcePump::Enter() {
  PC_ASSIGN_OR_RETURN(const TensorGroup group, cursor_->Next(StreamRef{}));
  if (group.tensors.empty()) {
    Finish(OkStatus());
    return OkStatus();
  }
  last_entered_ = group.id;
  if (!sends_) {
    cursor_->Release(group.id, EventRef{});
    return OkStatus();
  }
  std::vector<NamedTensor> tensors;
  Entered entered;
  for (const SourceTensor& source : group.tensors) {
    if (source.row >= manifest_->size()) {
      return InvalidArgument("the weight source gave row " + std::to_string(source.row) + " of " +
                             std::to_string(manifest_->size()));
    }
    const Row& row = manifest_->rows()[source.row];
    NamedTensor tensor{row.name, row.dtype, row.shape, source.data, source.strides, {}, {}};
    if (source.dtype != row.dtype) tensor.source_dtype = source.dtype;
    tensor.release = [this, id = group.id] { OnTensorReleased(id); };
    tensors.push_back(std::move(tensor));
    ++entered.tensors;
    entered.bytes += manifest_->row_bytes(source.row);
  }
  std::lock_guard lock(mutex_);
  bytes_ += entered.bytes;
  groups_[group.id] = entered;
  for (NamedTensor& tensor : tensors) tensors_.push_back(std::move(tensor));
  is_starved_ = false;
  WakeReaderLocked();
  return OkStatus();
}

void SourcePump::Finish(const Status& status) {
  pulling_ = false;
  end_ = status;
  std::lock_guard lock(mutex_);
  if (status.ok()) {
    complete_ = true;
  } else if (error_.ok()) {
    error_ = status;
  }
  WakeReaderLocked();
}

// Under the lock, so that after SetWake nobody calls what was there before.
void SourcePump::WakeReaderLocked() {
  if (wake_reader_) wake_reader_();
}

std::optional<Status> SourcePump::idle_end() const { return sends_ ? std::nullopt : end_; }

std::optional<uint64_t> SourcePump::Halt() {
  pulling_ = false;
  return last_entered_;
}

Status SourcePump::Close(std::optional<uint64_t> group) {
  pulling_ = false;
  const std::optional<Status> end = std::exchange(end_, std::nullopt);
  std::map<uint64_t, Entered> open;
  std::vector<uint64_t> read;
  {
    std::lock_guard lock(mutex_);
    open.swap(groups_);
    read.swap(read_);
    tensors_.clear();
    bytes_ = 0;
  }
  const std::unique_ptr<Cursor> cursor = std::move(cursor_);
  if (cursor == nullptr) return OkStatus();
  for (uint64_t id : read) cursor->Release(id, EventRef{});
  for (const auto& [id, entered] : open) cursor->Release(id, EventRef{});
  if (end && end->ok()) return OkStatus();  // it walked to the end by itself
  if (!group) group = last_entered_;
  return group ? cursor->StopAt(*group) : OkStatus();
}

void SourcePump::Cancel(const Status& why) {
  std::lock_guard lock(mutex_);
  if (error_.ok()) error_ = why;
  WakeReaderLocked();
}

bool SourcePump::Ready() {
  {
    std::lock_guard lock(mutex_);
    if (HasNextLocked()) return true;
    if (is_starved_) return false;
    is_starved_ = true;
  }
  wake_();
  return false;
}

void SourcePump::SetWake(std::function<void()> wake) {
  std::lock_guard lock(mutex_);
  wake_reader_ = std::move(wake);
}

StatusOr<std::optional<NamedTensor>> SourcePump::Next() {
  std::lock_guard lock(mutex_);
  if (!error_.ok()) return error_;
  if (!HasNextLocked()) return FailedPrecondition("the weight source has no tensor ready");
  if (tensors_.empty()) return std::optional<NamedTensor>();
  NamedTensor tensor = std::move(tensors_.front());
  tensors_.pop_front();
  return std::optional<NamedTensor>(std::move(tensor));
}

void SourcePump::OnTensorReleased(uint64_t group) {
  {
    std::lock_guard lock(mutex_);
    const auto entered = groups_.find(group);
    if (entered == groups_.end() || --entered->second.tensors > 0) return;
    bytes_ -= entered->second.bytes;
    groups_.erase(entered);
    read_.push_back(group);
  }
  wake_();
}

}  // namespace packcast
