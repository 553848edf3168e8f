#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace packcast {

// Why a call failed. Values are on the wire (docs/protocol.md): append only.
enum class StatusCode : int {
  kOk = 0,
  kInvalidArgument = 1,     // the caller's input is wrong; the same input will fail again
  kNotFound = 2,            // the named thing does not exist
  kAlreadyExists = 3,       // the name is taken
  kFailedPrecondition = 4,  // not in this state; may work later
  kResourceExhausted = 5,   // a bound was hit (memory, window, queue)
  kDeadlineExceeded = 6,    // the call's deadline passed
  kCancelled = 7,           // somebody asked for it to stop
  kAborted = 8,             // the epoch or attempt was given up
  kUnavailable = 9,         // the peer is not reachable; it may not be dead
  kPeerDied = 10,           // the peer's process is known to be gone
  kDataLoss = 11,           // bytes are not what their checksum says
  kUnimplemented = 12,      // the peer does not know this message or option
  kPermissionDenied = 13,
  kInternal = 14,  // a bug in packcast
  kBusy = 15,      // one runs and one is queued
  kStale = 16,     // term, epoch, attempt or incarnation is of the past
};

// "invalid argument", "busy" and so on; never empty.
std::string_view StatusCodeName(StatusCode code);

// Whether a failed call ran at the callee. Meaningful on failures of actor calls only.
enum class Outcome : int {
  kUnknown = 0,
  kNotExecuted = 1,    // it did not run; safe to send again
  kMaybeExecuted = 2,  // it may have run, or may still run
  kExecuted = 3,       // it ran, and returned this error
};

std::string_view OutcomeName(Outcome outcome);

// The result of an operation: OK, or a code with a message that names the thing and the remedy.
// A small value; safe to copy between threads.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  Outcome outcome() const { return outcome_; }

  // The same status, saying whether the call ran.
  Status WithOutcome(Outcome outcome) const {
    Status copy = *this;
    copy.outcome_ = outcome;
    return copy;
  }
  // The same status with `context` and ": " before its message.
  Status WithContext(std::string_view context) const;

  // "ok", or "invalid argument: message".
  std::string ToString() const;

  friend bool operator==(const Status& a, const Status& b) {
    return a.code_ == b.code_ && a.message_ == b.message_;
  }

 private:
  StatusCode code_ = StatusCode::kOk;
  Outcome outcome_ = Outcome::kUnknown;
  std::string message_;
};

std::ostream& operator<<(std::ostream& out, const Status& status);

inline Status OkStatus() { return Status(); }
Status InvalidArgument(std::string message);
Status NotFound(std::string message);
Status AlreadyExists(std::string message);
Status FailedPrecondition(std::string message);
Status ResourceExhausted(std::string message);
Status DeadlineExceeded(std::string message);
Status Cancelled(std::string message);
Status Aborted(std::string message);
Status Unavailable(std::string message);
Status PeerDied(std::string message);
Status DataLoss(std::string message);
Status Unimplemented(std::string message);
Status PermissionDenied(std::string message);
Status Internal(std::string message);
Status Busy(std::string message);
Status Stale(std::string message);

namespace internal {
[[noreturn]] void DieBecauseNotOk(const Status& status);
}  // namespace internal

// A value, or the Status that says why there is none. value() on an error ends the process with
// the error's text: check ok() first.
template <class T>
class [[nodiscard]] StatusOr {
 public:
  StatusOr(Status status) : rep_(std::move(status)) {  // NOLINT: implicit by design
    if (std::get<Status>(rep_).ok()) rep_ = Internal("StatusOr made from an OK status");
  }
  StatusOr(T value) : rep_(std::move(value)) {}  // NOLINT: implicit by design

  bool ok() const { return std::holds_alternative<T>(rep_); }
  Status status() const { return ok() ? OkStatus() : std::get<Status>(rep_); }

  T& value() & {
    EnsureOk();
    return std::get<T>(rep_);
  }
  const T& value() const& {
    EnsureOk();
    return std::get<T>(rep_);
  }
  // By value: for (auto& item : future.Get(wait).value()) must not walk over what has gone.
  T value() && {
    EnsureOk();
    return std::get<T>(std::move(rep_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  void EnsureOk() const {
    if (!ok()) internal::DieBecauseNotOk(std::get<Status>(rep_));
  }
  std::variant<Status, T> rep_;
};

#define PC_CONCAT_INNER(a, b) a##b
#define PC_CONCAT(a, b) PC_CONCAT_INNER(a, b)

// Returns from the function with the status of `expr` unless it is OK.
#define PC_RETURN_IF_ERROR(expr)             \
  do {                                       \
    ::packcast::Status pc_status_ = (expr);  \
    if (!pc_status_.ok()) return pc_status_; \
  } while (false)

// `PC_ASSIGN_OR_RETURN(auto x, F());` declares x from a StatusOr, or returns its status.
#define PC_ASSIGN_OR_RETURN(lhs, expr) \
  PC_ASSIGN_OR_RETURN_INNER(PC_CONCAT(pc_statusor_, __LINE__), lhs, expr)
#define PC_ASSIGN_OR_RETURN_INNER(tmp, lhs, expr) \
  auto tmp = (expr);                              \
  if (!tmp.ok()) return tmp.status();             \
  lhs = std::move(tmp).value()

}  // namespace packcast
