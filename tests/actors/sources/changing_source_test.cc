#include "actors/sources/changing_source.h"

#include <algorithm>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "actors/sources/safetensors_source.h"
#include "tests/actors/sources/testing.h"

namespace packcast {
namespace {

using testing::Entry;
using testing::FileOf;
using testing::ReadAll;
using testing::TempFile;

std::vector<Row> MixedRows() {
  return {Row{.name = "byte", .dtype = Dtype::kU8, .shape = {1}},
          Row{.name = "empty", .dtype = Dtype::kF32, .shape = {0}},
          Row{.name = "odd", .dtype = Dtype::kU8, .shape = {200'003}},
          Row{.name = "edge", .dtype = Dtype::kU8, .shape = {65'537}},
          Row{.name = "even", .dtype = Dtype::kBF16, .shape = {64, 1024}}};
}

std::vector<std::string> At(ChangingSource& source, uint64_t label) {
  const Manifest manifest = source.Describe(SyncRequest{.label = label}).value();
  return ReadAll(source, manifest);
}

void ExpectDifferentEverywhere(const std::vector<std::string>& a,
                               const std::vector<std::string>& b) {
  constexpr size_t kBlock = 65'536;
  ASSERT_EQ(a.size(), b.size());
  for (size_t k = 0; k < a.size(); ++k) {
    ASSERT_EQ(a[k].size(), b[k].size());
    for (size_t at = 0; at < a[k].size(); at += kBlock) {
      EXPECT_NE(a[k].substr(at, kBlock), b[k].substr(at, kBlock)) << "row " << k << " at " << at;
    }
  }
}

TEST(ChangingSource, HasDifferentBytesEverywhereAtEachLabel) {
  const auto source = ChangingSource::Make(GeneratedSource::Make(MixedRows(), 5).value()).value();
  std::vector<std::vector<std::string>> labels;
  for (uint64_t label = 0; label < 12; ++label) labels.push_back(At(*source, label));
  labels.push_back(At(*source, UINT64_MAX));
  for (size_t a = 0; a < labels.size(); ++a) {
    for (size_t b = a + 1; b < labels.size(); ++b) ExpectDifferentEverywhere(labels[a], labels[b]);
  }
}

TEST(ChangingSource, DependsOnTheLabelOnlyAndNotOnThePast) {
  const auto generated = GeneratedSource::Make(MixedRows(), 5).value();
  const auto original = ReadAll(*generated, generated->manifest());
  const auto a = ChangingSource::Make(GeneratedSource::Make(MixedRows(), 5).value()).value();
  const auto b = ChangingSource::Make(GeneratedSource::Make(MixedRows(), 5).value()).value();
  EXPECT_EQ(At(*a, 0), original);
  const auto at7 = At(*a, 7);
  EXPECT_EQ(At(*a, 7), at7);
  EXPECT_NE(At(*a, 1'000'000'007), at7);
  EXPECT_EQ(At(*a, 7), at7);
  EXPECT_EQ(At(*b, 7), at7);
  EXPECT_EQ(At(*a, 0), original);
  EXPECT_EQ(a->label(), 0u);
}

TEST(ChangingSource, DigestIsThatOfItsBytes) {
  const auto source = ChangingSource::Make(GeneratedSource::Make(MixedRows(), 5).value()).value();
  const Digest before = source->ContentDigest();
  const auto rows = At(*source, 3);
  ContentHash hash;
  for (size_t k = 0; k < rows.size(); ++k) hash.Add(k, 0, testing::AsBytes(rows[k]));
  EXPECT_EQ(source->ContentDigest(), hash.digest());
  EXPECT_NE(source->ContentDigest(), before);
}

TEST(ChangingSource, WrapsACheckpointAndLeavesTheFileAlone) {
  const std::string content = FileOf(
      "{" + Entry("a", "U8", "[5]", 0, 5) + "," + Entry("s", "F16", "[]", 5, 7) + "}", "abcdefg");
  const TempFile file(content);
  std::unique_ptr<WeightSource> checkpoint = SafetensorsSource::Make({file.path()}).value();
  const auto source = ChangingSource::Make(std::move(checkpoint)).value();
  EXPECT_THAT(At(*source, 0), ::testing::ElementsAre("abcde", "fg"));
  ExpectDifferentEverywhere(At(*source, 1), {"abcde", "fg"});
  EXPECT_EQ(testing::AsText(MappedFile::Open(file.path())->bytes()), content);
}

TEST(ChangingSource, DoesNotChangeUnderAReader) {
  const auto source = ChangingSource::Make(GeneratedSource::Make(MixedRows(), 5).value()).value();
  auto cursor = source->Open(EpochInfo{}).value();
  EXPECT_TRUE(source->Describe(SyncRequest{.label = 1}).ok());
  ASSERT_TRUE(cursor->Next().ok());
  EXPECT_EQ(source->Describe(SyncRequest{.label = 2}).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_TRUE(source->Describe(SyncRequest{.label = 1}).ok());  // a retry of the same
  cursor.reset();
  EXPECT_TRUE(source->Describe(SyncRequest{.label = 2}).ok());
  EXPECT_EQ(source->Describe(SyncRequest{.kind = SyncKind::kPartial}).status().code(),
            StatusCode::kUnimplemented);
}

// A source whose tensors are not plain memory.
class StridedSource : public WeightSource {
 public:
  StatusOr<Manifest> Describe(const SyncRequest&) override {
    return Manifest::Make({Row{.name = "t", .shape = {1}}});
  }
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo&) override {
    return std::unique_ptr<Cursor>(std::make_unique<Walk>());
  }

 private:
  class Walk : public Cursor {
    StatusOr<TensorGroup> Next() override {
      TensorGroup group;
      group.tensors.push_back(SourceTensor{.strides = {2}});
      return group;
    }
    void Release(uint64_t) override {}
    Status StopAt(uint64_t) override { return OkStatus(); }
  };
};

TEST(ChangingSource, RefusesStridedTensors) {
  const Status status =
      ChangingSource::Make(std::unique_ptr<WeightSource>(std::make_unique<StridedSource>()))
          .status();
  EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace packcast
