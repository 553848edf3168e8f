#include "actors/sources/safetensors.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "protocol/limits.h"
#include "tests/actors/sources/testing.h"

namespace packcast {
namespace {

using ::testing::AllOf;
using testing::AsText;
using testing::Entry;
using testing::FileOf;
using ::testing::HasSubstr;
using testing::TempFile;

// Parses a copy of exactly that size on the heap, so that the address sanitizer sees a read beyond.
Status ParseStatus(const std::string& file) {
  const auto copy = std::make_unique<std::byte[]>(file.size());
  std::memcpy(copy.get(), file.data(), file.size());
  return ParseSafetensors({copy.get(), file.size()}, "m.safetensors").status();
}

void ExpectRefused(const std::string& file, const ::testing::Matcher<std::string>& message) {
  const Status status = ParseStatus(file);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(status.message(), AllOf(HasSubstr("m.safetensors"), message));
}

std::string TwoTensors() {
  return "{\"__metadata__\":{\"format\":\"pt\"}," + Entry("b", "F32", "[2]", 3, 11) + "," +
         Entry("a", "U8", "[3]", 0, 3) + "}";
}

TEST(Safetensors, GivesTensorsInTheOrderOfTheData) {
  const TempFile temp(FileOf(TwoTensors() + "   ", "abc12345678"));
  const SafetensorsFile file = SafetensorsFile::Open(temp.path()).value();
  EXPECT_EQ(file.path(), temp.path());
  EXPECT_EQ(file.metadata().at("format"), "pt");
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].row.name, "a");
  EXPECT_EQ(file.tensors()[0].row.dtype, Dtype::kU8);
  EXPECT_EQ(AsText(file.tensors()[0].data), "abc");
  EXPECT_EQ(file.tensors()[1].row.name, "b");
  EXPECT_EQ(file.tensors()[1].row.shape, std::vector<int64_t>{2});
  EXPECT_EQ(AsText(file.tensors()[1].data), "12345678");
}

TEST(Safetensors, KnowsEveryDtype) {
  for (int k = 0; k < kDtypeCount; ++k) {
    const Dtype dtype = static_cast<Dtype>(k);
    const uint64_t bytes = static_cast<uint64_t>(DtypeBits(dtype));  // of 8 elements
    const std::string file =
        FileOf("{" + Entry("t", std::string(DtypeName(dtype)), "[2,4]", 0, bytes) + "}",
               std::string(bytes, 'x'));
    const auto content = ParseSafetensors(testing::AsBytes(file), "f");
    ASSERT_TRUE(content.ok()) << content.status();
    EXPECT_EQ(content->tensors[0].row.dtype, dtype);
    EXPECT_EQ(content->tensors[0].data.size(), bytes);
  }
}

TEST(Safetensors, TakesScalarsEmptyTensorsAndEmptyFiles) {
  const std::string file =
      FileOf("{" + Entry("scalar", "I16", "[]", 0, 2) + "," + Entry("e1", "F32", "[0]", 2, 2) +
                 "," + Entry("e2", "F32", "[3,0,9]", 2, 2) + "," + Entry("e0", "U8", "[0]", 0, 0) +
                 "," + Entry("odd", "U8", "[3]", 2, 5) + "}",
             "12345");
  const SafetensorsContent content = ParseSafetensors(testing::AsBytes(file), "f").value();
  std::vector<std::string> names;
  for (const SafetensorsTensor& tensor : content.tensors) names.push_back(tensor.row.name);
  EXPECT_THAT(names, ::testing::ElementsAre("e0", "scalar", "e1", "e2", "odd"));
  EXPECT_TRUE(ParseStatus(FileOf("{}", "")).ok());
  EXPECT_TRUE(ParseStatus(FileOf("{\"__metadata__\":null}", "")).ok());
}

TEST(Safetensors, SkipsUnknownFieldsToABoundedDepth) {
  const auto with = [](const std::string& extra) {
    return FileOf(
        "{\"t\":{\"dtype\":\"U8\",\"extra\":" + extra + ",\"shape\":[1],\"data_offsets\":[0,1]}}",
        "x");
  };
  EXPECT_TRUE(ParseStatus(with("{\"a\":[1,{\"b\":null}],\"c\":-2.5,\"a\":true}")).ok());
  ExpectRefused(with(std::string(100, '[') + std::string(100, ']')), HasSubstr("nested deeper"));
  ExpectRefused(with(std::string(1'000'000, '[')), HasSubstr("nested deeper"));
}

TEST(Safetensors, RefusesTruncatedFilesAndLyingLengths) {
  const std::string good = FileOf(TwoTensors(), "abc12345678");
  ASSERT_TRUE(ParseStatus(good).ok());
  for (size_t size = 0; size < good.size(); ++size) {
    ExpectRefused(good.substr(0, size), HasSubstr("truncated"));
  }
  std::string huge = good;
  huge[7] = '\x7f';
  ExpectRefused(huge, AllOf(HasSubstr("header of 9151"), HasSubstr("100000000")));
  std::string longer = good;
  longer[1] = 1;
  ExpectRefused(longer, AllOf(HasSubstr("only"), HasSubstr("truncated")));
  std::string shorter = good;
  shorter[0] = 5;
  ExpectRefused(shorter, HasSubstr("not JSON"));
  ExpectRefused(std::string(16, '\0'), HasSubstr("does not begin with '{'"));
  ExpectRefused("version https://git-lfs.github.com/spec/v1\n", HasSubstr("git lfs pull"));
}

