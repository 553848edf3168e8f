#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "protocol/status.h"
#include "protocol/time.h"
#include "protocol/value.h"

namespace packcast {

// Memory of devices as processes of one host share it: one names what it has, others map that and
// copy out of it, with a copy engine and without the owner's help. One thread at a time, but for
// Drain.
class PeerMemory {
 public:
  // An allocation of this process, and a place in it.
  struct Place {
    uint64_t serial = 0;  // of the allocation; no other ever has the same
    uint64_t bytes = 0;   // of the allocation
    Bytes handle;         // what another process opens it by; a secret
    uint64_t offset = 0;
  };

  virtual ~PeerMemory() = default;

  // For the same device, with copies and marks of its own: for another thread. Errors: the
  // device's.
  virtual StatusOr<std::unique_ptr<PeerMemory>> Another() = 0;

  // Where [data, data + bytes) lies. kInvalidArgument for memory that cannot be shared.
  virtual StatusOr<Place> Find(const std::byte* data, uint64_t bytes) = 0;

  // Maps another process's allocation. It stays readable until Close, whatever its owner does.
  // kUnavailable, with the reason and the remedy, where that cannot be; kUnimplemented where it
  // never can.
  virtual StatusOr<const std::byte*> Open(const Bytes& handle) = 0;
  virtual void Close(const std::byte* data) = 0;

  // Copies after all that was asked for before; returns at once.
  virtual Status Copy(const std::byte* from, std::byte* to, uint64_t bytes) = 0;
  // Marks the end of what was asked for so far.
  virtual Status Mark() = 0;
  // Marks that were passed, over all time: the copies before them are complete.
  virtual StatusOr<uint64_t> Passed() = 0;

  // Waits until no copy is under way; kDeadlineExceeded otherwise. Any thread.
  virtual Status Drain(Duration timeout) = 0;
};

}  // namespace packcast
