#include "tests/bench/raw_communicator.h"

#include <cstring>
#include <string>

#include "runtime/data/cuda/device.h"
#include "tests/bench/take.h"

namespace packcast::bench {

std::vector<ncclUniqueId> ShareIds(const NcclLibrary& nccl, const Place& place, int count) {
  std::vector<ncclUniqueId> ids(static_cast<size_t>(count));
  for (ncclUniqueId& id : ids) {
    if (place.rank != 0) {
      const std::string bytes = place.channels.front()->Receive();
      std::memcpy(id.internal, bytes.data(), sizeof id.internal);
      continue;
    }
    Check(NcclStatus(nccl, nccl.get_unique_id(&id), nullptr, "making an ID"));
    for (Channel* channel : place.channels) {
      channel->Send(std::string(id.internal, sizeof id.internal));
    }
  }
  return ids;
}

RawCommunicator::RawCommunicator(const NcclLibrary& nccl, const ncclUniqueId& id, int rank,
                                 int size)
    : nccl_(nccl) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  Demand(nccl.init_rank(&comm_, size, id, rank, &config));
  Check(CudaStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"));
}

RawCommunicator::~RawCommunicator() {
  Demand(nccl_.abort(comm_));
  (void)cudaStreamDestroy(stream_);
}

void RawCommunicator::Broadcast(std::byte* memory, uint64_t bytes, int root) {
  Demand(nccl_.broadcast(memory, memory, bytes, ncclUint8, root, comm_, stream_));
}

void RawCommunicator::BeginGroup() { Demand(nccl_.group_start()); }
void RawCommunicator::EndGroup() { Demand(nccl_.group_end()); }

void RawCommunicator::Wait() {
  Check(CudaStatus(cudaStreamSynchronize(stream_), "raw broadcasts"));
}

void RawCommunicator::Demand(ncclResult_t result) {
  Check(NcclStatus(nccl_, result, nullptr, "raw NCCL"));
}

}  // namespace packcast::bench
