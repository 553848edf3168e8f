#include "actors/source_pump.h"

#include <algorithm>
#include <string>
#include <utility>

namespace packcast {
namespace {

// Entered in one Turn, of a source that only has to name them. Others may take long for each, and
// are asked for one: a halt or a callback must not wait for more.
constexpr int kGroupsPerTurn = 64;

}  // namespace

void SourcePump::Reset(size_t readers) {
  std::lock_guard lock(mutex_);
  readers_.clear();
  for (size_t k = 0; k < readers; ++k) readers_.push_back(std::make_unique<Reader>(this));
  groups_.clear();
  read_.clear();
  bytes_ = 0;
  last_entered_.reset();
  halted_ = false;
  complete_ = false;
  error_ = OkStatus();
}

bool SourcePump::AllStarvedLocked() const {
  return std::all_of(readers_.begin(), readers_.end(),
                     [](const auto& reader) { return reader->is_starved; });
}

void SourcePump::Open(WeightSource* source, const EpochInfo& epoch,
                      std::shared_ptr<const Manifest> manifest, bool sends) {
  manifest_ = std::move(manifest);
  sends_ = sends;
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
  if (groups_.empty() || AllStarvedLocked() || bytes_ahead_ == Cursor::kNoLimit) return true;
  return groups_.size() < kGroupsAhead && bytes_ < bytes_ahead_;
}

bool SourcePump::Turn() {
  std::vector<uint64_t> read;
  {
    std::lock_guard lock(mutex_);
    read.swap(read_);
  }
  for (uint64_t group : read) {
    if (cursor_ != nullptr) cursor_->Release(group);
  }
  int left = bytes_ahead_ == Cursor::kNoLimit ? kGroupsPerTurn : 1;
  for (; left > 0; --left) {
    if (!pulling_ || !HasRoom()) return false;
    if (const Status status = Enter(); !status.ok()) Finish(status);
  }
  return pulling_;
}

// Says first which group it is: nobody can ask this thread while it is inside the source. After the
// last row comes the end, which is no group.
bool SourcePump::BeginEnter(std::optional<uint64_t>* before) {
  std::lock_guard lock(mutex_);
  if (halted_) return false;
  *before = last_entered_;
  if (rows_ < manifest_->size()) last_entered_ = last_entered_ ? *last_entered_ + 1 : 0;
  return true;
}

Status SourcePump::Enter() {
  std::optional<uint64_t> before;
  if (!BeginEnter(&before)) {
    pulling_ = false;
    return OkStatus();
  }
  StatusOr<TensorGroup> next = cursor_->Next();
  if (!next.ok()) {
    std::lock_guard lock(mutex_);
    last_entered_ = before;
    return next.status();
  }
  const TensorGroup& group = *next;
  if (group.tensors.empty()) {
    Finish(OkStatus());
    return OkStatus();
  }
  if (!sends_) {
    cursor_->Release(group.id);
    rows_ += static_cast<uint32_t>(group.tensors.size());
    return OkStatus();
  }
  const auto waiting = std::make_shared<Waiting>();
  waiting->id = group.id;
  waiting->first_row = rows_;
  waiting->ready = group.ready.handle;
  Entered entered;
  for (const SourceTensor& source : group.tensors) {
    // In the manifest's order, as it was described: row numbers beyond it are out of order too.
    if (source.row != rows_ || rows_ >= manifest_->size()) {
      return InvalidArgument("the weight source gave row " + std::to_string(source.row) + " of " +
                             std::to_string(manifest_->size()) + " where row " +
                             std::to_string(rows_) + " was next");
    }
    waiting->tensors.push_back({source.data, source.dtype, source.strides});
    ++entered.tensors;
    entered.bytes += manifest_->row_bytes(rows_++);
  }
  std::lock_guard lock(mutex_);
  bytes_ += entered.bytes;
  entered.tensors *= readers_.size();
  groups_[group.id] = entered;
  for (const auto& reader : readers_) {
    reader->waiting.push_back(waiting);
    if (std::exchange(reader->is_starved, false) && reader->wake) reader->wake();
  }
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
  WakeReadersLocked();
}

// Under the lock, so that after SetWake nobody calls what was there before.
void SourcePump::WakeReadersLocked() {
  for (const auto& reader : readers_) {
    if (reader->wake) reader->wake();
  }
}

std::optional<Status> SourcePump::idle_end() const { return sends_ ? std::nullopt : end_; }

std::optional<uint64_t> SourcePump::Halt() {
  std::lock_guard lock(mutex_);
  halted_ = true;
  return last_entered_;
}

Status SourcePump::WalkToEnd(Cursor* cursor) {
  while (true) {
    PC_ASSIGN_OR_RETURN(const TensorGroup group, cursor->Next());
    if (group.tensors.empty()) return OkStatus();
    cursor->Release(group.id);
  }
}

Status SourcePump::Close(std::optional<uint64_t> group) {
  pulling_ = false;
  std::optional<uint64_t> last_entered;
  const std::optional<Status> end = std::exchange(end_, std::nullopt);
  std::map<uint64_t, Entered> open;
  std::vector<uint64_t> read;
  {
    std::lock_guard lock(mutex_);
    last_entered = std::exchange(last_entered_, std::nullopt);
    open.swap(groups_);
    read.swap(read_);
    for (const auto& reader : readers_) reader->waiting.clear();
    bytes_ = 0;
  }
  const std::unique_ptr<Cursor> cursor = std::move(cursor_);
  if (cursor == nullptr) return OkStatus();
  for (uint64_t id : read) cursor->Release(id);
  for (const auto& [id, entered] : open) cursor->Release(id);
  if (end && end->ok()) return OkStatus();  // it walked to the end by itself
  const bool to_end = group && *group >= manifest_->size();
  if (to_end && !end) return WalkToEnd(cursor.get());
  if (!group || to_end) group = last_entered;
  return group ? cursor->StopAt(*group) : OkStatus();
}

void SourcePump::Cancel(const Status& why) {
  std::lock_guard lock(mutex_);
  if (error_.ok()) error_ = why;
  WakeReadersLocked();
}

bool SourcePump::Reader::HasNextLocked() const {
  return !waiting.empty() || pump->complete_ || !pump->error_.ok();
}

bool SourcePump::Reader::Ready() {
  {
    std::lock_guard lock(pump->mutex_);
    if (HasNextLocked()) return true;
    if (std::exchange(is_starved, true) || !pump->AllStarvedLocked()) return false;
  }
  pump->wake_();
  return false;
}

void SourcePump::Reader::SetWake(std::function<void()> wake_up) {
  std::lock_guard lock(pump->mutex_);
  wake = std::move(wake_up);
}

Status SourcePump::Reader::CheckNextLocked() const {
  if (!pump->error_.ok()) return pump->error_;
  return HasNextLocked() ? OkStatus() : FailedPrecondition("the weight source has no tensor ready");
}

StatusOr<std::optional<NamedTensor>> SourcePump::Reader::Next() {
  std::lock_guard lock(pump->mutex_);
  PC_RETURN_IF_ERROR(CheckNextLocked());
  if (waiting.empty()) return std::optional<NamedTensor>();
  const Waiting& group = *waiting.front();
  const Row& row = pump->manifest_->rows()[group.first_row + taken];
  const BatchTensor& source = group.tensors[taken];
  NamedTensor tensor{row.name, row.dtype, row.shape, source.data, source.strides};
  if (source.dtype != row.dtype) tensor.source_dtype = source.dtype;
  tensor.release = [p = pump, id = group.id] { p->OnReleased(id, 1); };
  if (++taken == group.tensors.size()) {
    waiting.pop_front();
    taken = 0;
  }
  return std::optional<NamedTensor>(std::move(tensor));
}

StatusOr<std::optional<TensorBatch>> SourcePump::Reader::NextBatch() {
  std::lock_guard lock(pump->mutex_);
  PC_RETURN_IF_ERROR(CheckNextLocked());
  if (waiting.empty()) return std::optional<TensorBatch>();
  const std::shared_ptr<Waiting> group = std::move(waiting.front());
  waiting.pop_front();
  TensorBatch batch;
  // The last reader that takes it needs no copy.
  if (group.use_count() == 1) {
    batch.tensors = std::move(group->tensors);
  } else {
    batch.tensors = group->tensors;
  }
  batch.ready = group->ready;
  batch.release = [p = pump, id = group->id, count = batch.tensors.size()] {
    p->OnReleased(id, count);
  };
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
