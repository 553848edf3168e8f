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
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/random.h"
#include "runtime/process/environment.h"
#include "runtime/process/host.h"
#include "runtime/process/launch.h"

namespace packcast {
namespace {

constexpr size_t kReadyLineBytes = 64u << 10;
// After its end, what others that hold its stderr may still write is not waited for.
constexpr int kWordsAfterEndMs = 100;
// A process that was killed ends at once, unless the kernel is stuck.
constexpr Duration kKillPatience = Seconds(10);

int MillisecondsUntil(Time until) {
  return static_cast<int>(std::max<int64_t>(0, ToMilliseconds(until - Now()) + 1));
}

}  // namespace

std::string ProcessEnd::ToString() const {
  std::string text = exit_code ? "exit code " + std::to_string(*exit_code)
                     : signal  ? "signal " + std::to_string(*signal)
                               : "it has ended, and somebody else knows how";
  if (!last_words.empty()) text += "; its last words: " + last_words;
  return text;
}

StatusOr<std::unique_ptr<Process>> Process::Start(Runtime& runtime, ProcessOptions options) {
  if (options.name.empty()) return InvalidArgument("a process needs a name for its runtime");
  internal::ChildEnvironment child;
  child.node = options.name;
  child.cluster = runtime.cluster();
  child.incarnation = RandomIncarnation();
  child.detached = options.detached;
  internal::LaunchOptions launch;
  launch.program = options.program.empty() ? "/proc/self/exe" : options.program;
  launch.arguments = options.arguments;
  launch.environment = options.environment;
  launch.detached = options.detached;
  for (const auto& [name, value] : child.Variables()) launch.environment[name] = value;
  PC_ASSIGN_OR_RETURN(internal::Launched launched, internal::Launch(launch));
  runtime.ExpectPeerEnd(child.incarnation);
  std::unique_ptr<Process> process(
      new Process(&runtime, std::move(options), child.incarnation, std::move(launched)));
  PC_RETURN_IF_ERROR(process->WaitReady());
  return process;
}

Process::Process(Runtime* runtime, ProcessOptions options, Incarnation incarnation,
                 internal::Launched launched)
    : runtime_(runtime),
      options_(std::move(options)),
      incarnation_(incarnation),
      launched_(std::make_unique<internal::Launched>(std::move(launched))),
      pid_(launched_->pid),
      stop_fd_(eventfd(0, EFD_CLOEXEC)),
      watcher_([this] { Watch(); }) {}

Process::~Process() {
  if (!options_.detached) Stop(Seconds(1));
  eventfd_write(stop_fd_, 1);
  watcher_.join();
  close(stop_fd_);
}

Status Process::WaitReady() {
  const Time until = Now() + options_.start_timeout;
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
      const StatusOr<ProcessEnd> end = WaitEnded(Seconds(1));
      return failed(
          PeerDied("ended before it was ready: " +
                   (end.ok() && end->exit_code ? "exit code " + std::to_string(*end->exit_code)
                    : end.ok() && end->signal  ? "signal " + std::to_string(*end->signal)
                                               : "its main does not call RunIfChild")));
    }
    line.append(text, static_cast<size_t>(got));
  }
  launched_->ready.Reset();
  line.pop_back();
  constexpr std::string_view kReady = "ready ";
  if (!line.starts_with(kReady)) return failed(FailedPrecondition("could not start: " + line));
  endpoint_ = line.substr(kReady.size());
  return OkStatus();
}

StatusOr<ActorRef> Process::Connect(const std::string& actor, Duration timeout) {
  const std::optional<ProcessEnd> end = ended();
  if (end) return PeerDied("process " + options_.name + ": " + end->ToString());
  return runtime_->Connect(endpoint_, actor, timeout);
}

Status Process::SpawnThere(const std::string& actor_class, const std::string& name, Value arguments,
                           int max_restarts) {
  PC_ASSIGN_OR_RETURN(const ActorRef host, Connect(internal::Host::kName));
  const internal::Host::Request request{actor_class, name, std::move(arguments), max_restarts};
  return CallMethod<Unit>(host, "spawn", {}, request).Get(Seconds(60)).status();
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

void Process::ReadWords(int timeout_ms, bool* is_open) {
  pollfd words{launched_->words.get(), POLLIN, 0};
  if (!*is_open || poll(&words, 1, timeout_ms) <= 0) return;
  char text[4096];
  const ssize_t got = read(launched_->words.get(), text, sizeof text);
  if (got < 0 && errno == EINTR) return;
  *is_open = got > 0;
  if (got <= 0) return;
  const size_t count = static_cast<size_t>(got);
  // A stderr that is gone is no reason to stop listening.
  for (size_t done = 0; done < count;) {
    const ssize_t put = write(STDERR_FILENO, text + done, count - done);
    if (put <= 0 && errno != EINTR) break;
    if (put > 0) done += static_cast<size_t>(put);
  }
  words_.append(text, count);
  if (words_.size() > options_.last_words_bytes) {
    words_.erase(0, words_.size() - options_.last_words_bytes);
  }
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
  bool has_words = launched_->words.get() >= 0;
  while (true) {
    pollfd fds[] = {{has_words ? launched_->words.get() : -1, POLLIN, 0},
                    {launched_->pid_fd.get(), POLLIN, 0},
                    {stop_fd_, POLLIN, 0}};
    if (poll(fds, 3, -1) < 0) continue;
    if (fds[1].revents != 0) break;
    if (fds[2].revents != 0) return;
    if (fds[0].revents != 0) ReadWords(0, &has_words);
  }
  const Time until = Now() + Milliseconds(kWordsAfterEndMs);
  while (has_words && Now() < until) ReadWords(MillisecondsUntil(until), &has_words);
  const ProcessEnd end = Reap();
  runtime_->PeerEnded(incarnation_, end.ToString());
  std::lock_guard lock(mutex_);
  end_ = end;
  changed_.notify_all();
}

}  // namespace packcast
