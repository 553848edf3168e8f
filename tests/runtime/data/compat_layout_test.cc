// The compat layout against a reimplementation of what Python stacks do (vLLM's packed tensor
// utilities): tensors one behind the other until the size exceeds the target.
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"

#include "tests/runtime/data/broadcast_fixture.h"

namespace packcast {
namespace {

using testing::TestTensor;

// The concatenated buffers that the Python producer broadcasts, without the empty ones.
std::vector<std::vector<std::byte>> PythonBuffers(const std::vector<TestTensor>& tensors,
                                                  uint64_t target) {
  std::vector<std::vector<std::byte>> buffers;
  for (size_t next = 0; next < tensors.size();) {
    std::vector<std::byte> filled;
    while (filled.size() <= target && next < tensors.size()) {
      const auto& bytes = tensors[next++].wire;
      filled.insert(filled.end(), bytes.begin(), bytes.end());
    }
    if (!filled.empty()) buffers.push_back(std::move(filled));
  }
  return buffers;
}

// What goes over the wire, taken by a member that is no PackedConsumer.
std::vector<std::vector<std::byte>> SentBuffers(const std::vector<TestTensor>& tensors,
                                                uint64_t target, size_t expected_steps) {
  const auto transport = MakeLocalTransport();
  const auto ranks = testing::JoinAll(transport.get(), 2, 0);
  testing::BeginAll(ranks, testing::TestStream());
  const Manifest manifest = Manifest::Make(testing::RowsIn(tensors)).value();
  BroadcastOptions options;
  options.plan.layout = Layout::kCompat;
  options.plan.buffer_bytes = target;
  options.wait_for_members = false;
  const Plan plan = MakePlan(manifest, options.plan).value();
  EXPECT_EQ(plan.steps.size(), expected_steps);
  const auto source = SourceOf(testing::ViewsOf(tensors));
  auto producer = PackedProducer::Make(ranks[0].get(), source.get(), options).value();
  std::vector<std::vector<std::byte>> buffers;
  for (uint64_t step = 0; step < plan.steps.size(); ++step) {
    EXPECT_TRUE(ranks[1]->Grant(Sequence(step)).ok());
    while (!*ranks[1]->Ready(Sequence(step))) EXPECT_TRUE(producer->Advance().ok());
    buffers.emplace_back(plan.steps[step].bytes);
    EXPECT_TRUE(ranks[1]
                    ->Launch({Sequence(step),
                              {{buffers.back().data(), buffers.back().size()}},
                              plan.steps[step].region_begin,
                              plan.steps[step].region_end - plan.steps[step].region_begin})
                    .ok());
    while (!*ranks[1]->Done(Sequence(step))) {
      EXPECT_TRUE(ranks[1]->Poll(Duration::zero()).ok());
    }
  }
  EXPECT_TRUE(*producer->Advance());
  return buffers;
}

TEST(CompatLayout, SendsTheVeryBuffersOfThePythonStacks) {
  std::mt19937_64 rng(9);
  for (int round = 0; round < 200; ++round) {
    std::vector<TestTensor> tensors;
    const int count = static_cast<int>(rng() % 30);
    for (int k = 0; k < count; ++k) {
      const auto dtype = rng() % 2 == 0 ? Dtype::kBF16 : Dtype::kU8;
      const auto extent = static_cast<int64_t>(rng() % (rng() % 5 == 0 ? 4000 : 300));
      tensors.push_back(testing::MakeTensor("t" + std::to_string(k), dtype, {extent}, &rng));
    }
    const uint64_t target = 256 + rng() % 2000;
    const auto expected = PythonBuffers(tensors, target);
    ASSERT_EQ(SentBuffers(tensors, target, expected.size()), expected) << "round " << round;
  }
}

// A buffer that is exactly full is not closed: the next tensor still goes in.
TEST(CompatLayout, BufferClosesOnlyOnceItExceedsTheTarget) {
  const Manifest manifest =
      Manifest::Make(
          {{.name = "a", .shape = {512}}, {.name = "b", .shape = {1}}, {.name = "c", .shape = {1}}})
          .value();
  const Plan plan = MakePlan(manifest, {.layout = Layout::kCompat, .buffer_bytes = 512}).value();
  ASSERT_EQ(plan.steps.size(), 2u);
  EXPECT_EQ(plan.steps[0].bytes, 513u);
  EXPECT_EQ(plan.largest_step, 513u);
}

}  // namespace
}  // namespace packcast
