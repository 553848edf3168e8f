#include "tests/gpu/two_ranks.h"

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "runtime/base/clock.h"

namespace packcast::testing {
namespace {

// After `unstick`: an abort has deadlines of its own, of several seconds.
constexpr Duration kUnstickLimit = Seconds(20);
constexpr Duration kJoinLimit = Seconds(30);
constexpr Duration kCloseLimit = Seconds(30);

}  // namespace

void RunOnBoth(World* world, const std::array<std::function<void()>, 2>& jobs, Duration limit,
               const std::function<void()>& unstick, const std::function<void()>& meanwhile) {
  std::mutex mutex;
  std::condition_variable changed;
  int through = 0;
  std::array<std::thread, 2> threads;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    threads[rank] = std::thread([&, rank] {
      world->Enter(rank);
      jobs[rank]();
      std::lock_guard lock(mutex);
      ++through;
      changed.notify_all();
    });
  }
  const Time end = Now() + limit;
  if (meanwhile) meanwhile();
  {
    std::unique_lock lock(mutex);
    const auto both = [&through] { return through == 2; };
    if (!changed.wait_until(lock, end, both)) {
      std::fprintf(stderr, "a rank is not through after %lld ms\n",
                   static_cast<long long>(ToMilliseconds(limit)));
      lock.unlock();
      if (unstick) unstick();
      lock.lock();
      if (!changed.wait_for(lock, kUnstickLimit, both)) {
        std::fprintf(stderr, "a rank's thread is stuck; the test program ends\n");
        std::fflush(nullptr);
        std::_Exit(1);
      }
    }
  }
  for (std::thread& thread : threads) thread.join();
}

StatusOr<std::unique_ptr<Link>> Link::Make(World* world, uint32_t root) {
  static uint64_t generations = 0;
  std::unique_ptr<Link> link(new Link(world, root, GenerationId(++generations)));
  PC_RETURN_IF_ERROR(link->Join());
  return link;
}

Status Link::Join() {
  const Time begin = Now();
  JoinOptions options{.size = 2, .root = root_, .generation = generation_};
  options.names = {"worker", "worker"};
  options.names[root_] = "trainer";
  options.deadline = begin + kJoinLimit;
  PC_ASSIGN_OR_RETURN(options.rendezvous, world_->transport(root_)->MakeRendezvous(generation_));
  std::array<Status, 2> statuses;
  std::array<std::function<void()>, 2> jobs;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    options.rank = rank;
    jobs[rank] = [this, rank, options, status = &statuses[rank]] {
      auto joined = world_->transport(rank)->Join(options);
      *status = joined.status();
      if (joined.ok()) ends_[rank] = std::move(joined).value();
      while (status->ok()) {
        const StatusOr<bool> all = ends_[rank]->Joined();
        *status = all.status();
        if (all.ok() && *all) return;
        if (status->ok()) *status = ends_[rank]->Poll(Milliseconds(1));
      }
    };
  }
  RunOnBoth(world_, jobs, 2 * kJoinLimit);
  for (const Status& status : statuses) PC_RETURN_IF_ERROR(status);
  std::printf("generation %llu, root rank %u: connected in %.3f s\n",
              static_cast<unsigned long long>(generation_.value), root_, ToSeconds(Now() - begin));
  std::fflush(stdout);
  return OkStatus();
}

// An end is given back by a thread of its rank, and both at a time: each may wait for the other.
Link::~Link() {
  RunOnBoth(world_, {[this] { ends_[0].reset(); }, [this] { ends_[1].reset(); }}, kCloseLimit);
}

StreamId Link::NextStream(const Digest& plan_digest) {
  return {.version = {.term = {1, 7}, .epoch = EpochId(++streams_)},
          .attempt = Attempt(1),
          .generation = generation_,
          .plan_digest = plan_digest};
}

}  // namespace packcast::testing
