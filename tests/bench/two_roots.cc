#include "tests/bench/two_roots.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/data/cuda/device.h"
#include "tests/bench/raw_communicator.h"
#include "tests/bench/take.h"

namespace packcast::bench {
namespace {

constexpr uint64_t kPiece = uint64_t{1} << 30;
constexpr int kRoots = 2;

class TwoRoots {
 public:
  TwoRoots(const Place& place, const std::string& library, uint64_t pieces, int repeats);
  ~TwoRoots();
  void Run();

 private:
  using CommunicatorPtr = std::unique_ptr<RawCommunicator>;

  void OneRoot();
  void Alternating();
  void Grouped();
  void Apart();
  void Measure(const char* what, const std::string& communicators, void (TwoRoots::*run)());

  const Place place_;
  const uint64_t pieces_;
  const int repeats_;
  // A root and the receivers, the root as rank 0; absent at the other root.
  std::array<CommunicatorPtr, kRoots> apart_;
  CommunicatorPtr all_;
  // Of each root, so that no piece is overwritten by the other root's.
  std::array<std::byte*, kRoots> memory_{};
};

TwoRoots::TwoRoots(const Place& place, const std::string& library, uint64_t pieces, int repeats)
    : place_(place), pieces_(pieces), repeats_(repeats) {
  const NcclLibrary& nccl = *Take(LoadNccl(library));
  for (std::byte*& memory : memory_) memory = Take(DeviceAllocator(place.rank)->Allocate(kPiece));
  const std::vector<ncclUniqueId> ids = ShareIds(nccl, place, kRoots + 1);
  // All in one order, in which each connects by itself. The first broadcast does the rest of
  // connecting, which is not to happen beside another communicator's.
  for (int root = 0; root < kRoots; ++root) {
    if (place.rank < kRoots && place.rank != root) continue;
    const int rank = place.rank == root ? 0 : place.rank - 1;
    auto& made = apart_[static_cast<size_t>(root)];
    made = std::make_unique<RawCommunicator>(nccl, ids[static_cast<size_t>(root)], rank,
                                             place.size - 1);
    made->Broadcast(memory_[static_cast<size_t>(root)], kPiece, 0);
    made->Wait();
  }
  all_ = std::make_unique<RawCommunicator>(nccl, ids.back(), place.rank, place.size);
}

TwoRoots::~TwoRoots() {
  Meet(place_);
  for (std::byte* memory : memory_) DeviceAllocator(place_.rank)->Free(memory, kPiece);
}

void TwoRoots::OneRoot() {
  if (apart_[0] == nullptr) return;
  for (uint64_t k = 0; k < pieces_; ++k) apart_[0]->Broadcast(memory_[0], kPiece, 0);
  apart_[0]->Wait();
}

void TwoRoots::Alternating() {
  for (uint64_t k = 0; k < pieces_; ++k) {
    const uint64_t root = k % kRoots;
    all_->Broadcast(memory_[root], kPiece, static_cast<int>(root));
  }
  all_->Wait();
}

void TwoRoots::Grouped() {
  for (uint64_t k = 0; k < pieces_; k += kRoots) {
    all_->BeginGroup();
    for (int root = 0; root < kRoots; ++root) {
      all_->Broadcast(memory_[static_cast<size_t>(root)], kPiece, root);
    }
    all_->EndGroup();
  }
  all_->Wait();
}

// What runs beside each other on a device takes less than all of it, so neither waits for the
// other's end.
void TwoRoots::Apart() {
  for (uint64_t k = 0; k < pieces_; ++k) {
    const uint64_t root = k % kRoots;
    if (apart_[root] != nullptr) apart_[root]->Broadcast(memory_[root], kPiece, 0);
  }
  for (const CommunicatorPtr& communicator : apart_) {
    if (communicator != nullptr) communicator->Wait();
  }
}

void TwoRoots::Measure(const char* what, const std::string& communicators,
                       void (TwoRoots::*run)()) {
  std::vector<double> seconds;
  for (int k = 0; k <= repeats_; ++k) {
    seconds.push_back(SecondsTogether(place_, [this, run] { (this->*run)(); }));
  }
  if (place_.rank != 0) return;
  seconds.erase(seconds.begin());  // which connects
  std::sort(seconds.begin(), seconds.end());
  const double bytes = static_cast<double>(pieces_ * kPiece);
  std::printf("%-44s %-36s %9.2f %9.2f %8.1f\n", what, communicators.c_str(),
              1e3 * seconds[seconds.size() / 2], 1e3 * seconds.front(),
              bytes / seconds[seconds.size() / 2] / 1e9);
  std::fflush(stdout);
}

void TwoRoots::Run() {
  const std::string all = std::to_string(place_.size);
  const std::string apart = std::to_string(place_.size - 1);
  if (place_.rank == 0) {
    std::printf("\ntwo roots, %d receivers, %llu GiB in all, raw ncclBroadcast in 1 GiB pieces\n",
                place_.size - kRoots, static_cast<unsigned long long>(pieces_));
    std::printf("%-44s %-36s %9s %9s %8s\n", "", "communicators", "median", "best", "GB/s");
  }
  Measure("one root sends all", "1 of " + apart + ": root, receivers", &TwoRoots::OneRoot);
  Measure("two roots, half each, in turn", "1 of " + all + ": roots receive too",
          &TwoRoots::Alternating);
  Measure("two roots, half each, a group for each pair", "1 of " + all + ": roots receive too",
          &TwoRoots::Grouped);
  // Last: NCCL gives no promise for two communicators that are busy at once.
  Measure("two roots, half each, at once", "2 of " + apart + ": a root, receivers; 2 streams",
          &TwoRoots::Apart);
}

}  // namespace

void PrintTwoRoots(const Place& place, const std::string& library, uint64_t pieces, int repeats) {
  TwoRoots(place, library, pieces, repeats).Run();
}

}  // namespace packcast::bench
