#pragma once

#include <cstdint>
#include <string>

#include "protocol/fields.h"
#include "protocol/ids.h"
#include "protocol/status.h"
#include "protocol/text.h"
#include "protocol/value.h"

// What several messages carry (messages.h).
namespace packcast {

// What an epoch message is about; anything that does not match a member's present has no effect.
struct EpochKey {
  std::string model;
  Term term;
  EpochId epoch;
  Attempt attempt;

  Version version() const { return Version{term, epoch}; }
  friend auto operator<=>(const EpochKey&, const EpochKey&) = default;
};

template <>
struct fields::Convert<EpochKey> {  // [model, counter, nonce, epoch, attempt]: in every message
  static Value To(const EpochKey& v) {
    return ValueArray{v.model, v.term.counter, v.term.nonce, v.epoch.value, v.attempt.value};
  }
  static Status From(const Value& value, EpochKey* out) {
    const ValueArray* array = value.AsArray();
    if (array == nullptr || array->size() != 5) {
      return WrongKind("[model, counter, nonce, epoch, attempt]", value);
    }
    PC_RETURN_IF_ERROR(Convert<std::string>::From((*array)[0], &out->model));
    PC_RETURN_IF_ERROR(Convert<uint64_t>::From((*array)[1], &out->term.counter));
    PC_RETURN_IF_ERROR(Convert<uint64_t>::From((*array)[2], &out->term.nonce));
    PC_RETURN_IF_ERROR(Convert<EpochId>::From((*array)[3], &out->epoch));
    return Convert<Attempt>::From((*array)[4], &out->attempt);
  }
};

// A Status on the wire. What an error quotes may be no UTF-8, and it must arrive all the same. It
// is cut when it leaves and when it comes in, so that what quotes it can travel too.
struct WireStatus {
  int code = 0;
  std::string message;
  static WireStatus From(const Status& status) {
    return {static_cast<int>(status.code()), WireText(status.message())};
  }
  Status ToStatus() const {
    const bool known = code >= 0 && code <= static_cast<int>(StatusCode::kStale);
    return Status(known ? static_cast<StatusCode>(code) : StatusCode::kInternal, WireText(message));
  }
  template <class V>
  void Fields(V& v) {
    v("code", code);
    v("message", message);
  }
};

// What a version that a member serves is made of, and the label it came under.
struct ServedWeights {
  Digest manifest_digest;
  Digest content_digest;  // none: it came without integrity
  uint64_t label = 0;
  template <class V>
  void Fields(V& v) {
    v("manifest_digest", manifest_digest);
    v("content_digest", content_digest);
    v("label", label);
  }
};

// Seconds spent, named: "pack", "send", "wait_credit" ... in one rank and attempt.
struct Phase {
  std::string name;
  double seconds = 0;
  template <class V>
  void Fields(V& v) {
    v("name", name);
    v("seconds", seconds);
  }
};

// Which generation carries a flow, and whether it lives already.
struct FlowGeneration {
  GenerationId id;
  bool reuse = false;
  template <class V>
  void Fields(V& v) {
    v("id", id);
    v("reuse", reuse);
  }
};

// How the members of a flow's new generation that get their bytes from `rank` find it.
struct FlowRendezvous {
  FlowId flow;
  std::string kind;
  Bytes blob;  // a secret of the flow's members: never logged
  uint32_t rank = 0;
  template <class V>
  void Fields(V& v) {
    v("flow", flow);
    v("kind", kind);
    v("blob", blob);
    v("rank", rank);
  }
};

}  // namespace packcast
