#include "examples/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <thread>
#include <utility>

#include "examples/lifeline.h"
#include "examples/role.h"

extern char** environ;

namespace packcast::examples {
namespace {

constexpr Duration kReapPoll = Milliseconds(5);
constexpr int kStopPollMs = 100;

std::string Describe(int status) {
  if (WIFEXITED(status)) return "exit code " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "status " + std::to_string(status);
}

// What a child takes over of our environment: all but our own variables that stand for flags. A
// launcher says by flags what its children are to do; what happens to be exported is not for them.
bool IsPassedOn(std::string_view entry) {
  if (!entry.starts_with("PACKCAST_")) return true;
  for (std::string_view name :
       {"PACKCAST_LOG=", "PACKCAST_SPIN_US=", "PACKCAST_NCCL_LIBRARY=", "PACKCAST_FAILPOINTS="}) {
    if (entry.starts_with(name)) return true;
  }
  return false;
}

Status Failed(const std::string& what) { return Internal(what + ": " + std::strerror(errno)); }

}  // namespace

StatusOr<Lifeline> Lifeline::Make() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return Failed("making the lifeline");
  return Lifeline(fds[0], fds[1]);
}

Lifeline::Lifeline(Lifeline&& other) noexcept
    : read_fd_(std::exchange(other.read_fd_, -1)), write_fd_(std::exchange(other.write_fd_, -1)) {}

Lifeline::~Lifeline() {
  if (read_fd_ >= 0) close(read_fd_);
  if (write_fd_ >= 0) close(write_fd_);
}

StatusOr<ChildProcess> ChildProcess::Spawn(const std::string& program,
                                           std::vector<std::string> arguments,
                                           const Lifeline& lifeline) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Internal("reading /proc/self/exe: " + error.message());
  const std::string path = (self.parent_path() / program).string();
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) return Failed("making the ready pipe");
  // Numbers of the inherited descriptors in the child.
  constexpr int kLifelineFd = 3;
  constexpr int kReadyFd = 4;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  // Through high numbers first, so that neither dup2 overwrites the other's source.
  posix_spawn_file_actions_adddup2(&actions, lifeline.read_fd(), 100);
  posix_spawn_file_actions_adddup2(&actions, ready[1], 101);
  posix_spawn_file_actions_adddup2(&actions, 100, kLifelineFd);
  posix_spawn_file_actions_adddup2(&actions, 101, kReadyFd);
  posix_spawn_file_actions_addclose(&actions, 100);
  posix_spawn_file_actions_addclose(&actions, 101);
  // A group of its own: Ctrl-C goes to the launcher, which ends its children in order.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);

  arguments.insert(arguments.begin(), path);
  arguments.push_back("--ready-fd=" + std::to_string(kReadyFd));
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::vector<char*> environment;
  std::string variable = std::string(kLifelineVariable) + "=" + std::to_string(kLifelineFd);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (IsPassedOn(*entry)) environment.push_back(*entry);
  }
  environment.push_back(variable.data());
  environment.push_back(nullptr);

  ChildProcess child;
  const int result = posix_spawn(&child.pid_, path.c_str(), &actions, &attributes, argv.data(),
                                 environment.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(ready[1]);
  child.ready_fd_ = ready[0];
  if (result != 0) {
    child.pid_ = -1;
    return Internal("starting " + path + ": " + std::strerror(result));
  }
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      ready_fd_(std::exchange(other.ready_fd_, -1)),
      ended_(std::move(other.ended_)),
      failed_(other.failed_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(ready_fd_, other.ready_fd_);
  std::swap(ended_, other.ended_);
  std::swap(failed_, other.failed_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0 && !ended_) {
    Kill(SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  CloseReady();
}

void ChildProcess::CloseReady() {
  if (ready_fd_ >= 0) close(std::exchange(ready_fd_, -1));
}

StatusOr<std::string> ChildProcess::WaitReady(Duration timeout) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  std::string line;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return DeadlineExceeded("a child process did not become ready");
    if (stop_requested) return Cancelled("interrupted");
    pollfd poll_fd{ready_fd_, POLLIN, 0};
    const int turn = static_cast<int>(std::min<int64_t>(left.count(), kStopPollMs));
    if (poll(&poll_fd, 1, turn) <= 0) continue;
    char byte = 0;
    const ssize_t got = read(ready_fd_, &byte, 1);
    if (got <= 0) {
      WaitEnded(Seconds(5));
      return PeerDied("a child process ended before it was ready: " +
                      ended_.value_or("it closed its ready pipe"));
    }
    if (byte == '\n') {
      CloseReady();
      return line;
    }
    line += byte;
  }
}

std::optional<std::string> ChildProcess::Ended() {
  int status = 0;
  if (!ended_ && pid_ > 0 && waitpid(pid_, &status, WNOHANG) == pid_) {
    ended_ = Describe(status);
    failed_ = WIFEXITED(status) && WEXITSTATUS(status) != 0;
  }
  return ended_;
}

bool ChildProcess::WaitEnded(Duration timeout) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  while (!Ended()) {
    if (std::chrono::steady_clock::now() >= until) return false;
    std::this_thread::sleep_for(kReapPoll);  // waitpid has no timeout
  }
  return true;
}

void ChildProcess::Kill(int signal) {
  if (pid_ > 0 && !Ended()) kill(pid_, signal);
}

void SayReady(int ready_fd, const std::string& line) {
  if (ready_fd < 0) return;
  const std::string text = line + "\n";
  // The launcher reads it, or is gone and the lifeline ends us.
  if (write(ready_fd, text.data(), text.size()) < 0) return;
  close(ready_fd);
}

}  // namespace packcast::examples
