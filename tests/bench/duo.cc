#include "tests/bench/duo.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "runtime/base/clock.h"

extern char** environ;

namespace packcast::bench {

void Die(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::fflush(nullptr);
  _exit(1);
}

void Channel::Write(const void* data, size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t part = write(fd_, at, bytes);
    if (part <= 0) Die("the other process is gone");
    at += part;
    bytes -= static_cast<size_t>(part);
  }
}

void Channel::Read(void* data, size_t bytes) {
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t part = read(fd_, at, bytes);
    if (part <= 0) Die("the other process is gone");
    at += part;
    bytes -= static_cast<size_t>(part);
  }
}

void Channel::Send(const std::string& bytes) {
  const uint64_t size = bytes.size();
  Write(&size, sizeof size);
  Write(bytes.data(), bytes.size());
}

std::string Channel::Receive() {
  uint64_t size = 0;
  Read(&size, sizeof size);
  std::string bytes(size, '\0');
  Read(bytes.data(), size);
  return bytes;
}

void Channel::Barrier() {
  char byte = 0;
  Write(&byte, 1);
  Read(&byte, 1);
}

void Meet(const Place& place) {
  // Rank 0 is the last to go on: nobody that is late begins after it.
  for (Channel* channel : place.channels) channel->Barrier();
}

double SecondsTogether(const Place& place, const std::function<void()>& run) {
  Meet(place);
  const Time begin = Now();
  run();
  Time end = Now();
  for (Channel* channel : place.channels) {
    if (place.rank != 0) {
      channel->Send(std::string(reinterpret_cast<const char*>(&end), sizeof end));
      continue;
    }
    const std::string bytes = channel->Receive();
    Time other{};
    std::memcpy(&other, bytes.data(), sizeof other);
    end = std::max(end, other);
  }
  return ToSeconds(end - begin);
}

pid_t StartRank(int rank, const std::vector<int>& ends, std::vector<std::string> arguments) {
  // First to numbers above all that are open in a star's parent, so that no end is overwritten
  // before it is passed on. Whoever has more open, a process with a device, passes one end.
  constexpr int kAside = 200;
  constexpr int kFirst = 3;
  const int count = static_cast<int>(ends.size());
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (int k = 0; k < count; ++k) {
    posix_spawn_file_actions_adddup2(&actions, ends[static_cast<size_t>(k)], kAside + k);
  }
  for (int k = 0; k < count; ++k) {
    posix_spawn_file_actions_adddup2(&actions, kAside + k, kFirst + k);
  }
  posix_spawn_file_actions_addclosefrom_np(&actions, kFirst + count);
  arguments.insert(arguments.begin(), "/proc/self/exe");
  arguments.push_back("--rank=" + std::to_string(rank));
  arguments.push_back("--channel=" + std::to_string(kFirst));
  std::vector<char*> pointers;
  for (std::string& word : arguments) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  pid_t child = 0;
  if (posix_spawn(&child, "/proc/self/exe", &actions, nullptr, pointers.data(), environ) != 0) {
    Die("a process could not be started");
  }
  posix_spawn_file_actions_destroy(&actions);
  return child;
}

int RunDuo(const std::vector<std::string>& arguments) { return RunStar(2, arguments); }

int RunStar(int size, const std::vector<std::string>& arguments) {
  std::vector<int> firsts;  // of rank 0
  std::vector<int> others;
  for (int rank = 1; rank < size; ++rank) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) Die("socketpair failed");
    firsts.push_back(ends[0]);
    others.push_back(ends[1]);
  }
  std::vector<pid_t> children = {StartRank(0, firsts, arguments)};
  for (int rank = 1; rank < size; ++rank) {
    children.push_back(StartRank(rank, {others[static_cast<size_t>(rank) - 1]}, arguments));
  }
  for (const int end : firsts) close(end);
  for (const int end : others) close(end);
  int result = 0;
  for (int left = size; left > 0; --left) {
    int status = 0;
    const pid_t ended = wait(&status);
    if (status == 0 || result != 0) continue;
    result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    for (const pid_t child : children) {
      if (child != ended) kill(child, SIGKILL);
    }
  }
  return result;
}

}  // namespace packcast::bench
