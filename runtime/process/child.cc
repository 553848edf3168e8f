#include "runtime/process/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>

#include "runtime/base/thread.h"
#include "runtime/process/child_settings.h"
#include "runtime/process/host.h"

namespace packcast {
namespace {

using internal::ChildSettings;

// How long an orderly end may take when the parent is gone, or does not say.
constexpr Duration kPatience = Seconds(2);
// How much longer it may take beyond what was asked before it is a hard one.
constexpr Duration kHardEndAfter = Seconds(4);
constexpr int kHardEnd = 3;
constexpr int64_t kMostMilliseconds = int64_t{30} * 24 * 3600 * 1000;

// "stop 5000": how long the parent waits. Else, or cut short: it is gone.
Duration PatienceIn(const std::string& words) {
  int64_t milliseconds = 0;
  const std::string_view stop = internal::kLifelineStop;
  if (!words.starts_with(stop) || words.back() != '\n') return kPatience;
  const char* const end = words.data() + words.size() - 1;
  const auto read = std::from_chars(words.data() + stop.size(), end, milliseconds);
  const bool is_number = read.ec == std::errc() && read.ptr == end;
  return is_number ? Milliseconds(std::min(milliseconds, kMostMilliseconds)) : kPatience;
}

// The pipe that the parent holds the other end of.
class Lifeline {
 public:
  // Raises gone_fd() when the parent is gone, or has asked for an end; then sees to it that this
  // process ends.
  Status Watch() {
    fcntl(ChildSettings::kLifelineFd, F_SETFD, FD_CLOEXEC);
    // Detached: it lives as long as the process, and so does this object.
    PC_ASSIGN_OR_RETURN(std::thread watcher, StartThread("watching the owner", [this] { Run(); }));
    watcher.detach();
    return OkStatus();
  }
  int gone_fd() const { return gone_fd_; }
  // Once gone_fd() is raised, or a signal asks for the end.
  Duration patience() const { return patience_.load(); }

 private:
  void Run() {
    std::string words;
    char text[64];
    ssize_t got = 0;
    do {
      got = read(ChildSettings::kLifelineFd, text, sizeof text);
      if (got > 0 && words.size() < sizeof text) words.append(text, static_cast<size_t>(got));
    } while (got > 0 || (got < 0 && errno == EINTR));
    const Duration patience = PatienceIn(words);
    patience_ = patience;
    eventfd_write(gone_fd_, 1);
    std::this_thread::sleep_for(ClampedWait(patience) + kHardEndAfter);  // a deadline
    _exit(kHardEnd);
  }

  const int gone_fd_ = eventfd(0, EFD_CLOEXEC);
  std::atomic<Duration> patience_{kPatience};
};

void SayReady(const std::string& line) {
  const std::string text = line + "\n";
  // The parent reads it, or is gone and the lifeline ends us.
  if (write(ChildSettings::kReadyFd, text.data(), text.size()) < 0) return;
  close(ChildSettings::kReadyFd);
}

StatusOr<std::unique_ptr<Runtime>> StartRuntime(const ChildSettings& child,
                                                const ActorClasses& classes,
                                                const std::function<Status(Runtime&)>& setup,
                                                Lifeline* lifeline) {
  if (!child.detached) PC_RETURN_IF_ERROR(lifeline->Watch());
  PC_ASSIGN_OR_RETURN(std::unique_ptr<Runtime> runtime, Runtime::Start(child.ToOptions()));
  PC_RETURN_IF_ERROR(NewActor<internal::Host>(*runtime, &classes)
                         .Name(internal::Host::kName)
                         .Detached()
                         .Spawn()
                         .status());
  if (setup) PC_RETURN_IF_ERROR(setup(*runtime));
  return runtime;
}

int RunChild(const ChildSettings& child, const ActorClasses& classes,
             const std::function<Status(Runtime&)>& setup) {
  fcntl(ChildSettings::kReadyFd, F_SETFD, FD_CLOEXEC);
  signal(SIGPIPE, SIG_IGN);  // a parent that is gone reads nothing; the end shall be orderly
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before there are threads
  const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
  static Lifeline lifeline;
  if (signal_fd < 0 || lifeline.gone_fd() < 0) {
    SayReady("error no descriptors are left");
    return 1;
  }
  const auto runtime = StartRuntime(child, classes, setup, &lifeline);
  if (!runtime.ok()) {
    SayReady("error " + runtime.status().message());
    std::fprintf(stderr, "%s: %s\n", child.node.c_str(), runtime.status().message().c_str());
    return 1;
  }
  SayReady("ready " + (*runtime)->endpoint());
  pollfd fds[] = {{signal_fd, POLLIN, 0}, {lifeline.gone_fd(), POLLIN, 0}};
  while (poll(fds, 2, -1) < 0 && errno == EINTR) {
  }
  // The rest is for goodbyes, and for what is stuck in user code.
  const Duration patience = lifeline.patience();
  (*runtime)->Shutdown(std::max(patience / 2, patience - Seconds(1)));
  return 0;
}

}  // namespace

std::optional<int> RunIfChild(const ActorClasses& classes,
                              const std::function<Status(Runtime&)>& setup) {
  const auto child = ChildSettings::Take();
  if (!child.ok()) {
    std::fprintf(stderr, "%s\n", child.status().message().c_str());
    return 1;
  }
  if (!*child) return std::nullopt;
  return RunChild(**child, classes, setup);
}

}  // namespace packcast
