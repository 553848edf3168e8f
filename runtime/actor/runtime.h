#pragma once

#include <memory>
#include <optional>
#include <string>

#include "protocol/ids.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "protocol/value.h"
#include "runtime/actor/actor.h"
#include "runtime/actor/actor_ref.h"

namespace packcast {

namespace internal {
class Node;
}  // namespace internal

// CURVE keys as Z85 text of 40 characters. The public key belongs to the secret key.
struct RuntimeKeys {
  std::string public_key;
  std::string secret_key;
  // Public key of the servers that this runtime connects to.
  std::string server_public_key;
};

struct RuntimeOptions {
  // The node's name: stable over restarts, unique in the cluster. "worker/0".
  std::string name;
  std::string cluster = "packcast";
  // Where to listen; "*" picks a free port. Empty: do not listen.
  std::string bind = "tcp://127.0.0.1:*";
  // Lets `bind` be reachable from other machines without keys.
  bool insecure = false;
  std::optional<RuntimeKeys> keys;
  int executor_threads = 2;
  Duration beat_interval = Milliseconds(50);
  Duration suspect_after = Milliseconds(450);
  // Known within a second, as it is looked for once a beat.
  Duration unreachable_after = Milliseconds(900);
  // 0: random.
  Incarnation incarnation;
};

struct SpawnOptions {
  // Control messages, timers and peer events may run while a default message is being handled:
  // the actor must then guard its own data. Otherwise they only overtake queued ones.
  bool concurrent_control = false;
};

// The actors of one process and their connections. Owns a reactor thread (all sockets, timers and
// beats) and the executor's threads. Thread-safe. Usually one per process; tests make several.
class Runtime {
 public:
  using Options = RuntimeOptions;

  // Errors: kInvalidArgument (options), kPermissionDenied (bind beyond loopback without keys and
  // without `insecure`), kUnavailable (address in use).
  static StatusOr<std::unique_ptr<Runtime>> Start(Options options);
  // Calls Shutdown(1 s) unless it was called before. Not from an actor.
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const std::string& name() const;
  // The real address, or "" without a listening socket.
  const std::string& endpoint() const;
  Incarnation incarnation() const;

  // Starts an actor. The first life of a name has the runtime's incarnation, later ones their own.
  // Errors: kAlreadyExists, kInvalidArgument, kCancelled after Shutdown.
  StatusOr<ActorRef> Spawn(std::string name, std::unique_ptr<Actor> actor,
                           SpawnOptions options = {});
  // A local actor by name.
  StatusOr<ActorRef> Find(const std::string& name) const;
  // Accepts no more messages, handles those queued, calls OnStop, frees the name. Waits for that
  // up to `drain`, except on an actor's own thread. kDeadlineExceeded: it is still busy.
  Status Stop(const ActorRef& ref, Duration drain = Seconds(5));

  // Finds an actor of another process: says hello and waits for the welcome. Afterwards the
  // connection comes back by itself. Keeps trying until the timeout. Errors: kUnavailable (nothing
  // listens), kDeadlineExceeded (connected, no welcome), kUnimplemented (protocol version),
  // kFailedPrecondition (another cluster), kNotFound (no such actor), kPermissionDenied (keys).
  StatusOr<ActorRef> Connect(const std::string& endpoint, const std::string& actor,
                             Duration timeout);

  // The progress counter of a remote or local actor, as last heard; nothing if never reported.
  std::optional<uint64_t> PeerProgress(const ActorRef& ref) const;

  // Counters of this runtime by name (malformed messages, late replies and so on).
  Value Metrics() const;

  // Says goodbye and ends everything: `drain` for the actors, then as long as peers go on reading
  // what was said (5 s at most; 1 s after the last sign of one). Pending calls resolve to
  // kCancelled. Idempotent.
  void Shutdown(Duration drain);

 private:
  explicit Runtime(std::shared_ptr<internal::Node> node);
  std::shared_ptr<internal::Node> node_;
};

}  // namespace packcast
