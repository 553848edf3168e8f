#pragma once

#include <memory>
#include <string>

#include "protocol/status.h"

namespace packcast::trial {

// What NCCL takes of a device by itself: bytes of the device in use, as cudaMemGetInfo counts.
struct BareUse {
  uint64_t before = 0;
  uint64_t connected = 0;  // after the ranks were connected
  uint64_t warm = 0;       // after broadcasts of all sizes
  uint64_t after = 0;      // once the communicator was aborted
};

StatusOr<uint64_t> UsedDeviceMemory(int device);

// A unique ID as hex text, from a process of its own that lives as long as `helper`.
struct BareId {
  std::string text;
  std::shared_ptr<void> helper;
};
StatusOr<BareId> MakeBareId(const std::string& library);

// One of two ranks of a communicator as packcast makes them, and nothing of packcast around it.
// One thread's.
class BareCommunicator {
 public:
  BareCommunicator(std::string library, int device);
  // Aborts what is up.
  ~BareCommunicator();
  // Connects and broadcasts. Returns in half a minute at most, but for a device that hangs.
  Status Up(const std::string& id_text, int rank);
  // Once both ranks are up: what one has sent may still be read by the other until then.
  StatusOr<BareUse> Down();

 private:
  class Impl;
  const std::string library_;
  const int device_;
  BareUse use_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace packcast::trial
