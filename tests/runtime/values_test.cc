// What methods take and return, as it is and by way of the wire: each kind comes back as it went.
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::kPatience;
using testing::Patient;
using testing::StartRuntime;

Bytes NoText() { return {std::byte{0xff}, std::byte{0}, std::byte{0xfe}}; }

// Without a bound: any number of its type may come.
enum class Mood : int8_t { kCalm = 0, kWild = -7 };

struct Sample {
  float weight = 0;
  Mood mood = Mood::kCalm;
  std::optional<std::string> label;
  std::map<std::string, std::vector<double>> scores;
  Value extra;
  template <class V>
  void Fields(V& v) {
    v("weight", weight);
    v("mood", mood);
    v("label", label);
    v("scores", scores);
    v("extra", extra);
  }
  friend bool operator==(const Sample&, const Sample&) = default;
};

// Answers what it gets.
class Mirror {
 public:
  template <class T>
  T Echo(const T& value) {
    return value;
  }
  int64_t Tiny(int8_t value) const noexcept { return value; }
  int64_t MaybeTiny(Context&, std::optional<uint8_t> value) noexcept { return value.value_or(0); }
  static void Methods(MethodTable<Mirror>& table) {
    table.Add("tiny", &Mirror::Tiny).Add("maybe_tiny", &Mirror::MaybeTiny);
    table.Add("bool", &Mirror::Echo<bool>)
        .Add("int", &Mirror::Echo<int64_t>)
        .Add("uint", &Mirror::Echo<uint64_t>)
        .Add("float", &Mirror::Echo<float>)
        .Add("double", &Mirror::Echo<double>)
        .Add("text", &Mirror::Echo<std::string>)
        .Add("bytes", &Mirror::Echo<Bytes>)
        .Add("range", &Mirror::Echo<ByteRange>)
        .Add("ranges", &Mirror::Echo<std::map<std::string, ByteRange>>)
        .Add("mood", &Mirror::Echo<Mood>)
        .Add("maybe", &Mirror::Echo<std::optional<int64_t>>)
        .Add("maybe_text", &Mirror::Echo<std::optional<std::string>>)
        .Add("list", &Mirror::Echo<std::vector<std::optional<float>>>)
        .Add("map", &Mirror::Echo<std::map<std::string, int64_t>>)
        .Add("moods", &Mirror::Echo<std::map<std::string, std::vector<Mood>>>)
        .Add("sample", &Mirror::Echo<Sample>)
        .Add("samples", &Mirror::Echo<std::vector<Sample>>)
        .Add("value", &Mirror::Echo<Value>);
  }
};

// Both ways to the same actor: direct, and through a connection.
class ValuesTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    mirror_ = NewActor<Mirror>(*server_).Name("mirror").Spawn().value();
    if (!GetParam()) return;
    mirror_ = TypedRef<Mirror>(client_->Connect(server_->endpoint(), "mirror", kPatience).value());
  }
  template <class T>
  void ExpectBack(const T& value) {
    const StatusOr<T> back = mirror_.Call(&Mirror::Echo<T>, value).Get(kPatience);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, value);
  }

  std::unique_ptr<Runtime> server_ = StartRuntime("server", Patient());
  std::unique_ptr<Runtime> client_ = StartRuntime("client", Patient());
  TypedRef<Mirror> mirror_;
};

TEST_P(ValuesTest, Numbers) {
  for (const bool value : {false, true}) ExpectBack(value);
  using Int = std::numeric_limits<int64_t>;
  for (const int64_t value : {Int::min(), int64_t{-1}, int64_t{0}, Int::max()}) ExpectBack(value);
  for (const uint64_t value : {uint64_t{0}, ~uint64_t{0}}) ExpectBack(value);
  using Float = std::numeric_limits<float>;
  for (const float value : {0.1f, -2.0f, Float::max(), Float::denorm_min(), Float::infinity()}) {
    ExpectBack(value);
  }
  for (const double value : {0.1, -1e300}) ExpectBack(value);
}

