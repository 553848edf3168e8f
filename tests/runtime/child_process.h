#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

extern char** environ;

namespace packcast::testing {

// A node_child process, killed at the latest when this goes.
class ChildProcess {
 public:
  explicit ChildProcess(std::vector<std::string> args) {
    const char* path = std::getenv("NODE_CHILD");
    args.insert(args.begin(), path == nullptr ? "tests/runtime/node_child" : path);
    int to_child[2];
    int from_child[2];
    if (pipe2(to_child, O_CLOEXEC) != 0 || pipe2(from_child, O_CLOEXEC) != 0) std::abort();
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to_child[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, from_child[1], STDOUT_FILENO);
    std::vector<char*> argv;
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    if (posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ) != 0) {
      std::perror(argv[0]);
      std::abort();
    }
    posix_spawn_file_actions_destroy(&actions);
    close(to_child[0]);
    close(from_child[1]);
    stdin_ = to_child[1];
    stdout_ = fdopen(from_child[0], "r");
  }
  ~ChildProcess() {
    Signal(SIGKILL);
    Wait();
    if (stdin_ >= 0) close(stdin_);
    std::fclose(stdout_);
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // The next line it prints, or "".
  std::string ReadLine() {
    char line[512];
    if (std::fgets(line, sizeof line, stdout_) == nullptr) return "";
    std::string text = line;
    if (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }
  void Signal(int number) {
    if (pid_ > 0) kill(pid_, number);
  }
  // Freezes it; returns when all its threads have stopped.
  void Freeze() {
    Signal(SIGSTOP);
    waitpid(pid_, nullptr, WUNTRACED);
  }
  // Asks it to end in good order.
  void CloseInput() {
    close(stdin_);
    stdin_ = -1;
  }
  // How it ended, as waitpid says.
  int Wait() {
    int status = -1;
    if (pid_ > 0) waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_ = -1;
  int stdin_ = -1;
  FILE* stdout_ = nullptr;
};

}  // namespace packcast::testing
