#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/actor/runtime.h"
#include "runtime/actor/typed_ref.h"

namespace packcast {

namespace internal {
struct Launched;
class UniqueFd;
}  // namespace internal

// How a process ended.
struct ProcessEnd {
  // One of the two; neither when somebody else has reaped it.
  std::optional<int> exit_code;
  std::optional<int> signal;
  // The end of what it wrote to stderr.
  std::string last_words;
  // "exit code 2; its last words: ..."
  std::string ToString() const;
};

struct ProcessOptions {
  // The name of its runtime, unique in the cluster: "rollout/3".
  std::string name = {};
  // A program whose main begins with RunIfChild. Empty: this program.
  std::string program = {};
  std::vector<std::string> arguments = {};
  // Added to this process's environment.
  std::map<std::string, std::string> environment = {};
  // It goes on when this process ends. Its stderr is then not watched.
  bool detached = false;
  // RuntimeOptions::executor_threads of its runtime. Cluster, beats and keys are this one's.
  int executor_threads = 2;
  // How long it may take until its runtime runs and its setup is done.
  Duration start_timeout = Seconds(30);
  // How much of its stderr is kept as its last words. All of it goes to this process's stderr, too.
  size_t last_words_bytes = 2048;
};

// A child process with a runtime of its own, in which actors are spawned from here. It ends when
// this object goes or this process ends, whichever way, unless it is detached. Monitors of its
// actors learn how it ended: "signal 9; its last words: ...". It should go before its runtime; one
// that does not, as a handler that is left behind has it, reaches no actor any more (kCancelled).
// Thread-safe.
class Process {
 public:
  // Waits until the child is ready. Errors: kNotFound (the program), kDeadlineExceeded, kPeerDied
  // (it ended first; with its last words), kFailedPrecondition (what its setup returned),
  // kAlreadyExists (one of that name, started here, still runs), kResourceExhausted (descriptors,
  // threads).
  static StatusOr<std::unique_ptr<Process>> Start(Runtime& runtime, ProcessOptions options);
  // Stop(1 s), unless it is detached.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  const std::string& endpoint() const { return endpoint_; }

  // An actor there, by name. Errors: as Runtime::Connect; kPeerDied, at once, when the process has
  // ended or does so meanwhile.
  StatusOr<ActorRef> Connect(const std::string& actor, Duration timeout = Seconds(10));

  // Spawns an actor of T there, which the child has in its ActorClasses as `actor_class`; the
  // arguments are converted to those it was added with. It does not wait for OnStart; but one that
  // has ended by then is kPeerDied, with the cause. Errors: also of the child's Runtime::Spawn,
  // kNotFound (no such class), and of Connect.
  template <class T, class... Args>
  StatusOr<TypedRef<T>> Spawn(const std::string& actor_class, const std::string& name,
                              const Args&... args) {
    return SpawnWith<T>(SpawnOptions(), actor_class, name, args...);
  }
  // The same, with restarts, groups and so on. Errors: also kInvalidArgument (of the options).
  template <class T, class... Args>
  StatusOr<TypedRef<T>> SpawnWith(const SpawnOptions& options, const std::string& actor_class,
                                  const std::string& name, const Args&... args) {
    PC_ASSIGN_OR_RETURN(
        ActorRef ref,
        SpawnThere(actor_class, name, internal::ArgumentsToValue(std::tie(args...)), options));
    return TypedRef<T>(std::move(ref));
  }

  // How it ended; nothing while it runs.
  std::optional<ProcessEnd> ended() const;
  // kDeadlineExceeded: it still runs.
  StatusOr<ProcessEnd> WaitEnded(Duration timeout) const;
  // Asks it to end in order, and kills it when it has not after `grace`.
  ProcessEnd Stop(Duration grace = Seconds(5));
  // Sends a signal; kFailedPrecondition when it has ended.
  Status Signal(int signal);

 private:
  Process(std::shared_ptr<Runtime> runtime, ProcessOptions options, Incarnation incarnation,
          internal::Launched launched, internal::UniqueFd stop);
  Status StartWatching();
  Status WaitReady();
  Status EndOf(const ProcessEnd& end) const;
  StatusOr<ActorRef> SpawnThere(const std::string& actor_class, const std::string& name,
                                Value arguments, const SpawnOptions& options);
  Status CheckLives(const ActorRef& ref) const;
  void Watch();
  bool Listen(bool awaits_end, Time until);
  void ReadWords(bool* is_open);
  bool PassWordsOn();
  ProcessEnd Reap();
  void NoteEnd(const ProcessEnd& end);

  const std::shared_ptr<Runtime> runtime_;
  const ProcessOptions options_;
  const Incarnation incarnation_;
  const std::unique_ptr<internal::Launched> launched_;
  const pid_t pid_;
  std::string endpoint_;
  // Of the watching thread.
  std::string words_;
  std::string unwritten_;  // of the last that came: not yet passed on

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::optional<ProcessEnd> end_;
  std::vector<const Promise<ActorRef>*> connecting_;  // end with the process
  // Wakes the watching thread up when a detached one is let go.
  const std::unique_ptr<internal::UniqueFd> stop_fd_;
  std::thread watcher_;
};

}  // namespace packcast
