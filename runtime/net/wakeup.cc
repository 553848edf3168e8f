#include "runtime/net/wakeup.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "runtime/base/check.h"

namespace packcast::net {

Wakeup::Wakeup() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  PC_CHECK(fd_ >= 0) << "eventfd failed: out of descriptors? errno " << errno;
}

Wakeup::~Wakeup() { close(fd_); }

void Wakeup::Raise() {
  const uint64_t one = 1;
  // It fails only when the counter is at its maximum: then it is raised anyway.
  (void)!write(fd_, &one, sizeof one);
}

void Wakeup::Lower() {
  uint64_t count = 0;
  (void)!read(fd_, &count, sizeof count);
}

}  // namespace packcast::net
