#include "runtime/process/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <thread>

#include "runtime/process/environment.h"
#include "runtime/process/host.h"

namespace packcast {
namespace {

using internal::ChildEnvironment;

// Once the parent is gone, how long an orderly end may take before it is a hard one.
constexpr auto kEndPatience = std::chrono::seconds(5);
constexpr int kHardEnd = 3;

// Raises `gone_fd` when the parent is gone; then sees to it that this process ends.
void WatchLifeline(int gone_fd) {
  fcntl(ChildEnvironment::kLifelineFd, F_SETFD, FD_CLOEXEC);
  // Detached: it lives as long as the process.
  std::thread([gone_fd] {
    char byte = 0;
    ssize_t got = 0;
    do {
      got = read(ChildEnvironment::kLifelineFd, &byte, 1);
    } while (got > 0 || (got < 0 && errno == EINTR));
    eventfd_write(gone_fd, 1);
    std::this_thread::sleep_for(kEndPatience);  // a deadline: nothing is waited for
    _exit(kHardEnd);
  }).detach();
}

void SayReady(const std::string& line) {
  const std::string text = line + "\n";
  // The parent reads it, or is gone and the lifeline ends us.
  if (write(ChildEnvironment::kReadyFd, text.data(), text.size()) < 0) return;
  close(ChildEnvironment::kReadyFd);
}

StatusOr<std::unique_ptr<Runtime>> StartRuntime(const ChildEnvironment& child,
                                                const ActorClasses& classes,
                                                const std::function<Status(Runtime&)>& setup) {
  RuntimeOptions options;
  options.name = child.node;
  options.cluster = child.cluster;
  options.incarnation = child.incarnation;
  PC_ASSIGN_OR_RETURN(std::unique_ptr<Runtime> runtime, Runtime::Start(options));
  PC_RETURN_IF_ERROR(NewActor<internal::Host>(*runtime, &classes)
                         .Name(internal::Host::kName)
                         .Detached()
                         .Spawn()
                         .status());
  if (setup) PC_RETURN_IF_ERROR(setup(*runtime));
  return runtime;
}

int RunChild(const ChildEnvironment& child, const ActorClasses& classes,
             const std::function<Status(Runtime&)>& setup) {
  fcntl(ChildEnvironment::kReadyFd, F_SETFD, FD_CLOEXEC);
  signal(SIGPIPE, SIG_IGN);  // a parent that is gone reads nothing; the end shall be orderly
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before there are threads
  const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
  const int gone_fd = eventfd(0, EFD_CLOEXEC);
  if (!child.detached) WatchLifeline(gone_fd);
  const auto runtime = StartRuntime(child, classes, setup);
  if (!runtime.ok()) {
    SayReady("error " + runtime.status().message());
    std::fprintf(stderr, "%s: %s\n", child.node.c_str(), runtime.status().message().c_str());
    return 1;
  }
  SayReady("ready " + (*runtime)->endpoint());
  pollfd fds[] = {{signal_fd, POLLIN, 0}, {gone_fd, POLLIN, 0}};
  while (poll(fds, 2, -1) < 0 && errno == EINTR) {
  }
  (*runtime)->Shutdown(Seconds(1));
  return 0;
}

}  // namespace

std::optional<int> RunIfChild(const ActorClasses& classes,
                              const std::function<Status(Runtime&)>& setup) {
  const auto child = ChildEnvironment::Take();
  if (!child.ok()) {
    std::fprintf(stderr, "%s\n", child.status().message().c_str());
    return 1;
  }
  if (!*child) return std::nullopt;
  return RunChild(**child, classes, setup);
}

}  // namespace packcast
