#pragma once

#include <cstdint>
#include <string>

#include "protocol/ids.h"
#include "protocol/status.h"
#include "protocol/text.h"

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
  template <class V>
  void Fields(V& v) {
    v("model", model);
    v("term", term);
    v("epoch", epoch);
    v("attempt", attempt);
  }
};

// A Status on the wire. What an error quotes may be no UTF-8, and it must arrive all the same.
struct WireStatus {
  int code = 0;
  std::string message;
  static WireStatus From(const Status& status) {
    return {static_cast<int>(status.code()), WireText(status.message())};
  }
  Status ToStatus() const {
    const bool known = code >= 0 && code <= static_cast<int>(StatusCode::kStale);
    return Status(known ? static_cast<StatusCode>(code) : StatusCode::kInternal, message);
  }
  template <class V>
  void Fields(V& v) {
    v("code", code);
    v("message", message);
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

}  // namespace packcast
