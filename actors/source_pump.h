#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "actors/weight_source.h"
#include "protocol/manifest.h"
#include "protocol/status.h"
#include "runtime/data/tensor.h"
#include "runtime/data/tensor_batch.h"

namespace packcast {

// Carries a source's groups from the caller's thread, where a lazy source may gather them with
// collectives of its own, to the data thread, which packs and sends them. Calls of the two threads
// are marked. Groups are pulled ahead of the wire within a bound, so pulling never waits behind a
// pending broadcast for long, and memory is bounded.
class SourcePump : public TensorSource {
 public:
  // Groups entered and not released, of a source that limits their bytes too (bytes_ahead). One
  // more may always be when the data thread has taken all and asks for more: what it holds then,
  // it holds for a step that is not full yet, so the plan bounds it.
  static constexpr size_t kGroupsAhead = 256;

  // `wake` makes the caller's thread look again; any thread calls it.
  explicit SourcePump(std::function<void()> wake) : wake_(std::move(wake)) {}

  // Caller's thread. Begins an attempt. `sends` is false on trainer ranks that only keep pace:
  // their groups are released as soon as they were entered.
  void Open(WeightSource* source, const EpochInfo& epoch, std::shared_ptr<const Manifest> manifest,
            bool sends);
  // Caller's thread: releases what was read and enters the next groups. True when it may be
  // called again at once.
  bool Turn();
  // Caller's thread: enter no more groups. The last one entered, if any.
  std::optional<uint64_t> Halt();
  // Caller's thread, after the data thread is done with it: releases all groups, drains the source
  // to `group` and forgets it.
  Status Close(std::optional<uint64_t> group);
  // Caller's thread: the walk is over or failed, on a rank that does not send. Nothing from Close
  // to the next Open: the end of one walk is not that of the next.
  std::optional<Status> idle_end() const;

  // Any thread: every later Next fails with `why` until the next Reset.
  void Cancel(const Status& why);
  // Before a new attempt's Open, while no stream reads from here.
  void Reset();

  // Data thread. Next never waits: kFailedPrecondition when there is nothing (see Ready).
  StatusOr<std::optional<NamedTensor>> Next() override;
  bool Ready() override;
  void SetWake(std::function<void()> wake) override;

  // Data thread: the same groups, for a stream from a device's memory. Lives in the pump.
  BatchSource* batches() { return &batches_; }

 private:
  struct Entered {
    size_t tensors = 0;  // not released by the data thread
    uint64_t bytes = 0;
  };
  // A group on its way to the data thread.
  struct Waiting {
    uint64_t id = 0;
    uint32_t first_row = 0;
    size_t taken = 0;  // by Next, one tensor at a time
    std::vector<BatchTensor> tensors;
    void* ready = nullptr;
  };
  class Batches final : public BatchSource {
   public:
    explicit Batches(SourcePump* pump) : pump_(pump) {}
    StatusOr<std::optional<TensorBatch>> Next() override { return pump_->NextBatch(); }
    bool Ready() override { return pump_->Ready(); }
    void SetWake(std::function<void()> wake) override { pump_->SetWake(std::move(wake)); }

   private:
    SourcePump* const pump_;
  };
  StatusOr<std::optional<TensorBatch>> NextBatch();
  bool HasRoom();
  Status Enter();
  void Finish(const Status& status);
  void OnReleased(uint64_t group, size_t tensors);
  Status CheckNextLocked() const;
  bool HasNextLocked() const { return !waiting_.empty() || complete_ || !error_.ok(); }
  void WakeReaderLocked();

  const std::function<void()> wake_;

  // Caller's thread.
  std::unique_ptr<Cursor> cursor_;
  std::shared_ptr<const Manifest> manifest_;
  bool sends_ = true;
  bool pulling_ = false;
  std::optional<uint64_t> last_entered_;
  std::optional<Status> end_;
  uint32_t rows_ = 0;  // entered
  uint64_t bytes_ahead_ = 0;
  Batches batches_{this};

  std::mutex mutex_;  // guards what follows
  std::deque<Waiting> waiting_;
  std::map<uint64_t, Entered> groups_;
  std::vector<uint64_t> read_;  // groups to release on the caller's thread
  std::function<void()> wake_reader_;
  bool is_starved_ = false;  // the data thread found nothing since the last group
  uint64_t bytes_ = 0;
  bool complete_ = false;
  Status error_;
};

}  // namespace packcast