TEST(Safetensors, RefusesWhatIsNoHeader) {
  ExpectRefused(FileOf("{\"a\":", ""), HasSubstr("not JSON"));
  ExpectRefused(FileOf("{} {}", ""), HasSubstr("not JSON"));
  ExpectRefused(FileOf(std::string("{}\0{}", 5), ""), HasSubstr("zero byte"));
  ExpectRefused(FileOf("{\"\xff\":1}", ""), HasSubstr("not JSON"));
  ExpectRefused(FileOf("[]", ""), HasSubstr("does not begin"));
  ExpectRefused(FileOf("{\"t\":3}", ""), AllOf(HasSubstr("\"t\""), HasSubstr("a number")));
  ExpectRefused(FileOf("{\"t\":null}", ""), HasSubstr("null"));
  ExpectRefused(FileOf("{\"t\":[]}", ""), HasSubstr("an array"));
  ExpectRefused(FileOf("{\"t\":{\"dtype\":7}}", ""), HasSubstr("a number"));
  ExpectRefused(FileOf("{\"t\":{\"shape\":{}}}", ""), HasSubstr("an object"));
  ExpectRefused(FileOf("{\"t\":{\"shape\":[[1]]}}", ""), HasSubstr("an array"));
  ExpectRefused(FileOf("{\"t\":{\"shape\":[\"1\"]}}", ""), HasSubstr("text"));
  ExpectRefused(FileOf("{\"__metadata__\":{\"a\":1}}", ""), HasSubstr("__metadata__"));
  ExpectRefused(FileOf("{\"t\":{}}", ""), HasSubstr("has no dtype"));
  ExpectRefused(FileOf("{\"t\":{\"dtype\":\"U8\"}}", ""), HasSubstr("has no shape"));
  ExpectRefused(FileOf("{\"t\":{\"dtype\":\"U8\",\"shape\":[]}}", "x"),
                HasSubstr("has no data_offsets"));
  ExpectRefused(FileOf("{\"t\":{\"data_offsets\":[0]}}", ""), HasSubstr("1 numbers"));
  ExpectRefused(FileOf("{\"t\":{\"data_offsets\":[0,1,2]}}", ""), HasSubstr("more than 2"));
  ExpectRefused(FileOf("{\"\":{}}", ""), HasSubstr("empty name"));
  ExpectRefused(FileOf("{\"" + std::string(1025, 'n') + "\":{}}", ""), HasSubstr("1025"));
}

TEST(Safetensors, RefusesDuplicates) {
  const std::string entry = Entry("twin", "U8", "[1]", 0, 1);
  ExpectRefused(FileOf("{" + entry + "," + entry + "}", "x"),
                AllOf(HasSubstr("\"twin\""), HasSubstr("twice")));
  ExpectRefused(FileOf("{\"t\":{\"dtype\":\"U8\",\"dtype\":\"I8\"}}", ""), HasSubstr("twice"));
  ExpectRefused(FileOf("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", ""), HasSubstr("twice"));
  ExpectRefused(FileOf("{\"__metadata__\":{},\"__metadata__\":{}}", ""), HasSubstr("twice"));
}

TEST(Safetensors, RefusesBadTypesAndShapes) {
  const auto one = [](const std::string& dtype, const std::string& shape, uint64_t end) {
    return FileOf("{" + Entry("t", dtype, shape, 0, end) + "}", std::string(4, 'x'));
  };
  ExpectRefused(one("F12", "[1]", 4), AllOf(HasSubstr("\"F12\""), HasSubstr("BF16")));
  ExpectRefused(one("f32", "[1]", 4), HasSubstr("unknown dtype \"f32\""));
  ExpectRefused(one("F32", "[-1]", 4), HasSubstr("negative"));
  ExpectRefused(one("F32", "[-0]", 0), HasSubstr("negative"));
  ExpectRefused(one("F32", "[1.5]", 4), HasSubstr("whole number"));
  ExpectRefused(one("F32", "[1e0]", 4), HasSubstr("whole number"));
  ExpectRefused(one("F32", "[9223372036854775808]", 4), HasSubstr("too large"));
  ExpectRefused(one("F32", "[99999999999999999999]", 4), HasSubstr("whole number"));
  ExpectRefused(one("F32", "[4294967296,4294967296]", 4), HasSubstr("too large"));
  ExpectRefused(one("F4", "[3]", 4), HasSubstr("whole bytes"));
  std::string many = "[1";
  for (size_t k = 0; k < limits::kTensorRank; ++k) many += ",1";
  ExpectRefused(one("F32", many + "]", 4), HasSubstr("dimensions"));
  ExpectRefused(one("F32", "[2]", 4), AllOf(HasSubstr("[0, 4)"), HasSubstr("takes 8")));
}

