// The copy kernels against their twin on the CPU, byte for byte and checksum for checksum. Needs a
// GPU.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"

#include "runtime/data/cuda/device.h"
#include "tests/runtime/data/broadcast_cases.h"

namespace packcast {
namespace {

constexpr uint64_t kArena = uint64_t{48} << 20;

// One stretch of device memory, of exactly so many bytes, and the same on the host.
class Arena {
 public:
  explicit Arena(uint64_t seed, uint64_t bytes = kArena) {
    std::mt19937_64 rng(seed);
    host_ = testing::RandomBytes(bytes, &rng);
    device_ = DeviceAllocator(0)->Allocate(bytes).value();
    EXPECT_EQ(cudaMemcpy(device_, host_.data(), bytes, cudaMemcpyDefault), cudaSuccess);
  }
  ~Arena() { DeviceAllocator(0)->Free(device_, host_.size()); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  std::byte* host() { return host_.data(); }
  std::byte* device() { return device_; }
  void ExpectSame() {
    std::vector<std::byte> got(host_.size());
    EXPECT_EQ(cudaMemcpy(got.data(), device_, got.size(), cudaMemcpyDefault), cudaSuccess);
    const auto differs = std::mismatch(got.begin(), got.end(), host_.begin());
    ASSERT_TRUE(differs.first == got.end())
        << "byte " << differs.first - got.begin() << " of " << got.size();
  }

 private:
  std::vector<std::byte> host_;
  std::byte* device_ = nullptr;
};

struct Random {
  std::mt19937_64 rng;
  uint64_t Below(uint64_t limit) { return rng() % limit; }
};

// Pieces on the host's arenas; places in `to` do not overlap.
struct Batch {
  std::vector<CopyPiece> pieces;
  std::vector<PieceLayout> layouts;
};

uint64_t Align(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

PieceLayout RandomLayout(Random* random, uint32_t wire_size, uint32_t source_size,
                         uint64_t elements, uint64_t* span) {
  PieceLayout layout;
  layout.wire_size = wire_size;
  layout.source_size = source_size;
  layout.dims = 2 + static_cast<uint32_t>(random->Below(2));
  uint64_t rest = elements;
  int64_t reach = 0;
  for (uint32_t dim = layout.dims; dim-- > 0;) {
    layout.extent[dim] = dim == 0 ? rest : std::min<uint64_t>(rest, 1 + random->Below(37));
    rest = (rest + layout.extent[dim] - 1) / layout.extent[dim];
    layout.stride[dim] = static_cast<int64_t>(1 + random->Below(7)) + (reach > 0 ? reach : 0);
    reach += layout.stride[dim] * static_cast<int64_t>(layout.extent[dim]);
  }
  *span = static_cast<uint64_t>(reach + 1) * source_size;
  return layout;
}

Batch RandomBatch(Random* random, uint32_t count, Arena* from, Arena* to) {
  Batch batch;
  uint64_t place = 0;
  for (uint32_t k = 0; k < count; ++k) {
    CopyPiece piece;
    piece.row = static_cast<uint32_t>(random->Below(100000));
    piece.row_offset = 256 * random->Below(1000);
    piece.bytes = static_cast<uint32_t>(1 + random->Below(random->Below(4) == 0 ? 70000 : 3000));
    piece.hashed = random->Below(8) != 0;
    const uint64_t kind = random->Below(10);
    uint64_t reach = piece.bytes;
    if (kind < 3) {
      piece.conversion = kind == 0 ? Conversion::kF32ToFp16 : Conversion::kF32ToBf16;
      piece.bytes = (piece.bytes + 1) / 2 * 2;
      reach = 2 * piece.bytes;
    } else if (kind < 5 && batch.layouts.size() < 200) {
      const bool converts = kind == 3;
      const uint32_t size = 1u << random->Below(4);
      piece.conversion = converts ? Conversion::kF32ToBf16 : Conversion::kNone;
      const uint32_t wire = converts ? 2 : size;
      piece.bytes = static_cast<uint32_t>(Align(std::min<uint64_t>(piece.bytes, 4000), 8));
      piece.row_offset = 8 * random->Below(10);
      const uint64_t elements = (piece.row_offset + piece.bytes) / wire + 1;
      piece.layout = static_cast<uint16_t>(batch.layouts.size());
      batch.layouts.push_back(RandomLayout(random, wire, converts ? 4 : size, elements, &reach));
    }
    // Every alignment, and the aligned ones often.
    const uint64_t grain = uint64_t{1} << random->Below(9);
    const uint64_t at = random->Below(kArena - reach) / grain * grain;
    piece.from = from->host() + at;
    if (random->Below(8) != 0) {
      place = Align(place, uint64_t{1} << random->Below(9));
      if (place + piece.bytes > kArena) break;
      piece.to = to->host() + place;
      place += piece.bytes;
    } else {
      piece.hashed = 1;
    }
    batch.pieces.push_back(piece);
  }
  return batch;
}

// Runs the batch on the host, by the twin, and `device`, the same pieces, on the device.
void RunPieces(CopyEngine* engine, const Batch& batch, const std::vector<CopyPiece>& device) {
  const auto ticket = engine->Submit(device, batch.layouts, nullptr);
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  std::vector<Digest> expected;
  for (const CopyPiece& piece : batch.pieces) expected.push_back(RunPiece(piece, batch.layouts));
  const Time limit = testing::In(Seconds(60));
  StatusOr<bool> done = engine->Done(*ticket);
  while (done.ok() && !*done && std::chrono::steady_clock::now() < limit) {
    done = engine->Done(*ticket);
  }
  ASSERT_TRUE(done.ok()) << done.status();
  ASSERT_TRUE(*done) << "the kernel does not end";
  const auto digests = engine->digests(*ticket);
  ASSERT_EQ(digests.size(), expected.size());
  for (size_t k = 0; k < expected.size(); ++k) {
    const CopyPiece& piece = batch.pieces[k];
    ASSERT_EQ(digests[k], expected[k])
        << "piece " << k << ": " << piece.bytes << " bytes, conversion "
        << static_cast<int>(piece.conversion) << ", layout " << piece.layout << ", from "
        << reinterpret_cast<uintptr_t>(device[k].from) % 16 << " to "
        << reinterpret_cast<uintptr_t>(device[k].to) % 16 << " mod 16";
  }
  engine->Forget(*ticket);
}

// Runs the batch on both; the arenas' host copies are what the twin works on.
void RunBoth(CopyEngine* engine, const Batch& batch, Arena* from, Arena* to) {
  std::vector<CopyPiece> device = batch.pieces;
  for (CopyPiece& piece : device) {
    piece.from = from->device() + (piece.from - from->host());
    if (piece.to != nullptr) piece.to = to->device() + (piece.to - to->host());
  }
  ASSERT_NO_FATAL_FAILURE(RunPieces(engine, batch, device));
  to->ExpectSame();
}

class CopyKernels : public ::testing::Test {
 protected:
  void SetUp() override {
    auto engine = MakeCudaCopyEngine({});
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = std::move(engine).value();
  }
  std::unique_ptr<CopyEngine> engine_;
};

TEST_F(CopyKernels, RandomPiecesAreWhatTheTwinMakesOfThem) {
  const uint64_t first = testing::FromEnvironment("PACKCAST_PROPERTY_SEED", 1);
  const uint64_t cases = testing::FromEnvironment("PACKCAST_PROPERTY_CASES", 60);
  for (uint64_t seed = first; seed < first + cases && !HasFatalFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random{std::mt19937_64(seed)};
    Arena from(seed);
    Arena to(1000 + seed);
    RunBoth(engine_.get(), RandomBatch(&random, 1 + random.Below(3000), &from, &to), &from, &to);
  }
}

TEST_F(CopyKernels, EverySizeAndAlignmentOfOnePiece) {
  Arena from(1);
  Arena to(2);
  Batch batch;
  uint64_t place = 0;
  for (uint32_t from_shift = 0; from_shift < 17; ++from_shift) {
    for (uint32_t to_shift = 0; to_shift < 17; ++to_shift) {
      for (uint32_t bytes : {1u, 7u, 8u, 15u, 16u, 17u, 19u, 31u, 33u, 511u, 513u, 2050u}) {
        place = Align(place, 256) + to_shift;
        batch.pieces.push_back({.from = from.host() + 4096 * from_shift + from_shift,
                                .to = to.host() + place,
                                .row_offset = 8 * place,
                                .row = bytes,
                                .bytes = bytes});
        place += bytes;
      }
    }
  }
  ASSERT_LE(batch.pieces.size(), engine_->pieces_max());
  RunBoth(engine_.get(), batch, &from, &to);
}

// Each piece has memory of its own, which ends with it: what is read or written beyond is found
// where a tool watches (sanitize.sh).
TEST_F(CopyKernels, PiecesThatEndWhereTheirMemoryEnds) {
  enum Kind { kPlain, kConverted, kStrided };
  Batch batch;
  std::vector<CopyPiece> device;
  std::vector<std::unique_ptr<Arena>> targets;
  std::vector<std::unique_ptr<Arena>> sources;
  const auto add = [&](Kind kind, uint32_t bytes, uint32_t from_shift, uint32_t to_shift) {
    CopyPiece piece{.row = bytes};
    piece.bytes = kind == kPlain ? bytes : Align(bytes, 10);
    if (kind == kConverted) piece.conversion = Conversion::kF32ToBf16;
    if (kind == kStrided) {
      // Five columns, one after the other.
      PieceLayout layout{.dims = 2, .wire_size = 2, .source_size = 2};
      layout.extent = {piece.bytes / 10, 5};
      layout.stride = {1, piece.bytes / 10};
      piece.layout = static_cast<uint16_t>(batch.layouts.size());
      batch.layouts.push_back(layout);
    }
    const uint64_t reach = kind == kConverted ? 2 * piece.bytes : piece.bytes;
    sources.push_back(std::make_unique<Arena>(bytes, from_shift + reach));
    targets.push_back(std::make_unique<Arena>(bytes + 1, to_shift + piece.bytes));
    piece.from = sources.back()->host() + from_shift;
    piece.to = targets.back()->host() + to_shift;
    batch.pieces.push_back(piece);
    piece.from = sources.back()->device() + from_shift;
    piece.to = targets.back()->device() + to_shift;
    device.push_back(piece);
  };
  for (const uint32_t bytes : {1u, 7u, 16u, 19u, 33u, 515u, 4099u, 140001u}) {
    for (const uint32_t from_shift : {0u, 1u, 2u, 3u, 4u, 8u, 15u}) {
      add(kPlain, bytes, from_shift, 0);
      add(kPlain, bytes, from_shift, from_shift ^ 3);
      add(kConverted, bytes, from_shift, from_shift & 4);
      add(kStrided, bytes, from_shift, from_shift / 2);
    }
  }
  ASSERT_LE(batch.layouts.size(), engine_->layouts_max());
  ASSERT_NO_FATAL_FAILURE(RunPieces(engine_.get(), batch, device));
  for (const auto& target : targets) ASSERT_NO_FATAL_FAILURE(target->ExpectSame());
}

TEST_F(CopyKernels, ConversionsOfAllHalfwayValuesAndSpecialOnes) {
  Arena from(1);
  Arena to(2);
  auto* words = reinterpret_cast<uint32_t*>(from.host());
  constexpr uint32_t kValues = 1u << 20;
  for (uint32_t k = 0; k < kValues; ++k) {
    // Every upper half twice eight: exact, half-way, beside half-way; and infinities and NaNs.
    words[k] =
        (k >> 4) << 16 | std::array<uint32_t, 16>{0,      1,      0x7fff, 0x8000, 0x8001, 0xffff,
                                                  0x1000, 0x0fff, 0x1001, 0x3000, 0x2fff, 0x3001,
                                                  0x1fff, 0x2000, 0x2001, 0xe000}[k & 15];
  }
  ASSERT_EQ(cudaMemcpy(from.device(), from.host(), 4 * kValues, cudaMemcpyDefault), cudaSuccess);
  for (const Conversion conversion : {Conversion::kF32ToBf16, Conversion::kF32ToFp16}) {
    Batch batch;
    for (uint32_t at = 0; at < 2 * kValues; at += kPieceBytes) {
      batch.pieces.push_back({.from = from.host() + 2 * at,
                              .to = to.host() + at,
                              .row_offset = at,
                              .bytes = kPieceBytes,
                              .conversion = conversion});
    }
    RunBoth(engine_.get(), batch, &from, &to);
  }
}

}  // namespace
}  // namespace packcast
