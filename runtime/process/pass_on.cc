#include "runtime/process/pass_on.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>

#include "runtime/process/launch.h"

namespace packcast::internal {
namespace {

// For what cannot be opened again (another user's). At least no two of ours take the same room.
ssize_t WriteInTurn(std::string_view text) {
  static std::mutex turn;
  std::lock_guard lock(turn);
  pollfd room{STDERR_FILENO, POLLOUT, 0};
  if (poll(&room, 1, 0) == 0) {
    errno = EAGAIN;
    return -1;
  }
  return write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace

ssize_t WriteToStderr(std::string_view text) {
  struct stat info {};
  if (fstat(STDERR_FILENO, &info) != 0) return -1;
  if (S_ISSOCK(info.st_mode)) {
    return send(STDERR_FILENO, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  // Files never wait; and opened again one would be written from its start.
  if (!S_ISFIFO(info.st_mode) && !S_ISCHR(info.st_mode)) {
    return write(STDERR_FILENO, text.data(), text.size());
  }
  // Opened again, as the flag on the descriptor itself would be that of all who share it.
  const UniqueFd own(open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (own.get() < 0) return WriteInTurn(text);
  return write(own.get(), text.data(), text.size());
}

}  // namespace packcast::internal
