#include "tests/bench/yardsticks.h"

#include <sched.h>
#include <zmq.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "runtime/base/check.h"

namespace packcast::bench {
namespace {

using Clock = std::chrono::steady_clock;

double MicrosecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

void Require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
  std::exit(1);
}

constexpr int kEchoBytes = 64;

}  // namespace

double Latencies::Percentile(double p) const {
  if (us.empty()) return 0;
  std::vector<double> sorted = us;
  const auto at =
      std::min(sorted.size() - 1, static_cast<size_t>(p * static_cast<double>(sorted.size())));
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<ptrdiff_t>(at), sorted.end());
  return sorted[at];
}

void StayOn(std::optional<int> processor) {
  static const cpu_set_t all = [] {
    cpu_set_t at_start;
    PC_CHECK(sched_getaffinity(0, sizeof at_start, &at_start) == 0);
    return at_start;
  }();
  cpu_set_t chosen = all;
  if (processor.has_value()) {
    CPU_ZERO(&chosen);
    CPU_SET(*processor, &chosen);
  }
  PC_CHECK(sched_setaffinity(0, sizeof chosen, &chosen) == 0) << "processor is not ours";
}

Latencies ConditionVariablePingPong(int rounds, const Placement& where) {
  std::mutex mutex;
  std::condition_variable changed;
  bool ping = false;
  bool done = false;
  StayOn(where.callee);
  std::thread other([&] {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return ping || done; });
      if (done) return;
      ping = false;
      changed.notify_one();
    }
  });
  StayOn(where.caller);
  Latencies out;
  for (int k = 0; k < rounds; ++k) {
    const auto begin = Clock::now();
    std::unique_lock lock(mutex);
    ping = true;
    changed.notify_one();
    changed.wait(lock, [&] { return !ping; });
    out.us.push_back(MicrosecondsSince(begin));
  }
  {
    std::lock_guard lock(mutex);
    done = true;
    changed.notify_one();
  }
  other.join();
  StayOn({});
  return out;
}

Latencies ZmqEcho(int rounds, const Placement& where) {
  void* const server_context = zmq_ctx_new();
  void* const client_context = zmq_ctx_new();
  // A context's threads begin with its first socket, and stay where that was made.
  StayOn(where.caller);
  void* dealer = zmq_socket(client_context, ZMQ_DEALER);
  StayOn(where.callee);
  void* router = zmq_socket(server_context, ZMQ_ROUTER);
  const int linger = 0;
  zmq_setsockopt(router, ZMQ_LINGER, &linger, sizeof linger);
  zmq_setsockopt(dealer, ZMQ_LINGER, &linger, sizeof linger);
  Require(zmq_bind(router, "tcp://127.0.0.1:*") == 0, "bind");
  char endpoint[256];
  size_t size = sizeof endpoint;
  Require(zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &size) == 0, "last endpoint");
  Require(zmq_connect(dealer, endpoint) == 0, "connect");
  std::thread server([&] {
    char id[256];
    char body[kEchoBytes];
    for (int k = 0; k < rounds; ++k) {
      const int id_size = zmq_recv(router, id, sizeof id, 0);
      const int body_size = zmq_recv(router, body, sizeof body, 0);
      Require(id_size > 0 && body_size > 0, "echo receive");
      zmq_send(router, id, static_cast<size_t>(id_size), ZMQ_SNDMORE);
      zmq_send(router, body, static_cast<size_t>(body_size), 0);
    }
  });
  StayOn(where.caller);
  Latencies out;
  char body[kEchoBytes] = {};
  for (int k = 0; k < rounds; ++k) {
    const auto begin = Clock::now();
    Require(zmq_send(dealer, body, sizeof body, 0) >= 0, "send");
    Require(zmq_recv(dealer, body, sizeof body, 0) >= 0, "receive");
    out.us.push_back(MicrosecondsSince(begin));
  }
  server.join();
  zmq_close(dealer);
  zmq_close(router);
  zmq_ctx_term(client_context);
  zmq_ctx_term(server_context);
  StayOn({});
  return out;
}

}  // namespace packcast::bench
