#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "protocol/plan.h"
#include "tests/runtime/data/broadcast_fixture.h"

namespace packcast {
namespace {

using testing::BeginAll;
using testing::Collector;
using testing::CountingAllocator;
using testing::TestTensor;

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
  uint32_t Below(uint32_t limit) { return static_cast<uint32_t>(rng_() % limit); }
  std::mt19937_64* rng() { return &rng_; }

 private:
  TestTensor MakeOne(uint32_t row, bool tiny) {
    const auto dtype = static_cast<Dtype>(Below(kDtypeCount));
    const std::string name = "layer." + std::to_string(row);
    std::vector<int64_t> shape;
    switch (tiny ? 1 : Below(6)) {
      case 0: break;  // 0-d
      case 1: shape = {1 + Below(9)}; break;
      case 2: shape = {Below(4), 3, Below(3)}; break;  // often empty
      case 3: shape = {1 + Below(40), 1 + Below(40)}; break;
      case 4: shape = {1 + Below(5), 1, 1 + Below(9), 1 + Below(7)}; break;
      case 5: shape = {1 + Below(3000)}; break;
    }
    // Sub-byte elements must fill whole bytes.
    if (DtypeBits(dtype) < 8) shape.push_back(4);
    TestTensor tensor = testing::MakeTensor(name, dtype, shape, &rng_);
    if (DtypeBits(dtype) >= 8 && Below(4) == 0) testing::MakeStrided(&tensor);
    return tensor;
  }

  void ChooseDirect(Case* c) {
    PlanOptions& plan = c->options.plan;
    plan.direct_bytes_min = 1 + Below(2000);
    plan.direct_regions_per_step = 1 + Below(8);
    plan.direct_bytes_per_step = 256 + Below(8000);
    for (uint32_t row = 0; row < c->tensors.size(); ++row) {
      if (c->tensors[row].strides.empty() && Below(2) == 0) plan.direct_rows.push_back(row);
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

void RunCase(uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  CaseMaker maker(seed);
  Case c = maker.Make();
  const auto manifest = Manifest::Make(testing::RowsIn(c.tensors));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const auto plan = MakePlan(*manifest, c.options.plan);
  ASSERT_TRUE(plan.ok()) << plan.status();
  if (c.with_plan) {
    c.options.manifest = &*manifest;
    c.options.expected = &*plan;
  }

  auto transport = MakeLocalTransport();
  const auto ranks = testing::JoinAll(transport.get(), c.size, c.root);
  BeginAll(ranks, testing::TestStream());
  CountingAllocator root_allocator;
  uint64_t releases = 0;
  std::vector<NamedTensor> views = testing::ViewsOf(c.tensors);
  for (NamedTensor& view : views) view.release = [&releases] { ++releases; };
  const auto source = SourceOf(std::move(views));
  BroadcastOptions options = c.options;
  options.buffer_count = c.counts[c.root];
  options.allocator = &root_allocator;
  auto producer = PackedProducer::Make(ranks[c.root].get(), source.get(), options);
  ASSERT_TRUE(producer.ok()) << producer.status();

  std::vector<std::unique_ptr<Receiver>> receivers;
  std::vector<std::unique_ptr<RowSource>> sources;
  std::vector<std::unique_ptr<PackedConsumer>> consumers;
  std::vector<PackedConsumer*> pointers;
  for (uint32_t rank = 0; rank < c.size; ++rank) {
    if (rank == c.root) continue;
    receivers.push_back(std::make_unique<Receiver>(c, &maker));
    sources.push_back(RowsOf(testing::RowsIn(c.tensors)));
    options.buffer_count = c.counts[rank];
    options.allocator = &receivers.back()->allocator;
    auto consumer =
        PackedConsumer::Make(ranks[rank].get(), sources.back().get(), options,
                             receivers.back()->collector.callback(), &receivers.back()->targets);
    ASSERT_TRUE(consumer.ok()) << consumer.status();
    pointers.push_back(consumer->get());
    consumers.push_back(std::move(consumer).value());
  }

  const Status status = testing::DriveAll(ranks, producer->get(), pointers);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(releases, c.tensors.size());
  ContentHash whole;
  for (uint32_t row = 0; row < c.tensors.size(); ++row) whole.Add(row, 0, c.tensors[row].wire);
  const BroadcastResult& sent = (*producer)->result();
  const Digest expected = c.options.hash ? whole.digest() : Digest();
  ASSERT_EQ(sent.content_digest, expected);
  ASSERT_EQ(sent.steps, plan->steps.size());
  ASSERT_EQ(sent.wire_bytes, plan->wire_bytes);
  ASSERT_EQ(sent.bytes, manifest->total_bytes());
  // The compat layout's buffers are as large as its tensors, by definition.
  const uint64_t size =
      c.options.plan.layout == Layout::kAligned ? c.options.plan.buffer_bytes : UINT32_MAX;
  ASSERT_LE(root_allocator.peak(), size * c.counts[c.root]);
  for (size_t k = 0; k < consumers.size(); ++k) {
    ASSERT_NO_FATAL_FAILURE(receivers[k]->Check(c));
    const BroadcastResult& got = consumers[k]->result();
    ASSERT_EQ(got.content_digest, sent.content_digest);
    ASSERT_EQ(got.bytes, sent.bytes);
    ASSERT_EQ(got.steps, sent.steps);
    const uint32_t rank = static_cast<uint32_t>(k) + (k >= c.root ? 1 : 0);
    ASSERT_LE(receivers[k]->allocator.peak(), size * c.counts[rank]);
  }
}

// PACKCAST_PROPERTY_CASES: fewer under sanitizers. PACKCAST_PROPERTY_SEED: the first seed.
uint64_t FromEnvironment(const char* name, uint64_t fallback) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : fallback;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kCases = 1'000;
#else
constexpr uint64_t kCases = 10'000;
#endif

TEST(BroadcastProperty, EveryByteArrivesWhateverTheManifestAndTheSettings) {
  const uint64_t first = FromEnvironment("PACKCAST_PROPERTY_SEED", 1);
  const uint64_t cases = FromEnvironment("PACKCAST_PROPERTY_CASES", kCases);
  for (uint64_t seed = first; seed < first + cases && !HasFatalFailure(); ++seed) RunCase(seed);
}

}  // namespace
}  // namespace packcast
