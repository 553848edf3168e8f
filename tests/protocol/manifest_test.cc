#include "protocol/manifest.h"

#include <algorithm>
#include <string>

#include <gtest/gtest.h>

#include "protocol/codec.h"
#include "protocol/limits.h"

namespace packcast {
namespace {

Row Named(std::string name) { return {.name = std::move(name), .shape = {4}}; }

std::vector<Row> Three() {
  return {{.name = "a", .dtype = Dtype::kBF16, .shape = {7, 3}},
          {.name = "b", .dtype = Dtype::kF32},
          {.name = "c", .dtype = Dtype::kF4, .shape = {2, 0}}};
}

void ExpectBad(std::vector<Row> rows, const std::string& part) {
  const Status status = Manifest::Make(std::move(rows)).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find(part), std::string::npos) << status;
}

TEST(Manifest, KnowsItsSizes) {
  const Manifest manifest = Manifest::Make(Three()).value();
  ASSERT_EQ(manifest.size(), 3u);
  EXPECT_EQ(manifest.row_bytes(0), 42u);
  EXPECT_EQ(manifest.row_bytes(1), 4u);  // 0-d: one element
  EXPECT_EQ(manifest.row_bytes(2), 0u);
  EXPECT_EQ(manifest.total_bytes(), 46u);
}

TEST(Manifest, MayBeEmpty) {
  const Manifest manifest = Manifest::Make({}).value();
  EXPECT_EQ(manifest.digest(), Manifest().digest());
  EXPECT_EQ(manifest.digest(), HashBytes("\x90"));
}

TEST(Manifest, DigestIsThatOfTheCanonicalBytes) {
  ValueArray rows;
  for (const Row& row : Three()) rows.push_back(RowToValue(row));
  EXPECT_EQ(Manifest::Make(Three())->digest(), HashBytes(Encode(rows)));
  // tests/golden/plans.json has more; this one must never change.
  EXPECT_EQ(ToHex(Manifest::Make({})->digest()), "acfcc8a1a10b1182eb1109e4990694cc");
}

TEST(Manifest, OrderAndEveryFieldMatter) {
  std::vector<std::vector<Row>> others(7, Three());
  std::swap(others[0][0], others[0][1]);
  others[1][0].name = "A";
  others[2][0].dtype = Dtype::kF16;
  others[3][0].shape = {3, 7};
  others[4][0].group = 1;
  others[5][0].auxiliary = {"b"};
  others[6].pop_back();
  for (const auto& rows : others) {
    EXPECT_NE(Manifest::Make(rows)->digest(), Manifest::Make(Three())->digest());
  }
}

TEST(Manifest, BadRowsAreNamed) {
  ExpectBad({Named("")}, "row 0 has a name of 0 bytes");
  ExpectBad({Named("a"), Named(std::string(limits::kTensorNameBytes + 1, 'x'))}, "row 1");
  ExpectBad({Named("a"), Named("b"), Named("a")}, "\"a\" comes twice");
  ExpectBad({Named("a"), Named("caf\xe9")}, "row 1, tensor \"caf?\": its name is not UTF-8");
  ExpectBad({{.name = "a", .auxiliary = {"\xff"}}}, "tensor \"a\": auxiliary \"?\" is not UTF-8");
  ExpectBad({{.name = "a", .shape = {2, -1}}}, "negative extent in [2, -1]");
  ExpectBad({{.name = "a", .shape = std::vector<int64_t>(33, 1)}}, "33 dimensions");
  ExpectBad({{.name = "a", .dtype = Dtype::kF4, .shape = {3}}}, "does not fill whole bytes");
  ExpectBad({{.name = "a", .dtype = Dtype::kF6E2M3, .shape = {2}}}, "does not fill whole bytes");
  ExpectBad({{.name = "a", .shape = {INT64_MAX, INT64_MAX}}}, "too large");
  ExpectBad({{.name = "a", .shape = {(int64_t{1} << 50) + 1}}}, "too large");
  ExpectBad({{.name = "a", .shape = {int64_t{1} << 50}}, {.name = "b", .shape = {1}}},
            "exceeds 1 PiB at tensor \"b\"");
}

TEST(Manifest, ReservedEncodingsAreNotKnownYet) {
  Row row = Named("a");
  row.encoding = "zstd";
  EXPECT_EQ(Manifest::Make({row}).status().code(), StatusCode::kUnimplemented);
}

TEST(Manifest, SubByteTypesThatFillBytesAreFine) {
  EXPECT_EQ(*RowBytes({.name = "a", .dtype = Dtype::kF4, .shape = {6}}), 3u);
  EXPECT_EQ(*RowBytes({.name = "a", .dtype = Dtype::kF6E3M2, .shape = {4}}), 3u);
  EXPECT_EQ(*RowBytes({.name = "a", .shape = std::vector<int64_t>(32, 1)}), 1u);
}

TEST(ManifestRow, GoesThereAndBack) {
  Row row{.name = "layer.0.w", .dtype = Dtype::kF8E4M3, .shape = {2, 0, 5}, .group = 3};
  row.auxiliary = {"layer.0.scale"};
  for (int code = 0; code < kDtypeCount; ++code) {
    row.dtype = static_cast<Dtype>(code);
    EXPECT_EQ(*RowFromValue(Decode(Encode(RowToValue(row))).value()), row);
  }
}

TEST(ManifestRow, MayGrowAtItsEnd) {
  Value value = RowToValue(Named("a"));
  value.AsArray()->push_back("of a later version");
  EXPECT_EQ(*RowFromValue(value), Named("a"));
}

TEST(ManifestRow, BadFieldsAreNamed) {
  static constexpr std::string_view kNames[] = {"name",     "dtype", "shape",
                                                "encoding", "group", "auxiliary"};
  for (size_t k = 0; k < std::size(kNames); ++k) {
    for (const Value& wrong : {Value(), Value(-1), Value(1.5), Value(ValueArray{ValueArray{}})}) {
      Value value = RowToValue(Named("a"));
      (*value.AsArray())[k] = wrong;
      const Status status = RowFromValue(value).status();
      EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
      EXPECT_NE(status.message().find(std::string(kNames[k])), std::string::npos) << status;
    }
  }
  Value value = RowToValue(Named("a"));
  (*value.AsArray())[1] = kDtypeCount;
  EXPECT_NE(RowFromValue(value).status().message().find("unknown dtype code 20"),
            std::string::npos);
  EXPECT_FALSE(RowFromValue(ValueArray{"a", 1, ValueArray{}, "", 0}).ok());
  EXPECT_FALSE(RowFromValue(ValueMap{}).ok());
}

TEST(Dtype, NamesGoThereAndBack) {
  for (int code = 0; code < kDtypeCount; ++code) {
    const Dtype dtype = *DtypeFromWire(static_cast<uint64_t>(code));
    EXPECT_EQ(DtypeFromName(DtypeName(dtype)), dtype);
    EXPECT_GT(DtypeBits(dtype), 0);
  }
  EXPECT_EQ(DtypeFromName("f8e4m3"), Dtype::kF8E4M3);
  EXPECT_EQ(DtypeFromName("bf16"), Dtype::kBF16);
  EXPECT_EQ(DtypeFromName("float32"), std::nullopt);
  EXPECT_EQ(DtypeFromWire(kDtypeCount), std::nullopt);
}

}  // namespace
}  // namespace packcast
