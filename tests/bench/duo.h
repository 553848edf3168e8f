#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

// Several processes of one program, for what must not share an address space, with a channel from
// the first to each of the others. Errors end the process with a message: benchmarks have no other
// use for them.
namespace packcast::bench {

// One end of a stream between two of them. Blocks.
class Channel {
 public:
  explicit Channel(int fd) : fd_(fd) {}
  void Send(const std::string& bytes);
  std::string Receive();
  // Returns once the other has come here too.
  void Barrier();
  int fd() const { return fd_; }

 private:
  void Write(const void* data, size_t bytes);
  void Read(void* data, size_t bytes);
  int fd_;
};

// Where a process stands in a star: rank 0 has a channel to each of the others, in the order of
// their ranks, and each of those has one to rank 0.
struct Place {
  int rank = 0;
  int size = 0;
  std::vector<Channel*> channels;
};

// Returns once all have come here.
void Meet(const Place& place);

// Calls `run` once all have come here. At rank 0: the seconds from then until it has returned
// everywhere; elsewhere those of its own call. Steady clocks of one host are compared.
double SecondsTogether(const Place& place, const std::function<void()>& run);

// Runs this program twice more, with `arguments` and then "--rank=0 --channel=FD" or "--rank=1
// --channel=FD", and waits. The exit status of the first that failed, 0 if none; the other is ended
// then.
int RunDuo(const std::vector<std::string>& arguments);

// The same for `size` processes, ranks 0, 1, ... Rank 0 is told the channel to rank 1; those to
// the others have the numbers after it.
int RunStar(int size, const std::vector<std::string>& arguments);

// One process of a star: this program with `arguments` and "--rank=RANK --channel=FD", where FD is
// `ends.front()` and the descriptors after it the other ends; it has no further ones of ours.
pid_t StartRank(int rank, const std::vector<int>& ends, std::vector<std::string> arguments);

// Prints "what: why" and ends the process at once: a device may be stuck, and would wait in its own
// clean-up.
[[noreturn]] void Die(const std::string& what);

}  // namespace packcast::bench
