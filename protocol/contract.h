#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/digest.h"
#include "protocol/ids.h"
#include "protocol/limits.h"
#include "protocol/plan.h"
#include "protocol/status.h"
#include "protocol/time.h"

namespace packcast {

enum class SyncKind : uint8_t {
  kFull = 0,
  kPartial = 1,
  kDelta = 2,
  kAdapter = 3,
  kCatchUp = 4,  // a proposal's only: what others serve, to those that are behind
};

enum class InstallMode : uint8_t {
  kStaged = 0,   // second copy; an abort leaves the old version serving
  kInPlace = 1,  // out of service from the first byte to commit; dirty after an abort
};

enum class Role : uint8_t { kTrainer = 0, kWorker = 1 };

enum class Integrity : uint8_t { kNone = 0, kContentHash = 1 };

// Bounds for decoding (protocol/fields.h): one more than the largest known code.
constexpr uint64_t EnumBound(SyncKind) { return 5; }
constexpr uint64_t EnumBound(InstallMode) { return 2; }
constexpr uint64_t EnumBound(Role) { return 2; }
constexpr uint64_t EnumBound(Integrity) { return 2; }
constexpr uint64_t EnumBound(Layout) { return 2; }

std::string_view InstallModeName(InstallMode mode);  // "staged", "in-place"
std::string_view RoleName(Role role);                // "trainer", "worker"
StatusOr<InstallMode> InstallModeFromName(std::string_view name);

// A way that a rank's bytes can travel, and what it is good for.
struct TransportOffer {
  std::string kind;               // "zmq", "shm@...", "peer@...", "nccl"
  std::string library;            // version and settings that must be equal on all ranks
  uint64_t direct_bytes_min = 0;  // rows from this size may go direct; 0: none
  uint32_t cta_count_max = 0;     // blocks it may take of the device; 0: as it likes
  uint32_t receivers_max = 0;     // ranks besides the root that it serves well; 0: any number
  uint64_t device_bytes = 0;      // of the device's memory that it would still take, buffers apart
  bool needs_buffers = true;      // at a receiver: of its own
  bool relays = false;            // receivers would pass on what they have (Flow::relays)

  template <class V>
  void Fields(V& v) {
    v("kind", kind);
    v("library", library);
    v("direct_bytes_min", direct_bytes_min);
    v("cta_count_max", cta_count_max);
    v("receivers_max", receivers_max);
    v("device_bytes", device_bytes);
    v("needs_buffers", needs_buffers);
    v("relays", relays);
  }
  friend bool operator==(const TransportOffer&, const TransportOffer&) = default;
};

// What one rank can do in the coming epoch.
struct Offer {
  std::vector<TransportOffer> transports;  // in order of preference
  uint64_t memory_free = 0;                // bytes on the device, 0: not known
  uint64_t memory_held = 0;                // bytes of buffers it holds already
  uint64_t buffer_bytes_max = 0;           // largest buffer; 0: no limit
  uint32_t buffer_count_max = 0;           // 0: no limit
  std::vector<InstallMode> install_modes;  // workers only, in order of preference
  std::vector<Digest> manifests;           // cached
  std::vector<Version> versions;           // held; base versions for deltas
  // A worker that keeps what it has installed as it came, until its next epoch writes, and would
  // send it to those that are behind.
  bool can_serve = false;

  template <class V>
  void Fields(V& v) {
    v("transports", transports);
    v("memory_free", memory_free);
    v("memory_held", memory_held);
    v("buffer_bytes_max", buffer_bytes_max);
    v("buffer_count_max", buffer_count_max);
    v("install_modes", install_modes);
    v("manifests", manifests);
    v("versions", versions);
    v("can_serve", can_serve);
  }
  friend bool operator==(const Offer&, const Offer&) = default;
};

// What the operator wants, on top of the offers.
struct ContractPolicy {
  uint64_t buffer_bytes = limits::kBufferBytesDefault;
  uint32_t buffer_count = limits::kBufferCountDefault;
  InstallMode install = InstallMode::kStaged;
  std::string transport;  // "" lets the offers decide
  Integrity integrity = Integrity::kContentHash;

  template <class V>
  void Fields(V& v) {
    v("buffer_bytes", buffer_bytes);
    v("buffer_count", buffer_count);
    v("install", install);
    v("transport", transport);
    v("integrity", integrity);
  }
};

// A member of a flow, in rank order; rank 0 is the root.
struct FlowMember {
  MemberId member;
  Role role = Role::kWorker;
  std::string unit;  // replica or trainer unit

