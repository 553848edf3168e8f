#include "runtime/actor/responder.h"

#include <utility>

namespace packcast {

Responder::~Responder() {
  if (valid()) Fail(Internal("the actor dropped the call without an answer"));
}

Responder& Responder::operator=(Responder&& other) noexcept {
  if (this != &other) {
    if (valid()) Fail(Internal("the actor dropped the call without an answer"));
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
