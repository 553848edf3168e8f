#pragma once

#include <memory>
#include <string>

#include "protocol/ids.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "protocol/value.h"
#include "runtime/actor/future.h"
#include "runtime/actor/shared_body.h"

namespace packcast {

namespace internal {
struct RefState;
}  // namespace internal

struct TellOptions {
  // Overtakes the callee's default messages.
  bool control = false;
};

struct CallOptions {
  Duration deadline = Seconds(30);
  // The method may run twice without harm, or is recognised: the runtime sends the call again
  // when the connection comes back within the deadline; the callee answers a repeated call from
  // its cache.
  bool idempotent = false;
  bool control = false;
};

// Names one actor, here or in another process. A small copyable value; thread-safe. It follows the
// actor when that restarts by its own options (RestartOptions), and not when its process is started
// anew, or its name is spawned again: then Runtime::Connect gives a new one.
// Messages of one caller to one callee in one group (default, control) arrive in order.
class ActorRef {
 public:
  ActorRef() = default;
  explicit ActorRef(std::shared_ptr<const internal::RefState> state) : state_(std::move(state)) {}

  bool valid() const { return state_ != nullptr; }
  const std::string& actor() const;
  // The name of the process it lives in (Runtime::Options::name).
  const std::string& node() const;
  Incarnation incarnation() const;
  bool local() const;
  // "worker/0:sink#3f2a", for people.
  std::string ToString() const;

  // Sends without waiting for anything. OK means accepted, not delivered: delivery is at most
  // once. Errors at once: kResourceExhausted (the window is full), kUnavailable, kPeerDied,
  // kNotFound (a local actor that has stopped), kInvalidArgument (too large). Never blocks.
  Status Tell(std::string method, Value body, TellOptions options = {}) const;
  // The same, for a message to many: its body is encoded once and for all.
  Status Tell(std::string method, const SharedBody& body, TellOptions options = {}) const;

  // Sends and expects a reply. The future always resolves: with the reply, or with an error whose
  // outcome() says whether the call ran; at the latest shortly after the deadline. Never blocks.
  Future<Value> Call(std::string method, Value body, CallOptions options = {}) const;

  const internal::RefState* state() const { return state_.get(); }
  // Same actor, same life. A remote sender that gave no incarnation (a script may) equals only
  // itself on the same connection.
  friend bool operator==(const ActorRef& a, const ActorRef& b);

 private:
  std::shared_ptr<const internal::RefState> state_;
};

namespace internal {
// Another actor where `known` lives, in another process: which has told of it.
ActorRef RefBeside(const ActorRef& known, std::string actor, Incarnation incarnation);
}  // namespace internal

}  // namespace packcast
