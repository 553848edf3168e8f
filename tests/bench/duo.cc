#include "tests/bench/duo.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

extern char** environ;

namespace packcast::bench {

void Die(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
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

int RunDuo(const std::vector<std::string>& arguments) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) Die("socketpair failed");
  pid_t children[2];
  for (int rank = 0; rank < 2; ++rank) {
    // Only this child's end, under a number of its own, survives the exec.
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    constexpr int kChannel = 9;
    posix_spawn_file_actions_adddup2(&actions, ends[rank], kChannel);
    std::vector<std::string> words = {"/proc/self/exe"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    words.push_back("--rank=" + std::to_string(rank));
    words.push_back("--channel=" + std::to_string(kChannel));
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    if (posix_spawn(&children[rank], "/proc/self/exe", &actions, nullptr, pointers.data(),
                    environ) != 0) {
      Die("a process could not be started");
    }
    posix_spawn_file_actions_destroy(&actions);
  }
  close(ends[0]);
  close(ends[1]);
  int result = 0;
  for (int left = 2; left > 0; --left) {
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
