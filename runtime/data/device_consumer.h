#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/data/broadcast.h"
#include "runtime/data/cancel_token.h"
#include "runtime/data/collective.h"
#include "runtime/data/copy_engine.h"
#include "runtime/data/packed_consumer.h"
#include "runtime/data/unpack_table.h"

namespace packcast {

// A member's end of a packed broadcast into a device's memory: a copy engine unpacks and verifies
// whole steps, direct rows arrive where they belong. For manifests and plans that are known
// beforehand. Otherwise as PackedConsumer: the same rules on use, errors and threads.
class DeviceConsumer {
 public:
  // `options.manifest` and `options.expected` are needed (kInvalidArgument), as is a ring of the
  // engine's memory, lent or not, unless the collective reads in place; `table` was made of them,
  // and of `options.hash`. All outlive the consumer. The callback sees device memory (in place: the
  // root's), and empty rows after all others.
  static StatusOr<std::unique_ptr<DeviceConsumer>> Make(Collective* collective, CopyEngine* engine,
                                                        const BroadcastOptions& options,
                                                        const UnpackTable* table,
                                                        UnpackCallback callback = nullptr);
  ~DeviceConsumer();
  DeviceConsumer(const DeviceConsumer&) = delete;
  DeviceConsumer& operator=(const DeviceConsumer&) = delete;

  // A wrong seal is kDataLoss and names rank, tensor and bytes.
  StatusOr<bool> Advance();
  bool idle() const;
  StatusOr<BroadcastResult> Run(Time deadline, CancelToken* cancel = nullptr,
                                std::atomic<uint64_t>* beats = nullptr);
  void Abort(const Status& why);
  const BroadcastResult& result() const;

 private:
  class Impl;
  explicit DeviceConsumer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packcast
