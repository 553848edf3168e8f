#include "actors/sources/safetensors_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/actors/sources/testing.h"

namespace packcast {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::Entry;
using testing::FileOf;
using ::testing::HasSubstr;
using testing::ReadAll;
using testing::TempFile;

TEST(SafetensorsSource, StreamsShardsInOrderWithoutACopy) {
  const TempFile first(FileOf("{" + Entry("w", "BF16", "[3]", 0, 6) + "}", "abcdef"));
  const TempFile second(FileOf("{" + Entry("s", "F32", "[]", 0, 4) + "," +
                                   Entry("e", "F32", "[0]", 4, 4) + "," +
                                   Entry("o", "U8", "[5]", 4, 9) + "}",
                               "1234vwxyz"));
  const auto source = SafetensorsSource::Make({first.path(), second.path()}).value();
  const Manifest manifest = source->Describe(SyncRequest{.label = 3}).value();
  ASSERT_EQ(manifest.size(), 4u);
  EXPECT_EQ(manifest.total_bytes(), 15u);
  for (size_t k = 0; k < 4; ++k) EXPECT_EQ(manifest.rows()[k].group, k);
  EXPECT_THAT(ReadAll(*source, manifest), ElementsAre("abcdef", "1234", "", "vwxyz"));
  const auto cursor = source->Open(EpochInfo{}).value();
  EXPECT_EQ(cursor->Next()->tensors[0].data, source->files()[0].tensors()[0].data.data());
}

TEST(SafetensorsSource, NamesBothFilesOfADuplicate) {
  const TempFile first(FileOf("{" + Entry("same", "U8", "[1]", 0, 1) + "}", "a"));
  const TempFile second(FileOf("{" + Entry("same", "U8", "[1]", 0, 1) + "}", "b"));
  const Status status = SafetensorsSource::Make({first.path(), second.path()}).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("\"same\""), HasSubstr(first.path()), HasSubstr(second.path())));
}

TEST(SafetensorsSource, RefusesNoFilesBadFilesAndPartialSyncs) {
  EXPECT_EQ(SafetensorsSource::Make({}).status().code(), StatusCode::kInvalidArgument);
  const TempFile bad("short");
  EXPECT_THAT(SafetensorsSource::Make({bad.path()}).status().message(), HasSubstr(bad.path()));
  EXPECT_EQ(SafetensorsSource::Make({"/nonexistent"}).status().code(), StatusCode::kNotFound);
  const TempFile good(FileOf("{}", ""));
  const auto source = SafetensorsSource::Make({good.path()}).value();
  EXPECT_EQ(source->Describe(SyncRequest{.kind = SyncKind::kDelta}).status().code(),
            StatusCode::kUnimplemented);
  EXPECT_TRUE(ReadAll(*source, source->manifest()).empty());
}

TEST(RowCursor, CountsGroupsInUse) {
  const Manifest manifest =
      Manifest::Make({Row{.name = "a", .shape = {1}}, Row{.name = "b", .shape = {1}}}).value();
  const std::byte bytes[2] = {};
  const std::vector<const std::byte*> rows = {bytes, bytes + 1};
  const GroupsInUse in_use = std::make_shared<std::atomic<int64_t>>(0);
  {
    RowCursor cursor(&manifest, &rows, in_use);
    ASSERT_TRUE(cursor.Next().ok());
    ASSERT_TRUE(cursor.Next().ok());
    EXPECT_EQ(*in_use, 2);
    cursor.Release(0);
    cursor.Release(0);
    cursor.Release(17);
    EXPECT_EQ(*in_use, 1);
    EXPECT_TRUE(cursor.Next()->tensors.empty());
    EXPECT_TRUE(cursor.Next()->tensors.empty());
  }
  EXPECT_EQ(*in_use, 0);
}

TEST(RowCursor, StopsWhereItIsTold) {
  std::vector<Row> list;
  for (const char* name : {"a", "b", "c", "d"}) list.push_back(Row{.name = name, .shape = {1}});
  const Manifest manifest = Manifest::Make(list).value();
  const std::byte bytes[1] = {};
  const std::vector<const std::byte*> rows(4, bytes);
  const GroupsInUse in_use = std::make_shared<std::atomic<int64_t>>(0);
  RowCursor cursor(&manifest, &rows, in_use);
  ASSERT_TRUE(cursor.Next().ok());
  EXPECT_TRUE(cursor.StopAt(2).ok());
  EXPECT_TRUE(cursor.StopAt(2).ok());
  EXPECT_EQ(cursor.StopAt(0).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(cursor.StopAt(4).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(cursor.Next().status().code(), StatusCode::kAborted);
  EXPECT_EQ(*in_use, 1);  // only what was sent
}

}  // namespace
}  // namespace packcast
