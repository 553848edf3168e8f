#include "actors/served_source.h"

#include <gtest/gtest.h>

#include "actors/source_pump.h"

namespace packcast {
namespace {

TEST(ServedSourceTest, GivesAllRowsOnceFromWhereTheyLie) {
  const auto manifest =
      std::make_shared<const Manifest>(Manifest::Make({
                                                          {"a", Dtype::kF32, {2}, "", 0, {}},
                                                          {"empty", Dtype::kF32, {0}, "", 0, {}},
                                                          {"b", Dtype::kU8, {5}, "", 0, {}},
                                                      })
                                           .value());
  std::byte memory[13];
  TargetMap targets(RowTarget::Kind::kSkip);
  targets.SetRow(0, MemoryTarget(memory, 8));
  targets.SetRow(1, RowTarget{RowTarget::Kind::kMemory, {}});
  targets.SetRow(2, RowTarget{RowTarget::Kind::kMemory, {{0, 2, memory + 8}, {2, 3, memory + 10}}});
  ServedSource source(manifest, targets);
  EXPECT_EQ(source.Describe({})->digest(), manifest->digest());
  for (int attempt = 0; attempt < 2; ++attempt) {
    const auto cursor = source.Open({}).value();
    const TensorGroup group = cursor->Next().value();
    ASSERT_EQ(group.tensors.size(), 3u);
    EXPECT_EQ(group.tensors[0].data, memory);
    EXPECT_EQ(group.tensors[0].dtype, Dtype::kF32);
    EXPECT_EQ(group.tensors[2].data, memory + 8);
    EXPECT_EQ(group.tensors[2].row, 2u);
    cursor->Release(group.id);
    EXPECT_TRUE(cursor->Next()->tensors.empty());
  }
}

// A device's producer takes batches: one of all rows.
TEST(ServedSourceTest, IsPulledInOneGo) {
  const auto manifest = std::make_shared<const Manifest>(
      Manifest::Make({{"a", Dtype::kU8, {2}, "", 0, {}}, {"b", Dtype::kU8, {2}, "", 0, {}}})
          .value());
  std::byte memory[4];
  TargetMap targets(RowTarget::Kind::kSkip);
  targets.SetRow(0, MemoryTarget(memory, 2));
  targets.SetRow(1, MemoryTarget(memory + 2, 2));
  ServedSource source(manifest, targets);
  SourcePump pump([] {});
  pump.Reset();
  pump.Open(&source, {}, manifest, true);
  while (pump.Turn()) continue;
  const TensorBatch batch = *pump.batches(0)->Next().value();
  ASSERT_EQ(batch.tensors.size(), 2u);
  EXPECT_EQ(batch.tensors[1].data, memory + 2);
  batch.release();
  EXPECT_FALSE(pump.batches(0)->Next()->has_value());
  EXPECT_TRUE(pump.Close(std::nullopt).ok());
}

}  // namespace
}  // namespace packcast
