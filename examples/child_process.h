#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "protocol/status.h"
#include "protocol/time.h"

namespace packcast::examples {

// The pipe that keeps children no longer than this process. One per launcher.
class Lifeline {
 public:
  static StatusOr<Lifeline> Make();
  Lifeline(Lifeline&& other) noexcept;
  ~Lifeline();
  int read_fd() const { return read_fd_; }

 private:
  Lifeline(int read_fd, int write_fd) : read_fd_(read_fd), write_fd_(write_fd) {}
  int read_fd_;
  int write_fd_;
};

// One child process, started by exec with descriptors closed but stdin (null), stdout, stderr, the
// lifeline, and a pipe back on which it says that it is ready. Not thread-safe.
class ChildProcess {
 public:
  // `program` is looked for beside this executable. Its "--ready-fd" flag is added.
  static StatusOr<ChildProcess> Spawn(const std::string& program,
                                      std::vector<std::string> arguments, const Lifeline& lifeline);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  // Kills it if it runs, and reaps it.
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  // The line that it wrote to its ready pipe. kPeerDied when it ended instead, kCancelled after
  // Ctrl-C.
  StatusOr<std::string> WaitReady(Duration timeout);
  // "exit code 2", "signal 9"; nothing while it runs.
  std::optional<std::string> Ended();
  // It has ended by itself with an exit code that is not 0: what is wrong is in its stderr. A
  // signal, which somebody sent, is something else.
  bool ended_in_error() const { return failed_; }
  bool WaitEnded(Duration timeout);
  void Kill(int signal);

 private:
  ChildProcess() = default;
  void CloseReady();
  pid_t pid_ = -1;
  int ready_fd_ = -1;
  std::optional<std::string> ended_;
  bool failed_ = false;
};

// In a child: writes `line` to the descriptor of its --ready-fd flag, if it has one.
void SayReady(int ready_fd, const std::string& line);

}  // namespace packcast::examples
