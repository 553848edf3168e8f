#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "actors/weight_sink.h"
#include "protocol/digest.h"
#include "protocol/ids.h"
#include "protocol/manifest.h"
#include "protocol/status.h"
#include "runtime/base/seqlock.h"
#include "runtime/data/buffer_ring.h"

namespace packcast {

// What a memory sink serves, all of one moment.
struct SinkState {
  Version version;        // zero: nothing was ever installed
  uint64_t installs = 0;  // a repeated Install of one version counts once
  bool quiesced = false;  // between Quiesce and Resume (or a staged Install)
  bool dirty = false;  // in place: from Quiesce on the bytes may be of two versions, until a good
                       // Install, or a Resume that says that nothing was written
  bool in_service() const { return !version.IsZero() && !quiesced && !dirty; }
  friend bool operator==(const SinkState&, const SinkState&) = default;
};

// One writer's SinkState, readable from any thread without a lock.
class SinkStateCell {
 public:
  // One thread at a time.
  void Store(const SinkState& state);
  SinkState Load() const;

 private:
  Seqlock<5> words_;
};

// A stand-in for an inference engine: weights in memory. Staged, it has two banks, and
// install makes the one just written the one that serves; in place it has one. Owns all memory.
// Callbacks come one at a time, as WeightSink says; state(), the counts, misuse(),
// ServingDigest() and ReadRow() may be called from any thread.
//
// A binding is valid until the next successful Bind, and its banks are ordered so that bank 0 is
// the one to write first. When the manifest changes, the bank that serves lives on until another
// version is installed; all other memory of the old manifest is released.
class MemorySink : public WeightSink {
 public:
  static constexpr SinkCaps kDoesAll{.staged = true, .in_place = true, .can_serve = true};
  // Takes any manifest.
  explicit MemorySink(SinkCaps caps = kDoesAll);
  ~MemorySink() override;
  // Takes only manifests with exactly these rows (name, dtype, shape), in any order. Errors: those
  // of Manifest::Make.
  static StatusOr<std::unique_ptr<MemorySink>> Expecting(std::vector<Row> rows,
                                                         SinkCaps caps = kDoesAll);

  // Before the first Bind: banks come from here, a device's memory for instance, instead of the
  // host's. It outlives the sink.
  void UseMemory(Allocator* allocator) { allocator_ = allocator; }

  SinkCaps Caps() override { return caps_; }
  // Errors: kInvalidArgument with the first row that differs and both sides' values,
  // kUnimplemented for a mode that the caps exclude, kResourceExhausted with the bytes asked for.
  // After an error the earlier binding is still valid.
  StatusOr<Binding> Bind(const Manifest& manifest, InstallMode mode) override;
  // Misuse ends in kFailedPrecondition through `done`, or is kept for misuse(): Quiesce in staged
  // mode, Install in place without Quiesce, of an unknown bank or of the bank that serves, Resume
  // without Quiesce or for a commit that was not installed, Discard of what serves.
  void Quiesce(const EpochInfo& epoch, Done done) override;
  void Resume(const EpochInfo& epoch, EpochOutcome outcome) override;
  // No row is bound as a callback: always kFailedPrecondition.
  Status Load(const EpochInfo& epoch, const TensorGroup& group) override;
  // kStale for a version before the one that serves.
  void Install(const EpochInfo& epoch, Done done) override;
  void Discard(const EpochInfo& epoch) override;

  // Lock-free, never waits for a callback.
  SinkState state() const { return state_.Load(); }
  uint64_t quiesce_count() const { return quiesce_count_.load(); }
  uint64_t resume_count() const { return resume_count_.load(); }
  uint64_t discard_count() const { return discard_count_.load(); }

  // ContentHash over all rows that serve, with row numbers of their manifest; computed on each
  // call. kFailedPrecondition when nothing serves or the bytes may be changing: call it between
  // epochs.
  StatusOr<Digest> ServingDigest() const;
  // A copy of a row's bytes. Errors: those of ServingDigest, kNotFound.
  StatusOr<std::vector<std::byte>> ReadRow(std::string_view name) const;
  // Bytes of memory held, over all banks.
  uint64_t held_bytes() const;
  // OK, or the first misuse.
  Status misuse() const;

 private:
  struct Bank;
  using BankPtr = std::shared_ptr<Bank>;

  Status CheckExpected(const Manifest& manifest) const;
  StatusOr<std::vector<BankPtr>> MakeBanks(const Manifest& manifest, InstallMode mode) const;
  // Whether that is what was installed last.
  bool Serves(const EpochInfo& epoch) const;
  // OK: flip. Anything else is the answer; `repeated` when it was done before.
  Status CheckInstall(const EpochInfo& epoch, bool* repeated) const;
  // The bank that serves, if its bytes are at rest.
  StatusOr<BankPtr> Readable() const;
  Status CheckUnchanged(const SinkState& before) const;
  Status Misused(Status status);

  Status HashRow(const Bank& bank, size_t row, ContentHash* hash) const;

  const SinkCaps caps_;
  Allocator* allocator_ = nullptr;
  std::optional<Manifest> expected_;

  SinkStateCell state_;
  std::atomic<uint64_t> quiesce_count_{0};
  std::atomic<uint64_t> resume_count_{0};
  std::atomic<uint64_t> discard_count_{0};

  mutable std::mutex mutex_;    // guards what follows
  std::vector<BankPtr> banks_;  // of the current binding
  std::optional<InstallMode> mode_;
  BankPtr serving_;
  Status misuse_;
};

}  // namespace packcast
