#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "protocol/ids.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "protocol/value.h"
#include "runtime/actor/actor.h"
#include "runtime/actor/actor_ref.h"
#include "runtime/actor/busy.h"

namespace packcast {

namespace internal {
class Node;
// The environment variable of a process that a Process has started, until RunIfChild takes it.
inline constexpr char kChildMark[] = "PACKCAST_CHILD";
}  // namespace internal

// CURVE keys: 40 characters of Z85 each (`bazel run //tools/keys`). Runtimes with keys do not talk
// to runtimes without.
struct RuntimeKeys {
  std::string public_key;
  std::string secret_key;
  // Public key of the servers that this runtime connects to. Empty: its own, where all have one.
  std::string server_public_key;
  // Public keys of those who may connect to this one. Empty: its own only.
  std::vector<std::string> allowed;
};

struct RuntimeOptions {
  // The node's name: stable over restarts, unique in the cluster. "worker/0".
  std::string name = {};
  std::string cluster = "packcast";
  // Where to listen; "*" picks a free port. Empty: do not listen.
  std::string bind = "tcp://127.0.0.1:*";
  // Lets `bind` be reachable from other machines without keys.
  bool insecure = false;
  std::optional<RuntimeKeys> keys = {};
  // That run the handlers of all actors but of those that may handle several messages at once: such
  // an actor has threads of its own (SpawnOptions). A handler that blocks holds one of them.
  int executor_threads = 2;
  Duration beat_interval = Milliseconds(50);
  Duration suspect_after = Milliseconds(450);
  // Known within a second, as it is looked for once a beat.
  Duration unreachable_after = Milliseconds(900);
  // That its listener holds, of all peers, scripts and strangers; of those from one address. Less
  // where the process may not open so many descriptors, with a quarter of them for all else. Who
  // comes beyond takes the place of the first that has not said hello yet, or is sent away.
  int max_connections = 10'000;
  int max_connections_per_address = 4'096;
  // A connection over which no good hello has come is closed after so long.
  Duration hello_timeout = Seconds(10);
  // 0: random.
  Incarnation incarnation = {};
};

// Methods that run beside the others: a concurrency group of an actor.
struct GroupOptions {
  std::string name = {};
  // How many of its messages may be handled at once. Above 1 they are no longer in order.
  int concurrency = 1;
};

// Another life for an actor that failed (Context::Fail, OnStart threw, killed with a restart).
struct RestartOptions {
  // Failures that are forgiven; -1: all.
  int max_restarts = 0;
  // The first one waits this long, each further one twice as long, up to `backoff_max`.
  Duration backoff = Milliseconds(100);
  Duration backoff_max = Seconds(10);
  // A life that lasted so long clears the record.
  Duration healthy_after = Seconds(60);
};

struct SpawnOptions {
  // Control messages, timers and peer events may run while a default message is being handled:
  // the actor must then guard its own data. Otherwise they only overtake queued ones.
  bool concurrent_control = false;
  // Of messages that belong to no group. Above 1 the actor must guard its data, control messages,
  // timers and peer events included: they run beside each other, too.
  int concurrency = 1;
  // With groups the actor must guard what they share. Each makes the runtime as many threads as its
  // concurrency says, while the actor is there.
  std::vector<GroupOptions> groups = {};
  // Needs a factory.
  RestartOptions restart = {};
  // Messages that may wait in each group; more are refused.
  size_t mailbox_messages = 65'536;
  // An actor that is spawned by another one's handler is stopped when that one's life ends, unless
  // it is detached.
  bool detached = false;
  // Free text about it, such as resources: {"gpu", "0"}. Told by Describe.
  std::map<std::string, std::string> labels = {};
};

// Makes the object of each life of an actor: of one class.
using ActorFactory = std::function<std::unique_ptr<Actor>()>;

// The actors of one process and their connections. Owns a reactor thread (all sockets, timers and
// beats) and the executor's threads. Thread-safe. Usually one per process; tests make several.
class Runtime {
 public:
  using Options = RuntimeOptions;

  // Errors: kInvalidArgument (options), kPermissionDenied (bind beyond loopback without keys and
  // without `insecure`), kUnavailable (address in use), kResourceExhausted (threads),
  // kFailedPrecondition (a Process has started this program, and RunIfChild was not called).
  static StatusOr<std::unique_ptr<Runtime>> Start(Options options);
  // Calls Shutdown(1 s) unless it was called before. Not from an actor.
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const std::string& name() const;
  // As they were given to Start, the secret key among them.
  const RuntimeOptions& options() const;
  // The real address, or "" without a listening socket.
  const std::string& endpoint() const;
  Incarnation incarnation() const;

