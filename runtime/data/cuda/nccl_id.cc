#include "runtime/data/cuda/nccl_id.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "runtime/base/clock.h"

extern char** environ;

namespace packcast {
namespace {

constexpr char kHelper[] = "packcast_nccl_id";

Status Errno(const std::string& what) { return Unavailable(what + ": " + std::strerror(errno)); }

// Reads exactly the ID; what is missing when it ends early or late.
Status ReadId(int output, ncclUniqueId* id, Time end) {
  size_t filled = 0;
  while (filled < sizeof *id) {
    const auto left = ToMilliseconds(end - Now());
    pollfd waiting{output, POLLIN, 0};
    const int polled = left <= 0 ? 0 : poll(&waiting, 1, static_cast<int>(left));
    if (polled < 0 && errno == EINTR) continue;
    if (polled == 0) {
      return DeadlineExceeded("the helper that makes NCCL's unique ID did not answer in time");
    }
    const ssize_t got = read(output, id->internal + filled, sizeof *id - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return Unavailable(
          "the helper that makes NCCL's unique ID ended without one; its standard error says why");
    }
    filled += static_cast<size_t>(got);
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::unique_ptr<NcclId>> NcclId::Make(const std::string& helper,
                                               const std::string& library, Duration timeout) {
  if (helper.empty()) {
    return Unavailable(std::string(kHelper) +
                       " was not found beside the program; name it in the transport's options");
  }
  int in[2];
  int out[2];
  if (pipe2(in, O_CLOEXEC) != 0) return Errno("making a pipe");
  if (pipe2(out, O_CLOEXEC) != 0) {
    close(in[0]);
    close(in[1]);
    return Errno("making a pipe");
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  // Nothing else of ours: descriptors of sockets and devices must not live on in it.
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  std::string name = helper;
  std::string argument = library;
  char* arguments[] = {name.data(), argument.data(), nullptr};
  std::unique_ptr<NcclId> id(new NcclId);
  const int failed = posix_spawn(&id->pid_, helper.c_str(), &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  id->input_ = in[1];
  Status status;
  if (failed != 0) {
    id->pid_ = -1;
    errno = failed;
    status = Errno("starting " + helper);
  } else {
    status = ReadId(out[0], &id->id_, Now() + timeout);
  }
  close(out[0]);
  PC_RETURN_IF_ERROR(status);
  return id;
}

NcclId::~NcclId() {
  if (input_ >= 0) close(input_);
  if (pid_ < 0) return;
  // It has nothing to save, and must not keep us waiting.
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::string FindNcclIdHelper() {
  std::vector<char> buffer(4096);
  const ssize_t length = readlink("/proc/self/exe", buffer.data(), buffer.size());
  if (length <= 0) return "";
  const std::string program(buffer.data(), static_cast<size_t>(length));
  const std::string folder = program.substr(0, program.rfind('/') + 1);
  const char* runfiles = getenv("RUNFILES_DIR");
  std::vector<std::string> roots = {program + ".runfiles"};
  if (runfiles != nullptr) roots.push_back(runfiles);
  std::vector<std::string> candidates = {folder + kHelper};
  for (const std::string& root : roots) {
    candidates.push_back(root + "/packcast/runtime/data/cuda/" + kHelper);
  }
  for (const std::string& candidate : candidates) {
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

}  // namespace packcast
