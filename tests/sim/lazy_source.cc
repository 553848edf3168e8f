#include "tests/sim/lazy_source.h"

#include <algorithm>
#include <utility>

namespace packcast::sim {

void LazySource::Open(const EpochKey& key, size_t rows, std::function<void()> changed) {
  if (closed_ != nullptr) {
    open_next_ = [this, key, rows, changed = std::move(changed)] { Open(key, rows, changed); };
    return;
  }
  key_ = key;
  rows_ = limit_ = rows;
  entered_ = gathered_ = 0;
  changed_ = std::move(changed);
  Next();
}

std::optional<uint64_t> LazySource::Halt(const EpochKey& key) {
  if (key_ != key || entered_ == 0) return std::nullopt;
  limit_ = entered_;
  return entered_ - 1;
}

void LazySource::Close(const EpochKey& key, size_t rows, std::function<void()> done) {
  if (key_ != key) {  // never opened
    gather_->SetEnd(process_, rank_, key, 0);
    world_->After(process_, Duration::zero(), std::move(done));
    return;
  }
  limit_ = std::min(std::max(rows, entered_), rows_);
  if (limit_ > entered_) ++world_->stats.lazy_drains;
  gather_->SetEnd(process_, rank_, key, limit_);
  changed_ = nullptr;
  closed_ = std::move(done);
  Next();
}

// A collective's own watchdog: far longer than any rank is away.
void LazySource::WatchOver(size_t row) {
  constexpr Duration kPatience = Seconds(20);
  world_->After(process_, kPatience, [this, key = key_, row] {
    if (inside_ && key_ == key && entered_ == row + 1) gather_->GiveUp(process_);
  });
}

void LazySource::Next() {
  if (inside_ || pending_) return;
  if (entered_ < limit_) {
    inside_ = true;
    WatchOver(entered_);
    gather_->Enter(process_, rank_, key_, entered_++, [this] {
      inside_ = false;
      gathered_ = entered_;
      pending_ = true;
      world_->After(process_, world_->Work(process_, Duration::zero(), pause_), [this] {
        pending_ = false;
        Next();
      });
      if (changed_) changed_();
    });
    return;
  }
  if (closed_ == nullptr) return;
  // One that is over; a later one has its own.
  const auto done = std::exchange(closed_, nullptr);
  world_->After(process_, Duration::zero(), [this, done] {
    done();
    if (const auto open = std::exchange(open_next_, nullptr)) open();
  });
}

}  // namespace packcast::sim
