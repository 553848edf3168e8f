// Ways to move bytes from one GPU to another, by the size of the pieces: ncclBroadcast (plain
// memory and symmetric windows), copy engines that write into the peer's memory or read from it,
// and the copy kernel that reads from the peer and hashes. Two processes, two GPUs; one table.
//
//   wires [--gib N] [--repeats N]

#include <dlfcn.h>
#include <nccl.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "runtime/base/clock.h"
#include "runtime/data/cuda/device.h"
#include "runtime/data/cuda/nccl_library.h"
#include "tests/bench/take.h"
#include "tests/gpu/fill.h"

namespace packcast::bench {
namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = kKiB * kKiB;
constexpr uint64_t kGiB = kKiB * kMiB;
constexpr uint64_t kPieceSizes[] = {256 * kKiB, kMiB, 3 * kMiB, 16 * kMiB, 64 * kMiB, kGiB};

void CheckCuda(cudaError_t error) { Check(CudaStatus(error, "benchmark")); }

class Rank {
 public:
  Rank(int rank, int channel, const std::string& library, uint64_t bytes, int repeats)
      : rank_(rank), channel_(channel), bytes_(bytes), repeats_(repeats) {
    CheckCuda(cudaSetDevice(rank_));
    engine_ = Take(MakeCudaCopyEngine({rank_, 32}));
    mine_ = Take(engine_->allocator()->Allocate(bytes_));
    CheckCuda(testing::FillRandom(mine_, bytes_, static_cast<uint64_t>(rank_) + 1, nullptr));
    for (cudaStream_t& stream : streams_) {
      CheckCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    }
    Exchange();
    Connect(library);
  }

  void Run();

 private:
  bool is_root() const { return rank_ == 0; }
  void Exchange();
  void Connect(const std::string& library);
  void OpenWindows();
  // `work` enqueues one piece of the total at an offset; 0 where it cannot be done.
  using Piece = std::function<void(uint64_t offset, uint64_t bytes, int index)>;
  double Rate(uint64_t piece, bool acts, const Piece& work);
  double KernelRate(uint64_t piece, uint32_t blocks);
  void Row(const std::string& name, const std::function<double(uint64_t)>& rate);

