#include "runtime/data/peer_transport.h"

#include <atomic>
#include <utility>

#include "protocol/codec.h"
#include "protocol/limits.h"
#include "runtime/data/chain_collective.h"
#include "runtime/data/peer_wire.h"
#include "runtime/data/shm_transport.h"
#include "runtime/data/wire.h"

namespace packcast {
namespace {

// The rendezvous: msgpack map of "probe" (the handle of memory to try) and "control" (the blob of
// the words' transport).
Bytes EncodeBlob(const Bytes& probe, const Bytes& control) {
  const std::string text = Encode(Value(ValueMap{{"probe", probe}, {"control", control}}));
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(data, data + text.size());
}

Status DecodeBlob(const Bytes& blob, Bytes* probe, Bytes* control) {
  // No part of the blob goes into an error: it is a secret.
  const Status bad = InvalidArgument("the rendezvous of kind \"peer\" is malformed");
  const StatusOr<Value> value = Decode(std::span<const std::byte>(blob));
  if (!value.ok()) return bad;
  const Value* probe_value = value->Find("probe");
  const Value* control_value = value->Find("control");
  if (probe_value == nullptr || probe_value->AsBytes() == nullptr || control_value == nullptr ||
      control_value->AsBytes() == nullptr) {
    return bad;
  }
  *probe = *probe_value->AsBytes();
  *control = *control_value->AsBytes();
  return OkStatus();
}

class PeerTransport final : public Transport {
 public:
  PeerTransport(PeerTransportOptions options, std::unique_ptr<PeerMemory> memory,
                std::shared_ptr<CopyEngine> engine, std::unique_ptr<Transport> control,
                std::byte* probe)
      : options_(std::move(options)),
        memory_(std::move(memory)),
        engine_(std::move(engine)),
        control_(std::move(control)),
        probe_(probe),
        device_{engine_.get()} {}
  ~PeerTransport() override { engine_->allocator()->Free(probe_, kPeerProbeBytes); }

  std::string_view kind() const override { return options_.kind; }
  const DevicePath* device() const override { return &device_; }
  bool is_usable() const override { return usable_; }
  bool members_need_buffers() const override { return !options_.in_place; }
  TransportOffer offer() const override {
    TransportOffer offer;
    offer.kind = options_.kind;
    offer.direct_bytes_min = options_.in_place ? 0 : options_.direct_bytes_min;
    // Who has no buffers of its own has nothing to pass on, nor who takes rows where they belong.
    offer.relays = !options_.in_place && options_.direct_bytes_min == 0;
    offer.receivers_max = offer.relays ? limits::kChainReceivers : 1;
    offer.needs_buffers = members_need_buffers();
    return offer;
  }
  StatusOr<Rendezvous> MakeRendezvous(GenerationId generation) override;
  StatusOr<std::unique_ptr<Collective>> Join(const JoinOptions& options) override;
  void Forget(GenerationId generation) override { control_->Forget(generation); }

 private:
  StatusOr<std::unique_ptr<Collective>> JoinAsRoot(const JoinOptions& options,
                                                   std::shared_ptr<PeerMemory> memory);
  StatusOr<std::unique_ptr<Collective>> JoinAsMember(const JoinOptions& options,
                                                     std::shared_ptr<PeerMemory> memory);
  StatusOr<std::unique_ptr<Collective>> JoinChain(const JoinOptions& options,
                                                  const std::shared_ptr<PeerMemory>& memory);

