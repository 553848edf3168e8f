#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "protocol/status.h"

namespace packcast::internal {

// A descriptor that is closed when it goes.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept;
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  ~UniqueFd() { Reset(); }
  int get() const { return fd_; }
  void Reset();

 private:
  int fd_ = -1;
};

struct LaunchOptions {
  std::string program;  // a path; looked up in PATH when it has no slash
  std::vector<std::string> arguments;
  std::map<std::string, std::string> environment;  // added to this process's
  std::string settings;                            // ChildSettings, encoded
  bool detached = false;                           // no lifeline; stderr is this process's
};

// A process that has just been started, in a process group of its own.
struct Launched {
  pid_t pid = -1;
  UniqueFd pid_fd;    // readable once it has ended
  UniqueFd ready;     // what it says on its ChildSettings::kReadyFd
  UniqueFd lifeline;  // kept open while it shall live
  UniqueFd words;     // its stderr; none when detached
};

// Starts `options.program` by exec. Errors: kNotFound, kPermissionDenied, kInternal.
StatusOr<Launched> Launch(const LaunchOptions& options);

}  // namespace packcast::internal
