#include "tests/gpu/series.h"

#include <vector>

#include "gtest/gtest.h"

namespace packcast::trial {
namespace {

std::vector<double> Samples(int count, double (*value)(int)) {
  std::vector<double> samples;
  for (int k = 0; k < count; ++k) samples.push_back(value(k));
  return samples;
}

TEST(Series, WhatStaysDoesNotGrow) {
  const Trend trend = TrendOf(Samples(20, [](int) { return 7.0; }), 0);
  EXPECT_FALSE(trend.grows);
  EXPECT_EQ(trend.slope, 0);
  EXPECT_EQ(trend.largest, 7);
}

TEST(Series, OneMoreInEveryFourthSampleIsALeak) {
  const Trend trend = TrendOf(Samples(20, [](int k) { return 7.0 + k / 4; }), 0);
  EXPECT_TRUE(trend.grows);
  EXPECT_NEAR(trend.slope, 0.25, 0.05);
  EXPECT_EQ(trend.first, 7);
  EXPECT_EQ(trend.last, 11);
}

TEST(Series, WhatGrowsInTheFirstQuarterOnlyIsSetUp) {
  EXPECT_FALSE(TrendOf(Samples(20, [](int k) { return k < 5 ? 10.0 * k : 50.0; }), 0).grows);
}

TEST(Series, AnOutlierIsNoLeak) {
  EXPECT_FALSE(TrendOf(Samples(20, [](int k) { return k == 18 ? 90.0 : 5.0; }), 0).grows);
  EXPECT_FALSE(TrendOf(Samples(20, [](int k) { return k % 2 == 0 ? 5.0 : 6.0; }), 0).grows);
}

TEST(Series, WithinTheToleranceIsNoLeak) {
  EXPECT_FALSE(TrendOf(Samples(20, [](int k) { return 100.0 + 0.1 * k; }), 2).grows);
  EXPECT_TRUE(TrendOf(Samples(20, [](int k) { return 100.0 + 0.5 * k; }), 2).grows);
}

TEST(Series, FewSamplesSayNothing) {
  EXPECT_FALSE(TrendOf({1, 2, 3, 4, 5, 6, 7}, 0).grows);
  EXPECT_EQ(TrendOf({}, 0).largest, 0);
  EXPECT_EQ(TrendOf({3}, 0).slope, 0);
}

}  // namespace
}  // namespace packcast::trial
