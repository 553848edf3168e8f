#include "runtime/process/launch.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "runtime/process/child_settings.h"

extern char** environ;

namespace packcast::internal {
namespace {

Status Failed(const std::string& what, int error) {
  const std::string text = what + ": " + std::strerror(error);
  if (error == ENOENT) return NotFound(text);
  if (error == EACCES) return PermissionDenied(text);
  return Internal(text);
}

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

StatusOr<Pipe> MakePipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return Failed("making a pipe", errno);
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// A file without a name that holds `text`, to be read from the beginning.
StatusOr<UniqueFd> MakeFile(const std::string& text) {
  UniqueFd file(memfd_create("packcast", MFD_CLOEXEC));
  if (file.get() < 0) return Failed("making a child's settings", errno);
  for (size_t done = 0; done < text.size();) {
    const ssize_t put = write(file.get(), text.data() + done, text.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return Failed("writing a child's settings", put < 0 ? errno : ENOSPC);
    done += static_cast<size_t>(put);
  }
  if (lseek(file.get(), 0, SEEK_SET) != 0) return Failed("a child's settings", errno);
  return file;
}

// What becomes of the descriptors in the child. Frees itself.
class FileActions {
 public:
  FileActions() { posix_spawn_file_actions_init(&actions_); }
  ~FileActions() { posix_spawn_file_actions_destroy(&actions_); }
  FileActions(const FileActions&) = delete;
  const posix_spawn_file_actions_t* get() const { return &actions_; }

  void OpenNull(int target) {
    posix_spawn_file_actions_addopen(&actions_, target, "/dev/null", O_RDONLY, 0);
  }
  // The source is copied above all targets first, so that none of them overwrites it.
  Status Pass(int source, int target) {
    UniqueFd copy(fcntl(source, F_DUPFD_CLOEXEC, kAboveTargets));
    if (copy.get() < 0) return Failed("copying a descriptor for a child", errno);
    posix_spawn_file_actions_adddup2(&actions_, copy.get(), target);
    copies_.push_back(std::move(copy));
    return OkStatus();
  }

 private:
  static constexpr int kAboveTargets = 10;
  posix_spawn_file_actions_t actions_;
  std::vector<UniqueFd> copies_;  // open until the child has been started
};

// "NAME=value" of this process, with those of `added` in their places.
std::vector<std::string> Environment(const std::map<std::string, std::string>& added) {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (added.count(std::string(text.substr(0, text.find('=')))) == 0) entries.emplace_back(text);
  }
  for (const auto& [name, value] : added) entries.push_back(name + "=" + value);
  return entries;
}

std::vector<char*> Pointers(std::vector<std::string>* texts) {
  std::vector<char*> pointers;
  for (std::string& text : *texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

UniqueFd::UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  if (this != &other) {
    Reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void UniqueFd::Reset() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

StatusOr<Launched> Launch(const LaunchOptions& options) {
  PC_ASSIGN_OR_RETURN(Pipe ready, MakePipe());
  PC_ASSIGN_OR_RETURN(Pipe lifeline, MakePipe());
  PC_ASSIGN_OR_RETURN(Pipe words, MakePipe());
  PC_ASSIGN_OR_RETURN(const UniqueFd settings, MakeFile(options.settings));
  FileActions actions;
  actions.OpenNull(STDIN_FILENO);
  PC_RETURN_IF_ERROR(actions.Pass(ready.write.get(), ChildSettings::kReadyFd));
  PC_RETURN_IF_ERROR(actions.Pass(settings.get(), ChildSettings::kSettingsFd));
  if (!options.detached) {
    PC_RETURN_IF_ERROR(actions.Pass(lifeline.read.get(), ChildSettings::kLifelineFd));
    PC_RETURN_IF_ERROR(actions.Pass(words.write.get(), STDERR_FILENO));
  }
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // A group of its own: Ctrl-C goes to its owner, which ends it in order. And no blocked signals.
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);
  std::vector<std::string> arguments = options.arguments;
  arguments.insert(arguments.begin(), options.program);
  std::vector<std::string> environment = Environment(options.environment);
  Launched child;
  const int error = posix_spawnp(&child.pid, options.program.c_str(), actions.get(), &attributes,
                                 Pointers(&arguments).data(), Pointers(&environment).data());
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return Failed("starting " + options.program, error);
  child.pid_fd = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, child.pid, 0)));
  if (child.pid_fd.get() < 0) {
    const Status failed = Failed("watching " + options.program + " (pidfd_open)", errno);
    kill(child.pid, SIGKILL);
    waitpid(child.pid, nullptr, 0);
    return failed;
  }
  child.ready = std::move(ready.read);
  if (options.detached) return child;
  child.lifeline = std::move(lifeline.write);
  child.words = std::move(words.read);
  return child;
}

}  // namespace packcast::internal
