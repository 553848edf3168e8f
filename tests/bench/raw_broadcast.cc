#include "tests/bench/raw_broadcast.h"

#include <algorithm>
#include <vector>

#include "runtime/data/cuda/device.h"
#include "tests/bench/raw_communicator.h"
#include "tests/bench/take.h"

namespace packcast::bench {
namespace {

constexpr uint64_t kPiece = uint64_t{1} << 30;

}  // namespace

double RawBroadcastRate(const Place& place, const std::string& library, uint64_t pieces,
                        int repeats) {
  const NcclLibrary& nccl = *Take(LoadNccl(library));
  const ncclUniqueId id = ShareIds(nccl, place, 1).front();
  RawCommunicator communicator(nccl, id, place.rank, place.size);
  std::byte* const memory = Take(DeviceAllocator(place.rank)->Allocate(kPiece));
  std::vector<double> seconds;
  for (int k = 0; k <= repeats; ++k) {
    seconds.push_back(SecondsTogether(place, [&] {
      for (uint64_t piece = 0; piece < pieces; ++piece) {
        communicator.Broadcast(memory, kPiece, 0);
      }
      communicator.Wait();
    }));
  }
  Meet(place);
  DeviceAllocator(place.rank)->Free(memory, kPiece);
  seconds.erase(seconds.begin());  // which connects
  std::sort(seconds.begin(), seconds.end());
  return static_cast<double>(pieces * kPiece) / seconds[seconds.size() / 2];
}

}  // namespace packcast::bench
