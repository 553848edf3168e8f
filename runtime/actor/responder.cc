#include "runtime/actor/responder.h"

#include <exception>
#include <utility>

#include "runtime/actor/dropped.h"

namespace packcast {

namespace {

// For a call that nobody can answer any more.
Status Dropped() {
  const bool is_thrown = std::uncaught_exceptions() > 0;
  return internal::Dropped(is_thrown ? "the actor's handler threw an exception: its log says which"
                                     : "the actor dropped the call without an answer");
}

}  // namespace

Responder::~Responder() {
  if (valid()) Fail(Dropped());
}

Responder& Responder::operator=(Responder&& other) noexcept {
  if (this != &other) {
    if (valid()) Fail(Dropped());
    target_ = std::move(other.target_);
  }
  return *this;
}

void Responder::Send(StatusOr<Value> result) {
  if (!valid()) return;
  if (!result.ok() && result.status().outcome() == Outcome::kUnknown) {
    result = result.status().WithOutcome(Outcome::kExecuted);
  }
  // Taken first: an answer during the delivery must not come twice.
  const std::unique_ptr<internal::ReplyTarget> target = std::move(target_);
  target->Deliver(std::move(result));
}

}  // namespace packcast
