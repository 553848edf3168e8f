#include <algorithm>
#include <array>
#include <cstring>

#include "runtime/data/cuda/copy_kernels.h"
#include "runtime/data/cuda/device.h"

namespace packcast {
namespace {

constexpr uint32_t kPiecesMax = 8192;
constexpr uint32_t kLayoutsMax = 256;
constexpr uint32_t kSlots = 8;

// What a kernel is told: pieces, units and layouts, end to end.
constexpr size_t kTableBytesMax =
    kPiecesMax * (sizeof(CopyPiece) + sizeof(CopyUnit)) + kLayoutsMax * sizeof(PieceLayout);
// Tables up to here are read where the host has them: a copy to the device takes longer.
constexpr size_t kTableBytesRead = 4096;
static_assert(sizeof(CopyPiece) % 8 == 0 && sizeof(CopyUnit) % 8 == 0);
static_assert(sizeof(PieceLayout) % 8 == 0);

class CudaCopyEngine final : public CopyEngine {
 public:
  explicit CudaCopyEngine(const CudaCopyOptions& options) : options_(options) {}
  ~CudaCopyEngine() override;
  Status Init();

  Allocator* allocator() override { return DeviceAllocator(options_.device); }
  uint32_t pieces_max() const override { return kPiecesMax; }
  uint32_t layouts_max() const override { return kLayoutsMax; }
  bool HasRoom() const override { return FreeSlot() != nullptr; }
  StatusOr<Ticket> Submit(std::span<const CopyPiece> pieces, std::span<const PieceLayout> layouts,
                          void* ready, bool alone) override;
  StatusOr<bool> Done(Ticket ticket) override;
  StatusOr<bool> HasFired(void* event) override;
  std::span<const Digest> digests(Ticket ticket) const override;
  void Forget(Ticket ticket) override;
  StatusOr<std::unique_ptr<CopyEngine>> Another() const override {
    return MakeCudaCopyEngine(options_);
  }
  Status Drain(Duration timeout) override;

 private:
  struct Slot {
    Ticket ticket = 0;  // 0: free
    uint32_t pieces = 0;
    std::byte* table = nullptr;         // pinned
    std::byte* device_table = nullptr;  // the same on the device
    Digest* digests = nullptr;          // pinned
    Digest* device_digests = nullptr;   // zero before a kernel
    cudaEvent_t done = nullptr;
    bool is_done = false;
  };
  Status InitSlot(Slot* slot);
  Status WarmUp();
  const Slot* FreeSlot() const;
  Slot* Find(Ticket ticket);
  Status Fail(Status status);
  static uint32_t MakeUnits(std::span<const CopyPiece> pieces, CopyUnit* units);
  Status Launch(Slot* slot, std::span<const CopyPiece> pieces, std::span<const PieceLayout> layouts,
                void* ready, uint32_t blocks);

  const CudaCopyOptions options_;
  uint32_t all_blocks_ = 0;  // one for each multiprocessor
  cudaStream_t stream_ = nullptr;
  std::array<Slot, kSlots> slots_;
  Ticket last_ = 0;
  Status error_;
};

CudaCopyEngine::~CudaCopyEngine() {
  const ScopedDevice scoped(options_.device);
  if (stream_ != nullptr) (void)cudaStreamSynchronize(stream_);
  for (Slot& slot : slots_) {
    if (slot.done != nullptr) (void)cudaEventDestroy(slot.done);
    (void)cudaFreeHost(slot.table);
    (void)cudaFreeHost(slot.digests);
    (void)cudaFree(slot.device_table);
    (void)cudaFree(slot.device_digests);
  }
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
}

Status CudaCopyEngine::Init() {
  const ScopedDevice scoped(options_.device);
  PC_RETURN_IF_ERROR(CudaStatus(LoadCopyKernels(), "loading the copy kernels"));
  int processors = 0;
  PC_RETURN_IF_ERROR(CudaStatus(
      cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, options_.device),
      "asking for multiprocessors"));
  all_blocks_ = static_cast<uint32_t>(processors);
  // Before an engine's kernels where there is a choice, after NCCL's.
  int least = 0;
  int greatest = 0;
  PC_RETURN_IF_ERROR(
      CudaStatus(cudaDeviceGetStreamPriorityRange(&least, &greatest), "asking for priorities"));
  PC_RETURN_IF_ERROR(CudaStatus(
      cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, std::min(least, greatest + 1)),
      "making a stream"));
  for (Slot& slot : slots_) PC_RETURN_IF_ERROR(InitSlot(&slot));
  return WarmUp();
}

