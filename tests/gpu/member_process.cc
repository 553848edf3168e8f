#include "tests/gpu/member_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/base/clock.h"

extern char** environ;

namespace packcast::trial {
namespace {

constexpr size_t kTailLines = 12;
constexpr size_t kLineBytes = 400;

Status Errno(const std::string& what) { return Internal(what + ": " + std::strerror(errno)); }

std::string Describe(int status) {
  if (WIFEXITED(status)) return "exit code " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "status " + std::to_string(status);
}

std::vector<char*> Pointers(std::vector<std::string>* words) {
  std::vector<char*> pointers;
  for (std::string& word : *words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Ours, with the variables in `added` replaced.
std::vector<std::string> Environment(const std::vector<std::string>& added) {
  std::vector<std::string> all = added;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('=') + 1);
    bool replaced = false;
    for (const std::string& other : added) replaced = replaced || other.starts_with(name);
    if (!replaced) all.push_back(text);
  }
  return all;
}

}  // namespace

StatusOr<std::unique_ptr<MemberProcess>> MemberProcess::Start(
    NoteBoard* board, std::vector<std::string> arguments, std::vector<std::string> environment) {
  static std::atomic<int> last_number{0};
  int channel[2];
  int output[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) != 0) {
    return Errno("making a channel");
  }
  if (pipe2(output, O_CLOEXEC) != 0) {
    close(channel[0]);
    close(channel[1]);
    return Errno("making a pipe");
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output[1], STDERR_FILENO);
  posix_spawn_file_actions_adddup2(&actions, channel[1], kChannelFd);
  posix_spawn_file_actions_addclosefrom_np(&actions, kChannelFd + 1);
  arguments.insert(arguments.begin(), "/proc/self/exe");
  std::vector<std::string> variables = Environment(environment);
  std::unique_ptr<MemberProcess> process(new MemberProcess(board, ++last_number));
  const int failed = posix_spawn(&process->pid_, "/proc/self/exe", &actions, nullptr,
                                 Pointers(&arguments).data(), Pointers(&variables).data());
  posix_spawn_file_actions_destroy(&actions);
  close(channel[1]);
  close(output[1]);
  process->channel_ = channel[0];
  process->output_ = output[0];
  if (failed != 0) {
    process->pid_ = -1;
    errno = failed;
    return Errno("starting a member");
  }
  fcntl(output[0], F_SETFL, O_NONBLOCK);
  process->listener_ = std::thread([raw = process.get()] { raw->Listen(); });
  return process;
}

MemberProcess::~MemberProcess() {
  Kill(SIGKILL);
  if (listener_.joinable()) listener_.join();
  close(channel_);
  close(output_);
}

Status MemberProcess::Send(const std::string& command) {
  if (send(channel_, command.data(), command.size(), MSG_NOSIGNAL) < 0) {
    return Errno("telling a member to " + command);
  }
  return OkStatus();
}

void MemberProcess::Kill(int signal) {
  std::lock_guard lock(mutex_);
  if (pid_ > 0 && !is_reaped_) kill(pid_, signal);
}

void MemberProcess::Post(Note::Kind kind, std::string text) {
  Note note;
  note.kind = kind;
  note.at = Now();
  note.process = number_;
  note.text = std::move(text);
  board_->Put(std::move(note));
}

bool MemberProcess::ReadChannel() {
  std::string message(kChannelBytes, '\0');
  const ssize_t got = recv(channel_, message.data(), message.size(), 0);
  if (got < 0 && errno == EINTR) return true;
  if (got <= 0) return false;
  message.resize(static_cast<size_t>(got));
  if (message.starts_with("ready ok")) {
    is_ready_ = true;
  } else if (message.starts_with("ready")) {
    std::lock_guard lock(mutex_);
    boot_error_ = message;
  }
  Post(Note::Kind::kReply, std::move(message));
  return true;
}

MemberProcess::Output MemberProcess::ReadOutput() {
  char bytes[4096];
  const ssize_t got = read(output_, bytes, sizeof bytes);
  if (got < 0) return errno == EINTR ? Output::kSome : Output::kNone;
  for (ssize_t k = 0; k < got; ++k) {
    if (bytes[k] != '\n') {
      if (partial_.size() < kLineBytes) partial_ += bytes[k];
      continue;
    }
    {
      std::lock_guard lock(mutex_);
      tail_.push_back(partial_);
      if (tail_.size() > kTailLines) tail_.pop_front();
    }
    Post(Note::Kind::kLine, std::exchange(partial_, ""));
  }
  return got > 0 ? Output::kSome : Output::kEnd;
}

// Until the process has ended: its channel closes then, while its output may be kept open by a
// helper of its own.
void MemberProcess::Listen() {
  bool open = true;
  bool writes = true;
  while (open) {
    pollfd fds[2] = {{channel_, POLLIN, 0}, {writes ? output_ : -1, POLLIN, 0}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) break;
    // What it wrote before it answered comes first.
    if (fds[1].revents != 0) writes = ReadOutput() != Output::kEnd;
    if (fds[0].revents != 0) open = ReadChannel();
  }
  while (writes && ReadOutput() == Output::kSome) {
  }
  is_ready_ = false;
  siginfo_t info;
  while (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
  }
  int status = 0;
  {
    std::lock_guard lock(mutex_);
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    is_reaped_ = true;
  }
  is_gone_ = true;
  Post(Note::Kind::kGone, Describe(status));
}

std::string MemberProcess::boot_error() const {
  std::lock_guard lock(mutex_);
  return boot_error_;
}

std::string MemberProcess::Tail() const {
  std::lock_guard lock(mutex_);
  std::string text;
  for (const std::string& line : tail_) text += "    | " + line + "\n";
  return text;
}

}  // namespace packcast::trial
