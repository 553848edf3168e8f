#include "protocol/batch.h"

#include <random>

#include <gtest/gtest.h>

#include "protocol/codec.h"

namespace packcast {
namespace {

Envelope Tell(const std::string& actor, const std::string& method) {
  Envelope envelope;
  envelope.kind = FrameKind::kTell;
  envelope.to = {actor, Incarnation(7)};
  envelope.method = method;
  return envelope;
}

struct Read {
  Envelope envelope;
  std::string body;
};

// What a reader makes of the bytes.
StatusOr<std::vector<Read>> ReadAll(std::string_view bytes) {
  std::vector<Read> all;
  std::vector<Envelope> heads;
  BatchReader reader(bytes);
  BatchReader::Record record;
  while (true) {
    PC_ASSIGN_OR_RETURN(const bool is_there, reader.Next(&record));
    if (!is_there) return all;
    if (!record.new_head.empty()) {
      PC_ASSIGN_OR_RETURN(heads.emplace_back(), DecodeEnvelope(record.new_head));
    }
    Envelope envelope = heads.at(record.head);
    envelope.call_id = record.call_id;
    envelope.deadline_ms = record.deadline_ms;
    all.push_back({envelope, std::string(record.body)});
  }
}

void ExpectSame(const Envelope& got, const Envelope& sent) {
  EXPECT_EQ(EncodeEnvelope(got), EncodeEnvelope(sent));
}

TEST(BatchTest, RandomMessagesComeAsTheyWere) {
  std::mt19937_64 random(1);
  const auto below = [&](uint64_t n) { return random() % n; };
  for (int round = 0; round < 200; ++round) {
    BatchWriter writer;
    std::vector<Read> sent;
    const size_t count = below(100);
    for (size_t k = 0; k < count; ++k) {
      Envelope envelope =
          Tell("actor-" + std::to_string(below(12)), "m" + std::to_string(below(3)));
      if (below(2) == 0) {
        envelope.kind = FrameKind::kCall;
        envelope.call_id = CallId(1 + random());
        if (below(2) == 0) envelope.deadline_ms = 1 + below(100'000);
        envelope.idempotent = below(4) == 0;
      } else if (below(4) == 0) {
        envelope.kind = FrameKind::kReply;
        envelope.method.clear();
        envelope.call_id = CallId(1 + below(1000));
        if (below(2) == 0) envelope.status = Busy("text " + std::to_string(below(3)));
      }
      envelope.control = below(5) == 0;
      const std::string body(below(300), static_cast<char>(below(256)));
      writer.Add(envelope, body);
      sent.push_back({envelope, body});
    }
    EXPECT_EQ(writer.messages(), count);
    const auto read = ReadAll(writer.Take());
    ASSERT_TRUE(read.ok()) << read.status();
    ASSERT_EQ(read->size(), sent.size());
    for (size_t k = 0; k < count; ++k) {
      ExpectSame((*read)[k].envelope, sent[k].envelope);
      EXPECT_EQ((*read)[k].body, sent[k].body);
    }
    EXPECT_EQ(writer.messages(), 0u);
  }
}

TEST(BatchTest, MessagesOfOneKindShareTheirEnvelope) {
  BatchWriter writer;
  writer.Add(Tell("a", "m"), "x");
  const size_t first = writer.bytes();
  writer.Add(Tell("a", "m"), "x");
  EXPECT_EQ(writer.bytes() - first, 19u);
}

TEST(BatchTest, EveryCutIsAnErrorAndNeverMore) {
  BatchWriter writer;
  writer.Add(Tell("a", "m"), "body");
  writer.Add(Tell("b", "m"), "body");
  writer.Add(Tell("a", "m"), "body");
  const std::string whole = writer.Take();
  const size_t one = whole.find("body") + 4;
  const size_t two = whole.find("body", one) + 4;
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto read = ReadAll(std::string_view(whole).substr(0, size));
    EXPECT_EQ(read.ok(), size == 0 || size == one || size == two) << size;
  }
}

TEST(BatchTest, AnEnvelopeThatDidNotComeIsAnError) {
  BatchWriter writer;
  writer.Add(Tell("a", "m"), "body");
  std::string bytes = writer.Take();
  bytes[0] = 1;
  EXPECT_NE(ReadAll(bytes).status().message().find("envelope 1 of 0"), std::string::npos);
}

TEST(BatchTest, RandomBytesNeverCrash) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 5000; ++round) {
    std::string bytes(random() % 64, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() % 4 == 0 ? random() : 0);
    BatchReader reader(bytes);
    BatchReader::Record record;
    for (int k = 0; k < 100; ++k) {
      const auto next = reader.Next(&record);
      if (!next.ok() || !*next) break;
      ASSERT_LE(record.body.size(), bytes.size());
    }
  }
}

}  // namespace
}  // namespace packcast
