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
// collectives of its own, to the data threads, which pack and send them: each reader, one for a
// flow, gets all of them. Calls of the two sides are marked. Groups are pulled ahead of the wire
// within a bound, so pulling never waits behind a pending broadcast for long, and memory is
// bounded.
class SourcePump {
 public:
  // Groups entered and not released by all readers, of a source that limits their bytes too
  // (bytes_ahead). One more may always be when every reader has taken all and asks for more: what
  // they hold then, they hold for steps that are not full yet, so the plans bound it.
  static constexpr size_t kGroupsAhead = 256;

  // `wake` makes the caller's thread look again; any thread calls it.
  explicit SourcePump(std::function<void()> wake) : wake_(std::move(wake)) {}

  // Caller's thread. Begins an attempt; enters nothing if it was halted before. `sends` is false on
  // trainer ranks that only keep pace: their groups are released as soon as they were entered.
  void Open(WeightSource* source, const EpochInfo& epoch, std::shared_ptr<const Manifest> manifest,
            bool sends);
  // Caller's thread: releases what was read and enters the next groups. True when it may be
  // called again at once.
  bool Turn();
  // Any thread: enter no more groups. The last one that was entered, if any, or is being entered:
  // the caller's thread may be inside the source, where it waits for other ranks.
  std::optional<uint64_t> Halt();
  // Caller's thread, after the data thread is done with it: releases all groups, drains the source
  // to `group`, or to its end if it has no such group, and forgets it.
  Status Close(std::optional<uint64_t> group);
  // Caller's thread: the walk is over or failed, on a rank that does not send. Nothing from Close
  // to the next Open: the end of one walk is not that of the next.
  std::optional<Status> idle_end() const;

  // Any thread: every later Next fails with `why` until the next Reset.
  void Cancel(const Status& why);
  // Before a new attempt's Open, while no stream reads from here; readers of before are gone then.
  void Reset(size_t readers = 1);

  // Data thread of the flow that is the `index`th to read: tensor after tensor. Next never waits:
  // kFailedPrecondition when there is nothing (see Ready). Lives in the pump until the next Reset.
  TensorSource* tensors(size_t index) { return readers_[index].get(); }
  // The same groups, for a stream from a device's memory; either or.
  BatchSource* batches(size_t index) { return &readers_[index]->batches; }

 private:
  struct Entered {
    size_t tensors = 0;  // not released, counted once for each reader
    uint64_t bytes = 0;
  };
  // A group on its way to the data threads.
  struct Waiting {
    uint64_t id = 0;
    uint32_t first_row = 0;
    std::vector<BatchTensor> tensors;
    void* ready = nullptr;
  };
  struct Reader;
  class Batches final : public BatchSource {
   public:
    explicit Batches(Reader* reader) : reader_(reader) {}
    StatusOr<std::optional<TensorBatch>> Next() override { return reader_->NextBatch(); }
    bool Ready() override { return reader_->Ready(); }
    void SetWake(std::function<void()> wake) override { reader_->SetWake(std::move(wake)); }

   private:
    Reader* const reader_;
  };
  struct Reader final : public TensorSource {
    explicit Reader(SourcePump* p) : pump(p) {}
    StatusOr<std::optional<NamedTensor>> Next() override;
    StatusOr<std::optional<TensorBatch>> NextBatch();
    bool Ready() override;
    void SetWake(std::function<void()> wake) override;
    bool HasNextLocked() const;
    Status CheckNextLocked() const;

    SourcePump* const pump;
    Batches batches{this};
    // Under the pump's lock:
    std::deque<std::shared_ptr<Waiting>> waiting;
    size_t taken = 0;  // of the first one's, by Next
    std::function<void()> wake;
    bool is_starved = false;  // found nothing since the last group
  };
  bool HasRoom();
  // False when it was halted; `before`: the group entered until now.
  bool BeginEnter(std::optional<uint64_t>* before);
  Status Enter();
  Status WalkToEnd(Cursor* cursor);
  void Finish(const Status& status);
  void OnReleased(uint64_t group, size_t tensors);
  bool AllStarvedLocked() const;
  void WakeReadersLocked();

  const std::function<void()> wake_;

  // Caller's thread.
  std::unique_ptr<Cursor> cursor_;
  std::shared_ptr<const Manifest> manifest_;
  bool sends_ = true;
  bool pulling_ = false;
  std::optional<Status> end_;
  uint32_t rows_ = 0;  // entered
  uint64_t bytes_ahead_ = 0;

  std::mutex mutex_;  // guards what follows, but for which readers there are: no stream runs then
  std::vector<std::unique_ptr<Reader>> readers_;
  std::map<uint64_t, Entered> groups_;
  std::vector<uint64_t> read_;  // groups to release on the caller's thread
  uint64_t bytes_ = 0;
  std::optional<uint64_t> last_entered_;
  bool halted_ = false;
  bool complete_ = false;
  Status error_;
};

}  // namespace packcast
