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
#include "runtime/data/tensor_batch.h"

namespace packcast {

// The root's end of a packed broadcast of tensors in a device's memory: a copy engine packs whole
// steps (one kernel each) beside the thread that drives this, direct rows leave from where they
// are. For manifests and plans that are known beforehand. Otherwise as PackedProducer: the same
// rules on use, errors and threads.
class DeviceProducer {
 public:
  // `options.manifest` and `options.expected` are needed (kInvalidArgument), as is a ring of the
  // engine's memory, lent or not. `engine` outlives the producer and serves nobody else meanwhile.
  // Tensors that travel direct are contiguous and unconverted.
  static StatusOr<std::unique_ptr<DeviceProducer>> Make(Collective* collective, BatchSource* source,
                                                        CopyEngine* engine,
                                                        const BroadcastOptions& options);
  ~DeviceProducer();
  DeviceProducer(const DeviceProducer&) = delete;
  DeviceProducer& operator=(const DeviceProducer&) = delete;

  StatusOr<bool> Advance();
  bool idle() const;
  StatusOr<BroadcastResult> Run(Time deadline, CancelToken* cancel = nullptr,
                                std::atomic<uint64_t>* beats = nullptr);
  void Abort(const Status& why);

  uint64_t rows_entered() const;
  uint64_t rows_released() const;
  const BroadcastResult& result() const;

 private:
  class Impl;
  explicit DeviceProducer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packcast
