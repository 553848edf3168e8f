#include "tests/golden/samples.h"

namespace packcast::golden {
namespace {

constexpr Term kTerm{3, 0x1122334455667788};
const EpochKey kKey{"default", kTerm, EpochId(17), Attempt(2)};
constexpr Digest kManifest{0x0123456789abcdef, 0xfedcba9876543210};
constexpr Digest kOther{0x00000000deadbeef, 0x8000000000000001};
constexpr uint64_t kLarge = 0xfedcba9876543210;  // beyond int64

Bytes BytesOf(std::string_view text) {
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(data, data + text.size());
}

WireStatus Bad(StatusCode code, std::string text) {
  return WireStatus::From(Status(code, std::move(text)));
}

Offer SampleOffer() {
  Offer offer;
  offer.transports = {{.kind = "nccl",
                       .library = "NCCL 2.28.9",
                       .direct_bytes_min = 1 << 16,
                       .cta_count_max = 24,
                       .receivers_max = 7,
                       .device_bytes = 900 << 20},
                      {.kind = "zmq"}};
  offer.memory_free = uint64_t{70} << 30;
  offer.memory_held = 4096;
  offer.buffer_bytes_max = 1 << 20;
  offer.buffer_count_max = 3;
  offer.install_modes = {InstallMode::kInPlace, InstallMode::kStaged};
  offer.manifests = {kManifest, kOther};
  offer.versions = {Version{kTerm, EpochId(16)}};
  offer.can_serve = true;
  return offer;
}

Contract SampleContract() {
  Contract contract;
  contract.buffer_bytes = 1 << 20;
  contract.buffer_count = 3;
  contract.layout = Layout::kCompat;
  contract.install = InstallMode::kInPlace;
  contract.integrity = Integrity::kNone;
  Flow flow;
  flow.id = FlowId(1);
  flow.transport = "zmq";
  flow.members = {{{"trainer/0", Incarnation(kLarge)}, Role::kTrainer, "trainer"},
                  {{"worker/0", Incarnation(5)}, Role::kWorker, "replica/0"}};
  flow.root = 1;
  flow.rows = {{0, 3}, {5, 4096}};
  flow.direct_bytes_min = 1 << 16;
  flow.cta_count_max = 16;
  contract.flows = {flow};
  contract.transfer_deadline = Milliseconds(30123);
  contract.prepare_deadline = Milliseconds(60000);
  contract.rendezvous_deadline = Milliseconds(24000);
  contract.stall_deadline = Milliseconds(30000);
  return contract;
}

std::vector<Row> SampleRows() {
  return {{.name = "embed.weight", .dtype = Dtype::kBF16, .shape = {7, 3}, .group = 1},
          {.name = "scale", .dtype = Dtype::kF32, .auxiliary = {"embed.weight"}}};
}

ManifestPart SamplePart() {
  ManifestPart part{kManifest, 4100, 4096, {}};
  for (const Row& row : SampleRows()) part.rows.push_back(RowToValue(row));
  return part;
}

}  // namespace

std::vector<MemberMessage> MemberSamples() {
  return {
      JoinCluster{"default", Role::kWorker, "replica/0", 1, 2, SampleOffer(),
                  Version{kTerm, EpochId(16)}, true, 9, kTerm,
                  ServedWeights{kManifest, kOther, 41}},
      LeaveCluster{"default"},
      SyncCall{"default", 42, SyncKind::kDelta, Version{kTerm, EpochId(16)}, kManifest, true,
               std::vector<RowRange>{{0, 7}, {9, 12}}},
      SyncCancel{"default", 42},
      SamplePart(),
      OfferReply{kKey, SampleOffer()},
      Prepared{kKey, kOther,
               std::vector<FlowRendezvous>{
                   {FlowId(1), "zmq", BytesOf(std::string_view("\x00\xffsecret", 8))}}},
      Refused{kKey, Bad(StatusCode::kInvalidArgument, "shape differs"), "embed.weight", "[7, 3]",
              "[7, 4]"},
      GenerationJoined{kKey},
      Quiesced{kKey},
      Progress{kKey, "streaming", 12, 11, uint64_t{11} << 20},
      Staged{kKey, kOther, uint64_t{1} << 33, {{"receive", 0.5}, {"unpack", 2.0}}, SampleOffer()},
      Failed{kKey, "transfer", Bad(StatusCode::kUnavailable, "the connection is closed"),
             "worker/1"},
      Installed{kKey, Bad(StatusCode::kInternal, "engine says no: \xc3\xa4"), kOther, 0.25, 10},
      Halted{kKey, 5},
      AttemptAborted{kKey, AbortOutcome::kDeviceLost, true},
  };
}

std::vector<CoordinatorMessage> CoordinatorSamples() {
  return {
      Welcome{"default", kTerm},
      Expelled{"default", Bad(StatusCode::kDeadlineExceeded, "no answer in phase offers"), false},
      SyncWanted{"default", 43},
      SamplePart(),
      Propose{kKey, 42, SyncKind::kPartial, Version{kTerm, EpochId(16)}, kManifest, kOther,
              std::vector<GenerationId>{GenerationId(6), GenerationId(8)}},
      Prepare{kKey,
              42,
              kManifest,
              kOther,
              SampleContract(),
              {{GenerationId(6), true}, {GenerationId(9), false}}},
      RendezvousBlob{kKey, {{FlowId(1), "zmq", BytesOf("blob")}}},
      Quiesce{kKey},
      Start{kKey},
      Commit{kKey},
      AbortAttempt{kKey, Bad(StatusCode::kPeerDied, "worker/1: connection closed"), "worker/1"},
      Drain{kKey, 6},
      SyncDone{"default", 42, Bad(StatusCode::kAborted, "gave up"),
               ValueMap{{"epoch", 17}, {"committed", false}, {"seconds", 1.5}}},
      Shutdown{"asked by a control call"},
      ManifestWanted{"default", kManifest},
      PeerBusy{kKey, "worker/1", 30000, "its interpreter is locked"},
  };
}

std::vector<NamedEnvelope> EnvelopeSamples() {
  std::vector<NamedEnvelope> out;
  const auto add = [&out](std::string name, FrameKind kind) -> Envelope& {
    out.push_back({std::move(name), {}});
    out.back().envelope.kind = kind;
    return out.back().envelope;
  };
  const FrameAddress script{"control", Incarnation(7)};
  const FrameAddress coordinator{"coordinator", Incarnation(kLarge)};
  add("hello", FrameKind::kHello);
  add("welcome", FrameKind::kWelcome).from = coordinator;
  Envelope& refused = add("refused", FrameKind::kRefused);
  refused.from.actor = "coordinatr";
  refused.status = NotFound("no actor \"coordinatr\"");
  Envelope& call = add("call", FrameKind::kCall);
  call.from = script;
  call.to = coordinator;
  call.call_id = CallId(3);
  call.method = "status";
  call.deadline_ms = 1500;
  call.control = true;
  call.idempotent = true;
  call.must_understand = {"idem"};
  Envelope& reply = add("reply", FrameKind::kReply);
  reply.from = coordinator;
  reply.to = script;
  reply.call_id = CallId(3);
  Envelope& error = add("reply.error", FrameKind::kReply);
  error = reply;
  error.status = Busy("one runs and one is queued").WithOutcome(Outcome::kExecuted);
  Envelope& tell = add("tell", FrameKind::kTell);
  tell.from = coordinator;
  tell.to = script;
  tell.method = "event";
  add("beat", FrameKind::kBeat);
  add("bye", FrameKind::kBye).status = Cancelled("the node shut down");
  Envelope& unsupported = add("unsupported", FrameKind::kUnsupported);
  unsupported.to = script;
  unsupported.call_id = CallId(4);
  unsupported.status =
      Unimplemented("kind of message \"yell\" is not known").WithOutcome(Outcome::kNotExecuted);
  return out;
}

Hello HelloSample() {
  return {"packcast", "control-1", Incarnation(7), true, 50, "coordinator", Incarnation()};
}

Hello LaterHelloSample() {
  Hello hello = HelloSample();
  hello.connection = 1;
  hello.earlier = Incarnation(5);
  return hello;
}

Value EarlierSample() {
  Value body = ValueMap{};
  body.Put("earlier", uint64_t{5});
  return body;
}

Hello WelcomeSample() {
  return {"packcast", "coordinator", Incarnation(9), true, 50, "coordinator", Incarnation(kLarge)};
}

Hello RangesHelloSample() {
  Hello hello = HelloSample();
  hello.batches = true;
  hello.ranges = true;
  return hello;
}

Value RangesSample() {
  Bytes first(limits::kApartBytes);
  Bytes second = first;
  second[0] = std::byte{1};
  Value body;
  body.Put("tokens", ByteRange(std::move(first)));
  body.Put("step", 7);
  body.Put("more", ValueArray{Value(ByteRange(std::move(second)))});
  return body;
}

std::vector<PlanSample> PlanSamples() {
  const std::vector<Row> mixed = {{.name = "scalar", .dtype = Dtype::kF32},
                                  {.name = "empty", .dtype = Dtype::kF16, .shape = {0, 5}},
                                  {.name = "odd", .dtype = Dtype::kU8, .shape = {3}},
                                  {.name = "large", .dtype = Dtype::kBF16, .shape = {40, 30}},
                                  {.name = "fp4", .dtype = Dtype::kF4, .shape = {1024}},
                                  {.name = "tail", .dtype = Dtype::kI64, .shape = {2, 33}}};
  std::vector<PlanSample> samples;
  samples.push_back({"aligned", mixed, {.buffer_bytes = 1024}});
  samples.push_back({"aligned-one-buffer", mixed, {.buffer_bytes = 1 << 20}});
  samples.push_back({"aligned-smallest", mixed, {.buffer_bytes = 256}});
  samples.push_back({"direct",
                     mixed,
                     {.buffer_bytes = 512,
                      .direct_bytes_min = 500,
                      .direct_regions_per_step = 2,
                      .direct_bytes_per_step = 1000,
                      .direct_rows = {2, 3, 4, 5}}});
  samples.push_back({"compat", mixed, {.layout = Layout::kCompat, .buffer_bytes = 600}});
  samples.push_back({"compat-equal", mixed, {.layout = Layout::kCompat, .buffer_bytes = 2919}});
  samples.push_back({"some-rows", mixed, {.buffer_bytes = 1024, .rows = {{0, 3}, {4, 5}}}});
  samples.push_back({"some-rows-direct",
                     mixed,
                     {.buffer_bytes = 512,
                      .direct_bytes_min = 500,
                      .direct_rows = {2, 3, 4, 5},
                      .rows = {{3, 4}, {5, 6}}}});
  samples.push_back({"no-rows", {}, {.buffer_bytes = 256}});
  // Large enough that the first and last steps are smaller than the others.
  constexpr int64_t kMib = 1 << 20;
  samples.push_back({"tapered",
                     {{.name = "packed-0", .dtype = Dtype::kU8, .shape = {300 * kMib}},
                      {.name = "direct-0", .dtype = Dtype::kU8, .shape = {900 * kMib}},
                      {.name = "packed-1", .dtype = Dtype::kU8, .shape = {500 * kMib + 3}},
                      {.name = "direct-1", .dtype = Dtype::kU8, .shape = {1300 * kMib + 5}}},
                     {.buffer_bytes = 256 * kMib,
                      .direct_bytes_min = 800 * kMib,
                      .direct_bytes_total = 2200 * kMib + 5,
                      .packed_bytes_total = 800 * kMib + 256,
                      .direct_rows = {1, 3}}});
  return samples;
}

std::vector<ContentSample> ContentSamples() {
  const auto pattern = [](size_t from, size_t to, unsigned factor) {
    Bytes out;
    for (size_t k = from; k < to; ++k) out.push_back(static_cast<std::byte>(k * factor + 1));
    return out;
  };
  return {{"nothing", {}},
          {"one-byte", {{0, 0, pattern(0, 1, 1)}}},
          {"one-word-of-zeros", {{0, 0, Bytes(8)}}},
          {"row-7", {{7, 0, pattern(0, 29, 3)}}},
          {"row-7-in-parts", {{7, 16, pattern(16, 29, 3)}, {7, 0, pattern(0, 16, 3)}}},
          {"two-rows", {{0, 0, pattern(0, 16, 5)}, {1, 0, pattern(0, 5, 255)}}},
          {"far-in-a-row", {{kLarge, uint64_t{1} << 40, pattern(0, 11, 7)}}}};
}

}  // namespace packcast::golden
