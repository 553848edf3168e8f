#include "actors/source_pump.h"

#include <string>
#include <utility>

namespace packcast {
namespace {

// Entered in one Turn, of a source that only has to name them. Others may take long for each, and
// are asked for one: a halt or a callback must not wait for more.
constexpr int kGroupsPerTurn = 64;

}  // namespace

void SourcePump::Reset() {
  std::lock_guard lock(mutex_);
  waiting_.clear();
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
  rows_ = 0;
  end_.reset();
  cursor_.reset();
  StatusOr<std::unique_ptr<Cursor>> cursor = source->Open(epoch);
  pulling_ = cursor.ok();
  if (cursor.ok()) {
    cursor_ = std::move(cursor).value();
    bytes_ahead_ = cursor_->bytes_ahead();
  } else {
    Finish(cursor.status().WithContext("opening the weight source"));
  }
}

bool SourcePump::HasRoom() {
  std::lock_guard lock(mutex_);
  if (!error_.ok()) return false;
  if (groups_.empty() || is_starved_ || bytes_ahead_ == Cursor::kNoLimit) return true;
  return groups_.size() < kGroupsAhead && bytes_ < bytes_ahead_;
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
  int left = bytes_ahead_ == Cursor::kNoLimit ? kGroupsPerTurn : 1;
  for (; left > 0; --left) {
    if (!pulling_ || !HasRoom()) return false;
    if (const Status status = Enter(); !status.ok()) Finish(status);
  }
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
  Waiting waiting{.id = group.id, .first_row = rows_, .ready = group.ready.handle};
  Entered entered;
  for (const SourceTensor& source : group.tensors) {
    // In the manifest's order, as it was described: row numbers beyond it are out of order too.
    if (source.row != rows_ || rows_ >= manifest_->size()) {
      return InvalidArgument("the weight source gave row " + std::to_string(source.row) + " of " +
                             std::to_string(manifest_->size()) + " where row " +
                             std::to_string(rows_) + " was next");
    }
    waiting.tensors.push_back({source.data, source.dtype, source.strides});
    ++entered.tensors;
    entered.bytes += manifest_->row_bytes(rows_++);
  }
  std::lock_guard lock(mutex_);
  bytes_ += entered.bytes;
  groups_[group.id] = entered;
  waiting_.push_back(std::move(waiting));
  if (std::exchange(is_starved_, false)) WakeReaderLocked();
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
    waiting_.clear();
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

Status SourcePump::CheckNextLocked() const {
  if (!error_.ok()) return error_;
  return HasNextLocked() ? OkStatus() : FailedPrecondition("the weight source has no tensor ready");
}

StatusOr<std::optional<NamedTensor>> SourcePump::Next() {
  std::lock_guard lock(mutex_);
  PC_RETURN_IF_ERROR(CheckNextLocked());
  if (waiting_.empty()) return std::optional<NamedTensor>();
  Waiting& group = waiting_.front();
  const Row& row = manifest_->rows()[group.first_row + group.taken];
  BatchTensor& source = group.tensors[group.taken];
  NamedTensor tensor{row.name, row.dtype, row.shape, source.data, std::move(source.strides)};
  if (source.dtype != row.dtype) tensor.source_dtype = source.dtype;
  tensor.release = [this, id = group.id] { OnReleased(id, 1); };
  if (++group.taken == group.tensors.size()) waiting_.pop_front();
  return std::optional<NamedTensor>(std::move(tensor));
}

StatusOr<std::optional<TensorBatch>> SourcePump::NextBatch() {
  std::lock_guard lock(mutex_);
  PC_RETURN_IF_ERROR(CheckNextLocked());
  if (waiting_.empty()) return std::optional<TensorBatch>();
  TensorBatch batch;
  batch.tensors = std::move(waiting_.front().tensors);
  batch.ready = waiting_.front().ready;
  batch.release = [this, id = waiting_.front().id, count = batch.tensors.size()] {
    OnReleased(id, count);
  };
  waiting_.pop_front();
  return std::optional<TensorBatch>(std::move(batch));
}

void SourcePump::OnReleased(uint64_t group, size_t tensors) {
  {
    std::lock_guard lock(mutex_);
    const auto entered = groups_.find(group);
    if (entered == groups_.end() || (entered->second.tensors -= tensors) > 0) return;
    bytes_ -= entered->second.bytes;
    groups_.erase(entered);
    read_.push_back(group);
    if (read_.size() > 1) return;  // the caller's thread knows already
  }
  wake_();
}

}  // namespace packcast
