#include "runtime/data/peer_wire.h"

#include <algorithm>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <utility>

#include "runtime/data/peer_note.h"

namespace packcast {
namespace {

class PeerRoot final : public Wire {
 public:
  explicit PeerRoot(std::shared_ptr<PeerMemory> memory) : memory_(std::move(memory)) {}

  StatusOr<bool> Up() override { return true; }
  bool is_one_sided() const override { return true; }
  StatusOr<std::string> NoteFor(const Operation& operation) override;
  Status Launch(const Operation&) override { return OkStatus(); }
  StatusOr<uint64_t> Completed() override { return Internal("a one-sided root is not asked"); }
  // Nothing here touches memory.
  Status Abort() override { return OkStatus(); }
  void BeginAbort() override {}

 private:
  struct Told {
    uint64_t number = 0;
    bool is_used = false;  // in this stream
  };

  const std::shared_ptr<PeerMemory> memory_;
  std::map<uint64_t, Told> told_;  // by serial
  uint64_t last_ = 0;
};

StatusOr<std::string> PeerRoot::NoteFor(const Operation& operation) {
  PeerNote note;
  // What the last stream did not use is let go, so that memory which the trainer has freed comes
  // back to the device.
  for (auto at = told_.begin(); operation.sequence.value == 0 && at != told_.end();) {
    if (std::exchange(at->second.is_used, false)) {
      ++at;
    } else {
      note.closed.push_back(at->second.number);
      at = told_.erase(at);
    }
  }
  for (const Span& span : operation.spans) {
    PC_ASSIGN_OR_RETURN(PeerMemory::Place place, memory_->Find(span.data, span.bytes));
    Told& told = told_[place.serial];
    if (told.number == 0) {
      told.number = ++last_;
      note.opened.push_back({told.number, place.bytes, std::move(place.handle)});
    }
    told.is_used = true;
    if (!note.parts.empty() && note.parts.back().number == told.number &&
        note.parts.back().offset + note.parts.back().bytes == place.offset) {
      note.parts.back().bytes += span.bytes;
    } else {
      note.parts.push_back({told.number, place.offset, span.bytes});
    }
  }
  return EncodePeerNote(note);
}

class PeerMember final : public Wire {
 public:
  PeerMember(std::shared_ptr<PeerMemory> memory, const PeerMemberOptions& options)
      : memory_(std::move(memory)), drain_(options.drain), in_place_(options.in_place) {}
  ~PeerMember() override;
  Status Start(const Bytes& probe, std::byte* scratch);

  StatusOr<bool> Up() override;
  bool is_one_sided() const override { return true; }
  bool reads_in_place() const override { return in_place_; }
  Status Launch(const Operation& operation) override;
  StatusOr<uint64_t> Completed() override;
  StatusOr<std::span<const std::byte>> Landed(uint64_t operation) override;
  void Release() override;
  Status Abort() override { return memory_->Drain(drain_); }
  void BeginAbort() override {}  // copies wait for nobody

 private:
  struct Mapping {
    const std::byte* data = nullptr;
    uint64_t bytes = 0;
  };
  Status Apply(const PeerNote& note, const Operation& operation);
  StatusOr<const std::byte*> AddressOf(const PeerNote::Part& part) const;
  Status CopyAll(const PeerNote& note, const Operation& operation);
  Status Land(const PeerNote& note, const Operation& operation);