  const int rank_;
  Channel channel_;
  const uint64_t bytes_;
  const int repeats_;
  std::unique_ptr<CopyEngine> engine_;
  std::byte* mine_ = nullptr;
  std::byte* theirs_ = nullptr;  // the peer's memory, mapped
  cudaStream_t streams_[4] = {};
  const NcclLibrary* nccl_ = nullptr;
  ncclComm_t comm_ = nullptr;
  std::byte* window_ = nullptr;
};

void Rank::Exchange() {
  cudaIpcMemHandle_t handle;
  CheckCuda(cudaIpcGetMemHandle(&handle, mine_));
  channel_.Send(std::string(reinterpret_cast<const char*>(&handle), sizeof handle));
  const std::string other = channel_.Receive();
  std::memcpy(&handle, other.data(), sizeof handle);
  void* mapped = nullptr;
  CheckCuda(cudaIpcOpenMemHandle(&mapped, handle, cudaIpcMemLazyEnablePeerAccess));
  theirs_ = static_cast<std::byte*>(mapped);
}

void Rank::Connect(const std::string& library) {
  nccl_ = Take(LoadNccl(library));
  ncclUniqueId id;
  if (is_root()) {
    Check(NcclStatus(*nccl_, nccl_->get_unique_id(&id), nullptr, "making an ID"));
    channel_.Send(std::string(id.internal, sizeof id.internal));
  } else {
    const std::string bytes = channel_.Receive();
    std::memcpy(id.internal, bytes.data(), sizeof id.internal);
  }
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  Check(NcclStatus(*nccl_, nccl_->init_rank(&comm_, 2, id, rank_, &config), nullptr, "connecting"));
}

// Optional: old libraries have none.
void Rank::OpenWindows() {
  void* handle = dlopen("libnccl.so.2", RTLD_NOW | RTLD_NOLOAD);
  if (handle == nullptr) return;
  using Allocate = ncclResult_t (*)(void**, size_t);
  using Register = ncclResult_t (*)(ncclComm_t, void*, size_t, void**, int);
  const auto allocate = reinterpret_cast<Allocate>(dlsym(handle, "ncclMemAlloc"));
  const auto enroll = reinterpret_cast<Register>(dlsym(handle, "ncclCommWindowRegister"));
  if (allocate == nullptr || enroll == nullptr) return;
  void* memory = nullptr;
  void* window = nullptr;
  constexpr int kSymmetric = 1;  // NCCL_WIN_COLL_SYMMETRIC
  if (allocate(&memory, bytes_) != ncclSuccess) return;
  if (enroll(comm_, memory, bytes_, &window, kSymmetric) != ncclSuccess) return;
  window_ = static_cast<std::byte*>(memory);
}

// GB/s of the median round. Both ranks act, or one does while the other waits.
double Rank::Rate(uint64_t piece, bool acts, const Piece& work) {
  std::vector<double> seconds;
  for (int k = 0; k <= repeats_; ++k) {
    channel_.Barrier();
    const Time begin = Now();
    if (acts) {
      int index = 0;
      for (uint64_t at = 0; at + piece <= bytes_; at += piece) work(at, piece, index++);
      for (cudaStream_t stream : streams_) CheckCuda(cudaStreamSynchronize(stream));
    }
    channel_.Barrier();
    seconds.push_back(ToSeconds(Now() - begin));
  }
  seconds.erase(seconds.begin());
  std::sort(seconds.begin(), seconds.end());
  return static_cast<double>(bytes_ / piece * piece) / seconds[seconds.size() / 2] / 1e9;
}

// The member unpacks straight out of the root's memory, and hashes.
double Rank::KernelRate(uint64_t piece, uint32_t blocks) {
  const auto engine = Take(MakeCudaCopyEngine({rank_, blocks}));
  std::vector<double> seconds;
  for (int k = 0; k <= repeats_; ++k) {
    channel_.Barrier();
    const Time begin = Now();
    std::vector<CopyEngine::Ticket> tickets;
    std::vector<CopyPiece> pieces;
    const auto flush = [&] {
      if (pieces.empty()) return;
      while (!engine->HasRoom()) {
        while (!Take(engine->Done(tickets.front()))) {
        }
        engine->Forget(tickets.front());
        tickets.erase(tickets.begin());
      }
      tickets.push_back(Take(engine->Submit(pieces, {}, nullptr)));
      pieces.clear();
    };
    for (uint64_t at = 0; !is_root() && at < bytes_; at += piece) {
      for (uint64_t done = 0; done < piece; done += kPieceBytes) {
        CopyPiece one;
        one.from = theirs_ + at + done;
        one.to = mine_ + at + done;
        one.row = static_cast<uint32_t>(at / piece);
        one.row_offset = done;
        one.bytes = static_cast<uint32_t>(std::min<uint64_t>(kPieceBytes, piece - done));
        pieces.push_back(one);
        if (pieces.size() == 1024) flush();
      }
    }
    flush();
    for (const CopyEngine::Ticket ticket : tickets) {
      while (!Take(engine->Done(ticket))) {
      }
      engine->Forget(ticket);
    }
    channel_.Barrier();
    seconds.push_back(ToSeconds(Now() - begin));
  }
  seconds.erase(seconds.begin());
  std::sort(seconds.begin(), seconds.end());
  return static_cast<double>(bytes_) / seconds[seconds.size() / 2] / 1e9;
}

void Rank::Row(const std::string& name, const std::function<double(uint64_t)>& rate) {
  if (is_root()) std::printf("%-36s", name.c_str());
  for (const uint64_t piece : kPieceSizes) {
    const double value = rate(piece);
    if (is_root()) std::printf(" %7.1f", value);
  }
  if (is_root()) std::printf("\n");
  std::fflush(stdout);
}

void Rank::Run() {
  if (is_root()) {
    std::printf("NCCL %s, %llu GiB, GB/s by the size of a piece\n%-36s",
                NcclVersionName(nccl_->version).c_str(),
                static_cast<unsigned long long>(bytes_ / kGiB), "");
    for (const uint64_t piece : kPieceSizes) {
      std::printf(" %3llu %s",
                  static_cast<unsigned long long>(piece / (piece < kMiB ? kKiB : kMiB)),
                  piece < kMiB ? "KiB" : "MiB");
    }
    std::printf("\n");
  }
  const auto broadcast = [this](std::byte* memory) {
    return [this, memory](uint64_t piece) {
      return Rate(piece, true, [&](uint64_t at, uint64_t bytes, int) {
        Check(NcclStatus(
            *nccl_,
            nccl_->broadcast(memory + at, memory + at, bytes, ncclUint8, 0, comm_, streams_[0]),
            comm_, "broadcasting"));
      });
    };
  };
  Row("ncclBroadcast", broadcast(mine_));
  for (const int streams : {1, 2, 4}) {
    const std::string suffix = ", " + std::to_string(streams) + " streams";
    const auto copies = [this, streams](bool root_acts) {
      return [this, streams, root_acts](uint64_t piece) {
        return Rate(piece, is_root() == root_acts, [&](uint64_t at, uint64_t bytes, int index) {
          const std::byte* from = root_acts ? mine_ + at : theirs_ + at;
          std::byte* to = root_acts ? theirs_ + at : mine_ + at;
          CheckCuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, streams_[index % streams]));
        });
      };
    };
    Row("copy engine, root writes" + suffix, copies(true));
    Row("copy engine, member reads" + suffix, copies(false));
  }
  for (const uint32_t blocks : {16u, 32u, 64u, 132u}) {
    Row("kernel reads and hashes, " + std::to_string(blocks) + " blocks",
        [this, blocks](uint64_t piece) { return KernelRate(piece, blocks); });
  }
  OpenWindows();
  const bool both = [&] {
    channel_.Send(window_ != nullptr ? "yes" : "no");
    return channel_.Receive() == "yes" && window_ != nullptr;
  }();
  if (both) {
    Row("ncclBroadcast, symmetric windows", broadcast(window_));
  } else if (is_root()) {
    std::printf("ncclBroadcast, symmetric windows: not in this library\n");
  }
  channel_.Barrier();
}

int Main(int argc, char** argv) {
  int rank = -1;
  int channel = -1;
  uint64_t gib = 6;
  int repeats = 5;
  std::string library;
  CLI::App app("Times ways to move bytes from one GPU to another.");
  app.add_option("--rank", rank)->group("");
  app.add_option("--channel", channel)->group("");
  app.add_option("--gib", gib, "moved in a round, by each way");
  app.add_option("--repeats", repeats, "of each figure; the median counts");
  app.add_option("--library", library, "libnccl.so.2; the system's if empty");
  CLI11_PARSE(app, argc, argv);
  if (rank < 0) return RunDuo({argv + 1, argv + argc});
  Rank(rank, channel, library, gib * kGiB, repeats).Run();
  return 0;
}

}  // namespace
}  // namespace packcast::bench

int main(int argc, char** argv) { return packcast::bench::Main(argc, argv); }
