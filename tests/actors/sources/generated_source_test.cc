#include "actors/sources/generated_source.h"

#include <cstring>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/actors/sources/testing.h"

namespace packcast {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ReadAll;
using testing::TempFile;

std::vector<Row> MixedRows() {
  std::vector<Row> rows = {Row{.name = "scalar", .dtype = Dtype::kI64},
                           Row{.name = "empty", .dtype = Dtype::kF32, .shape = {0, 7}},
                           Row{.name = "odd", .dtype = Dtype::kU8, .shape = {1021}},
                           Row{.name = "odd2", .dtype = Dtype::kU8, .shape = {1021}},
                           Row{.name = "four", .dtype = Dtype::kF4, .shape = {6}}};
  return rows;
}

TEST(GeneratedSource, GivesTheSameBytesForTheSameSeed) {
  const auto a = GeneratedSource::Make(MixedRows(), 1).value();
  const auto b = GeneratedSource::Make(MixedRows(), 1).value();
  const auto c = GeneratedSource::Make(MixedRows(), 2).value();
  const auto rows = ReadAll(*a, a->manifest());
  EXPECT_EQ(rows, ReadAll(*b, b->manifest()));
  EXPECT_NE(rows, ReadAll(*c, c->manifest()));
  EXPECT_NE(rows[2], rows[3]);
  EXPECT_EQ(rows[1], "");
  EXPECT_EQ(rows[4].size(), 3u);
  EXPECT_GT(std::set<char>(rows[2].begin(), rows[2].end()).size(), 200u);
  EXPECT_EQ(a->Describe(SyncRequest{.label = 9})->digest(), a->manifest().digest());
  EXPECT_EQ(a->manifest().rows()[4].group, 4u);
}

TEST(GeneratedSource, KeepsItsBytesOverVersions) {  // of packcast: seeds are in people's scripts
  const auto source = GeneratedSource::Make({Row{.name = "a", .dtype = Dtype::kU64}}, 42).value();
  uint64_t word = 0;
  std::memcpy(&word, ReadAll(*source, source->manifest())[0].data(), 8);
  EXPECT_EQ(word, 0xc5a57e8172f0a9d2u) << std::hex << word;
}

TEST(GeneratedSource, RefusesBadRows) {
  EXPECT_THAT(GeneratedSource::Make({Row{.name = "x"}, Row{.name = "x"}}, 0).status().message(),
              HasSubstr("\"x\" comes twice"));
  EXPECT_FALSE(GeneratedSource::Make({Row{.name = "x", .shape = {-1}}}, 0).ok());
}

TEST(RowMemory, SaysHowMuchMemoryIsMissing) {
  const Manifest manifest = Manifest::Make({Row{.name = "x", .shape = {int64_t{1} << 50}}}).value();
  const Status status = RowMemory::Allocate(manifest, "the test").status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("the test"), HasSubstr("1125899906842624 bytes")));
}

TEST(RowMemory, AlignsRows) {
  const Manifest manifest = Manifest::Make(MixedRows()).value();
  const RowMemory memory = RowMemory::Allocate(manifest, "the test").value();
  for (size_t k = 0; k < memory.size(); ++k) {
    EXPECT_EQ(memory.row(k).size(), manifest.row_bytes(k));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.row(k).data()) % 256, 0u);
  }
  EXPECT_EQ(RowMemory::Allocate(Manifest(), "nothing")->mapped_bytes(), 0u);
}

TEST(ShapesFile, ReadsBothForms) {
  const TempFile object(
      "{\"model\": \"m\", \"bytes\": 26, \"tensors\": "
      "[[\"a\", \"bf16\", [3, 4]], [\"b\", \"f8e4m3\", []], [\"c\", \"U8\", [1]]]}\n");
  const ShapesFile file = ShapesFile::Load(object.path()).value();
  EXPECT_EQ(file.model, "m");
  EXPECT_EQ(file.bytes, 26u);
  ASSERT_EQ(file.rows.size(), 3u);
  EXPECT_EQ(file.rows[0].shape, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(file.rows[1].dtype, Dtype::kF8E4M3);
  EXPECT_EQ(ShapesFile::Parse("[[\"a\",\"f32\",[2]]]", "p")->bytes, 8u);
  EXPECT_EQ(ShapesFile::Parse("{\"tensors\":[]}", "p")->rows.size(), 0u);
}

TEST(ShapesFile, NamesWhatIsWrong) {
  const auto message = [](const std::string& text) {
    const Status status = ShapesFile::Parse(text, "list.json").status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(status.message(), HasSubstr("list.json"));
    return status.message();
  };
  EXPECT_THAT(message(""), HasSubstr("not JSON"));
  EXPECT_THAT(message("{\"tensors\":[}"), HasSubstr("line 1, column"));
  EXPECT_THAT(message("[]x"), HasSubstr("not JSON"));
  EXPECT_THAT(message(std::string("[]\0", 3)), HasSubstr("zero byte"));
  EXPECT_THAT(message("7"), HasSubstr("no list but 7"));
  EXPECT_THAT(message("{}"), HasSubstr("no \"tensors\""));
  EXPECT_THAT(message("{\"tensors\":[],\"tensors\":[]}"), HasSubstr("twice"));
  EXPECT_THAT(message("[[\"a\",\"f32\"]]"), AllOf(HasSubstr("row 0"), HasSubstr("[name")));
  EXPECT_THAT(message("[{}]"), HasSubstr("row 0"));
  EXPECT_THAT(message("[[\"a\",\"f33\",[1]]]"), AllOf(HasSubstr("\"a\""), HasSubstr("\"f33\"")));
  EXPECT_THAT(message("[[\"a\",\"f32\",[-1]]]"), HasSubstr("negative"));
  EXPECT_THAT(message("[[\"a\",\"f32\",[1.5]]]"), HasSubstr("bad extent 1.5"));
  EXPECT_THAT(message("[[\"a\",\"f32\",[18446744073709551615]]]"), HasSubstr("bad extent"));
  EXPECT_THAT(message("[[\"a\",\"f32\",[1]],[\"a\",\"f32\",[1]]]"), HasSubstr("twice"));
  EXPECT_THAT(message("{\"bytes\":5,\"tensors\":[[\"a\",\"f32\",[1]]]}"),
              AllOf(HasSubstr("is 5"), HasSubstr("have 4")));
  EXPECT_THAT(message("[[[[[[[]]]]]]]"), HasSubstr("nested deeper"));
  EXPECT_THAT(message(std::string(1'000'000, '[') + std::string(1'000'000, ']')),
              HasSubstr("nested deeper"));
}

}  // namespace
}  // namespace packcast
