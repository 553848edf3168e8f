#include "actors/held_ranges.h"

#include "gtest/gtest.h"

namespace packcast {
namespace {

Manifest Rows() {
  std::vector<Row> rows;
  for (int k = 0; k < 6; ++k) {
    rows.push_back({"row." + std::to_string(k), Dtype::kU8, {k * 10}, "", 0, {}});
  }
  return Manifest::Make(std::move(rows)).value();
}

Region Whole(uint32_t row) { return {row, 0, row * 10, 0}; }

TEST(HeldRanges, NothingSaidIsAll) {
  EXPECT_EQ(HeldRanges(std::nullopt, Rows()).value(), std::nullopt);
  EXPECT_TRUE(HeldRanges(std::vector<Region>{}, Rows()).value()->empty());
}

TEST(HeldRanges, AreInOrderAndJoined) {
  const std::vector<Region> held = {Whole(5), Whole(1), Whole(0), Whole(3), Whole(1)};
  EXPECT_EQ(HeldRanges(held, Rows()).value(), (std::vector<RowRange>{{0, 2}, {3, 4}, {5, 6}}));
}

TEST(HeldRanges, WhatIsNoWholeRowIsNamed) {
  const auto refusal = [](const Region& region) {
    return HeldRanges(std::vector<Region>{region}, Rows()).status();
  };
  EXPECT_EQ(refusal({6, 0, 0, 0}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(refusal({3, 0, 29, 0}).code(), StatusCode::kUnimplemented);
  EXPECT_NE(refusal({3, 8, 22, 0}).message().find("row.3"), std::string::npos);
}

}  // namespace
}  // namespace packcast
