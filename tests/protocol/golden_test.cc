// Today's encoder makes the bytes of tests/golden/*.json, and the decoder reads them back. Other
// bytes for an existing vector are a break of the protocol: docs/protocol.md, "Golden vectors".
#include <cstdio>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "protocol/codec.h"
#include "tests/golden/samples.h"

namespace packcast {
namespace {

using Json = nlohmann::ordered_json;

std::string Hex(std::string_view bytes) {
  std::string out;
  char digits[3];
  for (char c : bytes) {
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(c));
    out += digits;
  }
  return out;
}

std::string Hex(const Bytes& bytes) {
  return Hex(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

std::string FromHex(const std::string& hex) {
  std::string out;
  for (size_t k = 0; k + 1 < hex.size(); k += 2) {
    out.push_back(static_cast<char>(std::stoi(hex.substr(k, 2), nullptr, 16)));
  }
  return out;
}

// Bytes have no JSON form of their own: {"$bytes": hex}. Nor have byte ranges that travel apart:
// {"$range": index}, the samples' first byte.
Json ToJson(const Value& value) {
  int64_t i = 0;
  uint64_t u = 0;
  if (value.is_nil()) return nullptr;
  if (const bool* b = value.AsBool()) return *b;
  if (const double* d = value.AsDouble()) return *d;
  if (value.GetUint(&u)) return u;
  if (value.GetInt(&i)) return i;
  if (const std::string* s = value.AsString()) return *s;
  if (const ByteRange* range = value.AsByteRange()) return Json{{"$range", *range->data()}};
  if (const Bytes* bytes = value.AsBytes()) return Json{{"$bytes", Hex(*bytes)}};
  Json out = Json::array();
  if (const ValueArray* array = value.AsArray()) {
    for (const Value& item : *array) out.push_back(ToJson(item));
    return out;
  }
  out = Json::object();
  for (const auto& [key, item] : *value.AsMap()) out[key] = ToJson(item);
  return out;
}

Json Vector(std::string_view kind, std::string_view name, const std::string& bytes) {
  return {{"kind", kind}, {"name", name}, {"hex", Hex(bytes)}, {"json", ToJson(*Decode(bytes))}};
}

Json Messages() {
  Json out = Json::array();
  for (const auto& [name, envelope] : golden::EnvelopeSamples()) {
    out.push_back(Vector("envelope", name, EncodeEnvelope(envelope)));
  }
  out.push_back(Vector("body", "hello", Encode(EncodeHello(golden::HelloSample()))));
  out.push_back(Vector("body", "hello.later", Encode(EncodeHello(golden::LaterHelloSample()))));
  out.push_back(Vector("body", "refused.earlier", Encode(golden::EarlierSample())));
  out.push_back(Vector("body", "welcome", Encode(EncodeHello(golden::WelcomeSample()))));
  out.push_back(Vector("body", "hello.ranges", Encode(EncodeHello(golden::RangesHelloSample()))));
  ApartRanges apart;
  const std::string ranges = Encode(golden::RangesSample(), &apart);
  out.push_back({{"kind", "apart"},
                 {"name", "ranges"},
                 {"hex", Hex(ranges)},
                 {"json", ToJson(golden::RangesSample())}});
  for (const MemberMessage& message : golden::MemberSamples()) {
    out.push_back(Vector("member", MessageName(message), Encode(MessageBody(message))));
  }
  for (const CoordinatorMessage& message : golden::CoordinatorSamples()) {
    out.push_back(Vector("coordinator", MessageName(message), Encode(MessageBody(message))));
  }
  return out;
}

Json PlanVector(const golden::PlanSample& sample) {
  const Manifest manifest = Manifest::Make(sample.rows).value();
  const Plan plan = MakePlan(manifest, sample.options).value();
  Json rows = Json::array();
  Json regions = Json::array();
  Json steps = Json::array();
  for (const Row& row : sample.rows) rows.push_back(ToJson(RowToValue(row)));
  for (const Region& r : plan.regions) {
    regions.push_back(Json::array({r.row, r.offset, r.bytes, r.buffer_offset}));
  }
  for (const Step& s : plan.steps) {
    steps.push_back(Json::array({s.direct, s.region_begin, s.region_end, s.bytes}));
  }
  const PlanOptions& o = sample.options;
  return {{"name", sample.name},
          {"rows", rows},
          {"row_bytes",
           [&] {
             Json bytes = Json::array();
             for (size_t k = 0; k < manifest.size(); ++k) bytes.push_back(manifest.row_bytes(k));
             return bytes;
           }()},
          {"layout", static_cast<int>(o.layout)},
          {"buffer_bytes", o.buffer_bytes},
          {"direct_bytes_min", o.direct_bytes_min},
          {"direct_regions_per_step", o.direct_regions_per_step},
          {"direct_bytes_per_step", o.direct_bytes_per_step},
          {"direct_bytes_total", o.direct_bytes_total},
          {"packed_bytes_total", o.packed_bytes_total},
          {"direct_rows", o.direct_rows},
          {"carried",
           [&] {
             Json ranges = Json::array();
             for (const RowRange& range : o.rows) ranges.push_back({range.begin, range.end});
             return ranges;
           }()},
          {"regions", regions},
          {"steps", steps},
          {"manifest_digest", ToHex(manifest.digest())},
          {"plan_digest", ToHex(plan.digest)}};
}

Json Plans() {
  Json out = Json::array();
  for (const golden::PlanSample& sample : golden::PlanSamples()) out.push_back(PlanVector(sample));
  return out;
}

Json Digests() {
  Json content = Json::array();
  for (const golden::ContentSample& sample : golden::ContentSamples()) {
    ContentHash hash;
    Json parts = Json::array();
    for (const golden::ContentPart& part : sample.parts) {
      hash.Add(part.row, part.offset, part.bytes);
      parts.push_back(Json::array({part.row, part.offset, Hex(part.bytes)}));
    }
    content.push_back({{"name", sample.name}, {"parts", parts}, {"digest", ToHex(hash.digest())}});
  }
  Json hashes = Json::array();
  for (std::string_view text : {"", "packcast"}) {
    hashes.push_back({{"text", text}, {"xxh3_128", ToHex(HashBytes(text))}});
  }
  return {{"content", content}, {"bytes", hashes}};
}

constexpr char kFolder[] = "tests/golden/";

void ExpectFile(const std::string& name, const Json& now) {
  std::ifstream file(kFolder + name);
  ASSERT_TRUE(file) << kFolder << name;
  const Json then = Json::parse(file);
  ASSERT_EQ(then.size(), now.size());
  for (auto a = then.begin(), b = now.begin(); a != then.end(); ++a, ++b) EXPECT_EQ(*a, *b);
}

TEST(Golden, MessagesAreTheBytesTheyWere) { ExpectFile("messages.json", Messages()); }
TEST(Golden, PlansAreWhatTheyWere) { ExpectFile("plans.json", Plans()); }
TEST(Golden, DigestsAreWhatTheyWere) { ExpectFile("digests.json", Digests()); }

template <class Message>
void ExpectReadBack(const StatusOr<Message>& message, const std::string& bytes) {
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(Hex(Encode(MessageBody(*message))), Hex(bytes));
}

TEST(Golden, TheDecoderReadsThemBack) {
  std::ifstream file(std::string(kFolder) + "messages.json");
  for (const Json& vector : Json::parse(file)) {
    const std::string kind = vector["kind"];
    const std::string name = vector["name"];
    const std::string bytes = FromHex(vector["hex"]);
    SCOPED_TRACE(kind + " " + name);
    if (kind == "apart") {
      ApartRanges apart;
      ASSERT_EQ(Hex(Encode(golden::RangesSample(), &apart)), Hex(bytes));
      EXPECT_EQ(DecodeApart(bytes, apart).value(), golden::RangesSample());
      continue;
    }
    const StatusOr<Value> value = Decode(bytes);
    ASSERT_TRUE(value.ok()) << value.status();
    EXPECT_EQ(ToJson(*value), vector["json"]);
    EXPECT_EQ(Hex(Encode(*value)), Hex(bytes));
    if (kind == "member") ExpectReadBack(DecodeMemberMessage(name, *value), bytes);
    if (kind == "coordinator") ExpectReadBack(DecodeCoordinatorMessage(name, *value), bytes);
    if (kind == "body" && name != "refused.earlier") {
      EXPECT_EQ(EncodeHello(DecodeHello(*value).value()), *value);
    }
    if (kind == "envelope") {
      const StatusOr<Envelope> envelope = DecodeEnvelope(bytes);
      ASSERT_TRUE(envelope.ok()) << envelope.status();
      EXPECT_EQ(Hex(EncodeEnvelope(*envelope)), Hex(bytes));
    }
  }
}

// One vector a line, so that a diff shows which changed.
void Write(const std::string& path, const Json& array) {
  std::ofstream out(path);
  out << "[";
  for (size_t k = 0; k < array.size(); ++k) out << (k == 0 ? "\n" : ",\n") << array[k].dump();
  out << "\n]\n";
}

void WriteAll(const std::string& folder) {
  Write(folder + "/messages.json", Messages());
  Write(folder + "/plans.json", Plans());
  std::ofstream(folder + "/digests.json") << Digests().dump(1) << "\n";
}

}  // namespace
}  // namespace packcast

// bazel run //tests/protocol:golden_test -- --write=$PWD/tests/golden
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const std::string flag = argc > 1 ? argv[1] : "";
  if (flag.rfind("--write=", 0) != 0) return RUN_ALL_TESTS();
  packcast::WriteAll(flag.substr(8));
  return 0;
}