  const PeerTransportOptions options_;
  const std::unique_ptr<PeerMemory> memory_;  // for what is done before there is a collective
  const std::shared_ptr<CopyEngine> engine_;
  const std::unique_ptr<Transport> control_;
  std::byte* const probe_;  // at a member: where the root's is copied to
  const DevicePath device_;
  std::atomic<bool> usable_{true};
  std::atomic<int> failures_{0};  // to read the root's memory, one after the other
};

StatusOr<Rendezvous> PeerTransport::MakeRendezvous(GenerationId generation) {
  StatusOr<PeerMemory::Place> place = memory_->Find(probe_, kPeerProbeBytes);
  if (!place.ok()) {
    usable_ = false;
    return place.status();
  }
  PC_ASSIGN_OR_RETURN(const Rendezvous control, control_->MakeRendezvous(generation));
  return Rendezvous{std::string(kind()), EncodeBlob(place->handle, control.blob)};
}

StatusOr<std::unique_ptr<Collective>> PeerTransport::Join(const JoinOptions& options) {
  PC_RETURN_IF_ERROR(CheckJoin(options, kind()));
  // Each flow has a thread of its own, so it gets copies of its own.
  PC_ASSIGN_OR_RETURN(std::shared_ptr<PeerMemory> memory, memory_->Another());
  if (options.relays) return JoinChain(options, memory);
  if (options.rank == options.root) return JoinAsRoot(options, std::move(memory));
  return JoinAsMember(options, std::move(memory));
}

StatusOr<std::unique_ptr<Collective>> PeerTransport::JoinAsRoot(
    const JoinOptions& options, std::shared_ptr<PeerMemory> memory) {
  // It finds by the generation what it has prepared.
  JoinOptions words = options;
  words.rendezvous = {std::string(control_->kind()), {}};
  PC_ASSIGN_OR_RETURN(std::unique_ptr<Collective> control, control_->Join(words));
  return MakeWiredCollective(options, std::move(control), MakePeerRoot(std::move(memory)));
}

StatusOr<std::unique_ptr<Collective>> PeerTransport::JoinAsMember(
    const JoinOptions& options, std::shared_ptr<PeerMemory> memory) {
  Bytes probe;
  JoinOptions words = options;
  words.rendezvous.kind = std::string(control_->kind());
  PC_RETURN_IF_ERROR(DecodeBlob(options.rendezvous.blob, &probe, &words.rendezvous.blob));
  // First: who cannot read the other's memory says so, instead of joining.
  auto wire =
      MakePeerMember(std::move(memory), {probe, probe_, options_.in_place, options_.abort_timeout});
  if (!wire.ok()) {
    // Once may be a root that has just died.
    constexpr int kFailuresMost = 2;
    const bool never = wire.status().code() == StatusCode::kUnimplemented;
    if (never || ++failures_ >= kFailuresMost) usable_ = false;
    return wire.status();
  }
  failures_ = 0;
  PC_ASSIGN_OR_RETURN(std::unique_ptr<Collective> control, control_->Join(words));
  return MakeWiredCollective(options, std::move(control), std::move(wire).value());
}

StatusOr<std::unique_ptr<Collective>> PeerTransport::JoinChain(
    const JoinOptions& options, const std::shared_ptr<PeerMemory>& memory) {
  const bool is_root = options.rank == options.root;
  const bool is_last = (options.rank + 1) % options.size == options.root;
  std::unique_ptr<Collective> up;
  std::unique_ptr<Collective> down;
  if (!is_last) {
    PC_ASSIGN_OR_RETURN(down, JoinAsRoot(DownLink(options), memory));
  }
  if (!is_root) {
    PC_ASSIGN_OR_RETURN(up, JoinAsMember(UpLink(options), memory));
  }
  return MakeChainCollective(options, std::move(up), std::move(down));
}

}  // namespace

std::optional<std::string> LocalPeerKind() {
  const std::optional<std::string> shm = LocalShmKind();
  if (!shm) return std::nullopt;
  return "peer" + shm->substr(shm->find('@'));
}

StatusOr<std::unique_ptr<Transport>> MakePeerTransport(PeerTransportOptions options,
                                                       std::unique_ptr<PeerMemory> memory,
                                                       std::shared_ptr<CopyEngine> engine) {
  options.control.bytes_elsewhere = true;
  options.control.read_in_place = true;
  PC_ASSIGN_OR_RETURN(std::unique_ptr<Transport> control, MakeZmqTransport(options.control));
  PC_ASSIGN_OR_RETURN(std::byte* const probe, engine->allocator()->Allocate(kPeerProbeBytes));
  // Who has no handles to give says so here, and not when an epoch wants one.
  if (const Status shared = memory->Find(probe, kPeerProbeBytes).status(); !shared.ok()) {
    engine->allocator()->Free(probe, kPeerProbeBytes);
    return shared;
  }
  return std::unique_ptr<Transport>(std::make_unique<PeerTransport>(
      std::move(options), std::move(memory), std::move(engine), std::move(control), probe));
}

}  // namespace packcast
