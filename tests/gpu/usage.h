#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "protocol/status.h"

namespace packcast::trial {

// What a process holds.
struct Usage {
  uint64_t device_bytes = 0;    // in use on its device, by anyone
  uint64_t resident_bytes = 0;  // of the host's memory
  uint64_t descriptors = 0;
  uint64_t threads = 0;
  uint64_t shared_files = 0;  // in /dev/shm, of all processes
  uint64_t shared_maps = 0;   // of shared segments and memfds in its address space
};

// This process's, and its device's if it has one.
StatusOr<Usage> MeasureUsage(std::optional<int> device);

// As numbers with blanks between.
std::string UsageText(const Usage& usage);
StatusOr<Usage> UsageFromText(const std::string& text);

}  // namespace packcast::trial
