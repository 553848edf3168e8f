#include "examples/lifeline.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <thread>

namespace packcast::examples {

void WatchLifeline() {
  const char* text = std::getenv(kLifelineVariable);
  if (text == nullptr) return;
  const int fd = std::atoi(text);
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return;
  // Detached: it lives as long as the process.
  std::thread([fd] {
    char byte = 0;
    ssize_t got = 0;
    do {
      got = read(fd, &byte, 1);
    } while (got > 0 || (got < 0 && errno == EINTR));
    _exit(3);
  }).detach();
}

}  // namespace packcast::examples