TEST_P(ValuesTest, AnIntegerThatDoesNotFitIsRefusedAndAMethodMayBeNoexcept) {
  const auto refused = [](const Status& status) {
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(status.outcome(), Outcome::kNotExecuted);
    return status.message();
  };
  EXPECT_EQ(mirror_.Call(&Mirror::Tiny, -128).Get(kPatience).value(), -128);
  EXPECT_EQ(refused(mirror_.Call(&Mirror::Tiny, 300'000).Get(kPatience).status()),
            "method \"tiny\", argument 0: expected an integer of 8 bits, got integer 300000");
  EXPECT_EQ(mirror_.Call(&Mirror::MaybeTiny, 255u).Get(kPatience).value(), 255);
  EXPECT_EQ(mirror_.Call(&Mirror::MaybeTiny, std::nullopt).Get(kPatience).value(), 0);
  refused(mirror_.Call(&Mirror::MaybeTiny, std::optional<int>(-1)).Get(kPatience).status());
  refused(mirror_.Call(&Mirror::Echo<uint64_t>, -1).Get(kPatience).status());
  refused(mirror_.Tell(&Mirror::Echo<int64_t>, ~uint64_t{0}));
}

TEST_P(ValuesTest, TextAndBytes) {
  ExpectBack(std::string());
  ExpectBack(std::string("grün\0!", 7));
  ExpectBack(Bytes());
  ExpectBack(NoText());
}

TEST_P(ValuesTest, ByteRangesLongAndShort) {
  Bytes bytes = NoText();
  ExpectBack(ByteRange());
  ExpectBack(ByteRange(bytes));
  bytes.resize(1 << 20, std::byte{5});
  const ByteRange range = bytes;
  ExpectBack(range);
  ExpectBack(std::map<std::string, ByteRange>{{"all", range},
                                              {"some", range.Part(3, 100)},
                                              {"none", {}},
                                              {"most", range.Part(1, 1 << 20)}});
  EXPECT_EQ(mirror_.Call(&Mirror::Echo<ByteRange>, bytes).Get(kPatience).value(), range);
  EXPECT_EQ(mirror_.ref().Call("bytes", ValueArray{range}).Get(kPatience).value(), Value(bytes));
  EXPECT_EQ(mirror_.ref().Call("range", ValueArray{bytes}).Get(kPatience).value(), Value(range));
}

TEST_P(ValuesTest, EnumsEvenOfUnnamedNumbers) {
  for (const Mood value : {Mood::kCalm, Mood::kWild, Mood(99), Mood(-128)}) ExpectBack(value);
}

TEST_P(ValuesTest, OptionalsWithAndWithoutAValue) {
  ExpectBack(std::optional<int64_t>());
  ExpectBack(std::optional<int64_t>(0));
  ExpectBack(std::optional<std::string>());
  ExpectBack(std::optional<std::string>(""));
  ExpectBack(std::vector<std::optional<float>>{1.5f, std::nullopt, 0.0f});
}

TEST_P(ValuesTest, MapsByString) {
  ExpectBack(std::map<std::string, int64_t>());
  ExpectBack(std::map<std::string, int64_t>{{"", -1}, {"a", 1}, {"b", 2}});
  ExpectBack(std::map<std::string, std::vector<Mood>>{{"none", {}}, {"both", {Mood(1), Mood(-1)}}});
}

TEST_P(ValuesTest, StructsOfAllThat) {
  ExpectBack(Sample());
  const Sample full = {.weight = 0.3f,
                       .mood = Mood::kWild,
                       .label = "one",
                       .scores = {{"a", {0.5, -1}}, {"b", {}}},
                       .extra = ValueArray{Value(1), Value("two")}};
  ExpectBack(full);
  ExpectBack(std::vector<Sample>{Sample(), full});
}

TEST_P(ValuesTest, AnyValue) {
  ExpectBack(Value());
  ExpectBack(
      Value(ValueArray{Value(true), Value(-3), Value(~uint64_t{0}), Value(0.5), Value("x")}));
  ExpectBack(Value(ValueMap{{"bytes", NoText()}, {"nothing", Value()}, {"map", ValueMap()}}));
}

INSTANTIATE_TEST_SUITE_P(Ways, ValuesTest, ::testing::Bool(), [](const auto& way) {
  return std::string(way.param ? "OverTcp" : "Direct");
});

}  // namespace
}  // namespace packcast
