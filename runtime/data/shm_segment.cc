#include "runtime/data/shm_segment.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

namespace packcast {
namespace {

constexpr uint64_t kPage = 4096;
// What readers rely on: no byte of it goes away, so no read ends in SIGBUS.
constexpr int kSealsNeeded = F_SEAL_SHRINK;

std::string ErrorText(int error) { return std::strerror(error); }

Status NoMemory(uint64_t bytes, const std::string& what) {
  return ResourceExhausted("no shared memory of " + std::to_string(bytes) + " bytes: " + what +
                           "; free memory of the host or raise this process's limits (memory of " +
                           "its cgroup, open files)");
}

// The remedy depends on what the kernel says.
Status CannotOpen(const std::string& path, int error) {
  if (error == EACCES || error == EPERM) {
    return PermissionDenied("cannot open the root's memory " + path + ": " + ErrorText(error) +
                            "; run both as one user, with the same capabilities");
  }
  return Unavailable("cannot open the root's memory " + path + ": " + ErrorText(error) +
                     "; the root has ended, or is on another host or in another PID namespace, " +
                     "where \"zmq\" is the transport");
}

// The same words for whatever is not the memory that was meant: the number is somebody else's.
Status NotTheSegment(const std::string& path) {
  return Unavailable(path + " is not the root's memory; the root has ended, or is on another " +
                     "host or in another PID namespace, where \"zmq\" is the transport");
}

}  // namespace

StatusOr<std::unique_ptr<ShmSegment>> ShmSegment::Make(uint64_t bytes) {
  const int fd = memfd_create("packcast", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return NoMemory(bytes, "memfd_create: " + ErrorText(errno));
  std::unique_ptr<ShmSegment> segment(new ShmSegment(fd, (bytes + kPage - 1) / kPage * kPage));
  PC_RETURN_IF_ERROR(segment->Prepare());
  return segment;
}

Status ShmSegment::Prepare() {
  // Now, not at the first write to a page: that would end in SIGBUS when memory is short.
  int result = 0;
  do {
    result = fallocate(fd_, 0, 0, static_cast<off_t>(bytes_));
  } while (result != 0 && errno == EINTR);
  if (result != 0) return NoMemory(bytes_, "fallocate: " + ErrorText(errno));
  void* const data = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (data == MAP_FAILED) return NoMemory(bytes_, "mmap: " + ErrorText(errno));
  data_ = static_cast<std::byte*>(data);
  // Our own mapping is there already, and stays writable.
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
  if (fcntl(fd_, F_ADD_SEALS, kSeals) != 0) {
    return Unimplemented("cannot seal shared memory: " + ErrorText(errno) +
                         "; the transport \"shm\" needs Linux 5.1");
  }
  struct stat info;
  if (fstat(fd_, &info) != 0) return Internal("fstat of a memfd: " + ErrorText(errno));
  inode_ = info.st_ino;
  return OkStatus();
}

ShmSegment::~ShmSegment() {
  if (data_ != nullptr) munmap(data_, bytes_);
  close(fd_);
}

StatusOr<std::shared_ptr<const ShmView>> ShmView::Open(uint64_t pid, uint64_t fd, uint64_t inode,
                                                       uint64_t bytes) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd);
  // Before it is opened: to open what somebody else has under this number may wait or do harm.
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return CannotOpen(path, errno);
  const auto is_meant = [&] {
    return S_ISREG(info.st_mode) && info.st_ino == inode &&
           static_cast<uint64_t>(info.st_size) == bytes;
  };
  if (!is_meant()) return NotTheSegment(path);
  const int opened = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (opened < 0) return CannotOpen(path, errno);
  const int seals = fcntl(opened, F_GET_SEALS);
  const bool usable = seals >= 0 && (seals & kSealsNeeded) == kSealsNeeded &&
                      fstat(opened, &info) == 0 && is_meant();
  void* const data = usable ? mmap(nullptr, bytes, PROT_READ, MAP_SHARED, opened, 0) : MAP_FAILED;
  const int error = errno;
  close(opened);
  if (!usable) return NotTheSegment(path);
  if (data == MAP_FAILED) return NoMemory(bytes, "mmap: " + ErrorText(error));
  return std::shared_ptr<const ShmView>(new ShmView(static_cast<const std::byte*>(data), bytes));
}

ShmView::~ShmView() { munmap(const_cast<std::byte*>(data_), bytes_); }

}  // namespace packcast
