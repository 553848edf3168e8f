#include "protocol/plan.h"

#include <random>
#include <string>

#include "gtest/gtest.h"

#include "protocol/limits.h"

namespace packcast {
namespace {

Manifest Bytes(const std::vector<int64_t>& sizes) {
  std::vector<Row> rows;
  for (size_t k = 0; k < sizes.size(); ++k) {
    rows.push_back({.name = "r" + std::to_string(k), .shape = {sizes[k]}});
  }
  return Manifest::Make(std::move(rows)).value();
}

TEST(Plan, RegionsAreAlignedAndTensorsSplitAtTheBuffersEnd) {
  const Plan plan = MakePlan(Bytes({3, 0, 600}), {.buffer_bytes = 512}).value();
  ASSERT_EQ(plan.steps.size(), 2u);
  EXPECT_EQ(plan.regions[0], (Region{0, 0, 3, 0}));
  EXPECT_EQ(plan.regions[1], (Region{2, 0, 256, 256}));
  EXPECT_EQ(plan.regions[2], (Region{2, 256, 344, 0}));
  EXPECT_EQ(plan.steps[0].bytes, 512u);
  EXPECT_EQ(plan.steps[1].bytes, 344u);
  EXPECT_EQ(plan.largest_step, 512u);
  EXPECT_EQ(plan.wire_bytes, 856u);
}

TEST(Plan, FullBufferLeavesBeforeDirectRowsThatFollow) {
  const Plan plan = MakePlan(Bytes({512, 512, 100}),
                             {.buffer_bytes = 512, .direct_bytes_min = 1, .direct_rows = {1}})
                        .value();
  ASSERT_EQ(plan.steps.size(), 3u);
  EXPECT_FALSE(plan.steps[0].direct);
  EXPECT_TRUE(plan.steps[1].direct);
  EXPECT_EQ(plan.regions[plan.steps[2].region_begin].row, 2u);
}

TEST(Plan, DirectRowsAreGroupedAndSplitAtMultiplesOf256) {
  const Plan plan = MakePlan(Bytes({300, 1000, 100}), {.buffer_bytes = 512,
                                                       .direct_bytes_min = 200,
                                                       .direct_bytes_per_step = 700,
                                                       .direct_rows = {0, 1, 2}})
                        .value();
  ASSERT_EQ(plan.steps.size(), 4u);
  EXPECT_EQ(plan.regions[0], (Region{0, 0, 300, 0}));
  EXPECT_EQ(plan.regions[1], (Region{1, 0, 256, 0}));
  EXPECT_EQ(plan.regions[2], (Region{1, 256, 512, 0}));
  EXPECT_EQ(plan.regions[3], (Region{1, 768, 232, 0}));
  EXPECT_FALSE(plan.steps[3].direct);  // row 2 is below the threshold
}

// direct_bytes_per_step below the alignment once looped for ever.
TEST(Plan, DirectStepWithoutRoomForOneRegionIsRefused) {
  PlanOptions options{.buffer_bytes = 512, .direct_bytes_min = 1, .direct_rows = {0}};
  options.direct_bytes_per_step = 255;
  EXPECT_EQ(MakePlan(Bytes({600}), options).status().code(), StatusCode::kInvalidArgument);
  options.direct_bytes_per_step = 256;
  EXPECT_EQ(MakePlan(Bytes({600}), options)->steps.size(), 3u);
  options.direct_regions_per_step = 0;
  EXPECT_FALSE(MakePlan(Bytes({600}), options).ok());
}

TEST(Plan, BadOptionsAreRefused) {
  const Manifest manifest = Bytes({10, 10});
  EXPECT_FALSE(MakePlan(manifest, {.buffer_bytes = 0}).ok());
  EXPECT_FALSE(MakePlan(manifest, {.buffer_bytes = 300}).ok());
  EXPECT_TRUE(MakePlan(manifest, {.layout = Layout::kCompat, .buffer_bytes = 300}).ok());
  EXPECT_FALSE(MakePlan(manifest, {.buffer_bytes = limits::kBufferBytesMax + 256}).ok());
  EXPECT_FALSE(MakePlan(manifest, {.buffer_bytes = 512, .direct_rows = {1, 0}}).ok());
  EXPECT_FALSE(MakePlan(manifest, {.buffer_bytes = 512, .direct_rows = {2}}).ok());
}

TEST(Plan, TooManyStepsAreRefusedWithARemedy) {
  const auto plan =
      MakePlan(Bytes({int64_t{256} * (limits::kPlanSteps + 1)}), {.buffer_bytes = 256});
  EXPECT_EQ(plan.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(plan.status().message().find("larger buffer"), std::string::npos);
}

TEST(Plan, EveryByteOfEveryRowIsCoveredOnceAndInOrder) {
  std::mt19937_64 rng(3);
  for (int round = 0; round < 2000; ++round) {
    std::vector<int64_t> sizes(rng() % 40);
    for (int64_t& size : sizes) size = static_cast<int64_t>(rng() % 3000);
    PlanOptions options{.buffer_bytes = 256 * (1 + rng() % 8), .direct_bytes_min = rng() % 2000};
    options.direct_bytes_per_step = 256 + rng() % 4000;
    options.direct_regions_per_step = 1 + static_cast<uint32_t>(rng() % 5);
    for (uint32_t row = 0; row < sizes.size(); ++row) {
      if (rng() % 2 == 0) options.direct_rows.push_back(row);
      if (round % 2 == 0 || rng() % 3 == 0) continue;
      const bool goes_on = !options.rows.empty() && options.rows.back().end == row;
      if (!goes_on) options.rows.push_back({row, row});
      options.rows.back().end = row + 1;
    }
    const Manifest manifest = Bytes(sizes);
    const Plan plan = MakePlan(manifest, options).value();
    std::vector<uint64_t> done(sizes.size(), 0);
    uint32_t next_region = 0;
    for (const Step& step : plan.steps) {
      ASSERT_EQ(step.region_begin, next_region);
      next_region = step.region_end;
      uint64_t fill = 0;
      for (uint32_t k = step.region_begin; k < step.region_end; ++k) {
        const Region& region = plan.regions[k];
        ASSERT_EQ(region.offset, done[region.row]);
        ASSERT_GT(region.bytes, 0u);
        done[region.row] += region.bytes;
        if (!step.direct) {
          ASSERT_EQ(region.buffer_offset % 256, 0u);
          ASSERT_GE(region.buffer_offset, fill);
        }
        fill = (step.direct ? fill : region.buffer_offset) + region.bytes;
      }
      ASSERT_EQ(step.bytes, fill);
      ASSERT_LE(fill, step.direct ? options.direct_bytes_per_step : options.buffer_bytes);
    }
    for (size_t row = 0; row < sizes.size(); ++row) {
      const bool travels = Contains(options.rows, static_cast<uint32_t>(row));
      ASSERT_EQ(done[row], travels ? static_cast<uint64_t>(sizes[row]) : 0u);
    }
  }
}

TEST(Plan, RangesOfRowsAreAscendingAndApart) {
  const Manifest manifest = Bytes({100, 100, 100, 100});
  const auto plan = [&](std::vector<RowRange> rows) {
    return MakePlan(manifest, {.buffer_bytes = 512, .rows = std::move(rows)});
  };
  EXPECT_EQ(plan({{0, 1}, {2, 4}})->regions.size(), 3u);
  EXPECT_NE(plan({{0, 1}, {2, 4}})->digest, plan({{0, 2}, {3, 4}})->digest);
  for (const auto& bad :
       std::vector<std::vector<RowRange>>{{{1, 1}}, {{2, 1}}, {{0, 1}, {1, 2}}, {{2, 3}, {0, 1}}}) {
    EXPECT_EQ(plan(bad).status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(Plan, DigestDependsOnRowsAndOptions) {
  const Manifest manifest = Bytes({1000, 20});
  const Digest digest = MakePlan(manifest, {.buffer_bytes = 512})->digest;
  EXPECT_EQ(MakePlan(manifest, {.buffer_bytes = 512})->digest, digest);
  EXPECT_NE(MakePlan(manifest, {.buffer_bytes = 768})->digest, digest);
  EXPECT_NE(MakePlan(Bytes({1000, 21}), {.buffer_bytes = 512})->digest, digest);
}

}  // namespace
}  // namespace packcast
