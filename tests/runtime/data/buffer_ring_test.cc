#include "runtime/data/buffer_ring.h"

#include "gtest/gtest.h"

#include "tests/runtime/data/broadcast_fixture.h"

namespace packcast {
namespace {

using State = BufferRing::State;

TEST(BufferRing, AllocatesExactlySizeTimesCountAndFreesAll) {
  testing::CountingAllocator allocator;
  {
    const auto ring = BufferRing::Make(4096, 3, &allocator).value();
    EXPECT_EQ(allocator.bytes(), 3u * 4096);
    EXPECT_EQ(ring->allocated_bytes(), 3u * 4096);
  }
  EXPECT_EQ(allocator.bytes(), 0u);
}

TEST(BufferRing, HandsOutTheBufferThatIsFreeTheLongest) {
  const auto ring = BufferRing::Make(256, 2).value();
  EXPECT_EQ(ring->Acquire(), 0u);
  EXPECT_EQ(ring->Acquire(), 1u);
  EXPECT_EQ(ring->Acquire(), std::nullopt);
  EXPECT_EQ(ring->state(0), State::kFilling);
  ring->Launch(0);
  EXPECT_EQ(ring->state(0), State::kInFlight);
  ring->Release(1);
  ring->Release(1);  // harmless
  ring->Release(0);
  EXPECT_EQ(ring->Acquire(), 1u);
  EXPECT_EQ(ring->high_water(), 2u);
  ring->Reset();
  EXPECT_EQ(ring->state(1), State::kFree);
}

// A stream of one step after the other, as of a small model: peers map that one buffer once.
TEST(BufferRing, StreamsOfFewStepsTakeTheSameBuffers) {
  const auto ring = BufferRing::Make(256, 3).value();
  for (int stream = 0; stream < 4; ++stream) {
    ring->Reset();
    EXPECT_EQ(ring->Acquire(), 0u);
    ring->Launch(0);
    ring->Release(0);
  }
}

TEST(BufferRing, HostMemoryIsPageAligned) {
  const auto ring = BufferRing::Make(256, 2).value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(ring->data(1)) % 4096, 0u);
}

TEST(BufferRing, RefusesSizesAndCountsOutOfLimits) {
  EXPECT_FALSE(BufferRing::Make(255, 1).ok());
  EXPECT_FALSE(BufferRing::Make(256, 0).ok());
  EXPECT_FALSE(BufferRing::Make(256, 65).ok());
}

TEST(BufferRing, GrowKeepsWhatWasPacked) {
  testing::CountingAllocator allocator;
  const auto ring = BufferRing::Make(256, 1, &allocator).value();
  ASSERT_EQ(ring->Acquire(), 0u);
  ring->data(0)[255] = std::byte{9};
  ASSERT_TRUE(ring->Grow(0, 1000, 256).ok());
  EXPECT_EQ(ring->data(0)[255], std::byte{9});
  EXPECT_EQ(ring->capacity(0), 1000u);
  EXPECT_EQ(allocator.bytes(), 1000u);
}

}  // namespace
}  // namespace packcast
