#include "protocol/status.h"

#include <cstdio>
#include <cstdlib>

namespace packcast {

std::string_view StatusCodeName(StatusCode code) {
  switch (code) {
    case StatusCode::kOk: return "ok";
    case StatusCode::kInvalidArgument: return "invalid argument";
    case StatusCode::kNotFound: return "not found";
    case StatusCode::kAlreadyExists: return "already exists";
    case StatusCode::kFailedPrecondition: return "failed precondition";
    case StatusCode::kResourceExhausted: return "resource exhausted";
    case StatusCode::kDeadlineExceeded: return "deadline exceeded";
    case StatusCode::kCancelled: return "cancelled";
    case StatusCode::kAborted: return "aborted";
    case StatusCode::kUnavailable: return "unavailable";
    case StatusCode::kPeerDied: return "peer died";
    case StatusCode::kDataLoss: return "data loss";
    case StatusCode::kUnimplemented: return "unimplemented";
    case StatusCode::kPermissionDenied: return "permission denied";
    case StatusCode::kInternal: return "internal";
    case StatusCode::kBusy: return "busy";
    case StatusCode::kStale: return "stale";
  }
  return "unknown code";
}

std::string_view OutcomeName(Outcome outcome) {
  switch (outcome) {
    case Outcome::kUnknown: return "unknown";
    case Outcome::kNotExecuted: return "not executed";
    case Outcome::kMaybeExecuted: return "may have been executed";
    case Outcome::kExecuted: return "executed";
  }
  return "unknown";
}

Status Status::WithContext(std::string_view context) const {
  if (ok()) return *this;
  Status copy = *this;
  copy.message_ = std::string(context) + ": " + message_;
  return copy;
}

std::string Status::ToString() const {
  if (ok()) return "ok";
  return std::string(StatusCodeName(code_)) + ": " + message_;
}

std::ostream& operator<<(std::ostream& out, const Status& status) {
  return out << status.ToString();
}

#define PC_STATUS_MAKER(Name) \
  Status Name(std::string message) { return Status(StatusCode::k##Name, std::move(message)); }
PC_STATUS_MAKER(InvalidArgument)
PC_STATUS_MAKER(NotFound)
PC_STATUS_MAKER(AlreadyExists)
PC_STATUS_MAKER(FailedPrecondition)
PC_STATUS_MAKER(ResourceExhausted)
PC_STATUS_MAKER(DeadlineExceeded)
PC_STATUS_MAKER(Cancelled)
PC_STATUS_MAKER(Aborted)
PC_STATUS_MAKER(Unavailable)
PC_STATUS_MAKER(PeerDied)
PC_STATUS_MAKER(DataLoss)
PC_STATUS_MAKER(Unimplemented)
PC_STATUS_MAKER(PermissionDenied)
PC_STATUS_MAKER(Internal)
PC_STATUS_MAKER(Busy)
PC_STATUS_MAKER(Stale)
#undef PC_STATUS_MAKER

namespace internal {
void DieBecauseNotOk(const Status& status) {
  std::fprintf(stderr, "packcast: value() of a failed StatusOr: %s\n", status.ToString().c_str());
  std::abort();
}
}  // namespace internal

}  // namespace packcast
