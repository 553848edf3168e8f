#pragma once

#include <nccl.h>

#include <memory>
#include <string>

#include "protocol/status.h"
#include "protocol/time.h"

namespace packcast {

// A unique ID, and the process that made it. NCCL keeps a thread and three descriptors for every
// ID whose ranks do not all come, for ever; here they end with the helper. Not thread-safe.
class NcclId {
 public:
  // Starts `helper` (packcast_nccl_id) with `library` as its argument, and takes an ID from it.
  // Errors name the helper: kUnavailable when it cannot be started, kDeadlineExceeded.
  static StatusOr<std::unique_ptr<NcclId>> Make(const std::string& helper,
                                                const std::string& library, Duration timeout);
  // Ends the helper: once all ranks are connected, or nobody will be.
  ~NcclId();
  NcclId(const NcclId&) = delete;
  NcclId& operator=(const NcclId&) = delete;

  const ncclUniqueId& id() const { return id_; }

 private:
  NcclId() = default;
  ncclUniqueId id_{};
  int pid_ = -1;
  int input_ = -1;  // it ends when this closes, and so with this process
};

// packcast_nccl_id beside the running program, or in its runfiles; "" when it is in neither.
std::string FindNcclIdHelper();

}  // namespace packcast
