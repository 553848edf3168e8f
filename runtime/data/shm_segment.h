#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "protocol/status.h"

namespace packcast {

// Memory of this process that other processes of its user, on its host, can map to read.
//
// It is a memfd, which they open as /proc/PID/fd/N. Nothing else keeps it alive than descriptors
// and mappings, so no death at any moment leaves anything behind, as a name under /dev/shm would;
// nor is it bound by the size of /dev/shm, which containers make small. Its seals say that it never
// shrinks, so reading it cannot fault, and that nobody else can map it to write.
class ShmSegment {
 public:
  // All pages are there when this returns. kResourceExhausted when memory or descriptors are short.
  static StatusOr<std::unique_ptr<ShmSegment>> Make(uint64_t bytes);
  ~ShmSegment();
  ShmSegment(const ShmSegment&) = delete;
  ShmSegment& operator=(const ShmSegment&) = delete;

  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t fd() const { return static_cast<uint64_t>(fd_); }
  uint64_t inode() const { return inode_; }

 private:
  ShmSegment(int fd, uint64_t bytes) : fd_(fd), bytes_(bytes) {}
  Status Prepare();

  const int fd_;
  const uint64_t bytes_;
  uint64_t inode_ = 0;
  std::byte* data_ = nullptr;
};

// Another process's segment, mapped read-only. It stays as it is when its owner has gone.
class ShmView {
 public:
  // Descriptor numbers are used again, so the inode says which memory is meant. kUnavailable when
  // there is no such segment, kPermissionDenied when it may not be opened; both with the remedy.
  static StatusOr<std::shared_ptr<const ShmView>> Open(uint64_t pid, uint64_t fd, uint64_t inode,
                                                       uint64_t bytes);
  ~ShmView();
  ShmView(const ShmView&) = delete;
  ShmView& operator=(const ShmView&) = delete;

  const std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  ShmView(const std::byte* data, uint64_t bytes) : data_(data), bytes_(bytes) {}

  const std::byte* const data_;
  const uint64_t bytes_;
};

}  // namespace packcast
