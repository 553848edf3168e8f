#pragma once

#include <sys/types.h>

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "protocol/status.h"
#include "tests/gpu/notes.h"

namespace packcast::trial {

// The descriptor of the channel in a member's process.
inline constexpr int kChannelFd = 3;
// No message of the channel is larger.
inline constexpr size_t kChannelBytes = size_t{64} << 10;

// A process of this very program that is a member (member_program.h), as its supervisor sees it.
// What it answers and writes, and its end, become notes. It does not outlive the supervisor's
// thread that started it. Thread-safe.
class MemberProcess {
 public:
  // Runs this program with `arguments`; `environment` ("NAME=value") is added to ours. `board`
  // outlives it.
  static StatusOr<std::unique_ptr<MemberProcess>> Start(NoteBoard* board,
                                                        std::vector<std::string> arguments,
                                                        std::vector<std::string> environment);
  // Kills it if it runs, and waits for its end.
  ~MemberProcess();
  MemberProcess(const MemberProcess&) = delete;
  MemberProcess& operator=(const MemberProcess&) = delete;

  Status Send(const std::string& command);
  void Kill(int signal);

  // Tells processes apart in notes; never used twice.
  int number() const { return number_; }
  pid_t pid() const { return pid_; }
  // It has said "ready" and has not ended.
  bool is_ready() const { return is_ready_.load() && !is_gone_.load(); }
  bool is_gone() const { return is_gone_.load(); }
  // Why it did not become ready, if it said so.
  std::string boot_error() const;
  // The last lines that it wrote.
  std::string Tail() const;

 private:
  MemberProcess(NoteBoard* board, int number) : board_(board), number_(number) {}
  void Listen();
  // False when there is nothing more to come.
  bool ReadChannel();
  enum class Output : uint8_t { kSome, kNone, kEnd };
  Output ReadOutput();
  void Post(Note::Kind kind, std::string text);

  NoteBoard* const board_;
  const int number_;
  pid_t pid_ = -1;
  int channel_ = -1;
  int output_ = -1;
  std::atomic<bool> is_ready_{false};
  std::atomic<bool> is_gone_{false};
  mutable std::mutex mutex_;
  std::deque<std::string> tail_;
  std::string boot_error_;
  bool is_reaped_ = false;  // under the mutex: its number may be another's
  std::string partial_;     // a line that has no end yet
  std::thread listener_;    // last
};

}  // namespace packcast::trial
