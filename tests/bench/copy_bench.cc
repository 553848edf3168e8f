// What the copy kernels do alone, on one GPU: pack, unpack and checksum in GB/s by the size of the
// pieces and the number of blocks. One table.  copy [--mib N]

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "runtime/base/clock.h"
#include "runtime/data/cuda/device.h"
#include "tests/bench/take.h"

namespace packcast::bench {
namespace {

struct Shape {
  const char* name;
  uint64_t bytes;      // of a tensor
  uint64_t shift = 0;  // of its address
  Conversion conversion = Conversion::kNone;
};

// Tensors one after another in `from`, gathered into `to` (or hashed where they are).
std::vector<CopyPiece> PiecesOf(const Shape& shape, std::byte* from, std::byte* to, uint64_t total,
                                bool hash, uint32_t pieces_max) {
  const uint64_t wide = shape.conversion == Conversion::kNone ? 1 : 2;
  std::vector<CopyPiece> pieces;
  uint64_t at = 0;
  for (uint32_t row = 0; at + shape.bytes <= total && pieces.size() < pieces_max; ++row) {
    for (uint64_t done = 0; done < shape.bytes && pieces.size() < pieces_max;) {
      CopyPiece piece;
      piece.row = row;
      piece.row_offset = done;
      piece.bytes = static_cast<uint32_t>(std::min<uint64_t>(kPieceBytes, shape.bytes - done));
      piece.from = from + wide * (at + done) + shape.shift;
      piece.to = to == nullptr ? nullptr : to + at + done;
      piece.conversion = shape.conversion;
      piece.hashed = hash ? 1 : 0;
      pieces.push_back(piece);
      done += piece.bytes;
    }
    at += (shape.bytes + 255) / 256 * 256;
  }
  return pieces;
}

double GigabytesPerSecond(CopyEngine* engine, const std::vector<CopyPiece>& pieces) {
  uint64_t bytes = 0;
  for (const CopyPiece& piece : pieces) bytes += piece.bytes;
  constexpr int kRounds = 6;
  std::vector<CopyEngine::Ticket> tickets;
  const auto run = [&](int rounds) {
    const Time begin = Now();
    for (int k = 0; k < rounds; ++k) tickets.push_back(Take(engine->Submit(pieces, {}, nullptr)));
    for (const CopyEngine::Ticket ticket : tickets) {
      while (!Take(engine->Done(ticket))) {
      }
      engine->Forget(ticket);
    }
    tickets.clear();
    return std::chrono::duration<double>(Now() - begin).count();
  };
  run(1);
  return static_cast<double>(bytes) * kRounds / run(kRounds) / 1e9;
}

int Main(int argc, char** argv) {
  uint64_t mib = 1024;
  CLI::App app("Times the copy kernels on one GPU.");
  app.add_option("--mib", mib, "bytes of a step");
  CLI11_PARSE(app, argc, argv);
  const uint64_t total = mib << 20;
  Allocator* const memory = DeviceAllocator(0);
  std::byte* const from = Take(memory->Allocate(2 * total + 4096));
  std::byte* const to = Take(memory->Allocate(total + 4096));
  const Shape shapes[] = {{"16 MiB", 16 << 20},
                          {"1 MiB", 1 << 20},
                          {"64 KiB", 64 << 10},
                          {"8 KiB", 8 << 10},
                          {"1 KiB", 1 << 10},
                          {"1 MiB, odd address", 1 << 20, 1},
                          {"1 MiB, fp32 to bf16", 1 << 20, 0, Conversion::kF32ToBf16}};
  std::printf("%-22s %6s %10s %12s %10s\n", "tensors of", "blocks", "pack", "pack + hash", "hash");
  for (const uint32_t blocks : {16u, 24u, 32u, 48u, 64u, 96u, 132u, 264u}) {
    const std::unique_ptr<CopyEngine> engine = Take(MakeCudaCopyEngine({0, blocks}));
    for (const Shape& shape : shapes) {
      const auto rate = [&](std::byte* into, bool hash) {
        return GigabytesPerSecond(engine.get(),
                                  PiecesOf(shape, from, into, total, hash, engine->pieces_max()));
      };
      std::printf("%-22s %6u %10.0f %12.0f %10.0f\n", shape.name, blocks, rate(to, false),
                  rate(to, true), rate(nullptr, true));
      std::fflush(stdout);
    }
  }
  memory->Free(from, 2 * total + 4096);
  memory->Free(to, total + 4096);
  return 0;
}

}  // namespace
}  // namespace packcast::bench

int main(int argc, char** argv) { return packcast::bench::Main(argc, argv); }