  template <class V>
  void Fields(V& v) {
    v("name", member.name);
    v("incarnation", member.incarnation);
    v("role", role);
    v("unit", unit);
  }
};

// One plan over one transport with its members. An epoch has a flow for each transport that some
// of its workers take, and for each trainer rank that sends rows of its own: every worker is in
// flows that carry all rows together, each row once.
struct Flow {
  FlowId id;  // its place in the contract
  std::string transport;
  std::vector<FlowMember> members;
  uint32_t root = 0;
  std::vector<RowRange> rows;     // that it carries; empty: all of the manifest
  uint64_t direct_bytes_min = 0;  // rows from this size travel direct; 0: none
  uint32_t cta_count_max = 0;     // blocks of each device that it may take; 0: as it likes
  // Each member gets the bytes from the one before it and passes them on: from the root on, round
  // to the one before the root. Else all get them from the root.
  bool relays = false;

  // The rank of a member in it.
  std::optional<uint32_t> RankOf(const MemberId& member) const;
  // The rank that `rank` gets its bytes from; the root's is itself.
  uint32_t FeederOf(uint32_t rank) const;
  // Whether others get their bytes from `rank`: it makes a rendezvous for them.
  bool Feeds(uint32_t rank) const;
  const MemberId& root_member() const { return members[root].member; }

  template <class V>
  void Fields(V& v) {
    v("id", id);
    v("transport", transport);
    v("members", members);
    v("root", root);
    v("rows", rows);
    v("direct_bytes_min", direct_bytes_min);
    v("cta_count_max", cta_count_max);
    v("relays", relays);
  }
};

// What the coordinator decides from all offers; the same bytes for every member.
struct Contract {
  uint64_t buffer_bytes = 0;  // of each flow's buffers, on each of its ranks
  uint32_t buffer_count = 0;
  Layout layout = Layout::kAligned;
  InstallMode install = InstallMode::kStaged;
  Integrity integrity = Integrity::kContentHash;
  std::vector<Flow> flows;
  // From Start until a member gives its stream up by itself: somewhat after the coordinator does,
  // which knows better whom to blame.
  Duration transfer_deadline{};
  // How long the coordinator waits until all are prepared: so much later is the end for a member
  // that begins to stream before Start.
  Duration prepare_deadline{};
  // From its rendezvous until who feeds others says who of them has not come: before the
  // coordinator ends the wait, which does not know. Zero: never.
  Duration rendezvous_deadline{};
  // How long a member that others get their bytes from lets one of them keep it from going on.
  // Zero: until the transfer's end.
  Duration stall_deadline{};

  template <class V>
  void Fields(V& v) {
    v("buffer_bytes", buffer_bytes);
    v("buffer_count", buffer_count);
    v("layout", layout);
    v("install", install);
    v("integrity", integrity);
    v("flows", flows);
    v("transfer_deadline", transfer_deadline);
    v("prepare_deadline", prepare_deadline);
    v("rendezvous_deadline", rendezvous_deadline);
    v("stall_deadline", stall_deadline);
  }
};

// Whether a member can follow it at all; kFailedPrecondition says what is wrong. What a contract of
// MakeContract always is, and one that came over the wire may not be.
Status CheckFlows(const Contract& contract);

// How every member of `flow` plans `manifest` under `contract`. The agreed size bounds a buffer; a
// model whose packed rows fill few buffers takes smaller ones: an eighth of them, at least 1 MiB,
// and beyond 128 MiB only as far as a 32nd goes. So packing, sending and unpacking still overlap,
// and no memory is wasted.
PlanOptions PlanOptionsOf(const Contract& contract, const Flow& flow, const Manifest& manifest);

// A rank and what it offers.
struct MemberOffer {
  MemberId member;
  Role role = Role::kWorker;
  std::string unit;
  uint32_t rank_in_unit = 0;
  Offer offer;
  std::optional<std::vector<RowRange>> held;  // trainers: the rows that it can send; none: all
};

// The contract of `offers` for a manifest of `rows` rows: buffer size and count are the minimum
// over policy and offers (size rounded down to 256), the size no more than fits into every device's
// memory; the install mode is the policy's, which every worker must offer.
//
// Flows: a row's root is the first trainer rank that holds it. Of a root's transports, in its
// order, each takes the workers that offer it and that none before it took; one for so many
// receivers only (receivers_max) takes all workers or none. A flow's members: the root first, then
// workers by unit and rank; they relay where there are several and all of the flow offer it, those
// of every second root the other way round.
//
// Pure; independent of the order of `offers`. Errors name the member and both sides' values, or the
// row that nobody holds.
StatusOr<Contract> MakeContract(const ContractPolicy& policy, std::vector<MemberOffer> offers,
                                uint32_t rows);

}  // namespace packcast
