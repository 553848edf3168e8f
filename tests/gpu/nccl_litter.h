#pragma once

#include <filesystem>

namespace packcast::trial {

// Shared memory that NCCL of a killed process leaves behind, for ever, when not all ranks had
// opened it: 10 MB each, which fill a small /dev/shm in some hundred faults. One thread's.
class NcclLitter {
 public:
  // Removes files of NCCL's that came after this object and are so old that all ranks that live
  // have them mapped: those keep what they have.
  void Sweep();
  int swept() const { return swept_; }

 private:
  const std::filesystem::file_time_type begin_ = std::filesystem::file_time_type::clock::now();
  int swept_ = 0;
};

}  // namespace packcast::trial
