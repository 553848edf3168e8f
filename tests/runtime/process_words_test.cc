// What child processes write to stderr is passed on, and never in the way of noticing their ends.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/process/child.h"
#include "runtime/process/process.h"
#include "tests/runtime/test_util.h"

namespace packcast {
namespace {

using testing::kPatience;

class Loud {
 public:
  static void Methods(MethodTable<Loud>& table) { table.Add("shout", &Loud::Shout); }
  // Until it is killed.
  void Shout() {
    const std::string line = std::string(4095, 'x') + "\n";
    while (write(STDERR_FILENO, line.data(), line.size()) > 0) {
    }
  }
};

ActorClasses Classes() {
  ActorClasses classes;
  classes.Add<Loud>("Loud");
  return classes;
}

// Another stderr for this process, which the test reads, or does not.
class Stderr {
 public:
  // Of the two descriptors the first is read, the second is written.
  explicit Stderr(const int (&ends)[2]) : reader_(ends[0]), before_(dup(STDERR_FILENO)) {
    EXPECT_EQ(fcntl(reader_, F_SETFL, O_NONBLOCK), 0);
    EXPECT_EQ(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    for (const int fd : {reader_, before_}) fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  ~Stderr() {
    dup2(before_, STDERR_FILENO);
    close(before_);
    close(reader_);
  }
  Stderr(const Stderr&) = delete;
  Stderr& operator=(const Stderr&) = delete;

  bool is_full() const {
    pollfd room{STDERR_FILENO, POLLOUT, 0};
    return poll(&room, 1, 0) == 0;
  }
  // All that is there now.
  std::string Read() const {
    std::string all;
    char text[4096];
    ssize_t got = 0;
    while ((got = read(reader_, text, sizeof text)) > 0) all.append(text, static_cast<size_t>(got));
    return all;
  }

 private:
  const int reader_;
  const int before_;
};

class ProcessWordsTest : public ::testing::Test {
 protected:
  // Our own log would wait for a stderr that nobody reads.
  ProcessWordsTest() { SetLogLevel(LogLevel::kOff); }
  ~ProcessWordsTest() override { SetLogLevel(LogLevel::kInfo); }

  // Two processes that fill it are killed: that is noticed.
  void ExpectEndsAreNoticed(const Stderr& words) {
    const auto runtime = testing::StartRuntime("owner", testing::Patient());
    std::vector<std::unique_ptr<Process>> processes;
    for (const char* name : {"first", "second"}) {
      processes.push_back(Process::Start(*runtime, {.name = name}).value());
      const auto loud = processes.back()->Spawn<Loud>("Loud", "loud").value();
      ASSERT_TRUE(loud.Tell(&Loud::Shout).ok());
    }
    const Time give_up = Now() + kPatience;
    const auto await = [&](const std::function<bool()>& done) {
      bool is_done = false;
      while (!(is_done = done()) && Now() < give_up) std::this_thread::yield();
      EXPECT_TRUE(is_done);
    };
    await([&] { return words.is_full(); });
    for (int round = 0; round < 5; ++round) {
      await([&] { return !words.Read().empty(); });  // both find room at once
      await([&] { return words.is_full(); });
    }
    for (const auto& process : processes) {
      ASSERT_TRUE(process->Signal(SIGKILL).ok());
      const StatusOr<ProcessEnd> end = process->WaitEnded(kPatience);
      EXPECT_TRUE(end.ok()) << end.status();
      if (!end.ok()) words.Read();  // who waits for it goes on
      if (!end.ok()) continue;
      EXPECT_EQ(end->signal, SIGKILL);
      EXPECT_EQ(end->last_words.size(), 2047u) << "a line's end is none of them";
    }
  }
};

TEST_F(ProcessWordsTest, APipeThatNobodyReadsHidesNoEnd) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_EQ(fcntl(ends[0], F_SETPIPE_SZ, 4096), 4096);
  const Stderr words(ends);
  ExpectEndsAreNoticed(words);
}

TEST_F(ProcessWordsTest, ASocketThatNobodyReadsHidesNoEnd) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const Stderr words(ends);
  ExpectEndsAreNoticed(words);
}

TEST_F(ProcessWordsTest, AllOfThemArePassedOn) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const Stderr words(ends);
  const auto runtime = testing::StartRuntime("owner", testing::Patient());
  const auto process = Process::Start(*runtime, {.name = "child"}).value();
  ASSERT_TRUE(process->Spawn<Loud>("Loud", "loud").value().Tell(&Loud::Shout).ok());
  std::string all;
  const Time give_up = Now() + kPatience;
  while (all.size() < (1u << 20) && Now() < give_up) all += words.Read();
  ASSERT_GE(all.size(), 1u << 20);
  const std::string line = std::string(4095, 'x') + "\n";
  for (size_t at = 0; at + line.size() <= all.size(); at += line.size()) {
    ASSERT_EQ(all.compare(at, line.size(), line), 0) << at;
  }
}

}  // namespace
}  // namespace packcast

int main(int argc, char** argv) {
  if (const auto code = packcast::RunIfChild(packcast::Classes())) return *code;
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
