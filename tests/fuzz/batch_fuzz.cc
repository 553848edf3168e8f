// Batches: any bytes as one, and what a writer makes read again.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/batch.h"
#include "runtime/base/check.h"
#include "tests/fuzz/input.h"

using namespace packcast;

namespace {

void TryRead(std::string_view bytes) {
  BatchReader reader(bytes);
  size_t heads = 0;
  size_t taken = 0;
  while (true) {
    BatchReader::Record record;
    const StatusOr<bool> more = reader.Next(&record);
    if (!more.ok() || !*more) return;
    PC_CHECK(record.head <= heads);
    PC_CHECK((record.head == heads) == !record.new_head.empty());
    if (record.head == heads) ++heads;
    taken += 18 + record.new_head.size() + record.body.size();
    PC_CHECK(taken <= bytes.size()) << "more was read than there is";
    PC_CHECK(record.body.data() >= bytes.data() &&
             record.body.data() + record.body.size() <= bytes.data() + bytes.size());
    if (!record.new_head.empty()) (void)DecodeEnvelope(record.new_head);
  }
}

struct Message {
  Envelope envelope;
  std::string body;
};

Message TakeMessage(fuzz::Input* in) {
  static constexpr FrameKind kKinds[] = {FrameKind::kCall, FrameKind::kReply, FrameKind::kTell,
                                         FrameKind::kBye};
  Message message;
  Envelope& e = message.envelope;
  e.kind = kKinds[in->Below(4)];
  e.to = {std::string(1, static_cast<char>('a' + in->Below(12))), Incarnation(in->Below(2))};
  e.call_id = CallId(in->Word() | 1);
  e.method = in->Flag() ? "join" : "offer";
  if (in->Flag()) e.deadline_ms = in->Word() % (uint64_t{1} << 33);
  e.control = in->Flag();
  if (in->OneIn(8)) e.status = Busy("a test");
  message.body = in->Take(in->Below(40));
  return message;
}

void TryWrite(fuzz::Input* in) {
  std::vector<Message> messages;
  BatchWriter writer;
  while (!in->empty()) {
    messages.push_back(TakeMessage(in));
    writer.Add(messages.back().envelope, messages.back().body);
  }
  PC_CHECK(writer.messages() == messages.size());
  const std::string bytes = writer.Take();
  PC_CHECK(writer.bytes() == 0 && writer.messages() == 0);
  BatchReader reader(bytes);
  std::vector<Envelope> heads;
  for (const Message& message : messages) {
    BatchReader::Record record;
    PC_CHECK(reader.Next(&record).value());
    if (!record.new_head.empty()) heads.push_back(DecodeEnvelope(record.new_head).value());
    const Envelope& head = heads.at(record.head);
    const Envelope& sent = message.envelope;
    PC_CHECK(head.kind == sent.kind && head.to == sent.to && head.method == sent.method &&
             head.control == sent.control && head.status == sent.status);
    PC_CHECK(record.call_id == sent.call_id && record.body == message.body);
    std::optional<uint64_t> deadline = sent.deadline_ms;
    if (deadline) deadline = std::clamp<uint64_t>(*deadline, 1, 0xffffffff);
    PC_CHECK(record.deadline_ms == deadline);
  }
  BatchReader::Record none;
  PC_CHECK(!reader.Next(&none).value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  if (in.Flag()) {
    TryWrite(&in);
  } else {
    TryRead(in.Rest());
  }
  return 0;
}
