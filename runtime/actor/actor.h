#pragma once

#include <functional>
#include <optional>
#include <string>

#include "protocol/ids.h"
#include "protocol/time.h"
#include "protocol/value.h"
#include "runtime/actor/actor_ref.h"
#include "runtime/actor/catalog.h"
#include "runtime/actor/future.h"
#include "runtime/actor/responder.h"

namespace packcast {

class Runtime;
class Context;

using TimerId = StrongId<struct TimerIdTag>;

// One tell or call, as its actor gets it.
struct Message {
  // Who sent it. A sender that is no actor has an empty actor() name; telling it something reaches
  // scripts, and nobody in packcast processes.
  ActorRef from;
  std::string method;
  Value body;
  Responder responder;           // valid() for calls
  std::optional<Time> deadline;  // of a call: later the caller no longer waits
  bool control = false;
};

// What became of a monitored actor, or of the process it lives in.
struct PeerEvent {
  enum class Kind {
    kSuspect,      // no beat for suspect_after
    kRecovered,    // heard again, same life: after kSuspect, kUnreachable, or a lost connection
    kUnreachable,  // no beat for unreachable_after; it may be alive
    kDied,         // it failed for good or was killed, its host closed the connection without a
                   // goodbye, or a new process took its place
    kLeft,         // it said goodbye: the actor was stopped, or its runtime shut down
    kRestarted,    // it failed and lives again: `incarnation` is the new life's; its state is new
    kBusy,         // its process says that it will not answer for a while: until `busy_until`, its
                   // silence is neither kSuspect nor kUnreachable. Again when that time changes
    kFree,         // it says so no longer
  };
  Kind kind = Kind::kSuspect;
  ActorRef ref;
  Incarnation incarnation;
  std::string cause;
  Time busy_until = {};  // of kBusy
};

// "suspect", "recovered" and so on.
std::string_view PeerEventKindName(PeerEvent::Kind kind);

// User code that handles messages one at a time. Owned by the runtime from Spawn on; all methods
// run on the executor. Unless SpawnOptions::concurrent_control is set no two run at once. An
// exception that leaves a handler is logged and the actor goes on; the call of OnMessage fails.
class Actor {
 public:
  virtual ~Actor() = default;
  // Comes before everything else. When it throws, this life has failed (see Context::Fail).
  virtual void OnStart(Context&) {}
  virtual void OnMessage(Context& context, Message message) = 0;
  virtual void OnTimer(Context&, TimerId) {}
  virtual void OnPeer(Context&, const PeerEvent&) {}
  // The last thing that is called, if OnStart was (even when that threw); nothing else is delivered
  // afterwards. Of a failed life too.
  virtual void OnStop(Context&) {}
  // The methods, for typed calls, concurrency groups and scripts; lives as long as the program.
  virtual const MethodCatalog* Catalog() const { return nullptr; }
};

// An actor's view of its runtime. Valid only inside the handler it was passed to.
class Context {
 public:
  virtual ~Context() = default;
  virtual ActorRef self() const = 0;
  // Who sent the message that is being handled: an actor that can be answered, watched and kept.
  // Not valid() when no actor sent it, and in OnTimer, OnPeer and posted work.
  virtual ActorRef sender() const = 0;
  virtual Time now() const = 0;
  virtual Runtime& runtime() = 0;

  // Runtime::ConnectAsync; on a Stage the test answers. See Await.
  virtual Future<ActorRef> Connect(const std::string& endpoint, const std::string& actor,
                                   Duration timeout) = 0;

  // OnTimer is called once, at `when` or soon after, in the control group.
  virtual TimerId SetTimer(Time when) = 0;
  // OnTimer is not called for it any more, even when it has just expired.
  virtual void Cancel(TimerId timer) = 0;

  // From now on OnPeer tells what becomes of `ref` (control group). Idempotent. When it is gone
  // already, the event comes at once.
  virtual void Monitor(const ActorRef& ref) = 0;
  // Of one that is linked the news goes on coming.
  virtual void Demonitor(const ActorRef& ref) = 0;

  // Ends this life once the handlers that run have returned: "let it crash". What is queued fails
  // with `why` (not executed) and OnStop runs. With restarts left (SpawnOptions::restart) a new
  // object takes over after a back-off and references follow it; what comes meanwhile waits.
  // Otherwise the actor is gone: watchers get kDied, and the name becomes free.
  virtual void Fail(Status why) = 0;
  // Ends the actor in order, as Runtime::Stop does: from here on it takes no more messages, and no
  // timers, posted work or awaited results; those that wait already are handled, then OnStop runs,
  // watchers get kLeft, and the name becomes free. There is no other life, also when the rest of
  // this one fails (that is kDied).
  virtual void Stop() = 0;
  // Binds the fates of this actor and `ref`: when one dies (kDied; not an orderly stop), the other
  // fails with that as its cause. Both ways. Idempotent.
  virtual void Link(const ActorRef& ref) = 0;
  virtual void Unlink(const ActorRef& ref) = 0;
  // 1 for the first life, and so on.
  virtual int life() const = 0;

  // A counter that grows while this actor gets on with its work; peers see it in the beats
  // (Runtime::PeerProgress), so that "alive but stuck" can be told from "alive".
  virtual void ReportProgress(uint64_t counter) = 0;

  // Runs `work` later as one of this actor's own messages (any context of this actor).
  virtual void Post(std::function<void(Context&)> work, bool control = false) = 0;

  // Runs `done` as one of this actor's own messages (control group) when `future` resolves; not
  // at all when the actor has stopped by then.
  template <class T>
  void Await(const Future<T>& future, std::function<void(Context&, const StatusOr<T>&)> done) {
    future.Then([post = Poster(), done = std::move(done)](const StatusOr<T>& result) {
      post([done, result](Context& context) { done(context, result); });
    });
  }

 protected:
  // A thread-safe function that outlives the context and does what Post(work, true) does.
  virtual std::function<void(std::function<void(Context&)>)> Poster() = 0;
};

}  // namespace packcast
