#pragma once

#include <cstdlib>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "tests/runtime/data/broadcast_fixture.h"

// Random broadcasts, for those who must deliver every byte of every one.
namespace packcast::testing {

// Everything about one random case, from its seed.
struct Case {
  std::vector<TestTensor> tensors;
  BroadcastOptions options;
  std::vector<uint32_t> counts;  // buffers per rank
  uint32_t size = 2;
  uint32_t root = 0;
  bool with_plan = false;
};

class CaseMaker {
 public:
  explicit CaseMaker(uint64_t seed) : rng_(seed) {}

  Case Make() {
    Case c;
    c.size = 2 + Below(3);
    c.root = Below(c.size);
    for (uint32_t rank = 0; rank < c.size; ++rank) c.counts.push_back(1 + Below(4));
    PlanOptions& plan = c.options.plan;
    plan.layout = Below(4) == 0 ? Layout::kCompat : Layout::kAligned;
    plan.buffer_bytes = 256 * (1 + Below(Below(3) == 0 ? 64 : 8));
    if (plan.layout == Layout::kCompat) plan.buffer_bytes += Below(255);
    c.options.hash = Below(8) != 0;
    c.options.direct_steps_in_flight = 1 + Below(4);
    c.with_plan = Below(2) == 0;
    const uint32_t rows = Below(200) == 0 ? 2000 : Below(Below(4) == 0 ? 60 : 12);
    for (uint32_t row = 0; row < rows; ++row) c.tensors.push_back(MakeOne(row, rows > 100));
    if (Below(2) == 0) ChooseDirect(&c);
    return c;
  }
  // A row of this shape, with memory of any kind: of fp32 that is converted, strided, plain.
  TestTensor MakeRow(uint32_t row, Dtype dtype, std::vector<int64_t> shape) {
    // Sub-byte elements must fill whole bytes.
    if (DtypeBits(dtype) < 8) shape.push_back(4);
    TestTensor tensor = MakeTensor("layer." + std::to_string(row), dtype, shape, &rng_);
    const bool narrow = dtype == Dtype::kBF16 || dtype == Dtype::kF16;
    if (narrow && Below(2) == 0) MakeConverted(&tensor, &rng_);
    if (DtypeBits(dtype) < 8 || Below(4) != 0) return tensor;
    if (Below(2) == 0) {
      MakeStrided(&tensor);
    } else {
      MakeStridedAtRandom(&tensor, &rng_);
    }
    return tensor;
  }
  static bool MayGoDirect(const TestTensor& tensor) {
    return tensor.strides.empty() && !tensor.source_dtype;
  }
  uint32_t Below(uint32_t limit) { return static_cast<uint32_t>(rng_() % limit); }
  std::mt19937_64* rng() { return &rng_; }

 private:
  TestTensor MakeOne(uint32_t row, bool tiny) {
    const auto dtype = static_cast<Dtype>(Below(kDtypeCount));
    std::vector<int64_t> shape;
    switch (tiny ? 1 : Below(6)) {
      case 0: break;  // 0-d
      case 1: shape = {1 + Below(9)}; break;
      case 2: shape = {Below(4), 3, Below(3)}; break;  // often empty
      case 3: shape = {1 + Below(40), 1 + Below(40)}; break;
      case 4: shape = {1 + Below(5), 1, 1 + Below(9), 1 + Below(7)}; break;
      case 5: shape = {1 + Below(3000)}; break;
    }
    return MakeRow(row, dtype, std::move(shape));
  }

  void ChooseDirect(Case* c) {
    PlanOptions& plan = c->options.plan;
    plan.direct_bytes_min = 1 + Below(2000);
    plan.direct_regions_per_step = 1 + Below(8);
    plan.direct_bytes_per_step = 256 + Below(8000);
    for (uint32_t row = 0; row < c->tensors.size(); ++row) {
      if (MayGoDirect(c->tensors[row]) && Below(2) == 0) plan.direct_rows.push_back(row);
    }
  }

  std::mt19937_64 rng_;
};

// A consumer with memory for some rows (cut in pieces), the rest through its callback.
struct Receiver {
  Receiver(const Case& c, CaseMaker* maker) : collector(c.tensors) {
    memory.resize(c.tensors.size());
    size_t direct = 0;
    for (uint32_t row = 0; row < c.tensors.size(); ++row) {
      const auto& listed = c.options.plan.direct_rows;
      const bool is_direct = direct < listed.size() && listed[direct] == row;
      if (is_direct) ++direct;
      if (!is_direct && maker->Below(2) == 0) continue;
      const uint64_t bytes = c.tensors[row].wire.size();
      memory[row].assign(bytes, std::byte{0x11});
      RowTarget target{.kind = RowTarget::Kind::kMemory};
      for (uint64_t at = 0; at < bytes;) {
        const uint64_t part = std::min<uint64_t>(bytes - at, 1 + maker->Below(700));
        target.pieces.push_back({at, part, memory[row].data() + at});
        at += part;
      }
      in_memory.push_back(row);
      if (maker->Below(2) == 0) {
        targets.SetRow(row, std::move(target));
      } else {
        targets.SetName(c.tensors[row].row.name, std::move(target));
      }
    }
  }

  void Check(const Case& c) const {
    size_t next = 0;
    for (uint32_t row = 0; row < c.tensors.size(); ++row) {
      const bool is_memory = next < in_memory.size() && in_memory[next] == row;
      if (is_memory) ++next;
      const auto& got = is_memory ? memory[row] : collector.rows()[row];
      ASSERT_TRUE(got == c.tensors[row].wire) << "row " << row;
    }
  }

  Collector collector;
  TargetMap targets;
  std::vector<std::vector<std::byte>> memory;
  std::vector<uint32_t> in_memory;
  CountingAllocator allocator;
};

// Joins a generation through `transport`, runs the case and checks every byte. `idle_wait`: see
// DriveAll.
void RunCase(Case* made, CaseMaker* maker, Transport* transport, uint64_t generation = 1,
             Duration idle_wait = Duration::zero());

// PACKCAST_PROPERTY_CASES: fewer under sanitizers. PACKCAST_PROPERTY_SEED: the first seed.
inline uint64_t FromEnvironment(const char* name, uint64_t fallback) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : fallback;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr uint64_t kCases = 1'000;
#else
inline constexpr uint64_t kCases = 10'000;
#endif

}  // namespace packcast::testing
