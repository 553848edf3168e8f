#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/data/collective.h"
#include "runtime/data/copy_engine.h"

// Wrappers for tests: what they do not change goes to the real one.
namespace packcast::testing {

class ForwardingCollective : public Collective {
 public:
  explicit ForwardingCollective(Collective* inner) : inner_(inner) {}

  uint32_t rank() const override { return inner_->rank(); }
  uint32_t size() const override { return inner_->size(); }
  uint32_t root() const override { return inner_->root(); }
  std::string Describe(uint32_t rank) const override { return inner_->Describe(rank); }
  StatusOr<bool> Joined() override { return inner_->Joined(); }
  Status Begin(const StreamId& stream) override { return inner_->Begin(stream); }
  Status Grant(Sequence sequence) override { return inner_->Grant(sequence); }
  StatusOr<bool> Ready(Sequence sequence) override { return inner_->Ready(sequence); }
  Status Launch(Operation operation) override { return inner_->Launch(std::move(operation)); }
  bool awaits_ready() const override { return inner_->awaits_ready(); }
  std::string NextNote() override { return inner_->NextNote(); }
  StatusOr<bool> Done(Sequence sequence) override { return inner_->Done(sequence); }
  bool reads_in_place() const override { return inner_->reads_in_place(); }
  StatusOr<std::span<const std::byte>> Landed(Sequence sequence) override {
    return inner_->Landed(sequence);
  }
  Status Release(Sequence sequence) override { return inner_->Release(sequence); }
  Status Seal(Sequence sequence, const StepSeal& seal) override {
    return inner_->Seal(sequence, seal);
  }
  StatusOr<std::optional<StepSeal>> SealOf(Sequence sequence) override {
    return inner_->SealOf(sequence);
  }
  Status End(uint64_t steps) override { return inner_->End(steps); }
  StatusOr<std::optional<uint64_t>> EndOf() override { return inner_->EndOf(); }
  Status Finish() override { return inner_->Finish(); }
  StatusOr<bool> Finished() override { return inner_->Finished(); }
  StatusOr<bool> Flushed() override { return inner_->Flushed(); }
  Status Poll(Duration max_wait) override { return inner_->Poll(max_wait); }
  void Wake() override { inner_->Wake(); }
  Status Abort(std::string_view reason) override { return inner_->Abort(reason); }
  void BeginAbort(std::string_view reason) override { inner_->BeginAbort(reason); }
  std::string WaitingFor() override { return inner_->WaitingFor(); }
  std::vector<uint32_t> Late() override { return inner_->Late(); }
  void Accuse(uint32_t rank) override { inner_->Accuse(rank); }
  std::optional<uint32_t> culprit() const override { return inner_->culprit(); }
  const CollectiveProgress& progress() const override { return inner_->progress(); }

 private:
  Collective* const inner_;
};

// A copy engine that counts what it is given, for another thread to see.
class CountingEngine final : public CopyEngine {
 public:
  explicit CountingEngine(CopyEngine* inner) : inner_(inner) {}
  uint64_t submits() const { return submits_.load(); }

  Allocator* allocator() override { return inner_->allocator(); }
  uint32_t pieces_max() const override { return inner_->pieces_max(); }
  uint32_t layouts_max() const override { return inner_->layouts_max(); }
  bool HasRoom() const override { return inner_->HasRoom(); }
  StatusOr<Ticket> Submit(std::span<const CopyPiece> pieces, std::span<const PieceLayout> layouts,
                          void* ready, bool alone) override {
    PC_ASSIGN_OR_RETURN(const Ticket ticket, inner_->Submit(pieces, layouts, ready, alone));
    submits_.fetch_add(1);
    return ticket;
  }
  StatusOr<bool> Done(Ticket ticket) override { return inner_->Done(ticket); }
  StatusOr<bool> HasFired(void* event) override { return inner_->HasFired(event); }
  std::span<const Digest> digests(Ticket ticket) const override { return inner_->digests(ticket); }
  void Forget(Ticket ticket) override { inner_->Forget(ticket); }
  Status Drain(Duration timeout) override { return inner_->Drain(timeout); }

 private:
  CopyEngine* const inner_;
  std::atomic<uint64_t> submits_{0};
};

}  // namespace packcast::testing
