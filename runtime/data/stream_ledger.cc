#include "runtime/data/stream_ledger.h"

#include <algorithm>
#include <utility>

namespace packcast {
namespace {

std::string StepName(Sequence sequence) { return "step " + std::to_string(sequence.value); }

}  // namespace

RootLedger::RootLedger(uint32_t size, uint32_t root)
    : size_(size), root_(root), granted_(size, 0), released_(size, 0), finished_(size, false) {}

Status RootLedger::Begin() {
  if (launched_ > 0 && !IsQuiet()) {
    return FailedPrecondition("the previous stream is not complete: " + std::to_string(completed_) +
                              " of " + std::to_string(launched_) + " steps have left, it has " +
                              (end_ ? "ended" : "not ended"));
  }
  begun_ = true;
  launched_ = completed_ = 0;
  end_.reset();
  std::fill(granted_.begin(), granted_.end(), 0);
  std::fill(released_.begin(), released_.end(), 0);
  std::fill(finished_.begin(), finished_.end(), false);
  return OkStatus();
}

Status RootLedger::OnGranted(uint32_t rank, uint64_t count) {
  if (count > completed_ + 2 * kStepsInFlightMax) {
    return InvalidArgument("it grants " + std::to_string(count) + " steps, " +
                           std::to_string(completed_) + " are complete");
  }
  granted_[rank] = std::max(granted_[rank], count);
  return OkStatus();
}

Status RootLedger::OnReleased(uint32_t rank, uint64_t count) {
  if (count > launched_) {
    return InvalidArgument("it released " + std::to_string(count) + " steps, " +
                           std::to_string(launched_) + " are launched");
  }
  released_[rank] = std::max(released_[rank], count);
  return OkStatus();
}

std::vector<uint32_t> RootLedger::Readers() const {
  std::vector<uint32_t> ranks;
  for (uint32_t rank = 0; rank < size_; ++rank) {
    if (rank != root_ && released_[rank] <= completed_) ranks.push_back(rank);
  }
  return ranks;
}

bool RootLedger::Ready(Sequence sequence) const {
  if (!begun_ || launched_ - completed_ >= kStepsInFlightMax) return false;
  for (uint32_t rank = 0; rank < size_; ++rank) {
    if (rank != root_ && granted_[rank] <= sequence.value) return false;
  }
  return true;
}

Status RootLedger::CheckLaunch(const Operation& operation) const {
  if (operation.sequence.value != launched_) {
    return FailedPrecondition(StepName(operation.sequence) + " is out of order: the next is " +
                              std::to_string(launched_));
  }
  if (end_) return FailedPrecondition("the stream has ended");
  if (!Ready(operation.sequence)) {
    return FailedPrecondition(StepName(operation.sequence) + " is not granted by all");
  }
  if (operation.bytes() == 0) return InvalidArgument(StepName(operation.sequence) + " is empty");
  return OkStatus();
}

Status RootLedger::CheckSeal(Sequence sequence) const {
  if (sequence.value < launched_) return OkStatus();
  return FailedPrecondition(StepName(sequence) + " is sealed before its launch");
}

Status RootLedger::End(uint64_t steps) {
  if (!begun_ || end_ || steps != launched_) {
    return FailedPrecondition("a stream of " + std::to_string(launched_) +
                              " launched steps cannot end with " + std::to_string(steps));
  }
  end_ = steps;
  return OkStatus();
}

bool RootLedger::AllFinished() const {
  for (uint32_t rank = 0; rank < size_; ++rank) {
    if (rank != root_ && !finished_[rank]) return false;
  }
  return true;
}

std::vector<uint32_t> RootLedger::Laggards() const {
  std::vector<uint32_t> ranks;
  for (uint32_t rank = 0; rank < size_; ++rank) {
    if (rank == root_) continue;
    if (end_ ? !finished_[rank] : granted_[rank] <= launched_) ranks.push_back(rank);
  }
  return ranks;
}

Status MemberLedger::Begin() {
  if ((gated_ > 0 || end_) && !finished_) {
    return FailedPrecondition("the previous stream is not finished at " + self_ + ": it has " +
                              std::to_string(completed_) + " of " + std::to_string(gated_) +
                              " steps");
  }
  begun_ = true;
  finished_ = is_sealed_ = false;
  granted_ = gated_ = launched_ = completed_ = released_ = 0;
  gates_.clear();
  seals_.clear();
  end_.reset();
  return OkStatus();
}

Status MemberLedger::CheckGrant(Sequence sequence) const {
  if (!begun_ || sequence.value != granted_) {
    return FailedPrecondition(StepName(sequence) + " is granted out of order: the next is " +
                              std::to_string(granted_));
  }
  if (granted_ - completed_ >= kStepsInFlightMax) {
    return ResourceExhausted("more than " + std::to_string(kStepsInFlightMax) +
                             " steps granted and not complete");
  }
  return OkStatus();
}

Status MemberLedger::OnGate(const Gate& gate) {
  if (gate.sequence.value != gated_ || gated_ >= granted_ || end_) {
    return Internal("the root launched " + StepName(gate.sequence) + "; " + self_ + " expected " +
                    std::to_string(gated_) + " and has granted " + std::to_string(granted_));
  }
  if (gate.bytes == 0) {
    return Internal("the root launched " + StepName(gate.sequence) + ", which is empty");
  }
  gates_.push_back(gate);
  ++gated_;
  return OkStatus();
}

Status MemberLedger::OnSeal(Sequence sequence, StepSeal seal) {
  if (sequence.value >= gated_) {
    return Internal("the root sealed " + StepName(sequence) + ", which it has not launched");
  }
  seals_[sequence.value] = std::move(seal);
  // Old ones go, so that a consumer that never asks costs nothing.
  while (seals_.size() > 2 * kStepsInFlightMax) seals_.erase(seals_.begin());
  return OkStatus();
}

Status MemberLedger::OnEnd(uint64_t steps) {
  if (steps != gated_ || end_) {
    return Internal("the root ended a stream of " + std::to_string(steps) + " steps after " +
                    std::to_string(gated_));
  }
  end_ = steps;
  return OkStatus();
}

bool MemberLedger::Ready(Sequence sequence) const {
  return begun_ && sequence.value >= launched_ && sequence.value < gated_;
}

Status MemberLedger::CheckLaunch(const Operation& operation, bool* fatal) const {
  *fatal = false;
  if (operation.sequence.value != launched_) {
    return FailedPrecondition(StepName(operation.sequence) + " is out of order: the next is " +
                              std::to_string(launched_));
  }
  if (!Ready(operation.sequence)) {
    return FailedPrecondition(StepName(operation.sequence) + " has no gate yet");
  }
  const Gate& gate = gates_.front();
  const bool fits = gate.bytes == operation.bytes() &&
                    gate.first_region == operation.first_region &&
                    gate.regions == operation.regions;
  if (fits && gate.sealed == operation.sealed) return OkStatus();
  *fatal = true;
  if (fits) {
    return FailedPrecondition(self_ + " refuses " + StepName(operation.sequence) +
                              ": the root sends it " + (gate.sealed ? "with" : "without") +
                              " a checksum, its own setting is " +
                              (operation.sealed ? "with" : "without") +
                              "; `hash` (integrity) must be equal on all ranks");
  }
  const auto text = [](uint64_t bytes, uint64_t first, uint32_t regions) {
    return std::to_string(bytes) + " bytes in " + std::to_string(regions) +
           " regions from region " + std::to_string(first);
  };
  return FailedPrecondition(
      self_ + " refuses " + StepName(operation.sequence) + ": the root sends " +
      text(gate.bytes, gate.first_region, gate.regions) + ", its own plan has " +
      text(operation.bytes(), operation.first_region, operation.regions) +
      "; rows, buffer size, layout and direct rows must be equal on all ranks");
}

void MemberLedger::Launched() {
  is_sealed_ = gates_.front().sealed;
  gates_.pop_front();
  ++launched_;
}

Status MemberLedger::CheckRelease(Sequence sequence) const {
  if (sequence.value == released_ && released_ < completed_) return OkStatus();
  return FailedPrecondition(StepName(sequence) +
                            " is released out of order: " + std::to_string(released_) +
                            " are released, " + std::to_string(completed_) + " complete");
}

std::optional<Sequence> MemberLedger::FirstUnsealed() const {
  if (!is_sealed_ || finished_) return std::nullopt;
  // No consumer runs further ahead of its seals.
  const uint64_t from = completed_ > kStepsInFlightMax ? completed_ - kStepsInFlightMax : 0;
  for (uint64_t sequence = from; sequence < completed_; ++sequence) {
    if (seals_.count(sequence) == 0) return Sequence(sequence);
  }
  return std::nullopt;
}

std::optional<StepSeal> MemberLedger::SealOf(Sequence sequence) const {
  const auto found = seals_.find(sequence.value);
  if (found == seals_.end()) return std::nullopt;
  return found->second;
}

Status MemberLedger::Finish() {
  if (!begun_ || !end_ || completed_ != *end_) {
    return FailedPrecondition("the stream is not complete at " + self_);
  }
  finished_ = true;
  return OkStatus();
}

}  // namespace packcast
