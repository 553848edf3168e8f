#include "tests/bench/raw_broadcast.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/data/cuda/device.h"
#include "runtime/data/cuda/nccl_library.h"
#include "tests/bench/take.h"

namespace packcast::bench {
namespace {

constexpr uint64_t kPiece = uint64_t{1} << 30;

ncclUniqueId ShareId(const NcclLibrary& nccl, Channel* channel, int rank) {
  ncclUniqueId id;
  if (rank == 0) {
    Check(NcclStatus(nccl, nccl.get_unique_id(&id), nullptr, "making an ID"));
    channel->Send(std::string(id.internal, sizeof id.internal));
  } else {
    const std::string bytes = channel->Receive();
    std::memcpy(id.internal, bytes.data(), sizeof id.internal);
  }
  return id;
}

}  // namespace

double RawBroadcastRate(Channel* channel, int rank, const std::string& library, uint64_t pieces,
                        int repeats) {
  const auto check = [](cudaError_t error) { Check(CudaStatus(error, "raw broadcast")); };
  const NcclLibrary& nccl = *Take(LoadNccl(library));
  const ncclUniqueId id = ShareId(nccl, channel, rank);
  ncclComm_t comm = nullptr;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  Check(NcclStatus(nccl, nccl.init_rank(&comm, 2, id, rank, &config), nullptr, "connecting"));
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  std::byte* const memory = Take(DeviceAllocator(rank)->Allocate(kPiece));
  std::vector<double> seconds;
  for (int k = 0; k <= repeats; ++k) {
    channel->Barrier();
    const Time begin = Now();
    for (uint64_t piece = 0; piece < pieces; ++piece) {
      Check(NcclStatus(nccl, nccl.broadcast(memory, memory, kPiece, ncclUint8, 0, comm, stream),
                       comm, "broadcasting"));
    }
    check(cudaStreamSynchronize(stream));
    seconds.push_back(ToSeconds(Now() - begin));
  }
  channel->Barrier();
  Check(NcclStatus(nccl, nccl.abort(comm), nullptr, "ending"));
  check(cudaStreamDestroy(stream));
  DeviceAllocator(rank)->Free(memory, kPiece);
  seconds.erase(seconds.begin());  // which connects
  std::sort(seconds.begin(), seconds.end());
  return static_cast<double>(pieces * kPiece) / seconds[seconds.size() / 2];
}

}  // namespace packcast::bench