  const std::shared_ptr<PeerMemory> memory_;
  const Duration drain_;
  const bool in_place_;
  const std::byte* probe_ = nullptr;
  bool is_up_ = false;
  uint64_t base_ = 0;  // marks before the first operation
  std::map<uint64_t, Mapping> mapped_;
  // In place: what is launched and not released, from released_.
  std::deque<std::span<const std::byte>> landed_;
  uint64_t released_ = 0;
};

PeerMember::~PeerMember() {
  // A copy that does not end keeps what it reads.
  if (!Abort().ok()) return;
  for (const auto& [number, mapping] : mapped_) memory_->Close(mapping.data);
  if (probe_ != nullptr) memory_->Close(probe_);
}

Status PeerMember::Start(const Bytes& probe, std::byte* scratch) {
  PC_ASSIGN_OR_RETURN(base_, memory_->Passed());
  PC_ASSIGN_OR_RETURN(probe_, memory_->Open(probe));
  PC_RETURN_IF_ERROR(memory_->Copy(probe_, scratch, kPeerProbeBytes));
  return memory_->Mark();
}

StatusOr<bool> PeerMember::Up() {
  if (is_up_) return true;
  PC_ASSIGN_OR_RETURN(const uint64_t passed, memory_->Passed());
  if (passed == base_) return false;
  ++base_;
  is_up_ = true;
  return true;
}

StatusOr<uint64_t> PeerMember::Completed() {
  if (in_place_) return released_ + landed_.size();
  PC_ASSIGN_OR_RETURN(const uint64_t passed, memory_->Passed());
  return passed - base_;
}

Status PeerMember::Launch(const Operation& operation) {
  PC_ASSIGN_OR_RETURN(const PeerNote note, DecodePeerNote(operation.note));
  PC_RETURN_IF_ERROR(Apply(note, operation));
  if (in_place_) return Land(note, operation);
  PC_RETURN_IF_ERROR(CopyAll(note, operation));
  return memory_->Mark();
}

Status PeerMember::Land(const PeerNote& note, const Operation& operation) {
  if (operation.spans.size() != 1 || operation.spans[0].data != nullptr) {
    return InvalidArgument("a step that is read in place has one span without memory");
  }
  const uint64_t bytes = operation.bytes();
  if (note.parts.size() != 1 || note.parts[0].bytes != bytes) {
    return Internal("the root names " + std::to_string(note.parts.size()) +
                    " places for a step of " + std::to_string(bytes) + " bytes, and not one");
  }
  PC_ASSIGN_OR_RETURN(const std::byte* const data, AddressOf(note.parts[0]));
  landed_.emplace_back(data, bytes);
  return OkStatus();
}

StatusOr<std::span<const std::byte>> PeerMember::Landed(uint64_t operation) {
  if (operation >= released_ && operation - released_ < landed_.size()) {
    return landed_[operation - released_];
  }
  return FailedPrecondition("the step is not launched, or was released");
}

void PeerMember::Release() {
  landed_.pop_front();
  ++released_;
}

Status PeerMember::Apply(const PeerNote& note, const Operation& operation) {
  for (const uint64_t number : note.closed) {
    const auto found = mapped_.find(number);
    if (found == mapped_.end()) continue;
    // At the begin of a stream nothing is read any more.
    if (operation.sequence.value != 0) return Internal("the root closes memory in a stream");
    memory_->Close(found->second.data);
    mapped_.erase(found);
  }
  for (const PeerNote::Opened& opened : note.opened) {
    if (mapped_.contains(opened.number)) return Internal("the root names memory twice");
    PC_ASSIGN_OR_RETURN(const std::byte* data, memory_->Open(opened.handle));
    mapped_[opened.number] = {data, opened.bytes};
  }
  return OkStatus();
}

StatusOr<const std::byte*> PeerMember::AddressOf(const PeerNote::Part& part) const {
  const auto found = mapped_.find(part.number);
  if (found == mapped_.end()) return Internal("the root names memory that it has not opened");
  const uint64_t bytes = found->second.bytes;
  if (part.offset > bytes || part.bytes > bytes - part.offset) {
    return Internal("the root names " + std::to_string(part.bytes) + " bytes from " +
                    std::to_string(part.offset) + " of memory of " + std::to_string(bytes));
  }
  return found->second.data + part.offset;
}

// Parts and spans are the same bytes, cut in their own ways; what is contiguous on both sides is
// one copy.
Status PeerMember::CopyAll(const PeerNote& note, const Operation& operation) {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  uint64_t joined = 0;
  const auto flush = [&] {
    const uint64_t bytes = std::exchange(joined, 0);
    return bytes == 0 ? OkStatus() : memory_->Copy(from, to, bytes);
  };
  auto span = operation.spans.begin();
  uint64_t span_done = 0;
  for (const PeerNote::Part& part : note.parts) {
    PC_ASSIGN_OR_RETURN(const std::byte* const source, AddressOf(part));
    for (uint64_t done = 0; done < part.bytes;) {
      if (span == operation.spans.end()) return Internal("the root names more bytes than a step's");
      const uint64_t bytes = std::min(part.bytes - done, span->bytes - span_done);
      std::byte* const target = span->data + span_done;
      if (joined == 0 || from + joined != source + done || to + joined != target) {
        PC_RETURN_IF_ERROR(flush());
        from = source + done;
        to = target;
      }
      joined += bytes;
      done += bytes;
      span_done += bytes;
      if (span_done == span->bytes) {
        ++span;
        span_done = 0;
      }
    }
  }
  if (span != operation.spans.end()) return Internal("the root names fewer bytes than a step's");
  return flush();
}

}  // namespace

std::unique_ptr<Wire> MakePeerRoot(std::shared_ptr<PeerMemory> memory) {
  return std::make_unique<PeerRoot>(std::move(memory));
}

StatusOr<std::unique_ptr<Wire>> MakePeerMember(std::shared_ptr<PeerMemory> memory,
                                               const PeerMemberOptions& options) {
  auto member = std::make_unique<PeerMember>(std::move(memory), options);
  PC_RETURN_IF_ERROR(member->Start(options.probe, options.scratch));
  return std::unique_ptr<Wire>(std::move(member));
}

}  // namespace packcast
