#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/contract.h"
#include "protocol/digest.h"
#include "protocol/ids.h"
#include "protocol/message_parts.h"
#include "protocol/value.h"

// What members tell the coordinator (messages.h).
namespace packcast {

#define PC_MESSAGE(name) static constexpr std::string_view kName = name

// I am here. Sent at start, after a reconnect, and after being expelled.
struct JoinCluster {
  PC_MESSAGE("join");
  std::string model;
  Role role = Role::kWorker;
  std::string unit;  // replica of a worker, trainer unit of a trainer
  uint32_t rank_in_unit = 0;
  uint32_t unit_size = 1;
  Offer offer;
  Version serving;
  bool dirty = false;
  uint64_t install_count = 0;
  Term promised;                         // highest term this member ever accepted
  std::optional<ServedWeights> weights;  // of `serving`, while they are good
  template <class V>
  void Fields(V& v) {
    v("model", model);
    v("role", role);
    v("unit", unit);
    v("rank_in_unit", rank_in_unit);
    v("unit_size", unit_size);
    v("offer", offer);
    v("serving", serving);
    v("dirty", dirty);
    v("install_count", install_count);
    v("promised", promised);
    v("weights", weights);
  }
};

// I am going, in good order.
struct LeaveCluster {
  PC_MESSAGE("leave");
  std::string model;
  template <class V>
  void Fields(V& v) {
    v("model", model);
  }
};

// A trainer rank's sync(label). Labels and manifests of all ranks of the unit must be equal.
struct SyncCall {
  PC_MESSAGE("sync.call");
  std::string model;
  uint64_t label = 0;
  SyncKind kind = SyncKind::kFull;
  std::optional<Version> base;  // reserved: deltas
  Digest manifest_digest;
  bool supersede = false;                     // replace a queued sync instead of getting Busy
  std::optional<std::vector<RowRange>> held;  // rows that this rank can send; none: all
  template <class V>
  void Fields(V& v) {
    v("model", model);
    v("label", label);
    v("kind", kind);
    v("base", base);
    v("manifest_digest", manifest_digest);
    v("supersede", supersede);
    v("held", held);
  }
};

// The trainer gives the sync up (its deadline passed, its caller cancelled), or cannot begin one
// that was wanted; `reason` then says why.
struct SyncCancel {
  PC_MESSAGE("sync.cancel");
  std::string model;
  uint64_t label = 0;
  std::optional<WireStatus> reason;
  template <class V>
  void Fields(V& v) {
    v("model", model);
    v("label", label);
    v("reason", reason);
  }
};

// A run of a manifest's rows; trainer to coordinator, and coordinator to members, once a digest.
// Also a worker's answer to ManifestWanted.
struct ManifestPart {
  PC_MESSAGE("manifest.part");
  Digest digest;
  uint64_t total = 0;  // rows of the whole manifest
  uint64_t first = 0;  // number of the first row here
  std::vector<Value> rows;
  template <class V>
  void Fields(V& v) {
    v("digest", digest);
    v("total", total);
    v("first", first);
    v("rows", rows);
  }
};

struct OfferReply {
  PC_MESSAGE("offer");
  EpochKey key;
  Offer offer;
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("offer", offer);
  }
};

// Bound, allocated and planned, all flows. Who feeds others in a flow (its root, and relays) gives
// a rendezvous for it if it has a new generation.
struct Prepared {
  PC_MESSAGE("prepared");
  EpochKey key;
  Digest plan_digest;
  std::optional<std::vector<FlowRendezvous>> rendezvous;
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("plan_digest", plan_digest);
    v("rendezvous", rendezvous);
  }
};

// This epoch cannot work here; no byte has moved. Ends the epoch.
struct Refused {
  PC_MESSAGE("refused");
  EpochKey key;
  WireStatus status;
  std::string row;     // the tensor it is about, if any
  std::string ours;    // the member's value
  std::string theirs;  // the contract's or manifest's
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("status", status);
    v("row", row);
    v("ours", ours);
    v("theirs", theirs);
  }
};

// All that the rendezvous named.
struct GenerationJoined {
  PC_MESSAGE("generation.joined");
  EpochKey key;
  template <class V>
  void Fields(V& v) {
    v("key", key);
  }
};

struct Quiesced {
  PC_MESSAGE("quiesced");
  EpochKey key;
  template <class V>
  void Fields(V& v) {
    v("key", key);
  }
};

// A beat that carries how far a transfer is.
struct Progress {
  PC_MESSAGE("progress");
  EpochKey key;
  std::string phase;
  uint64_t launched = 0;   // sequences
  uint64_t completed = 0;  // sequences
  uint64_t bytes = 0;
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("phase", phase);
    v("launched", launched);
    v("completed", completed);
    v("bytes", bytes);
  }
};

// A worker holds all bytes and every seal was right; or the root has sent all. Both name the
// digest of what they handled.
struct Staged {
  PC_MESSAGE("staged");
  EpochKey key;
  Digest content_digest;
  uint64_t bytes = 0;
  std::vector<Phase> phases;
  std::optional<Offer> offer;  // when it is another than this member last told
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("content_digest", content_digest);
    v("bytes", bytes);
    v("phases", phases);
    v("offer", offer);
  }
};

// Something failed on this rank before the decision; the coordinator answers with Abort.
struct Failed {
  PC_MESSAGE("failed");
  EpochKey key;
  std::string phase;
  WireStatus status;
  std::string culprit;  // member name, when this rank can tell
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("phase", phase);
    v("status", status);
    v("culprit", culprit);
  }
};

// The committed version serves here. A failed install carries its status instead.
struct Installed {
  PC_MESSAGE("installed");
  EpochKey key;
  WireStatus status;
  std::optional<Digest> memory_digest;  // read back from the serving memory, when asked to verify
  double pause_seconds = 0;             // out of service
  uint64_t install_count = 0;
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("status", status);
    v("memory_digest", memory_digest);
    v("pause_seconds", pause_seconds);
    v("install_count", install_count);
  }
};

// A trainer rank stopped pulling; its source entered groups up to here. Answered with Drain.
struct Halted {
  PC_MESSAGE("halted");
  EpochKey key;
  std::optional<uint64_t> entered_group;  // none: no group was entered
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("entered_group", entered_group);
  }
};

enum class AbortOutcome : uint8_t { kClean = 0, kWedged = 1, kDeviceLost = 2 };
constexpr uint64_t EnumBound(AbortOutcome) { return 3; }

// No work of the attempt is left on any stream of this rank.
struct AttemptAborted {
  PC_MESSAGE("aborted");
  EpochKey key;
  AbortOutcome outcome = AbortOutcome::kClean;
  bool dirty = false;
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("outcome", outcome);
    v("dirty", dirty);
  }
};

#undef PC_MESSAGE

}  // namespace packcast
