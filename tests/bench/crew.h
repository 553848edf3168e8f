#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "protocol/time.h"
#include "tests/bench/duo.h"

namespace packcast::bench {

// The ranks of a star from 1 on, where the caller is rank 0: processes of this program that can be
// killed one at a time and started again. What cannot go on ends all of them, the caller first, at
// once and with a message: one of them ends unbidden, or a step takes longer than it may. So calls
// that wait without an end, of NCCL for instance, have one. All but Kill belong to the thread that
// made the crew and that outlives it, as the processes end with it.
class Crew {
 public:
  // `arguments` are those of each process (StartRank).
  Crew(int others, std::vector<std::string> arguments);
  // Kills all.
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // What comes now, until the next call of this, and how long it may take.
  void Begin(const std::string& what, Duration limit);

  // Among the first `size` ranks, this one included. Valid until one of them is started again.
  Place PlaceAmong(int size) const;
  Channel* channel(int rank) const { return member(rank).channel.get(); }

  // By SIGKILL, from now on. Any thread.
  void Kill(int rank);
  // Once a killed one has ended: a new process in its place.
  void Restart(int rank);

 private:
  struct Member {
    int end = -1;  // ours of the channel
    std::unique_ptr<Channel> channel;
    std::thread waiter;
    // Under the mutex:
    pid_t pid = -1;
    bool is_bidden = false;  // its end is what is wanted
    bool is_gone = false;
  };
  const Member& member(int rank) const { return *members_[static_cast<size_t>(rank) - 1]; }
  void Start(int rank);
  void AwaitEnd(int rank, Member* member);
  void Watch();

  const std::vector<std::string> arguments_;
  std::vector<std::unique_ptr<Member>> members_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::string step_;
  Time deadline_ = Time::max();
  bool is_over_ = false;
  std::thread watch_;  // last
};

// In a process of a crew, before anything else: it ends with who started it.
void EndWithStarter();

}  // namespace packcast::bench
