#include "protocol/frame.h"

#include <algorithm>
#include <array>

#include "protocol/codec.h"
#include "protocol/limits.h"
#include "protocol/text.h"

namespace packcast {
namespace {

constexpr std::array<FrameKind, 10> kKinds = {
    FrameKind::kHello,       FrameKind::kWelcome, FrameKind::kRefused, FrameKind::kCall,
    FrameKind::kReply,       FrameKind::kTell,    FrameKind::kBeat,    FrameKind::kBye,
    FrameKind::kUnsupported, FrameKind::kBatch};

constexpr std::array<std::string_view, 13> kKnownKeys = {
    "v", "k", "from", "to", "id", "m", "ttl", "c", "idem", "code", "msg", "out", "must"};

// Envelopes are small: a longer one is nonsense, whatever it says.
constexpr DecodeLimits kEnvelopeLimits = {
    .depth = 4, .items = 64, .total_items = 256, .string_bytes = 64u << 10, .bytes_bytes = 4096};
constexpr uint64_t kDeadlineMsMax = uint64_t{1000} * 3600 * 24 * 30;

Status Bad(std::string_view key, std::string_view want) {
  return InvalidArgument("envelope: \"" + std::string(key) + "\" must be " + std::string(want));
}

Status ReadUint(const Value& map, std::string_view key, uint64_t* out) {
  const Value* value = map.Find(key);
  if (value == nullptr || value->GetUint(out)) return OkStatus();
  return Bad(key, "an integer, not negative");
}

Status ReadBool(const Value& map, std::string_view key, bool* out) {
  const Value* value = map.Find(key);
  if (value == nullptr) return OkStatus();
  if (value->AsBool() == nullptr) return Bad(key, "a bool");
  *out = *value->AsBool();
  return OkStatus();
}

Status ReadText(const Value& map, std::string_view key, size_t max_bytes, std::string* out) {
  const Value* value = map.Find(key);
  if (value == nullptr) return OkStatus();
  if (value->AsString() == nullptr) return Bad(key, "a string");
  if (value->AsString()->size() > max_bytes) {
    return Bad(key, "at most " + std::to_string(max_bytes) + " bytes long");
  }
  *out = *value->AsString();
  return OkStatus();
}

Value AddressValue(const FrameAddress& address) {
  return ValueArray{Value(address.actor), Value(address.incarnation.value)};
}

Status ReadAddress(const Value& map, std::string_view key, FrameAddress* out) {
  const Value* value = map.Find(key);
  if (value == nullptr) return OkStatus();
  const ValueArray* array = value->AsArray();
  if (array == nullptr || array->size() < 2 || (*array)[0].AsString() == nullptr ||
      (*array)[0].AsString()->size() > limits::kNameBytes ||
      !(*array)[1].GetUint(&out->incarnation.value)) {
    return Bad(key, "[actor name, incarnation]");
  }
  out->actor = *(*array)[0].AsString();
  return OkStatus();
}

Status ReadVersion(const Value& map, Envelope* out) {
  const Value* version = map.Find("v");
  const ValueArray* array = version == nullptr ? nullptr : version->AsArray();
  if (array == nullptr || array->size() < 2 || !(*array)[0].GetUint(&out->major) ||
      !(*array)[1].GetUint(&out->minor)) {
    return Bad("v", "[major, minor]");
  }
  if (out->major == kProtocolMajor) return OkStatus();
  return Unimplemented("protocol version " + std::to_string(out->major) + "." +
                       std::to_string(out->minor) + " is not spoken here; this node speaks " +
                       std::to_string(kProtocolMajor) + "." + std::to_string(kProtocolMinor));
}

Status ReadKind(const Value& map, Envelope* out) {
  std::string name;
  PC_RETURN_IF_ERROR(ReadText(map, "k", limits::kNameBytes, &name));
  if (name.empty()) return Bad("k", "the kind of message");
  const auto kind = std::find_if(kKinds.begin(), kKinds.end(),
                                 [&](FrameKind k) { return FrameKindName(k) == name; });
  if (kind == kKinds.end()) return Unimplemented("kind of message \"" + name + "\" is not known");
  out->kind = *kind;
  return OkStatus();
}

Status ReadMust(const Value& map, Envelope* out) {
  const Value* must = map.Find("must");
  if (must == nullptr) return OkStatus();
  if (must->AsArray() == nullptr) return Bad("must", "an array of strings");
  for (const Value& key : *must->AsArray()) {
    if (key.AsString() == nullptr) return Bad("must", "an array of strings");
    if (std::find(kKnownKeys.begin(), kKnownKeys.end(), *key.AsString()) == kKnownKeys.end()) {
      return Unimplemented("envelope key \"" + *key.AsString() +
                           "\" must be understood, but is not known here");
    }
    out->must_understand.push_back(*key.AsString());
  }
  return OkStatus();
}

Status ReadStatus(const Value& map, Envelope* out) {
  uint64_t code = 0;
  uint64_t outcome = 0;
  std::string text;
  PC_RETURN_IF_ERROR(ReadUint(map, "code", &code));
  PC_RETURN_IF_ERROR(ReadUint(map, "out", &outcome));
  PC_RETURN_IF_ERROR(ReadText(map, "msg", limits::kStatusTextBytes, &text));
  if (code == 0) return OkStatus();
  // A code that a later version added: keep the text, say what is not known.
  if (code > static_cast<uint64_t>(StatusCode::kStale)) {
    text += " (code " + std::to_string(code) + ")";
    code = static_cast<uint64_t>(StatusCode::kInternal);
  }
  if (outcome > static_cast<uint64_t>(Outcome::kExecuted)) outcome = 0;
  out->status = Status(static_cast<StatusCode>(code), std::move(text))
                    .WithOutcome(static_cast<Outcome>(outcome));
  return OkStatus();
}

Status CheckSemantics(const Envelope& e) {
  const bool needs_id = e.kind == FrameKind::kCall || e.kind == FrameKind::kReply;
  if (needs_id && e.call_id.value == 0) return Bad("id", "given, and not 0");
  const bool needs_method = e.kind == FrameKind::kCall || e.kind == FrameKind::kTell;
  if (needs_method && e.method.empty()) return Bad("m", "given");
  if (e.deadline_ms.value_or(0) > kDeadlineMsMax) return Bad("ttl", "at most 30 days");
  return OkStatus();
}

Status ReadRest(const Value& map, Envelope* out) {
  PC_RETURN_IF_ERROR(ReadKind(map, out));
  PC_RETURN_IF_ERROR(ReadMust(map, out));
  PC_RETURN_IF_ERROR(ReadText(map, "m", limits::kNameBytes, &out->method));
  PC_RETURN_IF_ERROR(ReadBool(map, "c", &out->control));
  PC_RETURN_IF_ERROR(ReadBool(map, "idem", &out->idempotent));
  PC_RETURN_IF_ERROR(ReadStatus(map, out));
  if (map.Find("ttl") != nullptr) {
    PC_RETURN_IF_ERROR(ReadUint(map, "ttl", &out->deadline_ms.emplace()));
  }
  return CheckSemantics(*out);
}

}  // namespace

std::string_view FrameKindName(FrameKind kind) {
  switch (kind) {
    case FrameKind::kHello: return "hello";
    case FrameKind::kWelcome: return "welcome";
    case FrameKind::kRefused: return "refused";
    case FrameKind::kCall: return "call";
    case FrameKind::kReply: return "reply";
    case FrameKind::kTell: return "tell";
    case FrameKind::kBeat: return "beat";
    case FrameKind::kBye: return "bye";
    case FrameKind::kUnsupported: return "unsupported";
    case FrameKind::kBatch: return "batch";
  }
  return "unknown";
}

std::string EncodeEnvelope(const Envelope& e) {
  ValueMap map;
  map.reserve(10);
  map.emplace_back("v", ValueArray{Value(e.major), Value(e.minor)});
  map.emplace_back("k", FrameKindName(e.kind));
  if (e.from != FrameAddress{}) map.emplace_back("from", AddressValue(e.from));
  if (e.to != FrameAddress{}) map.emplace_back("to", AddressValue(e.to));
  if (e.call_id.value != 0) map.emplace_back("id", e.call_id.value);
  if (!e.method.empty()) map.emplace_back("m", e.method);
  if (e.deadline_ms) map.emplace_back("ttl", std::min(*e.deadline_ms, kDeadlineMsMax));
  if (e.control) map.emplace_back("c", true);
  if (e.idempotent) map.emplace_back("idem", true);
  if (!e.status.ok()) {
    map.emplace_back("code", static_cast<int>(e.status.code()));
    map.emplace_back("msg", WireText(e.status.message()));
    map.emplace_back("out", static_cast<int>(e.status.outcome()));
  }
  if (!e.must_understand.empty()) {
    ValueArray must;
    for (const std::string& key : e.must_understand) must.emplace_back(key);
    map.emplace_back("must", std::move(must));
  }
  return Encode(Value(std::move(map)));
}

StatusOr<Envelope> DecodeEnvelope(std::string_view bytes, Envelope* partial) {
  PC_ASSIGN_OR_RETURN(const Value map, Decode(bytes, kEnvelopeLimits));
  if (map.AsMap() == nullptr) return InvalidArgument("the envelope is not a map");
  Envelope envelope;
  PC_RETURN_IF_ERROR(ReadAddress(map, "from", &envelope.from));
  PC_RETURN_IF_ERROR(ReadAddress(map, "to", &envelope.to));
  PC_RETURN_IF_ERROR(ReadUint(map, "id", &envelope.call_id.value));
  const Status version = ReadVersion(map, &envelope);
  if (partial != nullptr) *partial = envelope;
  PC_RETURN_IF_ERROR(version);
  PC_RETURN_IF_ERROR(ReadRest(map, &envelope));
  return envelope;
}

Value EncodeHello(const Hello& hello) {
  Value map = ValueMap{};
  map.Put("cluster", hello.cluster);
  map.Put("node", hello.node);
  map.Put("incarnation", hello.incarnation.value);
  map.Put("beats", hello.beats);
  if (hello.beat_ms != 0) map.Put("beat_ms", hello.beat_ms);
  if (hello.batches) map.Put("batches", true);
  if (hello.ranges) map.Put("ranges", true);
  if (hello.connection != 0) map.Put("connection", hello.connection);
  if (hello.earlier.value != 0) map.Put("earlier", hello.earlier.value);
  if (!hello.actor.empty()) map.Put("actor", hello.actor);
  if (hello.actor_incarnation.value != 0) {
    map.Put("actor_incarnation", hello.actor_incarnation.value);
  }
  return map;
}

StatusOr<Hello> DecodeHello(const Value& body) {
  if (body.AsMap() == nullptr) return InvalidArgument("the body of hello is not a map");
  Hello hello;
  PC_RETURN_IF_ERROR(ReadText(body, "cluster", limits::kNameBytes, &hello.cluster));
  PC_RETURN_IF_ERROR(ReadText(body, "node", limits::kNameBytes, &hello.node));
  PC_RETURN_IF_ERROR(ReadUint(body, "incarnation", &hello.incarnation.value));
  PC_RETURN_IF_ERROR(ReadBool(body, "beats", &hello.beats));
  PC_RETURN_IF_ERROR(ReadUint(body, "beat_ms", &hello.beat_ms));
  PC_RETURN_IF_ERROR(ReadBool(body, "batches", &hello.batches));
  PC_RETURN_IF_ERROR(ReadBool(body, "ranges", &hello.ranges));
  PC_RETURN_IF_ERROR(ReadUint(body, "connection", &hello.connection));
  PC_RETURN_IF_ERROR(ReadUint(body, "earlier", &hello.earlier.value));
  PC_RETURN_IF_ERROR(ReadText(body, "actor", limits::kNameBytes, &hello.actor));
  PC_RETURN_IF_ERROR(ReadUint(body, "actor_incarnation", &hello.actor_incarnation.value));
  if (hello.node.empty()) return InvalidArgument("hello without the node's name (\"node\")");
  if (hello.cluster.empty()) return InvalidArgument("hello without \"cluster\"");
  return hello;
}

}  // namespace packcast
