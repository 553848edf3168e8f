#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/data/cuda/nccl_library.h"
#include "tests/bench/duo.h"

// NCCL as a program uses it that knows nothing else, for what others are compared with. Errors end
// the process; waits have no end of their own.
namespace packcast::bench {

// As many unique IDs, the same for all ranks of a star. Rank 0 makes them.
std::vector<ncclUniqueId> ShareIds(const NcclLibrary& nccl, const Place& place, int count);

// A blocking communicator with a stream of its own, on the device of the thread that makes it.
class RawCommunicator {
 public:
  // Waits until all `size` ranks have come.
  RawCommunicator(const NcclLibrary& nccl, const ncclUniqueId& id, int rank, int size);
  // Only once all ranks are done with it: the others read what is this one's.
  ~RawCommunicator();
  RawCommunicator(const RawCommunicator&) = delete;
  RawCommunicator& operator=(const RawCommunicator&) = delete;

  // In place; behind those before.
  void Broadcast(std::byte* memory, uint64_t bytes, int root);
  // What is between goes as one operation.
  void BeginGroup();
  void EndGroup();
  // Until all broadcasts have ended here.
  void Wait();

 private:
  void Demand(ncclResult_t result);

  const NcclLibrary& nccl_;
  ncclComm_t comm_ = nullptr;
  cudaStream_t stream_ = nullptr;
};

}  // namespace packcast::bench