  // Starts an actor. The first life of a name has the runtime's incarnation, later ones their own.
  // Errors: kAlreadyExists, kInvalidArgument, kCancelled after Shutdown, kResourceExhausted (no
  // threads for its groups).
  StatusOr<ActorRef> Spawn(std::string name, std::unique_ptr<Actor> actor,
                           SpawnOptions options = {});
  // The same, able to restart. `factory` is called here for the first life (what it throws is
  // kInternal), and on the executor for later ones.
  StatusOr<ActorRef> Spawn(std::string name, ActorFactory factory, SpawnOptions options = {});
  // A local actor by name.
  StatusOr<ActorRef> Find(const std::string& name) const;
  // Accepts no more messages, handles those queued, calls OnStop, frees the name. Waits for that
  // up to `drain`, except on an actor's own thread. kDeadlineExceeded: it is still busy.
  Status Stop(const ActorRef& ref, Duration drain = Seconds(5));
  // Fails the actor, here or in another process, without waiting for what is queued: that is not
  // executed. Handlers that run end first. With `restart` it gets another life, if it has any
  // left. kUnavailable, kPeerDied: the order could not be sent.
  Status Kill(const ActorRef& ref, bool restart = false);

  // Finds an actor of another process: says hello and waits for the welcome. Afterwards the
  // connection comes back by itself. Keeps trying until the timeout. Errors: kUnavailable (nothing
  // listens), kDeadlineExceeded (connected, no welcome), kUnimplemented (protocol version),
  // kFailedPrecondition (another cluster), kNotFound (no such actor), kPermissionDenied (keys).
  StatusOr<ActorRef> Connect(const std::string& endpoint, const std::string& actor,
                             Duration timeout);
  // The same without waiting, for handlers: see Context::Await.
  Future<ActorRef> ConnectAsync(const std::string& endpoint, const std::string& actor,
                                Duration timeout);

  // The progress counter of a remote or local actor, as last heard; nothing if never reported.
  std::optional<uint64_t> PeerProgress(const ActorRef& ref) const;

  // For who has started the process of another runtime (see Process): a lost connection to the
  // runtime of this incarnation is its death only once PeerEnded has told how it ended, or did not
  // for a second; monitors get `cause`. ForgetPeerEnd: nobody will tell, as it was let go.
  void ExpectPeerEnd(Incarnation peer);
  void PeerEnded(Incarnation peer, const std::string& cause);
  void ForgetPeerEnd(Incarnation peer);
  // ConnectAsync to another process, with a promise that others may resolve first.
  void ConnectInto(const std::string& endpoint, const std::string& actor, Duration timeout,
                   const Promise<ActorRef>& promise);
  // It serves with the keys of this runtime, whatever RuntimeKeys::server_public_key says.
  void PeerHasOurKeys(const std::string& endpoint);

  // Tells all peers that this process may not answer for as long as the result lives, `limit` at
  // most: a long callback, a held interpreter lock, a checkpoint that freezes it. Monitors get
  // kBusy with `why` (cut at 256 bytes). When this returns it is with ZeroMQ, which sends it by its
  // own thread in a moment; to a peer that does not read it goes with a later beat. Errors:
  // kInvalidArgument (a limit that is not above 0 and up to 10 minutes), kDeadlineExceeded (not
  // said for 1 s, as this process is starved), kCancelled after Shutdown.
  StatusOr<BusyPeriod> Busy(Duration limit, const std::string& why);

  // The same runtime, for who may go on longer than it does, such as a handler that it leaves
  // behind: valid as long as the result lives. After Shutdown it refuses with kCancelled.
  std::shared_ptr<Runtime> Keep() const;

  // Counters of this runtime by name (malformed messages, late replies and so on). Scripts get them
  // with "$metrics" (docs/protocol.md).
  Value Metrics() const;

  // Says goodbye and ends everything: `drain` for the actors, then as long as peers go on reading
  // what was said (5 s at most; 1 s after the last sign of one). Pending calls resolve to
  // kCancelled. Idempotent.
  void Shutdown(Duration drain);

 private:
  friend class internal::Node;  // which has one for its actors: it must not own the node
  explicit Runtime(std::shared_ptr<internal::Node> node);
  const std::shared_ptr<internal::Node> node_;
};

}  // namespace packcast
