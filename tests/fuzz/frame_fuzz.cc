// Envelopes, and the bodies of hello and welcome: what decodes comes back as it was.
#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/codec.h"
#include "protocol/frame.h"
#include "protocol/limits.h"
#include "runtime/base/check.h"
#include "tests/fuzz/input.h"

using namespace packcast;

namespace {

bool Same(const Envelope& a, const Envelope& b) {
  return a.major == b.major && a.minor == b.minor && a.kind == b.kind && a.from == b.from &&
         a.to == b.to && a.call_id == b.call_id && a.method == b.method &&
         a.deadline_ms == b.deadline_ms && a.control == b.control && a.idempotent == b.idempotent &&
         a.status == b.status && a.status.outcome() == b.status.outcome() &&
         a.must_understand == b.must_understand;
}

void TryEnvelope(std::string_view bytes) {
  Envelope partial;
  const StatusOr<Envelope> envelope = DecodeEnvelope(bytes, &partial);
  PC_CHECK(partial.from.actor.size() <= limits::kNameBytes);
  PC_CHECK(partial.to.actor.size() <= limits::kNameBytes);
  if (!envelope.ok()) return;
  PC_CHECK(envelope->method.size() <= limits::kNameBytes);
  PC_CHECK(partial.from == envelope->from && partial.to == envelope->to);
  const StatusOr<Envelope> again = DecodeEnvelope(EncodeEnvelope(*envelope));
  PC_CHECK(again.ok()) << again.status();
  PC_CHECK(Same(*again, *envelope));
}

bool Same(const Hello& a, const Hello& b) {
  return a.cluster == b.cluster && a.node == b.node && a.incarnation == b.incarnation &&
         a.beats == b.beats && a.beat_ms == b.beat_ms && a.actor == b.actor &&
         a.actor_incarnation == b.actor_incarnation && a.batches == b.batches &&
         a.connection == b.connection;
}

void TryHello(std::string_view bytes) {
  const StatusOr<Value> body = Decode(bytes);
  if (!body.ok()) return;
  const StatusOr<Hello> hello = DecodeHello(*body);
  if (!hello.ok()) return;
  PC_CHECK(limits::IsName(hello->node) && limits::IsName(hello->cluster));
  const StatusOr<Value> sent = Decode(Encode(EncodeHello(*hello)));
  PC_CHECK(sent.ok()) << sent.status();
  const StatusOr<Hello> again = DecodeHello(*sent);
  PC_CHECK(again.ok()) << again.status();
  PC_CHECK(Same(*again, *hello));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  if (in.Flag()) {
    TryHello(in.Rest());
  } else {
    TryEnvelope(in.Rest());
  }
  return 0;
}
