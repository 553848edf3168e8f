#pragma once

#include <memory>

#include "protocol/status.h"
#include "protocol/value.h"

namespace packcast {

namespace internal {
// Where a reply goes; called at most once.
class ReplyTarget {
 public:
  virtual ~ReplyTarget() = default;
  // To be called before the handler runs; false: nobody waits any more, so it must not run.
  virtual bool Begin() { return true; }
  virtual void Deliver(StatusOr<Value> result) = 0;
};
}  // namespace internal

// The right to answer one call. Move it anywhere, answer from any thread, once; dropping it
// unanswered sends an error. For tells it is not valid() and answering does nothing.
class Responder {
 public:
  Responder() = default;
  explicit Responder(std::unique_ptr<internal::ReplyTarget> target) : target_(std::move(target)) {}
  ~Responder();
  Responder(Responder&&) noexcept = default;
  Responder& operator=(Responder&& other) noexcept;

  // For the runtime, before the handler: false when nobody waits for the answer any more.
  bool Begin() { return target_ == nullptr || target_->Begin(); }
  // True for a call that has not been answered yet.
  bool valid() const { return target_ != nullptr; }
  // Answers. A failed status without an outcome is marked as executed.
  void Send(StatusOr<Value> result);
  void Reply(Value value) { Send(std::move(value)); }
  void Fail(Status status) { Send(std::move(status)); }

 private:
  std::unique_ptr<internal::ReplyTarget> target_;
};

}  // namespace packcast
