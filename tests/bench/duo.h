#pragma once

#include <cstdint>
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

// Runs this program twice more, with `arguments` and then "--rank=0 --channel=FD" or "--rank=1
// --channel=FD", and waits. The exit status of the first that failed, 0 if none; the other is ended
// then.
int RunDuo(const std::vector<std::string>& arguments);

// The same for `size` processes, ranks 0, 1, ... Rank 0 is told the channel to rank 1; those to
// the others have the numbers after it.
int RunStar(int size, const std::vector<std::string>& arguments);

// Prints "what: why" and exits.
[[noreturn]] void Die(const std::string& what);

}  // namespace packcast::bench
