#include "actors/sources/changing_source.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include "actors/sources/copied_source.h"

namespace packcast {
namespace {

// Flips the bits in which the words of labels `from` and `to` differ. A label's mask is label * odd
// number: its low n bytes are different for all labels below 256^n.
void Change(std::span<std::byte> bytes, uint64_t from, uint64_t to) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15ull;
  const uint64_t mask = from * kOdd ^ to * kOdd;
  for (size_t at = 0; at < bytes.size(); at += ChangingSource::kBlockBytes) {
    const size_t count = std::min<size_t>(8, bytes.size() - at);
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, count);
    word ^= mask;
    std::memcpy(bytes.data() + at, &word, count);
  }
}

}  // namespace

ChangingSource::ChangingSource(Manifest manifest, RowMemory memory)
    : manifest_(std::move(manifest)), memory_(std::move(memory)) {
  for (size_t k = 0; k < memory_.size(); ++k) rows_.push_back(memory_.row(k).data());
}

StatusOr<std::unique_ptr<ChangingSource>> ChangingSource::Make(
    std::unique_ptr<WeightSource> source) {
  PC_ASSIGN_OR_RETURN(Manifest manifest, source->Describe(SyncRequest{}));
  PC_ASSIGN_OR_RETURN(RowMemory memory,
                      RowMemory::Allocate(manifest, "a private copy of the weights"));
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<Cursor> cursor, source->Open(EpochInfo{}));
  PC_RETURN_IF_ERROR(CopyRows(*cursor, manifest, memory, HostAllocator()));
  return std::unique_ptr<ChangingSource>(
      new ChangingSource(std::move(manifest), std::move(memory)));
}

StatusOr<std::unique_ptr<ChangingSource>> ChangingSource::Make(
    std::unique_ptr<GeneratedSource> source) {
  Manifest manifest = source->manifest();
  return std::unique_ptr<ChangingSource>(
      new ChangingSource(std::move(manifest), std::move(*source).TakeMemory()));
}

StatusOr<Manifest> ChangingSource::Describe(const SyncRequest& request) {
  PC_RETURN_IF_ERROR(CheckFullSync(request));
  if (request.label == label_) return manifest_;
  if (const int64_t in_use = *in_use_; in_use > 0) {
    return FailedPrecondition("cannot change the weights from label " + std::to_string(label_) +
                              " to " + std::to_string(request.label) + ": " +
                              std::to_string(in_use) + " groups are still being read");
  }
  for (size_t k = 0; k < memory_.size(); ++k) Change(memory_.row(k), label_, request.label);
  label_ = request.label;
  return manifest_;
}

StatusOr<std::unique_ptr<Cursor>> ChangingSource::Open(const EpochInfo&) {
  return std::unique_ptr<Cursor>(std::make_unique<RowCursor>(&manifest_, &rows_, in_use_));
}

Digest ChangingSource::ContentDigest() const {
  ContentHash hash;
  for (size_t k = 0; k < memory_.size(); ++k) hash.Add(k, 0, memory_.row(k));
  return hash.digest();
}

}  // namespace packcast