// Each kernel runs once, with everything around it, so that nothing is set up later, when a
// collective may be waiting for a peer. It hashes the engine's own tables.
Status CudaCopyEngine::WarmUp() {
  CopyPiece plain;
  plain.from = slots_[1].device_table;
  plain.bytes = 4096;
  CopyPiece converted = plain;
  converted.conversion = Conversion::kF32ToBf16;
  PC_RETURN_IF_ERROR(Submit({&plain, 1}, {}, nullptr, false).status());
  PC_RETURN_IF_ERROR(Submit({&converted, 1}, {}, nullptr, false).status());
  return Drain(Seconds(30));
}

Status CudaCopyEngine::InitSlot(Slot* slot) {
  const std::string what = "setting up the copy engine";
  void* data = nullptr;
  PC_RETURN_IF_ERROR(CudaStatus(cudaMallocHost(&data, kTableBytesMax), what));
  slot->table = static_cast<std::byte*>(data);
  PC_RETURN_IF_ERROR(CudaStatus(cudaMallocHost(&data, kPiecesMax * sizeof(Digest)), what));
  slot->digests = static_cast<Digest*>(data);
  PC_RETURN_IF_ERROR(CudaStatus(cudaMalloc(&data, kTableBytesMax), what));
  slot->device_table = static_cast<std::byte*>(data);
  PC_RETURN_IF_ERROR(CudaStatus(cudaMalloc(&data, kPiecesMax * sizeof(Digest)), what));
  slot->device_digests = static_cast<Digest*>(data);
  PC_RETURN_IF_ERROR(CudaStatus(
      cudaMemsetAsync(slot->device_digests, 0, kPiecesMax * sizeof(Digest), stream_), what));
  return CudaStatus(cudaEventCreateWithFlags(&slot->done, cudaEventDisableTiming), what);
}

const CudaCopyEngine::Slot* CudaCopyEngine::FreeSlot() const {
  for (const Slot& slot : slots_) {
    if (slot.ticket == 0) return &slot;
  }
  return nullptr;
}

CudaCopyEngine::Slot* CudaCopyEngine::Find(Ticket ticket) {
  return std::find_if(slots_.begin(), slots_.end(),
                      [ticket](const Slot& slot) { return slot.ticket == ticket; });
}

Status CudaCopyEngine::Fail(Status status) {
  if (error_.ok()) error_ = std::move(status);
  return error_;
}

// Large pieces alone, small ones together: pieces stay in order.
uint32_t CudaCopyEngine::MakeUnits(std::span<const CopyPiece> pieces, CopyUnit* units) {
  uint32_t count = 0;
  bool open = false;
  for (uint32_t k = 0; k < pieces.size(); ++k) {
    const bool large = pieces[k].bytes >= kLargePieceBytes;
    if (open && !large && units[count - 1].count < kCopyWarps) {
      ++units[count - 1].count;
    } else {
      units[count++] = {k, 1};
    }
    open = !large;
  }
  return count;
}

StatusOr<CopyEngine::Ticket> CudaCopyEngine::Submit(std::span<const CopyPiece> pieces,
                                                    std::span<const PieceLayout> layouts,
                                                    void* ready, bool alone) {
  PC_RETURN_IF_ERROR(error_);
  if (pieces.size() > kPiecesMax || layouts.size() > kLayoutsMax) {
    return InvalidArgument(std::to_string(pieces.size()) + " pieces and " +
                           std::to_string(layouts.size()) + " layouts are too many");
  }
  Slot* slot = const_cast<Slot*>(FreeSlot());
  if (slot == nullptr) return ResourceExhausted("too much copy work is under way");
  const uint32_t blocks = alone ? std::max(options_.blocks, all_blocks_) : options_.blocks;
  const Status launched = Launch(slot, pieces, layouts, ready, blocks);
  if (!launched.ok()) return Fail(launched);
  slot->ticket = ++last_;
  return last_;
}

