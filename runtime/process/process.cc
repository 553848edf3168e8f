#include "runtime/process/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/random.h"
#include "runtime/base/thread.h"
#include "runtime/process/child_settings.h"
#include "runtime/process/host.h"
#include "runtime/process/launch.h"
#include "runtime/process/pass_on.h"

namespace packcast {
namespace {

constexpr size_t kReadyLineBytes = 64u << 10;
// After its end, what others that hold its stderr may still write is not waited for.
constexpr Duration kWordsAfterEnd = Milliseconds(100);
// Not more than a pipe takes without waiting when it says that it has room.
constexpr size_t kWordsAtOnce = 4096;
// After stderr had no room although it said so, it is asked again.
constexpr int kFullPauseMs = 10;
// That an actor has ended at once is news worth a short wait.
constexpr Duration kFateDeadline = Seconds(1);
// A process that was killed ends at once, unless the kernel is stuck.
constexpr Duration kKillPatience = Seconds(10);

int MillisecondsUntil(Time until) {
  return static_cast<int>(std::max<int64_t>(0, ToMilliseconds(until - Now()) + 1));
}

// To a pipe whose reader may have ended: without a SIGPIPE for this program, which may not expect
// any.
void WriteQuietly(int fd, const std::string& text) {
  sigset_t pipe_signal;
  sigset_t before;
  sigset_t pending;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
  sigpending(&pending);
  const bool is_pending = sigismember(&pending, SIGPIPE) != 0;  // somebody else's
  if (write(fd, text.data(), text.size()) < 0 && errno == EPIPE && !is_pending) {
    const timespec at_once{};
    sigtimedwait(&pipe_signal, nullptr, &at_once);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

std::string ProcessEnd::ToString() const {
  std::string text = exit_code ? "exit code " + std::to_string(*exit_code)
                     : signal  ? "signal " + std::to_string(*signal)
                               : "it has ended, and somebody else knows how";
  if (!last_words.empty()) text += "; its last words: " + last_words;
  return text;
}

namespace {

// The names of processes that were started here and run. Another of such a name would push the
// first one out of the cluster.
class RunningNames {
 public:
  static RunningNames& Get() {
    static RunningNames names;
    return names;
  }
  bool Take(const Runtime* owner, const std::string& name) {
    std::lock_guard lock(mutex_);
    return names_.emplace(owner, name).second;
  }
  void Release(const Runtime* owner, const std::string& name) {
    std::lock_guard lock(mutex_);
    names_.erase({owner, name});
  }

 private:
  std::mutex mutex_;
  std::set<std::pair<const Runtime*, std::string>> names_;
};

}  // namespace

StatusOr<std::unique_ptr<Process>> Process::Start(Runtime& runtime, ProcessOptions options) {
  if (options.name.empty()) return InvalidArgument("a process needs a name for its runtime");
  internal::ChildSettings child = internal::ChildSettings::For(runtime.options());
  child.node = options.name;
  child.incarnation = RandomIncarnation();
  child.detached = options.detached;
  child.executor_threads = options.executor_threads;
  internal::LaunchOptions launch;
  launch.program = options.program.empty() ? "/proc/self/exe" : options.program;
  launch.arguments = options.arguments;
  launch.environment = options.environment;
  launch.environment[internal::ChildSettings::kMark] = "1";
  launch.settings = child.Encode();
  launch.detached = options.detached;
  internal::UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  if (stop.get() < 0) {
    return ResourceExhausted(std::string("a descriptor for a process: ") + std::strerror(errno));
  }
  std::shared_ptr<Runtime> owner = runtime.Keep();
  if (!RunningNames::Get().Take(owner.get(), options.name)) {
    return AlreadyExists("process " + options.name + " still runs: stop it first");
  }
  StatusOr<internal::Launched> launched = internal::Launch(launch);
  if (!launched.ok()) {
    RunningNames::Get().Release(owner.get(), options.name);
    return launched.status();
  }
  runtime.ExpectPeerEnd(child.incarnation);
  std::unique_ptr<Process> process(new Process(std::move(owner), std::move(options),
                                               child.incarnation, *std::move(launched),
                                               std::move(stop)));
  PC_RETURN_IF_ERROR(process->StartWatching());
  PC_RETURN_IF_ERROR(process->WaitReady());
  return process;
}

Process::Process(std::shared_ptr<Runtime> runtime, ProcessOptions options, Incarnation incarnation,
                 internal::Launched launched, internal::UniqueFd stop)
    : runtime_(std::move(runtime)),
      options_(std::move(options)),
      incarnation_(incarnation),
      launched_(std::make_unique<internal::Launched>(std::move(launched))),
      pid_(launched_->pid),
      stop_fd_(std::make_unique<internal::UniqueFd>(std::move(stop))) {}

Status Process::StartWatching() {
  StatusOr<std::thread> watcher = StartThread("watching a process", [this] { Watch(); });
  if (watcher.ok()) {
    watcher_ = *std::move(watcher);
    return OkStatus();
  }
  // Nobody would notice its end, or hear its words.
  (void)Signal(SIGKILL);
  NoteEnd(Reap());
  return watcher.status().WithContext("process " + options_.name);
}

Process::~Process() {
  if (!options_.detached) Stop(Seconds(1));
  eventfd_write(stop_fd_->get(), 1);
  if (watcher_.joinable()) watcher_.join();
  if (end_) return;
  RunningNames::Get().Release(runtime_.get(), options_.name);
  runtime_->ForgetPeerEnd(incarnation_);
  // It goes on without us; when it ends somebody has to take note of it, or it stays a zombie.
  const auto fd = std::make_shared<internal::UniqueFd>(std::move(launched_->pid_fd));
  StatusOr<std::thread> reaper =
      StartThread("the end of a process that was let go", [pid = pid_, fd] {
        pollfd ended{fd->get(), POLLIN, 0};
        while (poll(&ended, 1, -1) < 0) {
        }
        waitid(P_PID, static_cast<id_t>(pid), nullptr, WEXITED);
      });
  if (reaper.ok()) {
    reaper->detach();
  } else {
    LogWarning("process ", options_.name, ": ", reaper.status().message());
  }
}

Status Process::WaitReady() {
  const Time until = Now() + ClampedWait(options_.start_timeout);
  const auto failed = [this](Status status) {
    if (options_.detached) (void)Signal(SIGKILL);
    const ProcessEnd end = Stop(Duration(0));
    const std::string words = end.last_words.empty() ? "" : "; its last words: " + end.last_words;
    return Status(status.code(), "process " + options_.name + " " + status.message() + words);
  };
  std::string line;
  while (line.find('\n') == std::string::npos) {
    pollfd ready{launched_->ready.get(), POLLIN, 0};
    const int polled = poll(&ready, 1, MillisecondsUntil(until));
    if (polled < 0 && errno == EINTR) continue;
    if (polled <= 0) {
      return failed(DeadlineExceeded("was not ready within " +
                                     std::to_string(ToMilliseconds(options_.start_timeout)) +
                                     " ms"));
    }
    char text[256];
    const ssize_t got = read(launched_->ready.get(), text, sizeof text);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || line.size() > kReadyLineBytes) {
      StatusOr<ProcessEnd> end = WaitEnded(Seconds(1));
      if (end.ok()) end->last_words.clear();  // they come last
      return failed(PeerDied(
          "ended before it was ready: " + (end.ok() ? end->ToString() : "it has closed its pipe") +
          "; does its main begin with RunIfChild?"));
    }
    line.append(text, static_cast<size_t>(got));
  }
  launched_->ready.Reset();
  line.pop_back();
  constexpr std::string_view kReady = "ready ";
  if (!line.starts_with(kReady)) return failed(FailedPrecondition("could not start: " + line));
  endpoint_ = line.substr(kReady.size());
  runtime_->PeerHasOurKeys(endpoint_);
  return OkStatus();
}

Status Process::EndOf(const ProcessEnd& end) const {
  return PeerDied("process " + options_.name + ": " + end.ToString());
}

StatusOr<ActorRef> Process::Connect(const std::string& actor, Duration timeout) {
  // Whatever comes first: the runtime goes on looking for an address that nobody will listen at.
  const Promise<ActorRef> found;
  {
    std::lock_guard lock(mutex_);
    if (end_) return EndOf(*end_);
    connecting_.push_back(&found);
  }
  runtime_->ConnectInto(endpoint_, actor, timeout, found);
  // The reactor ends it at the timeout; the rest is for one that is starved.
  StatusOr<ActorRef> result = found.future().Get(ClampedWait(timeout) + Seconds(2));
  std::lock_guard lock(mutex_);
  std::erase(connecting_, &found);
  return result;
}

StatusOr<ActorRef> Process::SpawnThere(const std::string& actor_class, const std::string& name,
                                       Value arguments, const SpawnOptions& options) {
  PC_ASSIGN_OR_RETURN(const ActorRef host, Connect(internal::Host::kName));
  const internal::Host::Request request{actor_class, name, std::move(arguments),
                                        internal::HostedOptions::From(options)};
  PC_ASSIGN_OR_RETURN(
      const uint64_t incarnation,
      CallMethod<uint64_t>(host, internal::Host::kSpawn, {}, request).Get(Seconds(60)));
  // Nothing is looked up there by name: it may be gone by now.
  ActorRef ref = internal::RefBeside(host, name, Incarnation(incarnation));
  PC_RETURN_IF_ERROR(CheckLives(ref));
  return ref;
}

// Tells what has become of one that has ended at once. What does not answer may well live.
Status Process::CheckLives(const ActorRef& ref) const {
  const StatusOr<Value> fate =
      ref.Call("$fate", Value(), {.deadline = kFateDeadline}).Get(kFateDeadline + Seconds(1));
  if (fate.ok()) {
    const Value* state = fate->Find("state");
    const Value* cause = fate->Find("cause");
    if (state == nullptr || cause == nullptr || *state != Value("died")) return OkStatus();
    return PeerDied(options_.name + ":" + ref.actor() +
                    " has died: " + (cause->AsString() == nullptr ? "" : *cause->AsString()));
  }
  const StatusCode code = fate.status().code();
  if (code != StatusCode::kPeerDied && code != StatusCode::kUnavailable) return OkStatus();
  const StatusOr<ProcessEnd> end = WaitEnded(kFateDeadline);
  return end.ok() ? EndOf(*end) : OkStatus();
}

std::optional<ProcessEnd> Process::ended() const {
  std::lock_guard lock(mutex_);
  return end_;
}

StatusOr<ProcessEnd> Process::WaitEnded(Duration timeout) const {
  std::unique_lock lock(mutex_);
  if (changed_.wait_for(lock, ClampedWait(timeout), [this] { return end_.has_value(); })) {
    return *end_;
  }
  return DeadlineExceeded("process " + options_.name + " still runs");
}

ProcessEnd Process::Stop(Duration grace) {
  {
    std::lock_guard lock(mutex_);
    const std::string stop = internal::kLifelineStop + std::to_string(ToMilliseconds(grace)) + "\n";
    // To one that has ended nothing need be said.
    const int lifeline = launched_->lifeline.get();
    if (lifeline >= 0) WriteQuietly(lifeline, stop);
    launched_->lifeline.Reset();
  }
  if (options_.detached) (void)Signal(SIGTERM);
  StatusOr<ProcessEnd> end = WaitEnded(grace);
  if (end.ok()) return *end;
  (void)Signal(SIGKILL);  // if it has not ended meanwhile
  end = WaitEnded(kKillPatience);
  if (end.ok()) return *end;
  LogError("process ", options_.name, " (", std::to_string(pid_), ") does not end when killed");
  return ProcessEnd();
}

Status Process::Signal(int signal) {
  // By its descriptor: its number may be another process's by now.
  if (syscall(SYS_pidfd_send_signal, launched_->pid_fd.get(), signal, nullptr, 0) == 0) {
    return OkStatus();
  }
  return FailedPrecondition("process " + options_.name + ": " + std::strerror(errno));
}

// Takes what has come, if the last was passed on.
void Process::ReadWords(bool* is_open) {
  char text[kWordsAtOnce];
  const ssize_t got = read(launched_->words.get(), text, sizeof text);
  if (got < 0 && errno == EINTR) return;
  *is_open = got > 0;
  if (got <= 0) return;
  unwritten_.assign(text, static_cast<size_t>(got));
  words_.append(unwritten_);
  if (words_.size() > options_.last_words_bytes) {
    words_.erase(0, words_.size() - options_.last_words_bytes);
  }
}

// To a stderr that has room for it: one that nobody reads must not keep us from noticing the end.
// False: it has said so, and has none.
bool Process::PassWordsOn() {
  const ssize_t put = internal::WriteToStderr(unwritten_);
  if (put < 0 && errno == EINTR) return true;
  if (put < 0 && errno == EAGAIN) return false;
  // A stderr that is gone is no reason to stop listening.
  unwritten_.erase(0, put < 0 ? unwritten_.size() : static_cast<size_t>(put));
  return true;
}

// Waits for its end, or until this process lets it go (false), and hears its words meanwhile.
// `until`: or so long, for words that come after the end.
bool Process::Listen(bool awaits_end, Time until) {
  bool is_open = launched_->words.get() >= 0;
  bool is_full = false;  // stderr, whatever poll says
  while (awaits_end || (Now() < until && (is_open || !unwritten_.empty()))) {
    const bool is_reading = is_open && unwritten_.empty();
    const bool is_writing = !unwritten_.empty() && !is_full;
    pollfd fds[] = {{is_reading ? launched_->words.get() : -1, POLLIN, 0},
                    {is_writing ? STDERR_FILENO : -1, POLLOUT, 0},
                    {awaits_end ? launched_->pid_fd.get() : -1, POLLIN, 0},
                    {awaits_end ? stop_fd_->get() : -1, POLLIN, 0}};
    const int longest = is_full ? kFullPauseMs : -1;
    const int wait = awaits_end ? longest : MillisecondsUntil(until);
    is_full = false;
    if (poll(fds, 4, wait) < 0) continue;
    if (fds[2].revents != 0) return true;
    if (fds[3].revents != 0) return false;
    if (fds[0].revents != 0) ReadWords(&is_open);
    if (fds[1].revents != 0) is_full = !PassWordsOn();
  }
  return true;
}

ProcessEnd Process::Reap() {
  ProcessEnd end;
  siginfo_t info{};
  int result = 0;
  do {
    result = waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED);
  } while (result != 0 && errno == EINTR);
  if (result == 0 && info.si_code == CLD_EXITED) end.exit_code = info.si_status;
  if (result == 0 && info.si_code != CLD_EXITED) end.signal = info.si_status;
  end.last_words = words_;
  while (!end.last_words.empty() && end.last_words.back() == '\n') end.last_words.pop_back();
  return end;
}

void Process::Watch() {
  // A stderr of ours that nobody reads must not end this program for a child's words.
  sigset_t pipe_signal;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe_signal, nullptr);
  if (!Listen(true, Time())) return;
  Listen(false, Now() + kWordsAfterEnd);
  NoteEnd(Reap());
}

void Process::NoteEnd(const ProcessEnd& end) {
  runtime_->PeerEnded(incarnation_, end.ToString());
  RunningNames::Get().Release(runtime_.get(), options_.name);
  std::lock_guard lock(mutex_);
  end_ = end;
  changed_.notify_all();
  for (const Promise<ActorRef>* waiting : connecting_) waiting->Set(EndOf(end));
}

}  // namespace packcast