TEST(Safetensors, RefusesBadOffsets) {
  const std::string a = Entry("a", "U8", "[4]", 0, 4);
  const auto with = [&](const std::string& shape, uint64_t begin, uint64_t end, size_t bytes) {
    return FileOf("{" + a + "," + Entry("b", "U8", shape, begin, end) + "}",
                  std::string(bytes, 'x'));
  };
  EXPECT_TRUE(ParseStatus(with("[4]", 4, 8, 8)).ok());
  ExpectRefused(with("[4]", 8, 4, 8), HasSubstr("end before they begin"));
  ExpectRefused(with("[8]", 4, 12, 8), AllOf(HasSubstr("\"b\""), HasSubstr("out of range"),
                                             HasSubstr("[4, 12)"), HasSubstr("8 bytes")));
  ExpectRefused(with("[4]", UINT64_MAX - 4, UINT64_MAX, 8), HasSubstr("out of range"));
  ExpectRefused(with("[6]", 2, 8, 8),
                AllOf(HasSubstr("\"a\""), HasSubstr("\"b\""), HasSubstr("overlap")));
  ExpectRefused(with("[4]", 0, 4, 4), HasSubstr("overlap"));
  ExpectRefused(with("[3]", 5, 8, 8), AllOf(HasSubstr("[4, 5)"), HasSubstr("holes")));
  ExpectRefused(with("[4]", 4, 8, 9), AllOf(HasSubstr("take 8"), HasSubstr("has 9")));
  ExpectRefused(FileOf("{\"t\":{\"data_offsets\":[-1,1]}}", ""), HasSubstr("negative"));
}

// Whatever is in a file, parsing ends with a status.
TEST(Safetensors, SurvivesMutations) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
  uint64_t at = 0;
  for (int k = 0; k < kDtypeCount; ++k) {
    const uint64_t bytes = static_cast<uint64_t>(DtypeBits(static_cast<Dtype>(k)));
    header += "," + Entry("layer." + std::to_string(k),
                          std::string(DtypeName(static_cast<Dtype>(k))), "[4,2]", at, at + bytes);
    at += bytes;
  }
  const std::string good = FileOf(header + "}", std::string(at, 'x'));
  ASSERT_TRUE(ParseStatus(good).ok());
  const std::string spice = "{}[],:\"0129-.eE\\unt/\xff\x80\x01 ";
  std::mt19937_64 random(20240601);
  for (int round = 0; round < 20'000; ++round) {
    std::string bad = good;
    for (size_t k = random() % 4 + 1; k-- > 0;) {
      const size_t place = random() % (round % 8 == 0 ? 8 : bad.size());
      const char with =
          random() % 4 == 0 ? static_cast<char>(random()) : spice[random() % spice.size()];
      switch (random() % 4) {
        case 0: bad[place] = with; break;
        case 1: bad.insert(place, 1, with); break;
        case 2: bad.erase(place, random() % 20 + 1); break;
        case 3: bad.insert(place, bad.substr(random() % bad.size(), random() % 60)); break;
      }
      if (bad.empty()) bad = good;
    }
    const Status status = ParseStatus(bad);
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::kInvalidArgument) << status;
    EXPECT_LT(status.message().size(), 1'000u);
    EXPECT_NO_THROW((void)nlohmann::json(status.message()).dump());  // valid UTF-8
  }
}

TEST(Safetensors, SurvivesRandomHeaders) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 5'000; ++round) {
    std::string header = "{";
    for (size_t k = random() % 200; k-- > 0;) header += static_cast<char>(random());
    EXPECT_FALSE(ParseStatus(FileOf(header, "")).ok());
  }
}

TEST(MappedFile, RefusesWhatIsNoRegularFile) {
  EXPECT_EQ(MappedFile::Open("/nonexistent/x").status().code(), StatusCode::kNotFound);
  const Status directory = MappedFile::Open(::testing::TempDir()).status();
  EXPECT_THAT(directory.message(), HasSubstr("not a regular file"));
  const std::string fifo = ::testing::TempDir() + "/fifo" + std::to_string(getpid());
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(MappedFile::Open(fifo).status().message(), HasSubstr("not a regular file"));
  unlink(fifo.c_str());
}

TEST(MappedFile, MapsEmptyAndOtherFiles) {
  const TempFile empty("");
  EXPECT_TRUE(MappedFile::Open(empty.path())->bytes().empty());
  EXPECT_THAT(SafetensorsFile::Open(empty.path()).status().message(),
              AllOf(HasSubstr(empty.path()), HasSubstr("truncated")));
  const TempFile some("some");
  std::optional<MappedFile> moved;
  {
    MappedFile file = MappedFile::Open(some.path()).value();
    moved.emplace(std::move(file));
  }
  EXPECT_EQ(AsText(moved->bytes()), "some");
}

}  // namespace
}  // namespace packcast
