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

// What the coordinator tells its members (messages.h).
namespace packcast {

#define PC_MESSAGE(name) static constexpr std::string_view kName = name

struct Welcome {
  PC_MESSAGE("welcome");
  std::string model;
  Term term;
  template <class V>
  void Fields(V& v) {
    v("model", model);
    v("term", term);
  }
};

// The join is refused, or the member is out until it joins again.
struct Expelled {
  PC_MESSAGE("expelled");
  std::string model;
  WireStatus reason;
  bool may_rejoin = true;
  template <class V>
  void Fields(V& v) {
    v("model", model);
    v("reason", reason);
    v("may_rejoin", may_rejoin);
  }
};

// Somebody (a script) wants the trainer to sync now, with this label.
struct SyncWanted {
  PC_MESSAGE("sync.wanted");
  std::string model;
  uint64_t label = 0;
  template <class V>
  void Fields(V& v) {
    v("model", model);
    v("label", label);
  }
};

// The rows of what this worker serves; answered with all its ManifestParts.
struct ManifestWanted {
  PC_MESSAGE("manifest.wanted");
  std::string model;
  Digest digest;
  template <class V>
  void Fields(V& v) {
    v("model", model);
    v("digest", digest);
  }
};

struct Propose {
  PC_MESSAGE("propose");
  EpochKey key;
  uint64_t label = 0;
  SyncKind kind = SyncKind::kFull;
  std::optional<Version> base;  // of a catch-up: the version that it brings
  Digest manifest_digest;
  // All is as in the last epoch: a member that holds this contract and lives in the generations of
  // its flows, and whose offer is what it last told, prepares at once and answers Prepared instead
  // of OfferReply.
  std::optional<Digest> contract_digest;
  std::optional<std::vector<GenerationId>> generations;  // in the order of the contract's flows
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("label", label);
    v("kind", kind);
    v("base", base);
    v("manifest_digest", manifest_digest);
    v("contract_digest", contract_digest);
    v("generations", generations);
  }
};

// The contract, or the digest of one this member holds already; and which generations carry it.
struct Prepare {
  PC_MESSAGE("prepare");
  EpochKey key;
  uint64_t label = 0;
  Digest manifest_digest;
  Digest contract_digest;
  std::optional<Contract> contract;
  std::vector<FlowGeneration> generations;  // in the order of the contract's flows
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("label", label);
    v("manifest_digest", manifest_digest);
    v("contract_digest", contract_digest);
    v("contract", contract);
    v("generations", generations);
  }
};

// Of all new generations that this member is in: that of the rank that feeds it; a root's own.
struct RendezvousBlob {
  PC_MESSAGE("rendezvous");
  EpochKey key;
  std::vector<FlowRendezvous> flows;
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("flows", flows);
  }
};

struct Quiesce {
  PC_MESSAGE("quiesce");
  EpochKey key;
  template <class V>
  void Fields(V& v) {
    v("key", key);
  }
};

struct Start {
  PC_MESSAGE("start");
  EpochKey key;
  template <class V>
  void Fields(V& v) {
    v("key", key);
  }
};

struct Commit {
  PC_MESSAGE("commit");
  EpochKey key;
  template <class V>
  void Fields(V& v) {
    v("key", key);
  }
};

// Another member of the attempt will not answer for so long (0: it does again): it is not at fault.
struct PeerBusy {
  PC_MESSAGE("busy");
  EpochKey key;
  std::string member;
  uint64_t ms = 0;
  std::string why;
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("member", member);
    v("ms", ms);
    v("why", why);
  }
};

struct AbortAttempt {
  PC_MESSAGE("abort");
  EpochKey key;
  WireStatus reason;
  std::string culprit;
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("reason", reason);
    v("culprit", culprit);
  }
};

// In the place of a group: all there are.
inline constexpr uint64_t kAllGroups = UINT64_MAX;

// All trainer ranks go on to the end of this group, then stop; to the end of their walk if it has
// no such group.
struct Drain {
  PC_MESSAGE("drain");
  EpochKey key;
  std::optional<uint64_t> group;
  template <class V>
  void Fields(V& v) {
    v("key", key);
    v("group", group);
  }
};

// The answer to SyncCall, exactly one: the epoch's report, or why there is none.
struct SyncDone {
  PC_MESSAGE("sync.done");
  std::string model;
  uint64_t label = 0;
  WireStatus status;
  Value report;
  template <class V>
  void Fields(V& v) {
    v("model", model);
    v("label", label);
    v("status", status);
    v("report", report);
  }
};

// Everybody go home.
struct Shutdown {
  PC_MESSAGE("shutdown");
  std::string reason;
  template <class V>
  void Fields(V& v) {
    v("reason", reason);
  }
};

#undef PC_MESSAGE

}  // namespace packcast
