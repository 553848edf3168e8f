#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "protocol/messages.h"
#include "tests/sim/gather.h"
#include "tests/sim/world.h"

namespace packcast::sim {

// A rank's walk over a source that gathers each row when it is asked for it: as SourcePump does
// with one thread, which is inside the source while a row is gathered.
class LazySource {
 public:
  // `pause`: at most, between two rows.
  LazySource(World* world, Process* process, Gather* gather, uint32_t rank, Duration pause)
      : world_(world), process_(process), gather_(gather), rank_(rank), pause_(pause) {
    gather_->Enroll(rank, process);
  }

  // Begins a walk of so many rows, once an earlier one is over. `changed` is called with every row
  // that is there.
  void Open(const EpochKey& key, size_t rows, std::function<void()> changed);
  bool Has(const EpochKey& key, size_t row) const { return key_ == key && row < gathered_; }
  bool HasAll(const EpochKey& key) const { return key_ == key && gathered_ == rows_; }
  // Enters no more rows by itself. The last one that it has entered or is about to gather.
  std::optional<uint64_t> Halt(const EpochKey& key);
  // While it is inside the source, nothing else happens on that thread.
  bool Gathers() const { return inside_; }
  // Goes on to so many rows in all, or those that it has entered if they are more, or as many as
  // there are; then calls `done`.
  void Close(const EpochKey& key, size_t rows, std::function<void()> done);

 private:
  void Next();
  void WatchOver(size_t row);

  World* const world_;
  Process* const process_;
  Gather* const gather_;
  const uint32_t rank_;
  const Duration pause_;
  EpochKey key_;
  size_t rows_ = 0;
  size_t limit_ = 0;    // enters no more than these
  size_t entered_ = 0;  // and the one that it is inside of
  size_t gathered_ = 0;
  bool inside_ = false;
  bool pending_ = false;  // its next turn is due
  std::function<void()> changed_;
  std::function<void()> closed_;
  std::function<void()> open_next_;
};

}  // namespace packcast::sim
