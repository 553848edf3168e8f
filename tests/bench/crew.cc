#include "tests/bench/crew.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "runtime/base/clock.h"

namespace packcast::bench {
namespace {

// For a killed process to be gone, with all of its device's memory.
constexpr Duration kEndLimit = Seconds(60);

std::string Describe(int status) {
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "exit status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

Crew::Crew(int others, std::vector<std::string> arguments)
    : arguments_(std::move(arguments)), watch_([this] { Watch(); }) {
  // Who writes to one that has ended is told so instead.
  signal(SIGPIPE, SIG_IGN);
  for (int rank = 1; rank <= others; ++rank) {
    members_.push_back(std::make_unique<Member>());
    Start(rank);
  }
}

Crew::~Crew() {
  Begin("ending", kEndLimit);
  for (size_t k = 0; k < members_.size(); ++k) Kill(static_cast<int>(k) + 1);
  for (const auto& member : members_) {
    member->waiter.join();
    close(member->end);
  }
  {
    std::lock_guard lock(mutex_);
    is_over_ = true;
    changed_.notify_all();
  }
  watch_.join();
}

void Crew::Start(int rank) {
  Member* const member = members_[static_cast<size_t>(rank) - 1].get();
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) Die("socketpair failed");
  {
    std::lock_guard lock(mutex_);
    member->is_bidden = false;
    member->is_gone = false;
    member->pid = StartRank(rank, {ends[1]}, arguments_);
  }
  close(ends[1]);
  member->end = ends[0];
  member->channel = std::make_unique<Channel>(ends[0]);
  member->waiter = std::thread([this, rank, member] { AwaitEnd(rank, member); });
}

void Crew::AwaitEnd(int rank, Member* member) {
  siginfo_t info;
  // It keeps its number until the lock is held, so that Kill never hits another's.
  while (waitid(P_PID, static_cast<id_t>(member->pid), &info, WEXITED | WNOWAIT) < 0 &&
         errno == EINTR) {
  }
  int status = 0;
  std::lock_guard lock(mutex_);
  while (waitpid(member->pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!member->is_bidden) Die("rank " + std::to_string(rank) + " has ended: " + Describe(status));
  member->is_gone = true;
  changed_.notify_all();
}

void Crew::Begin(const std::string& what, Duration limit) {
  std::lock_guard lock(mutex_);
  step_ = what;
  deadline_ = Now() + limit;
  changed_.notify_all();
}

void Crew::Watch() {
  std::unique_lock lock(mutex_);
  while (!is_over_) {
    if (Now() >= deadline_) Die("not done in time: " + step_);
    if (deadline_ == Time::max()) {
      changed_.wait(lock);
    } else {
      changed_.wait_until(lock, deadline_);
    }
  }
}

Place Crew::PlaceAmong(int size) const {
  Place place;
  place.size = size;
  for (int rank = 1; rank < size; ++rank) place.channels.push_back(channel(rank));
  return place;
}

void Crew::Kill(int rank) {
  Member& member = *members_[static_cast<size_t>(rank) - 1];
  std::lock_guard lock(mutex_);
  member.is_bidden = true;
  if (!member.is_gone) kill(member.pid, SIGKILL);
}

void Crew::Restart(int rank) {
  Member* const old = members_[static_cast<size_t>(rank) - 1].get();
  {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kEndLimit, [old] { return old->is_gone; })) {
      Die("rank " + std::to_string(rank) + " was killed and does not end");
    }
  }
  old->waiter.join();
  close(old->end);
  Start(rank);
}

void EndWithStarter() { prctl(PR_SET_PDEATHSIG, SIGKILL); }

}  // namespace packcast::bench