Status CudaCopyEngine::Launch(Slot* slot, std::span<const CopyPiece> pieces,
                              std::span<const PieceLayout> layouts, void* ready, uint32_t blocks) {
  const std::string what = "starting copy work";
  const ScopedDevice scoped(options_.device);
  const auto copy = [&](const void* from, void* to, size_t bytes) {
    return CudaStatus(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_), what);
  };
  slot->is_done = false;
  slot->pieces = static_cast<uint32_t>(pieces.size());
  CopyWork work;
  const size_t units_at = pieces.size_bytes();
  std::memcpy(slot->table, pieces.data(), pieces.size_bytes());
  work.unit_count = MakeUnits(pieces, reinterpret_cast<CopyUnit*>(slot->table + units_at));
  const size_t layouts_at = units_at + work.unit_count * sizeof(CopyUnit);
  if (!layouts.empty()) {
    std::memcpy(slot->table + layouts_at, layouts.data(), layouts.size_bytes());
  }
  const size_t table_bytes = layouts_at + layouts.size_bytes();
  const std::byte* table = slot->table;
  if (table_bytes > kTableBytesRead) {
    table = slot->device_table;
    PC_RETURN_IF_ERROR(copy(slot->table, slot->device_table, table_bytes));
  }
  work.pieces = reinterpret_cast<const CopyPiece*>(table);
  work.units = reinterpret_cast<const CopyUnit*>(table + units_at);
  work.layouts = reinterpret_cast<const PieceLayout*>(table + layouts_at);
  work.digests = slot->device_digests;
  work.plain = std::all_of(pieces.begin(), pieces.end(), [](const CopyPiece& piece) {
    return piece.conversion == Conversion::kNone && piece.layout == CopyPiece::kContiguous;
  });
  const size_t digest_bytes = pieces.size() * sizeof(Digest);
  if (ready != nullptr) {
    PC_RETURN_IF_ERROR(
        CudaStatus(cudaStreamWaitEvent(stream_, static_cast<cudaEvent_t>(ready), 0), what));
  }
  PC_RETURN_IF_ERROR(CudaStatus(LaunchCopy(work, blocks, stream_), what));
  PC_RETURN_IF_ERROR(copy(slot->device_digests, slot->digests, digest_bytes));
  PC_RETURN_IF_ERROR(CudaStatus(cudaEventRecord(slot->done, stream_), what));
  // For the slot's next kernel; nobody waits for it.
  return CudaStatus(cudaMemsetAsync(slot->device_digests, 0, digest_bytes, stream_), what);
}

StatusOr<bool> CudaCopyEngine::Done(Ticket ticket) {
  PC_RETURN_IF_ERROR(error_);
  Slot* slot = Find(ticket);
  if (slot->is_done) return true;
  const cudaError_t error = cudaEventQuery(slot->done);
  if (error == cudaErrorNotReady) return false;
  if (error != cudaSuccess) return Fail(CudaStatus(error, "copying on the device"));
  slot->is_done = true;
  return true;
}

StatusOr<bool> CudaCopyEngine::HasFired(void* event) {
  PC_RETURN_IF_ERROR(error_);
  const cudaError_t state = cudaEventQuery(static_cast<cudaEvent_t>(event));
  if (state == cudaErrorNotReady) return false;
  if (state != cudaSuccess) return Fail(CudaStatus(state, "waiting for the source's event"));
  return true;
}

std::span<const Digest> CudaCopyEngine::digests(Ticket ticket) const {
  const Slot* slot = const_cast<CudaCopyEngine*>(this)->Find(ticket);
  return {slot->digests, slot->pieces};
}

void CudaCopyEngine::Forget(Ticket ticket) { Find(ticket)->ticket = 0; }

Status CudaCopyEngine::Drain(Duration timeout) {
  PC_RETURN_IF_ERROR(DrainStream(options_.device, stream_, timeout, "copy work"));
  for (Slot& slot : slots_) slot.ticket = 0;
  return OkStatus();
}

}  // namespace

StatusOr<std::unique_ptr<CopyEngine>> MakeCudaCopyEngine(const CudaCopyOptions& options) {
  auto engine = std::make_unique<CudaCopyEngine>(options);
  PC_RETURN_IF_ERROR(engine->Init());
  return std::unique_ptr<CopyEngine>(std::move(engine));
}

}  // namespace packcast
